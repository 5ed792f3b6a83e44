"""Where adaptation has something to win: domain randomization against an oracle, fault by fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from envs.deployment import SUITE
from metarl.evidence.cell import RIVALS, Verdict, by_seed, common
from metarl.evidence.deployment import CLEAR, paired, shown, unbegun, values
from metarl.evidence.places import PLACES, TASKS, cells
from metarl.evidence.tables import table

PAGE = "room.md"
HEAD = """# Where adaptation has something to win

A policy trained with domain randomization copes with much by itself, and where it equals an oracle that is told the
task, nothing is left to adapt. Each policy was trained with all these faults unknown at once, from the same start with
equally many control steps, and is judged fault by fault on {tasks} worlds of each row, the same for all, acting by the
mean; "then" is what happens half-way. The gap is the oracle's return over that of the better of the other two in that
row, as far as they have been run, paired over worlds and seeds, with its standard error; a gap of more than {clear} of
them is **room**. With one seed that error does not hold the luck of training. `make evidence-next` runs the next
missing cell; the verdicts are in `docs/evidence/deployment`, and this page is made from them.

"""


def markdown(docs: Path) -> str:
    """The page, from the verdicts that there are."""
    made = cells()
    found = {name: {label: by_seed(made, f"deployment/{name}/{label}", docs) for label in RIVALS} for name in PLACES}
    begun = [name for name, verdicts in found.items() if any(verdicts.values())]
    sections = (_section(name, found[name]) for name in begun)
    return HEAD.format(tasks=TASKS, clear=CLEAR) + "\n".join(sections) + unbegun(begun)


def _section(name: str, found: dict[str, dict[int, Verdict]]) -> str:
    place, suite = PLACES[name], SUITE[name]
    seeds = common(found, RIVALS)
    those = {label: [verdicts[seed] for seed in seeds if verdicts] for label, verdicts in found.items()}
    header = ["fault", *(f"{label.replace('-', ' ')}, return (falls)" for label in RIVALS), "gap", ""]
    lines = [_line(row, those) for row in suite.rows]
    says = f"{place.steps:,} control steps each, seeds: {len(seeds)}."
    return f"## {suite.says}\n\n`{suite.env}`, {says}\n\n" + table(header, lines)


def _line(row: str, policies: dict[str, list[Verdict]]) -> list[str]:
    returns = {label: values(found, "room", row, "return") for label, found in policies.items() if found}
    falls = {label: values(policies[label], "room", row, "fell").mean() for label in returns}
    cells_shown = [shown(returns[label], falls[label]) if label in returns else "not run" for label in policies]
    others = [each for label, each in returns.items() if label != "oracle"]
    if "oracle" not in returns or not others:
        return [row, *cells_shown, "", ""]
    gap, error = paired(returns["oracle"] - max(others, key=np.mean))
    return [row, *cells_shown, f"{gap:.1f} ± {error:.1f}", "**room**" if gap > CLEAR * error else ""]
