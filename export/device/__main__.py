"""`python -m export.device BUNDLE --driver NAME`: adapt a robot with the base install. Plain lines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from export.device.device import Device
from export.device.driver import connect
from export.device.run import run


def option(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value read as JSON where it is JSON, else as text. Raises ArgumentTypeError without a `=`."""
    key, equals, value = text.partition("=")
    if not (key.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m export.device",
        description="Load a bundle, connect to a robot, and let the policy adapt in the way it was trained for: by "
        "gradient steps, by a search, or by what it remembers of earlier attempts; evaluate before and after each "
        "step. Exit code 2 if the bundle or the robot's data are refused.",
    )
    made.add_argument("bundle", help="the file that scripts/export_policy.py wrote")
    made.add_argument(
        "--driver", required=True, metavar="NAME", help="an installed driver (pybullet, say), or MODULE:CLASS"
    )
    made.add_argument(
        "--option",
        action="append",
        default=[],
        type=option,
        metavar="KEY=VALUE",
        help="passed to the driver, e.g. seed=1; may be repeated",
    )
    made.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="gradient steps, rounds of search, or attempts to remember (default: as many as it was trained for)",
    )
    made.add_argument(
        "--attempts",
        type=int,
        default=5,
        metavar="N",
        help="attempts for each evaluation, 0 for none; with memory, trials (default: 5)",
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of exploration noise and search (default: 0)")
    made.add_argument("--restore", action="store_true", help="go back to the initial parameters at the end")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    try:
        device = Device.load(chosen.bundle)
        manifest, interface = device.manifest, device.interface
        print(
            f"loaded {chosen.bundle}: {manifest.learner} on {interface.robot}, {manifest.parameters} parameters, "
            f"{interface.control_hz} Hz, {manifest.way}; golden vectors replayed",
            flush=True,
        )
        with closing(connect(chosen.driver, **dict(chosen.option))) as driver:
            run(
                device,
                driver,
                steps=chosen.steps,
                attempts=chosen.attempts,
                seed=chosen.seed,
                restore=chosen.restore,
                report=lambda event: print(event.line, flush=True),
            )
    except (ValueError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
