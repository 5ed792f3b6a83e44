"""Where adaptation has something to win: domain randomization against an oracle, fault by fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from envs.tasks import Choice, Parameter, Task, TaskSpace
from metarl.evidence.cell import RIVALS, Cell, Verdict, by_ppo, rivals, seeds_of
from metarl.evidence.judges import World, by_row
from metarl.evidence.tables import table
from metarl.problem import Problem
from robots.spec import Array

SEEDS = (0, 1, 2)
TASKS = 40  # worlds of every row
CLEAR = 4  # standard errors from which a gap is called one

Faults = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Row:
    """What is not nominal, and the range of its size; and what is not after the change, if there is one.

    Of what may go wrong in either direction the size is how far, and each element's direction is drawn. A choice has a
    range of options.
    """

    faults: Faults
    then: Faults | None = None


@dataclass(frozen=True)
class Place:
    """A job with everything unknown, in which the three policies are trained, and the worlds they are judged in.

    horizon: of an attempt that is judged, in control steps; a change comes half-way. start: a recorded policy, for all
    alike; nobody is charged for its training.
    """

    env: str
    says: str
    steps: int
    horizon: int
    rows: Mapping[str, Row]
    hidden: tuple[int, ...] = (128, 128)
    start: str | None = None
    discount: float = 0.98


BEYOND = "beyond training: "
ZEROS: Faults = {"joint_zero": (0.15, 0.25)}  # [rad]
WEAK: Faults = {"weak_joint": (1, 12), "weak_strength": (0.3, 0.4)}
SHIFTED: Faults = {"camera_shift": (0.08, 0.15)}  # [m]
TURNED: Faults = {"camera_yaw": (0.52, 1.04)}  # [rad]
ASKEW: Faults = {**SHIFTED, **TURNED}
LADEN: Faults = {"payload": (4, 5), **WEAK}
PLACES = {
    "a1": Place(
        "metarl/A1Field-v0",
        "A1 walks at 0.3 to 0.6 m/s on flat ground",
        steps=600_000,
        horizon=400,
        start="docs/learned/a1-flat",
        rows={
            "nominal": Row({}),
            "payload 4 to 5 kg": Row({"payload": (4, 5)}),
            "friction 0.4 to 0.5": Row({"friction": (0.4, 0.5)}),
            "a motor at 30 to 40 %": Row(WEAK),
            "delay 30 to 40 ms": Row({"delay": (0.03, 0.04)}),
            "joint zeros off by 0.1 to 0.2 rad": Row({"joint_zero": (0.1, 0.2)}),
            "joint zeros off by 0.2 to 0.3 rad": Row({"joint_zero": (0.2, 0.3)}),
            "IMU askew by 0.15 to 0.2 rad": Row({"imu_mount": (0.15, 0.2)}),
            "IMU and zeros": Row({"imu_mount": (0.15, 0.2), **ZEROS}),
            "zeros, payload and motor": Row({**ZEROS, **LADEN}),
            "all at once": Row(
                {**ZEROS, **LADEN, "imu_mount": (0.1, 0.2), "friction": (0.4, 0.6), "delay": (0.02, 0.04)}
            ),
            "nominal, then zeros": Row({}, ZEROS),
            "nominal, then payload and motor": Row({}, LADEN),
            f"{BEYOND}joint zeros off by 0.3 to 0.4 rad": Row({"joint_zero": (0.3, 0.4)}),
            f"{BEYOND}payload 5 to 6 kg and zeros": Row({"payload": (5, 6), **ZEROS}),
        },
    ),
    "reach": Place(
        "metarl/PandaReach-v0",
        "Panda reaches through a camera that is mounted askew",
        steps=400_000,
        horizon=80,
        discount=0.95,
        rows={
            "nominal": Row({}),
            "joint zeros off by 0.02 to 0.05 rad": Row({"joint_zero": (0.02, 0.05)}),
            "payload 0.7 to 1 kg": Row({"payload": (0.7, 1)}),
            "camera shifted by 8 to 15 cm along each axis": Row(SHIFTED),
            "camera turned by 30 to 60°": Row(TURNED),
            "camera shifted and turned": Row(ASKEW),
            "camera, zeros and payload": Row({**ASKEW, "joint_zero": (0.02, 0.05), "payload": (0.7, 1)}),
            "nominal, then a knock at the camera": Row({}, ASKEW),
            f"{BEYOND}camera turned by 65 to 85°": Row({"camera_yaw": (1.13, 1.48)}),
        },
    ),
}


def drawn(space: TaskSpace, faults: Faults, rng: np.random.Generator) -> Task:
    """A task with these faults, and nominal otherwise. Raises KeyError for one that the space does not have.

    A nominal value that training does not have, such as the full strength of a weak motor where none is weak, gives
    way to the nearest one, lest the oracle be told what it never heard.
    """
    known = {parameter.name: parameter for parameter in space.parameters}
    values = {name: _heard(parameter) for name, parameter in known.items()}
    for name, (low, high) in faults.items():
        values[name] = tuple(_sized(known[name], low, high, rng).tolist())
    task = Task(values)
    space.check(task)
    return task


def _heard(parameter: Parameter | Choice) -> tuple[float, ...]:
    if isinstance(parameter, Choice):
        return parameter.nominal_values
    return (min(max(parameter.nominal, parameter.low), parameter.high),) * parameter.size


def _sized(parameter: Parameter | Choice, low: float, high: float, rng: np.random.Generator) -> Array:
    if isinstance(parameter, Choice):
        return rng.integers(int(low), int(high), size=1, endpoint=True).astype(np.float64)
    size = rng.uniform(low, high, parameter.size)
    return size * rng.choice((-1.0, 1.0), parameter.size) if parameter.low == -parameter.high else size


def worlds(place: Place, problem: Problem) -> dict[str, list[World]]:
    """Each row's worlds: the same for every policy and seed."""
    half = place.horizon / 2 * problem.seconds
    made: dict[str, list[World]] = {}
    for index, (name, row) in enumerate(place.rows.items()):
        rngs = [np.random.default_rng([index, world]) for world in range(TASKS)]
        made[name] = [
            (
                drawn(problem.space, row.faults, rng),
                None if row.then is None else (half, drawn(problem.space, row.then, rng)),
            )
            for rng in rngs
        ]
    return made


