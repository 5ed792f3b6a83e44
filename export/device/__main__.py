"""`python -m export.device BUNDLE --driver NAME`: adapt a robot with the base install. Plain lines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from export.device.continuous import work
from export.device.device import Device
from export.device.driver import Driver, connect
from export.device.guard import Reaction
from export.device.loop import Tick
from export.device.plan import chosen as plan_of
from export.device.recorder import Recorder
from export.device.run import run
from export.device.session import Event


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
        description="Load a bundle, connect to a robot, and let the policy adapt under guard in the way it was trained "
        "for: by gradient steps, by a search, or by what it remembers of earlier attempts; evaluate before and after "
        "each step. With --seconds the policy works instead, and adapts meanwhile. Exit code 2 if the bundle or the "
        "robot's data are refused.",
    )
    made.add_argument("bundle", help="the file that scripts/export_policy.py wrote, or zoo:NAME")
    made.add_argument(
        "--driver",
        required=True,
        metavar="NAME",
        help="an installed driver (pybullet, say), udp:HOST:PORT, or MODULE:CLASS",
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
        help="attempts for each evaluation, which are a step's probation; 0: as few as the bundle asks; with memory, "
        "trials (default: 5)",
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of exploration noise and search (default: 0)")
    made.add_argument("--restore", action="store_true", help="go back to the initial parameters at the end")
    made.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="let the policy work for so long instead (20 for one that was trained to adapt while it works)",
    )
    made.add_argument(
        "--every", type=float, metavar="S", help="working, adapt so often, from the motion (default: as it was trained)"
    )
    made.add_argument("--window", type=float, metavar="S", help="of motion for that (default: as it was trained, or 2)")
    made.add_argument("--state", type=Path, metavar="FILE", help="keep what proved itself, and start from it next time")
    made.add_argument("--log", type=Path, metavar="FILE", help="black box, a new MCAP file (needs the extra `log`)")
    made.add_argument("--trust", type=Path, metavar="PEM", help="public key that must have signed the bundle")
    made.add_argument("--priority", type=int, metavar="N", help="ask for real-time scheduling, 1 to 99")
    made.add_argument(
        "--hold", type=float, default=1.0, metavar="S", help="after a refusal: stay so long (default: 1),"
    )
    made.add_argument("--nominal", type=float, default=0.0, metavar="S", help="then retreat to the nominal pose,")
    made.add_argument("--pace", type=float, default=0.1, metavar="SHARE", help="at this share of full speed; then limp")
    return made


def session(chosen: argparse.Namespace, device: Device, driver: Driver, tell: Callable[[Event], None]) -> None:
    """What was asked for on the command line; also recorded, if that was."""
    reaction = Reaction(chosen.hold, chosen.nominal, chosen.pace)
    with ExitStack() as stack:
        recorder = stack.enter_context(closing(Recorder(chosen.log, device))) if chosen.log else None

        def report(event: Event) -> None:
            tell(event)
            if recorder:
                recorder.event(event)

        def watch(tick: Tick) -> None:
            if recorder:
                recorder.tick(tick)

        manifest = device.manifest
        asked = chosen.seconds, chosen.every, chosen.window, chosen.steps
        seconds, plan = plan_of(manifest.plan, manifest.steps, *asked)
        if seconds is not None:
            done = work(
                device,
                driver,
                seconds,
                plan,
                reaction=reaction,
                state=chosen.state,
                priority=chosen.priority,
                report=report,
                watch=watch,
            )
            figures = done.loop.timing.summary()
            line = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
            tell(Event("worked", done.slots.taken, f"worked for {seconds:g} s: {line}", figures))
        else:
            run(
                device,
                driver,
                steps=chosen.steps,
                attempts=chosen.attempts,
                seed=chosen.seed,
                restore=chosen.restore,
                state=chosen.state,
                reaction=reaction,
                priority=chosen.priority,
                report=report,
                watch=watch,
            )
        if recorder and recorder.dropped:
            print(f"{recorder.dropped} messages were not recorded: the disk is too slow", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    try:
        device = Device.load(chosen.bundle, chosen.trust)
        manifest, interface = device.manifest, device.interface
        print(
            f"loaded {chosen.bundle}: {manifest.learner} on {interface.robot}, {manifest.parameters} parameters, "
            f"{interface.control_hz} Hz, {manifest.way}; golden vectors replayed",
            flush=True,
        )
        driver = connect(chosen.driver, manifest.suggestions, **dict(chosen.option))
        session(chosen, device, driver, lambda event: print(event.line, flush=True))
    except (ValueError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the robot was told to hold", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
