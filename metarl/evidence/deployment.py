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
from metarl.evidence.cell import RIVALS, Cell, Verdict, by_seed, common, problem_of
from metarl.evidence.judges import CANDIDATES, ROUNDS, TRIES, ZERO, attempt, online_pilot, ppo_pilot
from metarl.evidence.places import BY_TRIALS, COLUMNS, FEW, PLACES, SEEDS, TASKS, Place, cells
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
at the same times. Policies of walking robots know that right and left are alike, unless it is said. `metasgd` adapts
before the attempt, by three gradient steps on three guided motions of 1.2 s in the world as it is then; and, from its
start again, after a change, while the attempt stands still and someone guides the arm for those 3.6 s. Everyone had at
most as many control steps of simulation, and the oracle is told the task. "Closed" is the share of the gap between the
better of the two that do not adapt, as far as they have been run, and the oracle, where that gap is more than {clear}
standard errors: there is room. Where nobody adapts, that is all that is said. "Sure" is by two of them. With one seed,
they do not hold the luck of training. `make evidence-next` runs the next missing cell.

"""
UNLIKE = "Not run anew yet: here those who do not adapt have to learn that right and left are alike.\n\n"
FILMED = ("domain-randomization", "belief, 0 steps", "belief", "oracle")
WHERE = {"heldout": "In PyBullet", "mujoco": "In MuJoCo, where nothing was trained"}
TRIED = {  # columns: whose verdicts, and what is said of them
    "domain-randomization": ("domain-randomization", ""),
    "fine-tuned": ("finetune", ""),
    "climbing": ("climb", ""),
    "maml, 0 steps": ("maml", ZERO),
    "maml": ("maml", ""),
    "belief": ("belief", ""),
    "oracle": ("oracle", ""),
}
BY_TRIALS_HEAD = """Against those who first make attempts in the world as it is, and are told the reward of each,
before the one that counts ({says}, in PyBullet, {of}): domain randomization's policy fine-tuned by {rounds} plain
gradient steps on {tries} attempts each, or climbing by {rounds} rounds that keep the best of {candidates} candidates;
and `maml`, which was trained for one step on {attempts}, with as much simulation as the others. {attempts} attempts
are {seconds} of motion, the {climbed} of climbing {climbed_seconds}; after a change they are made again, while the
attempt that counts stands still. `belief` has no such attempts, and is told no reward. Sizes of fine-tuning's steps
and of climbing's perturbations are the best on training tasks; what that took is not counted."""
ACROSS = 5  # panels of a picture


def markdown(docs: Path) -> str:
    """The page, from the verdicts that there are."""
    made = cells()
    begun, sections = _begun(made, docs), []
    for name, draw in product(begun, WHERE):
        sections.append(section(name, draw, made, docs))
        sections.append(f"![Reward in each second, row by row]({_picture(name, draw)})\n")
        if PLACES[name].trials and draw == "heldout" and (told := _by_trials(name, made, docs)):
            sections.append(told)
    return HEAD.format(tasks=TASKS, clear=CLEAR) + "\n".join(sections) + unbegun(begun)


def unbegun(begun: Sequence[str]) -> str:
    """A line for the deployments in which nobody was judged yet."""
    names = [SUITE[name].says for name in PLACES if name not in begun]
    return f"\nNot run yet: {'; '.join(names)}.\n" if names else ""


def pictures(docs: Path) -> dict[str, bytes]:
    """What each second brought in every row, by the name of a PNG beside the page."""
    made = cells()
    return {_picture(name, draw): _curves(name, draw, made, docs) for name, draw in product(_begun(made, docs), WHERE)}


def _begun(made: Sequence[Cell], docs: Path) -> list[str]:
    """The deployments in which anyone was judged yet."""
    return [name for name in PLACES if any(_found(name, made, docs).values())]


def _found(name: str, made: Sequence[Cell], docs: Path) -> dict[str, dict[int, Verdict]]:
    """The verdicts that there are, by label and seed."""
    return {label: by_seed(made, f"deployment/{name}/{label}", docs) for label, _ in PLACES[name].columns.values()}


def _picture(name: str, draw: str) -> str:
    return f"deployment-{name}-{draw}.png"


