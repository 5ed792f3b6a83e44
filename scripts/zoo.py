"""Make a bundle of the zoo anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from metarl.console import main, stdout


@dataclass(frozen=True)
class Args:
    """Train, judge, export and film one of the bundles that come with the package, and write its card.

    Interrupted, it goes on where it stopped.
    """

    name: Positional[Literal["a1-walk", "panda-reach"]]
    """Which."""
    runs: Path = Path("runs/zoo")
    """Folder for the run."""
    workers: int = 2
    """Simulating processes."""


def run(args: Args) -> None:
    from metarl.zoo import make  # not at the top: every simulating process imports this file

    make(args.name, args.runs, args.workers, stdout())


if __name__ == "__main__":
    main(Args, run)
