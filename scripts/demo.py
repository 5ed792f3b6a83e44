"""The main job, end to end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from metarl.config import DEFAULTS
from metarl.console import main, stdout

OBJECTIVE = {"reach": "demonstration", "seek": "reward"}


@dataclass(frozen=True)
class Args:
    """Train, evaluate beside all baselines, export, verify, and film one robot before and after it adapts.

    Act "reach": a Panda whose camera is mounted askew adapts from five guided motions. Act "seek": a Panda that
    sees no target adapts from a measured distance. Interrupted, it goes on where it stopped.
    """

    act: Literal["reach", "seek"] = "reach"
    """Which of the two."""
    out: Path = Path("runs/demo")
    """Folder for the run and everything made from it."""
    tasks: int = 100
    """Held-out worlds to evaluate on."""
    workers: int = 2
    """Simulating processes."""
    seed: int = 0
    """Seed of training."""


def run(args: Args) -> None:
    # Not at the top: every simulating process imports this file, and needs none of it.
    from metarl.pipeline import whole
    from metarl.report import table

    console, out = stdout(), args.out
    config = replace(DEFAULTS[OBJECTIVE[args.act]], seed=args.seed)
    heldout, beyond, report = whole(config, out, args.tasks, args.workers, console)
    console.print(table(heldout), table(beyond))
    console.print(
        f"torch and ONNX Runtime agree on theta' - theta to {report.first:.0e} after 1 step and {report.chained:.0e} "
        f"after {report.steps}.\nIn {out}: results.json, extrapolation.json, bundle.zip, adaptation.png, "
        "before_after.gif\n"
        f"Next: python scripts/adapt.py {out}/bundle.zip --option seed 7",
        highlight=False,
    )


if __name__ == "__main__":
    main(Args, run)
