"""The deployment suite's cells: who is trained for each job, how, and judged in every row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal

from envs.deployment import HELDOUT, ROOM, SUITE
from metarl.config import ONLINE, Config, default
from metarl.evaluation import FINE_TUNING
from metarl.evidence.cell import RIVALS, Cell, by_learner, by_ppo, problem_of, rivals
from metarl.evidence.judges import (
    CANDIDATES,
    CLIMBING,
    ROUNDS,
    TOLD,
    TRIES,
    TUNED,
    ZERO,
    adapted_pilot,
    climbing_pilot,
    deployed,
    finetuned_pilot,
    online_pilot,
    ppo_pilot,
)
from metarl.sb3 import Settings

SEEDS = (0, 1, 2)
TASKS = 40  # worlds of every row
DRAWS = {"heldout": ("pybullet", HELDOUT), "mujoco": ("mujoco", HELDOUT)}
ROOMS = {"room": ("pybullet", ROOM), **DRAWS}  # the room map is of those who do not adapt
FEW = 10  # worlds of every row, the first of those, for who needs many attempts in each
BY_TRIALS = {  # for domain randomization's policy: who does it, attempts of a round, and sizes to choose from
    "finetune": (finetuned_pilot, TRIES, FINE_TUNING["finetune"]),
    "climb": (climbing_pilot, CANDIDATES, CLIMBING),
}
MOTIONS = 3  # guided ones, that are learned from before an attempt
COLUMNS = {  # of a table: whose verdicts, and what is said of them
    "domain-randomization": ("domain-randomization", ""),
    "with history": ("domain-randomization-history", ""),
    "belief, 0 steps": ("belief", ZERO),
    "belief": ("belief", ""),
    "belief, told": ("belief", TOLD),
    "rma": ("rma", ""),
    "metasgd, 0 steps": ("metasgd", ZERO),
    "metasgd": ("metasgd", ""),
    "oracle": ("oracle", ""),
}


@dataclass(frozen=True)
class Place:
    """How the policies for a deployment are trained, with everything unknown, and what they are compared by.

    steps: of simulation, for each. options: of the world, in training. start: a recorded policy, for all alike; nobody
    is charged for its training. adapt: learners, or none; whether the gap is closed is asked of the first. motion:
    length [control steps] of a guided motion, for those that learn from such; passes: through those motions. by: a
    figure, less of an error is better; unit, scale: for people. trials: whether those are judged, too, who learn from
    the rewards of attempts made before the one that counts. symmetric: whether those who do not adapt know that right
    and left of a walking robot are alike, as `belief` and `rma` do.
    """

    steps: int
    options: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[int, ...] = (128, 128)
    start: str | None = None
    discount: float = 0.98
    adapt: tuple[str, ...] = ONLINE
    motion: int = 0
    passes: int = 1
    by: Literal["return", "error"] = "return"
    unit: str = ""
    scale: float = 1.0
    trials: bool = False
    symmetric: bool = False

    @property
    def columns(self) -> dict[str, tuple[str, str]]:
        """Of COLUMNS."""
        return {name: which for name, which in COLUMNS.items() if which[0] in (*RIVALS, *self.adapt)}


IN_CM: dict[str, Any] = {"by": "error", "unit": " [cm]", "scale": 100.0}
PLACES = {
    "a1": Place(steps=2_000_000, start="docs/learned/a1-flat", symmetric=True),
    "a1-uneven": Place(steps=2_000_000, start="docs/learned/a1-rough"),
    "a1-turn": Place(steps=2_000_000, start="docs/learned/a1-flat"),
    "mini-cheetah": Place(steps=2_000_000, start="docs/learned/mini-cheetah", trials=True),
    "reach": Place(
        steps=400_000,
        options={"horizon": 80},  # as long as the suite's attempts: who never held a target drifts from it
        discount=0.95,
        adapt=("metasgd",),
        motion=24,
        passes=15,
        **IN_CM,
    ),
    "push": Place(steps=400_000, start="docs/learned/panda-push", adapt=(), **IN_CM),
    "slide": Place(steps=400_000, start="docs/learned/panda-slide", adapt=(), **IN_CM),
}


def cells() -> list[Cell]:
    """All of them, seed by seed."""
    return [cell for seed in SEEDS for name, place in PLACES.items() for cell in _cells(name, place, seed)]


def _cells(name: str, place: Place, seed: int) -> Iterator[Cell]:
    deployment = SUITE[name]
    judge = partial(deployed, deployment=deployment, tasks=TASKS)
    judged = {
        "tasks": TASKS,
        "seconds": deployment.seconds,
        "rows": {row: asdict(faults) for row, faults in deployment.rows.items()},
        **({"options": dict(deployment.options)} if deployment.options else {}),
    }
    policies: dict[str, Settings] = {}
    trained = place.steps, place.hidden, place.start, place.discount, seed, place.symmetric
    for label, settings in rivals(deployment.env, *trained):
        policies[label] = replace(settings, options=dict(place.options))
        made = by_ppo(f"deployment/{name}/{label}/{seed}", policies[label], partial(judge, ppo_pilot, draws=ROOMS))
        yield replace(made, settings={"policy": asdict(policies[label]), **judged, "draws": ROOMS})
    for label in place.adapt:
        config, pilot = _config(deployment.env, place, label, seed), online_pilot if label in ONLINE else adapted_pilot
        saying = [said for named, said in COLUMNS.values() if named == label]
        judged_so = partial(judge, pilot, draws=DRAWS, saying=saying)
        made = by_learner(f"deployment/{name}/{label}/{seed}", config, judged_so)
        yield replace(made, settings={"learner": config.to_dict(), **judged, "draws": DRAWS})
    if place.trials:
        yield from _by_trials(name, place, policies["domain-randomization"], judged, seed)


def _by_trials(name: str, place: Place, policy: Settings, judged: Mapping[str, Any], seed: int) -> Iterator[Cell]:
    draws = {"heldout": DRAWS["heldout"]}
    judge = partial(deployed, deployment=SUITE[name], tasks=FEW, draws=draws)
    judged = {**judged, "tasks": FEW, "draws": draws}
    for label, (pilot, tries, sizes) in BY_TRIALS.items():
        trying = partial(pilot, seconds=SUITE[name].seconds)
        made = by_ppo(f"deployment/{name}/{label}/{seed}", policy, partial(judge, trying))
        own = {"policy": asdict(policy), **judged, "rounds": ROUNDS, "tries": tries, "sizes": sizes, "tuned": TUNED}
        yield replace(made, settings=own, of=f"deployment/{name}/domain-randomization/{seed}")
    config = _by_reward(SUITE[name].env, place, seed)
    made = by_learner(f"deployment/{name}/maml/{seed}", config, partial(judge, adapted_pilot, saying=("", ZERO)))
    yield replace(made, settings={"learner": config.to_dict(), **judged})


def _by_reward(env: str, place: Place, seed: int) -> Config:
    """MAML that has as many attempts as fine-tuning, in one step, which spares its training most of the arithmetic."""
    base = replace(default("maml", "reward"), env=env, options=place.options, hidden=place.hidden, start=place.start)
    config = replace(base, seed=seed, discount=place.discount, tasks=10, episodes=ROUNDS * TRIES, query=5)
    config = replace(config, inner_steps=1, learning_rate=3e-4, step_size=0.01)
    horizon = problem_of(env).horizon
    return replace(config, iterations=place.steps // (config.episodes_per_iteration * horizon))


def _config(env: str, place: Place, learner: str, seed: int) -> Config:
    """The learner's own defaults; from guided motions, as many iterations of each pass as the steps allow."""
    base = default(learner, None if learner in ONLINE else "demonstration")
    config = replace(
        base, env=env, options=place.options, hidden=place.hidden, discount=place.discount, start=place.start, seed=seed
    )
    if learner in ONLINE:
        return config
    config = replace(config, episodes=MOTIONS, passes=place.passes)
    return replace(config, iterations=place.passes * (place.steps // (config.episodes_per_iteration * place.motion)))
