"""The deployment suite's page: tables, pictures and films of what adapting while at work brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import product
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from envs.deployment import HELDOUT, SUITE, worlds
from metarl.checkpoint import Run
from metarl.config import ONLINE
from metarl.evidence.cell import Cell, Verdict, seeds_of
from metarl.evidence.judges import attempt, online_pilot, ppo_pilot
from metarl.evidence.places import COLUMNS, PLACES, SEEDS, TASKS, Place, cells
from metarl.evidence.tables import table
from metarl.sampling.worker import Worker
from metarl.video import beside
from robots.spec import Array

CLEAR = 4  # standard errors from which a gap is called one
SURE = 2  # standard errors
HARDLY = 0.02  # worse: as much of a rival's figure
UNADAPTED = ("domain-randomization", "with history")  # columns
PAGE = "deployment.md"
HEAD = """# Deployment: what adapting brings

The suite (`envs/deployment.py`) in worlds that nobody trained or chose by: {tasks} of each row, the same for all, one
attempt each, acting by the mean, from the first step on. `belief` adapts while it works: three gradient steps on the
error of its forecasts after half a second and every half second from then on, on the last two seconds at most; "0
steps" is the same policy without them, and "told" the same that is told the truth instead. `rma` infers by an encoder,
at the same times. Both know that right and left of a walking robot are alike; the others, by stable-baselines3, have to
learn it: what adapting alone brings is seen beside "0 steps". `metasgd` adapts before the attempt, by three gradient
steps on three guided motions of 1.2 s in the world as it is then; and, from its start again, after a change, while the
attempt stands still and someone guides the arm for those 3.6 s. Everyone had at most as many control steps of
simulation, and the oracle is told the task. "Closed" is the share of the gap between the better of the two that do not
adapt and the oracle, where that gap is more than {clear} standard errors: there is room. "Sure" is by two of them. With
one seed, they do not hold the luck of training. `make evidence-next` runs the next missing cell.

