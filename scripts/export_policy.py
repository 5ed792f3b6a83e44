"""Export a run for the device."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from metarl.console import main


@dataclass(frozen=True)
class Args:
    """Write a run's initialization and its own gradient step as one bundle of ONNX graphs.

    ONNX Runtime is held against torch first, over seeds, batch sizes and chained steps.
    """

    run: Positional[Path]
    """Run folder."""
    out: Path
    """Bundle to write, such as panda.zip."""
    evaluation: tuple[Path, ...] = ()
    """Results of scripts/evaluate.py --json, to travel in the manifest."""
    sign: Path | None = None
    """PEM file of an Ed25519 private key (openssl genpkey -algorithm ed25519); devices then load with --trust."""


def run(args: Args) -> None:
    from metarl.checkpoint import Run
    from metarl.pack import pack

    report = pack(Run(args.run), args.out, [json.loads(file.read_text()) for file in args.evaluation], args.sign)
    print(f"verified: act differs by {report.act:.1e}")
    if report.cases:
        print(
            f"over {report.cases} batches theta' - theta differs by {report.first:.1e} after 1 step and "
            f"{report.chained:.1e} after {report.steps}"
        )
    print(f"wrote {args.out}, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main(Args, run)
