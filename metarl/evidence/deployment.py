"""The deployment suite's cells: who is trained for each job, how, and judged in every row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import BytesIO
from itertools import product
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from envs.deployment import HELDOUT, ROOM, SUITE, worlds
from metarl.checkpoint import Run
from metarl.config import ONLINE, default
from metarl.evidence.cell import Cell, Verdict, by_learner, by_ppo, rivals, seeds_of
from metarl.evidence.judges import attempt, deployed, online_pilot, ppo_pilot
from metarl.evidence.tables import table
from metarl.sampling.worker import Worker
from metarl.video import beside
from robots.spec import Array

SEEDS = (0, 1, 2)
TASKS = 40  # worlds of every row
CLEAR = 4  # standard errors from which a gap is called one
DRAWS = {"room": ("pybullet", ROOM), "heldout": ("pybullet", HELDOUT), "mujoco": ("mujoco", HELDOUT)}
BY_MOTION = ("a1", "mini-cheetah")  # where what is unknown can be felt


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
    "mini-cheetah": Place(steps=2_000_000, start="docs/learned/mini-cheetah"),
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
    for label in ONLINE if name in BY_MOTION else ():
        base = default(label)
        config = replace(
            base,
            env=deployment.env,
            hidden=place.hidden,
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
policy without them. `rma` infers by an encoder instead, at the same times. Everyone had at most as many control steps
of simulation, and the oracle is told the task. "Closed" is the share of the gap between the better of the two that do
not adapt and the oracle, where that gap is more than
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
FILMED = ("domain-randomization", "belief, 0 steps", "belief", "oracle")
WHERE = {"heldout": "In PyBullet", "mujoco": "In MuJoCo, where nothing was trained"}

ACROSS = 5  # panels of a picture


def markdown(docs: Path) -> str:
    """The page, from the verdicts that there are."""
    made = cells()
    sections = []
    for name, draw in product(BY_MOTION, WHERE):
        sections.append(section(name, draw, made, docs))
        if _begun(name, made, docs):
            sections.append(f"![Reward in each second, row by row]({_picture(name, draw)})\n")
    return HEAD.format(tasks=TASKS, clear=CLEAR) + "\n".join(sections)


def pictures(docs: Path) -> dict[str, bytes]:
    """What each second brought in every row, by the name of a PNG beside the page."""
    made = cells()
    there = [name for name in BY_MOTION if _begun(name, made, docs)]
    return {_picture(name, draw): _curves(name, draw, made, docs) for name, draw in product(there, WHERE)}


def _begun(name: str, made: Sequence[Cell], docs: Path) -> bool:
    """Whether anyone was judged there yet."""
    return any(seeds_of(made, f"deployment/{name}/{label}", docs) for label, _ in COLUMNS.values())


def _picture(name: str, draw: str) -> str:
    return f"deployment-{name}-{draw}.png"


def _curves(name: str, draw: str, made: Sequence[Cell], docs: Path) -> bytes:
    suite = SUITE[name]
    figure = Figure(figsize=(12, 2.2 * -(-len(suite.rows) // ACROSS) + 0.6), layout="constrained")
    panels = figure.subplots(-(-len(suite.rows) // ACROSS), ACROSS, sharex=True, sharey=True, squeeze=False).flat
    for axes, (title, row) in zip(panels, suite.rows.items(), strict=False):
        for column, (label, said) in COLUMNS.items():
            verdicts = seeds_of(made, f"deployment/{name}/{label}", docs)
            if verdicts:
                seconds = values(verdicts, f"{draw}{said}", title, "seconds").mean(0)
                axes.plot(np.arange(len(seconds)) + 0.5, seconds, marker=".", label=column)
        if row.then:
            axes.axvline(suite.seconds / 2, color="0.6", linestyle=":")
        axes.set_title(fill(title, 30), fontsize=8)
        axes.grid(alpha=0.3)
    figure.supxlabel("seconds of motion")
    figure.supylabel("reward in each second")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(COLUMNS))
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def film(name: str, row: str, runs: Path, out: Path, columns: Sequence[str] = FILMED) -> None:
    """Write a GIF: the row's first held-out world, as policies of the table's columns, of the first seed, meet it.

    Raises ValueError for a deployment or a row that the suite does not have.
    """
    for asked, known in ((name, SUITE), (row, SUITE[name].rows if name in SUITE else {})):
        if asked not in known:
            raise ValueError(f"the suite has no {asked!r}, expected one of {list(known)}")
    suite, sides = SUITE[name], {}
    with ExitStack() as stack:
        for column in columns:
            label, said = COLUMNS[column]
            folder = runs / f"deployment/{name}/{label}/{SEEDS[0]}"
            problem, actors, theta = online_pilot(Run(folder)) if label in ONLINE else ppo_pilot(folder)
            first = worlds(suite, problem.space, 1, HELDOUT)[row][0]
            options = {"horizon": round(suite.seconds / problem.seconds), "render_mode": "rgb_array"}
            worker = stack.enter_context(closing(Worker(problem.env, actors, {**problem.options, **options})))
            sides[column] = partial(worker.run, attempt(suite, row, 0, first, said, theta))
        beside(sides, out)


def section(name: str, draw: str, made: Sequence[Cell], docs: Path) -> str:
    """One table of the page."""
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