"""
FILMED = ("domain-randomization", "belief, 0 steps", "belief", "oracle")
WHERE = {"heldout": "In PyBullet", "mujoco": "In MuJoCo, where nothing was trained"}

ACROSS = 5  # panels of a picture


def markdown(docs: Path) -> str:
    """The page, from the verdicts that there are."""
    made = cells()
    sections = []
    for name, draw in product(PLACES, WHERE):
        sections.append(section(name, draw, made, docs))
        if _begun(name, made, docs):
            sections.append(f"![Reward in each second, row by row]({_picture(name, draw)})\n")
    return HEAD.format(tasks=TASKS, clear=CLEAR) + "\n".join(sections)


def pictures(docs: Path) -> dict[str, bytes]:
    """What each second brought in every row, by the name of a PNG beside the page."""
    made = cells()
    there = [name for name in PLACES if _begun(name, made, docs)]
    return {_picture(name, draw): _curves(name, draw, made, docs) for name, draw in product(there, WHERE)}


def _begun(name: str, made: Sequence[Cell], docs: Path) -> bool:
    """Whether anyone was judged there yet."""
    return any(_found(name, made, docs).values())


def _found(name: str, made: Sequence[Cell], docs: Path) -> dict[str, list[Verdict]]:
    """The verdicts that there are, seed by seed, by label."""
    return {label: seeds_of(made, f"deployment/{name}/{label}", docs) for label, _ in PLACES[name].columns.values()}


def _picture(name: str, draw: str) -> str:
    return f"deployment-{name}-{draw}.png"


def _curves(name: str, draw: str, made: Sequence[Cell], docs: Path) -> bytes:
    suite, place, found = SUITE[name], PLACES[name], _found(name, made, docs)
    figure = Figure(figsize=(12, 2.2 * -(-len(suite.rows) // ACROSS) + 0.6), layout="constrained")
    panels = figure.subplots(-(-len(suite.rows) // ACROSS), ACROSS, sharex=True, sharey=True, squeeze=False).flat
    for axes, (title, row) in zip(panels, suite.rows.items(), strict=False):
        for column, (label, said) in place.columns.items():
            if found[label]:
                seconds = values(found[label], f"{draw}{said}", title, "seconds").mean(0)
                axes.plot(np.arange(len(seconds)) + 0.5, seconds, marker=".", label=column)
        if row.then:
            axes.axvline(suite.seconds / 2, color="0.6", linestyle=":")
        axes.set_title(fill(title, 30), fontsize=8)
        axes.grid(alpha=0.3)
    for axes in panels[len(suite.rows) :]:
        axes.set_axis_off()
    figure.supxlabel("seconds of motion")
    figure.supylabel("reward in each second")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(place.columns))
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
            problem, actors, theta, _ = online_pilot(Run(folder)) if label in ONLINE else ppo_pilot(folder)
            first = worlds(suite, problem.space, 1, HELDOUT)[row][0]
            options = {"horizon": round(suite.seconds / problem.seconds), "render_mode": "rgb_array"}
            worker = stack.enter_context(closing(Worker(problem.env, actors, {**problem.options, **options})))
            sides[column] = partial(worker.run, attempt(suite, row, 0, first, said, theta))
        beside(sides, out)


def section(name: str, draw: str, made: Sequence[Cell], docs: Path) -> str:
    """One table of the page, and what it comes to."""
    place, suite, found = PLACES[name], SUITE[name], _found(name, made, docs)
    compared = [found[COLUMNS[column][0]] for column in (*UNADAPTED, place.adapt[0], "oracle")]
    seeds = min((len(verdicts) for verdicts in compared if verdicts), default=0)
    those = {label: verdicts[:seeds] for label, verdicts in found.items() if verdicts}
    fewer = "".join(f", {label} {len(each)}" for label, each in those.items() if len(each) < seeds)
    rows = {row: Met.of(place, those, draw, row) for row in suite.rows}
    trained = f"{place.steps:,} control steps each, seeds: {seeds}{fewer}"
    says = f"## {suite.says}\n\n{WHERE[draw]}: `{suite.env}`, {trained}.\n\n"
    falls = " (falls)" if any(fell.any() for met in rows.values() for fell in met.falls.values()) else ""
    header = [f"{place.by}{place.unit}{falls}", *place.columns, "closed"]
    return says + table(header, [_line(row, met) for row, met in rows.items()]) + _summary(place, [*rows.values()])


@dataclass(frozen=True)
class Met:
    """How a row was met: figures [seed, world] and falls, by column, of those who were judged."""

    place: Place
    figures: Mapping[str, Array]
    falls: Mapping[str, Array]

    @classmethod
    def of(cls, place: Place, found: Mapping[str, list[Verdict]], draw: str, row: str) -> Met:
        figures, falls = {}, {}
        for column, (label, said) in place.columns.items():
            if label in found:
                figures[column] = place.scale * values(found[label], f"{draw}{said}", row, place.by)
                falls[column] = values(found[label], f"{draw}{said}", row, "fell")
        return cls(place, figures, falls)

    @property
    def complete(self) -> bool:
        """Whether all were judged that the others are compared with."""
        return {self.place.adapt[0], *UNADAPTED, "oracle"} <= set(self.figures)

    @property
    def room(self) -> bool:
        gap, error = self.gain("oracle")
        return gap > CLEAR * error

    def gain(self, column: str) -> tuple[float, float]:
        """By how much a policy is better than the better of UNADAPTED, and the standard error of that."""
        return paired(self._good(column) - self._best)

    def hardly_worse(self, column: str) -> bool:
        """Whether a policy is sure to be at most HARDLY worse than the better of UNADAPTED."""
        gain, error = self.gain(column)
        return bool(gain - SURE * error >= -HARDLY * abs(self._best.mean()))

    @property
    def _best(self) -> Array:
        return max(map(self._good, UNADAPTED), key=lambda each: float(each.mean()))

    def _good(self, column: str) -> Array:
        """More of it is better."""
        return -self.figures[column] if self.place.by == "error" else self.figures[column]


def _line(row: str, met: Met) -> list[str]:
    names = met.place.columns
    told = [shown(met.figures[name], met.falls[name].mean()) if name in met.figures else "not run" for name in names]
    closed = met.complete and met.room
    return [row, *told, f"{met.gain(met.place.adapt[0])[0] / met.gain('oracle')[0]:.0%}" if closed else ""]


def _summary(place: Place, rows: Sequence[Met]) -> str:
    """What was closed over the rows with room, and in how many of all rows it is sure to be hardly worse."""
    column = place.adapt[0]
    roomy = [row for row in rows if row.complete and row.room]
    if not roomy:
        return ""
    gain, gap = (sum(row.gain(which)[0] for row in roomy) for which in (column, "oracle"))
    sure, unmoved = (sum(row.hardly_worse(which) for row in rows) for which in (column, f"{column}, 0 steps"))
    told = (
        f"There is room in {len(roomy)} of {len(rows)} rows; of it `{column}` closes {gain / gap:.0%}. It is sure to "
        f"be at most {HARDLY:.0%} worse than the better of those that do not adapt in {sure} rows, without its steps "
        f"in {unmoved}."
    )
    if f"{column}, told" in place.columns:
        moved, able = (
            np.mean([(row.figures[which] - row.figures[f"{column}, 0 steps"]).mean() for row in rows])
            for which in (column, f"{column}, told")
        )
        told += f" Its steps bring {moved:+.1f} on average over all rows; being told the truth would bring {able:+.1f}."
    return f"\n{fill(told, 120)}\n"


def shown(figures: Array, fell: float) -> str:
    return f"{figures.mean():.1f}" + (f" ({fell:.0%})" if fell else "")


def paired(differences: Array) -> tuple[float, float]:
    """Mean of differences [seed, world], and its standard error: over worlds, each the mean of its seeds, or over
    seeds, whichever is larger."""
    ways = [differences.mean(axis) for axis in (0, 1)]
    errors = [way.std(ddof=1) / np.sqrt(len(way)) for way in ways if len(way) > 1]
    return float(differences.mean()), float(max(errors))


def values(verdicts: Sequence[Verdict], draw: str, row: str, figure: str) -> Array:
    """[seed, world]"""
    return np.array([verdict["values"][draw][row][figure].split() for verdict in verdicts], np.float64)
