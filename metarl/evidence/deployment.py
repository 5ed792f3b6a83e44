"""The deployment suite's cells: who is trained for each job, how, and judged in every row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from envs.deployment import HELDOUT, ROOM, SUITE
from metarl.config import ONLINE, default
from metarl.evidence.cell import Cell, Verdict, by_learner, by_ppo, rivals, seeds_of
from metarl.evidence.judges import deployed, online_pilot, ppo_pilot
from metarl.evidence.tables import table
from metarl.problem import Problem
from robots.spec import Array

SEEDS = (0, 1, 2)
TASKS = 40  # worlds of every row
CLEAR = 4  # standard errors from which a gap is called one
DRAWS = {"room": ("pybullet", ROOM), "heldout": ("pybullet", HELDOUT), "mujoco": ("mujoco", HELDOUT)}
BY_MOTION = ("a1",)  # where what is unknown can be felt


@dataclass(frozen=True)
class Place:
    """How the policies for a deployment are trained, with everything unknown.

    steps: of simulation, for each. start: a recorded policy, for all alike; nobody is charged for its training.
    """

    steps: int
    hidden: tuple[int, ...] = (128, 128)
    start: str | None = None
    discount: float = 0.98


PLACES = {
    "a1": Place(steps=2_000_000, start="docs/learned/a1-flat"),
    "reach": Place(steps=400_000, discount=0.95),
}


def cells() -> list[Cell]:
    """All of them, seed by seed."""
    return [cell for seed in SEEDS for name, place in PLACES.items() for cell in _cells(name, place, seed)]


def _cells(name: str, place: Place, seed: int) -> Iterator[Cell]:
    deployment = SUITE[name]
    judge = partial(deployed, deployment=deployment, tasks=TASKS, draws=DRAWS)
    judged = {
        "tasks": TASKS,
        "seconds": deployment.seconds,
        "draws": DRAWS,
        "rows": {row: asdict(faults) for row, faults in deployment.rows.items()},
    }
    for label, settings in rivals(deployment.env, place.steps, place.hidden, place.start, place.discount, seed):
        made = by_ppo(f"deployment/{name}/{label}/{seed}", settings, partial(judge, ppo_pilot))
        yield replace(made, settings={"policy": asdict(settings), **judged})
    horizon = Problem.of(deployment.env).horizon
    for label in ONLINE if name in BY_MOTION else ():
        base = default(label)
        config = replace(
            base,
            env=deployment.env,
            hidden=place.hidden,
            iterations=place.steps // (base.tasks * horizon),
            discount=place.discount,
            start=place.start,
            seed=seed,
        )
        made = by_learner(f"deployment/{name}/{label}/{seed}", config, partial(judge, online_pilot))
        yield replace(made, settings={"learner": config.to_dict(), **judged})


PAGE = "deployment.md"
HEAD = """# Deployment: what adapting while at work brings

The suite (`envs/deployment.py`) in worlds that nobody trained or chose by: {tasks} of each row, the same for all, one
attempt each, acting by the mean, from the first step on. `belief` takes three gradient steps on the error of its
forecasts after half a second and every half second from then on, on the last two seconds at most; "0 steps" is the same
policy without them. Everyone had at most as many control steps of simulation, and the oracle is told the task. "Closed"
is the share of the gap between the better of the two that do not adapt and the oracle, where that gap is more than
{clear} standard errors; with one seed, those do not hold the luck of training. `make evidence-next` runs the next
missing cell.

"""
COLUMNS = {
    "domain-randomization": ("domain-randomization", ""),
    "with history": ("domain-randomization-history", ""),
    "belief, 0 steps": ("belief", ", zero steps"),
    "belief": ("belief", ""),
    "rma": ("rma", ""),
    "oracle": ("oracle", ""),
}
WHERE = {"heldout": "In PyBullet", "mujoco": "In MuJoCo, where nothing was trained"}


def markdown(docs: Path) -> str:
    """The page, from the verdicts that there are."""
    made = cells()
    sections = [_section(name, draw, made, docs) for name in BY_MOTION for draw in WHERE]
    return HEAD.format(tasks=TASKS, clear=CLEAR) + "\n".join(sections)


def _section(name: str, draw: str, made: Sequence[Cell], docs: Path) -> str:
    place, suite = PLACES[name], SUITE[name]
    found = {label: seeds_of(made, f"deployment/{name}/{label}", docs) for label, _ in COLUMNS.values()}
    seeds = min((len(verdicts) for verdicts in found.values() if verdicts), default=0)
    lines = [_line(row, draw, found, seeds) for row in suite.rows]
    says = f"## {suite.says}\n\n{WHERE[draw]}: `{suite.env}`, {place.steps:,} control steps each, seeds: {seeds}."
    return f"{says}\n\n" + table(["return (falls)", *COLUMNS, "closed"], lines)


def _line(row: str, draw: str, found: Mapping[str, list[Verdict]], seeds: int) -> list[str]:
    returns: dict[str, Array] = {}
    line = [row]
    for name, (label, said) in COLUMNS.items():
        verdicts = found[label][:seeds]
        if not verdicts:
            line.append("not run")
            continue
        returns[name] = values(verdicts, f"{draw}{said}", row, "return")
        line.append(shown(returns[name], float(values(verdicts, f"{draw}{said}", row, "fell").mean())))
    if not {"domain-randomization", "belief", "oracle"} <= set(returns):
        return [*line, ""]
    rivals = [returns[name] for name in ("domain-randomization", "with history") if name in returns]
    best = max(rivals, key=np.mean)
    gap, error = paired(returns["oracle"] - best)
    closed = f"{(returns['belief'] - best).mean() / gap:.0%}" if gap > CLEAR * error else ""
    return [*line, closed]


def shown(returns: Array, fell: float) -> str:
    return f"{returns.mean():.1f}" + (f" ({fell:.0%})" if fell else "")


def paired(differences: Array) -> tuple[float, float]:
    """Mean of differences [seed, world], and its standard error: over worlds, each the mean of its seeds, or over
    seeds, whichever is larger."""
    ways = [differences.mean(axis) for axis in (0, 1)]
    errors = [way.std(ddof=1) / np.sqrt(len(way)) for way in ways if len(way) > 1]
    return float(differences.mean()), float(max(errors))


def values(verdicts: Sequence[Verdict], draw: str, row: str, figure: str) -> Array:
    """[seed, world]"""
    return np.array([verdict["values"][draw][row][figure].split() for verdict in verdicts], np.float64)