def _curves(name: str, draw: str, made: Sequence[Cell], docs: Path) -> bytes:
    suite, place, found = SUITE[name], PLACES[name], _found(name, made, docs)
    figure = Figure(figsize=(12, 2.2 * -(-len(suite.rows) // ACROSS) + 0.6), layout="constrained")
    panels = figure.subplots(-(-len(suite.rows) // ACROSS), ACROSS, sharex=True, sharey=True, squeeze=False).flat
    for axes, (title, row) in zip(panels, suite.rows.items(), strict=False):
        for column, (label, said) in place.columns.items():
            if found[label]:
                seconds = values([*found[label].values()], f"{draw}{said}", title, "seconds").mean(0)
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
            pilot = online_pilot(Run(folder)) if label in ONLINE else ppo_pilot(folder)
            problem = pilot.problem
            first = worlds(suite, problem.space, 1, HELDOUT)[row][0]
            horizon = round(suite.seconds / problem.seconds)
            options = {**problem.options, **suite.options, "horizon": horizon, "render_mode": "rgb_array"}
            worker = stack.enter_context(closing(Worker(problem.env, pilot.actors, options)))
            sides[column] = partial(worker.run, attempt(suite, row, 0, first, said, pilot.theta))
        beside(sides, out)


def section(name: str, draw: str, made: Sequence[Cell], docs: Path) -> str:
    """One table of the page, and what it comes to."""
    place, suite, found = PLACES[name], SUITE[name], _found(name, made, docs)
    seeds = common(found, (*RIVALS, *place.adapt[:1]))
    those = {label: [each[seed] for seed in seeds if seed in each] for label, each in found.items()}
    those = {label: each for label, each in those.items() if each}
    fewer = "".join(f", {label} {len(each)}" for label, each in those.items() if len(each) < len(seeds))
    rows = {row: Met.of(place, those, draw, row) for row in suite.rows}
    trained = f"{place.steps:,} control steps each, seeds: {len(seeds)}{fewer}"
    says = f"## {suite.says}\n\n{WHERE[draw]}: `{suite.env}`, {trained}.\n\n"
    says += UNLIKE if problem_of(suite.env).symmetry and not place.symmetric else ""
    falls = " (falls)" if any(fell.any() for met in rows.values() for fell in met.falls.values()) else ""
    header = [f"{place.by}{place.unit}{falls}", *place.columns, "closed" if place.adapt else "room"]
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
        """Whether those were judged that cannot be done without; of UNADAPTED the second may be missing."""
        return {*self.place.adapt[:1], UNADAPTED[0], "oracle"} <= set(self.figures)

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
        judged = [column for column in UNADAPTED if column in self.figures]
        return max(map(self._good, judged), key=lambda each: float(each.mean()))

    def _good(self, column: str) -> Array:
        """More of it is better."""
        return -self.figures[column] if self.place.by == "error" else self.figures[column]


def _line(row: str, met: Met) -> list[str]:
    names = met.place.columns
    told = [shown(met.figures[name], met.falls[name].mean()) if name in met.figures else "not run" for name in names]
    return [row, *told, _closed(met) if met.complete and met.room else ""]


def _closed(met: Met) -> str:
    """The share of the gap, or that there is one where nobody adapts."""
    if not met.place.adapt:
        return "room"
    return f"{met.gain(met.place.adapt[0])[0] / met.gain('oracle')[0]:.0%}"


def _summary(place: Place, rows: Sequence[Met]) -> str:
    """What was closed over the rows with room, and in how many of all rows it is sure to be hardly worse."""
    if not all(row.complete for row in rows):
        return ""
    roomy = [row for row in rows if row.room]
    room = f"There is room in {len(roomy)} of {len(rows)} rows"
    if not place.adapt:
        return f"\n{room}. Nobody adapts here.\n"
    column = place.adapt[0]
    gain, gap = (sum(row.gain(which)[0] for row in roomy) for which in (column, "oracle"))
    closes = f"; of it `{column}` closes {gain / gap:.0%}. It" if roomy else f". `{column}`"
    sure, unmoved = (sum(row.hardly_worse(which) for row in rows) for which in (column, f"{column}, 0 steps"))
    told = (
        f"{room}{closes} is sure to be at most {HARDLY:.0%} worse than the better of those that do not adapt in {sure} "
        f"rows, without its steps in {unmoved}."
    )
    if f"{column}, told" in place.columns:
        moved, able = (
            np.mean([(row.figures[which] - row.figures[f"{column}, 0 steps"]).mean() for row in rows])
            for which in (column, f"{column}, told")
        )
        told += f" Its steps bring {moved:+.1f} on average over all rows; being told the truth would bring {able:+.1f}."
    return f"\n{fill(told, 120)}\n"


def _by_trials(name: str, made: Sequence[Cell], docs: Path) -> str:
    """The table of those who learn from attempts, beside those who need none, in the worlds and seeds of the former;
    empty where none of them was judged."""
    suite = SUITE[name]
    labels = [label for label, _ in TRIED.values()]
    found = {label: by_seed(made, f"deployment/{name}/{label}", docs) for label in labels}
    seeds = common(found, labels)
    if not seeds or not any(found[label] for label in (*BY_TRIALS, "maml")):
        return ""
    spent = ROUNDS * TRIES, ROUNDS * (CANDIDATES + 1)
    seconds = [f"{attempts * suite.seconds:.0f} s" for attempts in spent]
    of = f"the first {FEW} worlds of each row, seeds: {', '.join(map(str, seeds))}"
    says = BY_TRIALS_HEAD.format(
        says=suite.says, of=of, rounds=ROUNDS, tries=TRIES, candidates=CANDIDATES + 1,
        attempts=spent[0], seconds=seconds[0], climbed=spent[1], climbed_seconds=seconds[1],
    )  # fmt: skip
    figures: dict[str, dict[str, Array]] = {}
    for column, (label, said) in TRIED.items():
        if those := [found[label][seed] for seed in seeds if found[label]]:
            rows = {row: values(those, f"heldout{said}", row, "return")[:, :FEW] for row in suite.rows}
            figures[column] = {**rows, "mean over rows": np.mean([*rows.values()], 0)}
    lines = [
        [row, *(f"{figures[column][row].mean():.1f}" if column in figures else "not run" for column in TRIED)]
        for row in (*suite.rows, "mean over rows")
    ]
    return f"{fill(says, 120)}\n\n{table(['return', *TRIED], lines)}"


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
