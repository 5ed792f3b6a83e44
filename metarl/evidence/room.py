"""Where adaptation has something to win: domain randomization against an oracle, fault by fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from envs.deployment import SUITE
from metarl.evidence.cell import RIVALS, Cell, Verdict, seeds_of
from metarl.evidence.deployment import CLEAR, paired, shown, values
from metarl.evidence.places import PLACES, TASKS, cells
from metarl.evidence.tables import table

PAGE = "room.md"
HEAD = """# Where adaptation has something to win

A policy trained with domain randomization copes with much by itself, and where it equals an oracle that is told the
task, nothing is left to adapt. Each policy was trained with all these faults unknown at once, from the same start with
equally many control steps, and is judged fault by fault on {tasks} worlds of each row, the same for all, acting by the
mean; "then" is what happens half-way. The gap is the oracle's return over that of the better of the other two in that
row, paired over worlds and seeds, with its standard error; a gap of more than {clear} of them is **room**. With one
seed that error does not hold the luck of training. `make evidence-next` runs the next missing cell; the verdicts are in
`docs/evidence/deployment`, and this page is made from them.

"""


def markdown(docs: Path) -> str:
    """The page, from the verdicts that there are."""
    made = cells()
    sections = (_section(name, made, docs) for name in PLACES)
    return HEAD.format(tasks=TASKS, clear=CLEAR) + "\n".join(sections)


def _section(name: str, made: list[Cell], docs: Path) -> str:
    place, suite = PLACES[name], SUITE[name]
    found = {label: seeds_of(made, f"deployment/{name}/{label}", docs) for label in RIVALS}
    seeds = min(map(len, found.values()))
    header = ["fault", *(f"{label.replace('-', ' ')}, return (falls)" for label in RIVALS), "gap", ""]
    lines = [_line(row, [verdicts[:seeds] for verdicts in found.values()]) for row in suite.rows]
    says = f"{place.steps:,} control steps each, seeds: {seeds}."
    return f"## {suite.says}\n\n`{suite.env}`, {says}\n\n" + table(header, lines)


def _line(row: str, policies: list[list[Verdict]]) -> list[str]:
    if not policies[0]:
        return [row, *["not run"] * len(policies), "", ""]
    returns = [values(verdicts, "room", row, "return") for verdicts in policies]
    falls = [values(verdicts, "room", row, "fell").mean() for verdicts in policies]
    cells_shown = [shown(*pair) for pair in zip(returns, falls, strict=True)]
    *others, oracle = returns
    gap, error = paired(oracle - max(others, key=np.mean))
    return [row, *cells_shown, f"{gap:.1f} ± {error:.1f}", "**room**" if gap > CLEAR * error else ""]
