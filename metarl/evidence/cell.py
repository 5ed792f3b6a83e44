"""One cell of a table: a run, how it is judged, and the file that keeps the verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from metarl.benchmarks.machine import machine
from metarl.checkpoint import Run
from metarl.config import Config
from metarl.files import write_json
from metarl.trainer import train

Verdict = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """name: of the table, the row and the seed, as a path. judge: of the trained run, plain values."""

    name: str
    config: Config
    judge: Callable[[Run], Verdict]

    def file(self, docs: Path) -> Path:
        return docs / f"{self.name}.json"

    def missing(self, docs: Path) -> bool:
        """Whether there is no verdict yet, or only one of other settings."""
        found = self.read(docs)
        return found is None or found["config"] != json.loads(json.dumps(self.config.to_dict()))

    def read(self, docs: Path) -> Verdict | None:
        file = self.file(docs)
        verdict: Verdict | None = json.loads(file.read_text()) if file.exists() else None
        return verdict

    def run(self, runs: Path, docs: Path, workers: int, console: Console) -> Verdict:
        """Train, or go on with, the run in `runs`, judge it, and keep the verdict in `docs`.

        Wall time is summed over interruptions in the run folder. Raises ValueError for a run of other settings there.
        """
        folder = runs / self.name
        resume = (folder / "config.json").exists()
        if resume and Run(folder).config != self.config:
            raise ValueError(f"{folder} holds a run of other settings; remove it, or choose another --runs")
        spent, started = _spent(folder), time.monotonic()
        try:
            run = train(self.config, folder, workers, resume, console)
        finally:
            if folder.exists():
                write_json(folder / "seconds.json", spent + time.monotonic() - started)
        trained = _spent(folder)
        started = time.monotonic()
        verdict = {
            "cell": self.name,
            "config": self.config.to_dict(),
            "training_seconds": round(trained, 1),
            "judging_seconds": 0.0,
            "processes": 1 + workers,
            "machine": machine(),
            **self.judge(run),
        }
        verdict["judging_seconds"] = round(time.monotonic() - started, 1)
        write_json(self.file(docs), verdict)
        return verdict


def _spent(folder: Path) -> float:
    """Seconds that training in a folder has taken so far."""
    file = folder / "seconds.json"
    return float(json.loads(file.read_text())) if file.exists() else 0.0


def seeds_of(cells: Sequence[Cell], prefix: str, docs: Path) -> list[Verdict]:
    """The verdicts that there are under a name, over its seeds."""
    found = (cell.read(docs) for cell in cells if cell.name.rsplit("/", 1)[0] == prefix)
    return [verdict for verdict in found if verdict is not None]