def cells() -> list[Cell]:
    """All of them, seed by seed."""
    return [cell for seed in SEEDS for name, place in PLACES.items() for cell in _cells(name, place, seed)]


def _cells(name: str, place: Place, seed: int) -> Iterator[Cell]:
    for label, settings in rivals(place.env, place.steps, place.hidden, place.start, place.discount, seed):
        made = by_ppo(
            f"room/{name}/{label}/{seed}",
            settings,
            partial(by_row, worlds=partial(worlds, place), horizon=place.horizon),
        )
        rows = {row: asdict(faults) for row, faults in place.rows.items()}
        yield replace(
            made, settings={"policy": asdict(settings), "tasks": TASKS, "horizon": place.horizon, "rows": rows}
        )


PAGE = "room.md"
HEAD = """# Where adaptation has something to win

A policy trained with domain randomization copes with much by itself, and where it equals an oracle that is told the
task, nothing is left to adapt. Each policy was trained with all these faults unknown at once, from the same start with
equally many control steps, and is judged fault by fault on {tasks} worlds of each row, the same for all, acting by the
mean; "then" is what happens half-way. The gap is the oracle's return over that of the better of the other two in that
row, paired over worlds and seeds, with its standard error; a gap of more than {clear} of them is **room**. With one
seed that error does not hold the luck of training. `make evidence-next` runs the next missing cell; the verdicts are in
`docs/evidence/room`, and this page is made from them.

"""


def markdown(docs: Path) -> str:
    """The page, from the verdicts that there are."""
    made = cells()
    sections = (_section(name, place, made, docs) for name, place in PLACES.items())
    return HEAD.format(tasks=TASKS, clear=CLEAR) + "\n".join(sections)


def _section(name: str, place: Place, made: list[Cell], docs: Path) -> str:
    found = {label: seeds_of(made, f"room/{name}/{label}", docs) for label in RIVALS}
    seeds = min(map(len, found.values()))
    header = ["fault", *(f"{label.replace('-', ' ')}, return (falls)" for label in RIVALS), "gap", ""]
    lines = [_line(row, [verdicts[:seeds] for verdicts in found.values()]) for row in place.rows]
    says = f"{place.steps:,} control steps each, seeds: {seeds}."
    return f"## {place.says}\n\n`{place.env}`, {says}\n\n" + table(header, lines)


def _line(row: str, policies: list[list[Verdict]]) -> list[str]:
    if not policies[0]:
        return [row, *["not run"] * len(policies), "", ""]
    returns = [_values(verdicts, row, "return") for verdicts in policies]
    falls = [_values(verdicts, row, "fell").mean() for verdicts in policies]
    shown = [
        f"{values.mean():.1f}" + (f" ({fell:.0%})" if fell else "") for values, fell in zip(returns, falls, strict=True)
    ]
    *others, oracle = returns
    gap, error = paired(oracle - max(others, key=np.mean))
    return [row, *shown, f"{gap:.1f} ± {error:.1f}", "**room**" if gap > CLEAR * error else ""]


def paired(differences: Array) -> tuple[float, float]:
    """Mean of differences [seed, world], and its standard error: over worlds, each the mean of its seeds, or over
    seeds, whichever is larger."""
    ways = [differences.mean(axis) for axis in (0, 1)]
    errors = [way.std(ddof=1) / np.sqrt(len(way)) for way in ways if len(way) > 1]
    return float(differences.mean()), float(max(errors))


def _values(verdicts: list[Verdict], row: str, figure: str) -> Array:
    """[seed, world]"""
    return np.array([verdict["values"][row][figure].split() for verdict in verdicts], np.float64)
