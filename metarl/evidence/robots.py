"""Which learner for which robot: all of them on four problems, at equal simulation, beside their rivals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from metarl.config import APPLIES, MEMORY, Config, default
from metarl.evidence.cell import RIVALS, Cell, Verdict, by_learner, by_ppo, failures, problem_of, rivals, seeds_of
from metarl.evidence.judges import adapted, rival
from metarl.evidence.tables import minutes, pooled, table
from metarl.report import in_unit

SEEDS = (0, 1, 2)
STEPS = 400_000  # control steps of simulation for every learner and rival
TASKS, EPISODES = 50, 4  # that are judged on
ADAPTED = 3  # steps


@dataclass(frozen=True)
class Place:
    """A problem: what is unknown in it, and where training begins.

    start: a recorded policy, for all alike; nobody is charged for its training.
    """

    env: str
    says: str
    hidden: tuple[int, ...] = (128, 128)
    start: str | None = None
    discount: float = 0.95


PLACES = {
    "reach": Place("metarl/PandaReach-v0", "Panda reaches through a camera that is mounted askew"),
    "push": Place(
        "metarl/PandaPush-v0",
        "Panda pushes things of unknown mass, friction and shape",
        start="docs/learned/panda-push",
        discount=0.98,
    ),
    "slide": Place(
        "metarl/PandaSlide-v0",
        "Panda strikes a puck of unknown mass and friction out of its reach",
        start="docs/learned/panda-slide",
        discount=0.98,
    ),
    "a1": Place(
        "metarl/A1Uneven-v0",
        "A1 walks on rough ground and slopes, joint zeros off, loaded, one motor weak",
        start="docs/learned/a1-rough",
        discount=0.98,
    ),
}
STEPPING = ("maml", "fomaml", "promp", "metasgd")  # learners that step all parameters by plain gradients
BY_REWARD = {name: (name, "reward") for name, objectives in APPLIES.items() if "reward" in objectives}
BY_PREDICTION = {f"{name}-prediction": (name, "prediction") for name in ("metasgd", "cavia")}
BY_DEMONSTRATION = {
    f"{name}-demonstration": (name, "demonstration")
    for name, objectives in APPLIES.items()
    if "demonstration" in objectives
}


def cells() -> list[Cell]:
    """All of them, seed by seed."""
    return [cell for seed in SEEDS for name, place in PLACES.items() for cell in _cells(name, place, seed)]


def _cells(name: str, place: Place, seed: int) -> Iterator[Cell]:
    judge = partial(adapted, tasks=TASKS, steps=ADAPTED, episodes=EPISODES)
    for label, (learner, objective) in _learners(name).items():
        yield by_learner(f"robots/{name}/{label}/{seed}", _config(place, learner, objective, seed), judge)
    for label, settings in rivals(place.env, STEPS, place.hidden, place.start, place.discount, seed, symmetric=False):
        steps = ADAPTED if settings.sees == "observation" else 0
        verdict = partial(rival, tasks=TASKS, episodes=EPISODES, steps=steps)
        yield by_ppo(f"robots/{name}/{label}/{seed}", settings, verdict)


def _learners(name: str) -> dict[str, tuple[str, str]]:
    """Label: learner and objective."""
    return {**(BY_DEMONSTRATION if name == "reach" else {}), **BY_REWARD, **BY_PREDICTION}


def _config(place: Place, learner: str, objective: str, seed: int) -> Config:
    """The learner's own defaults, as many iterations as the budget allows."""
    config = replace(
        default(learner, objective),
        env=place.env,
        start=place.start if objective != "demonstration" else None,
        hidden=place.hidden,
        discount=place.discount,
        seed=seed,
    )
    if objective != "demonstration":
        config = replace(config, tasks=10, episodes=5, query=5, learning_rate=3e-4)
        if place.start and objective == "reward" and learner in STEPPING:
            config = replace(config, step_size=0.01)  # ten times as large a step ruins a policy that walks
    if learner in MEMORY:
        below = place.hidden if place.start else ()
        config = replace(config, hidden=(64, *below), tasks=16, episodes=4, divergence=0.05)
    elif learner == "es_maml":
        config = replace(config, tasks=5, episodes=1, query=2, sigma=0.03, learning_rate=3e-3)
    elif learner == "reptile":
        config = replace(config, learning_rate=0.3, step_size=3e-4, inner_steps=2)
    horizon = problem_of(place.env).horizon
    return replace(config, iterations=max(1, STEPS // (config.episodes_per_iteration * horizon)))


PAGE = "robots.md"
HEAD = """# Which learner for which robot

Every learner that applies, on four problems, with {steps:,} control steps of simulation each (as many whole iterations
as fit), as many as each rival had; {tasks} held-out tasks, acting by the mean. Where a recorded policy is the start, it
is everybody's, and memory learners have theirs on top of it. Figures are interquartile means over tasks and seeds with
95 % intervals; how many seeds there are stands beside them, and a row without any has not been run yet. "After" is 3
gradient steps, 3 rounds of search, or 3 attempts remembered; for domain randomization, 3 steps of plain fine-tuning by
reward. `make evidence-next` runs the next missing cell; the verdicts are in `docs/evidence/robots`, and this page is
made from them.

"""


def markdown(docs: Path) -> str:
    """The page, from the verdicts that there are."""
    made = cells()
    head = HEAD.format(steps=STEPS, tasks=TASKS)
    sections = "\n".join(_section(name, place, made, docs) for name, place in PLACES.items())
    return head + sections + failures(made, docs)


def _section(name: str, place: Place, made: list[Cell], docs: Path) -> str:
    problem = problem_of(place.env)
    scale, unit = in_unit(problem.measure.unit)
    lines = []
    for label in (*RIVALS, *_learners(name)):
        found = seeds_of(made, f"robots/{name}/{label}", docs)
        cells = [label.replace("-", " "), str(len(found)), _episodes(found)]
        for figure, factor, digits in (("error", scale, 1), ("success", 100, 0)):
            for row in (0, -1):
                values = [verdict["values"][figure][row] for verdict in found]
                cells.append(pooled(values, digits, factor))
        lines.append([*cells, minutes(found)])
    error = f"{problem.measure.name} {unit}"
    header = ["policy", "seeds", "episodes", f"{error} before", "after", "success [%] before", "after", "minutes"]
    return f"## {place.says}\n\n`{place.env}`\n\n" + table(header, lines)


def _episodes(found: list[Verdict]) -> str:
    """Of experience, behind the last row."""
    return str(found[0]["rows"][-1]["episodes"]) if found else ""
