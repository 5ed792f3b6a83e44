"""One cell of a table: something trained, how it is judged, and the file that keeps the verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from metarl.benchmarks.machine import machine
from metarl.checkpoint import Run, locked
from metarl.config import Config
from metarl.console import progress
from metarl.files import write_json
from metarl.problem import Problem
from metarl.sb3 import Settings, learn, load_settings
from metarl.trainer import train

RIVALS: dict[str, Literal["observation", "past", "task"]] = {
    "domain-randomization": "observation",
    "domain-randomization-history": "past",
    "oracle": "task",
}
OTHERS = "a run of other settings; remove it, or choose another folder"
Verdict = dict[str, Any]
Judge = Callable[[Path, int], Verdict]  # of a folder, with so many processes; plain values


@dataclass(frozen=True)
class Cell:
    """name: of the table, the row and the seed, as a path. settings: what the verdict depends on, plain values.

    train: into a folder, with so many processes; it goes on with what is there already. of: the cell whose training
    this one judges in its own way, where it is not its own.
    """

    name: str
    settings: Mapping[str, Any]
    train: Callable[[Path, int, Console], None]
    judge: Judge
    of: str = ""

    def file(self, docs: Path) -> Path:
        return docs / f"{self.name}.json"

    def read(self, docs: Path) -> Verdict | None:
        """The verdict, if there is one of these settings."""
        file = self.file(docs)
        found: Verdict | None = json.loads(file.read_text()) if file.exists() else None
        return found if found and found["settings"] == _plain(self.settings) else None

    def run(self, runs: Path, docs: Path, workers: int, console: Console) -> Verdict:
        """Train or go on in `runs`, judge, and keep the verdict in `docs`. Time adds up over interruptions.

        That training diverged is a verdict, too.
        """
        folder, diverged = runs / (self.of or self.name), ""
        with timed(folder):
            try:
                self.train(folder, workers, console)
            except FloatingPointError as error:
                diverged = str(error)
        verdict = {
            "cell": self.name,
            "settings": _plain(self.settings),
            "training_seconds": round(spent(folder), 1),
            "processes": 1 + workers,
            "machine": machine(),
            **({"diverged": diverged} if diverged else self.judge(folder, workers)),
        }
        write_json(self.file(docs), verdict)
        return verdict


def by_learner(name: str, config: Config, judge: Callable[[Run, int], Verdict]) -> Cell:
    """A meta-learner's cell."""

    def go(folder: Path, workers: int, console: Console) -> None:
        trained(config, folder, workers, console)

    return Cell(name, config.to_dict(), go, lambda folder, workers: judge(Run(folder), workers))


def trained(config: Config, folder: Path, workers: int, console: Console) -> Run:
    """The run of these settings in a folder: begun, gone on with, or done already. Raises ValueError for another's."""
    resume = (folder / "config.json").exists()
    if resume and Run(folder).config != config:
        raise ValueError(f"{folder} holds {OTHERS}")
    return train(config, folder, workers, resume, console)


def by_ppo(name: str, settings: Settings, judge: Judge) -> Cell:
    """A rival's cell; what was interrupted begins anew."""

    def go(folder: Path, workers: int, console: Console) -> None:
        if (folder / "done.json").exists():
            if load_settings(folder) != settings:
                raise ValueError(f"{folder} holds {OTHERS}")
            return
        with locked(folder), progress(console, "learning", settings.steps) as show:
            (folder / "theta.safetensors").unlink(missing_ok=True)
            learn(settings, folder, show)
        write_json(folder / "done.json", True)

    return Cell(name, asdict(settings), go, judge)


def rivals(
    env: str, steps: int, hidden: tuple[int, ...], start: str | None, discount: float, seed: int, symmetric: bool
) -> Iterator[tuple[str, Settings]]:
    """Those whom adaptation is measured against, by label, as PPO trains them: the same in every table."""
    for label, sees in RIVALS.items():
        yield (
            label,
            Settings(
                env,
                steps,
                rollout=512,
                batch=512,
                epochs=8,
                rate=5e-4,
                gamma=discount,
                log_std=-1.5,
                hidden=hidden,
                seed=seed,
                start=start,
                sees=sees,
                symmetric=symmetric,
            ),
        )


def by_seed(cells: Sequence[Cell], prefix: str, docs: Path) -> dict[int, Verdict]:
    """The verdicts that there are under a name, by seed, of those that did not diverge."""
    found = {}
    for cell in cells:
        name, seed = cell.name.rsplit("/", 1)
        if name == prefix and (verdict := cell.read(docs)) and "diverged" not in verdict:
            found[int(seed)] = verdict
    return found


@cache
def problem_of(env: str) -> Problem:
    """Looked up once: it takes loading a world."""
    return Problem.of(env)


def seeds_of(cells: Sequence[Cell], prefix: str, docs: Path) -> list[Verdict]:
    """Those of `by_seed`, seed by seed."""
    return [*by_seed(cells, prefix, docs).values()]


def common(found: Mapping[str, Mapping[int, Verdict]], labels: Iterable[str]) -> list[int]:
    """The seeds that all of these labels have who have any."""
    there = [set(found[label]) for label in labels if found[label]]
    return sorted(set.intersection(*there)) if there else []


def failures(cells: Sequence[Cell], docs: Path) -> str:
    """A line of a page for each whose training diverged: no table has them."""
    found = [verdict for cell in cells if (verdict := cell.read(docs)) and "diverged" in verdict]
    return "".join(f"\nNot in the tables: `{each['cell']}` diverged ({each['diverged']}).\n" for each in found)


def _plain(settings: Mapping[str, Any]) -> Any:
    """As JSON has them."""
    return json.loads(json.dumps(settings))


@contextmanager
def timed(folder: Path) -> Iterator[None]:
    """What is done here adds to the seconds that `spent` knows of."""
    before, started = spent(folder), time.monotonic()
    try:
        yield
    finally:
        if folder.exists():
            write_json(folder / "seconds.json", before + time.monotonic() - started)


def spent(folder: Path) -> float:
    """Seconds that training in a folder has taken so far."""
    file = folder / "seconds.json"
    return float(json.loads(file.read_text())) if file.exists() else 0.0
