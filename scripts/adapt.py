"""Adapt a robot online, from a workstation."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from math import isfinite, isnan
from pathlib import Path

from rich.table import Table
from tyro.conf import Positional

from export.device import Device
from export.device.driver import connect
from export.device.run import Event
from export.device.run import run as adapt
from metarl.console import main, stdout
from metarl.files import write_json

COUNTED = {"gradient": "gradient steps", "memory": "attempts before", "search": "rounds of search", None: "steps"}


@dataclass(frozen=True)
class Args:
    """Load a bundle, connect to a robot, and let the policy adapt with ONNX Runtime; no torch is involved.

    On the robot itself, with the base install: python -m export.device.
    """

    bundle: Positional[Path]
    """Bundle that scripts/export_policy.py wrote."""
    driver: str = "pybullet"
    """An installed driver, or MODULE:CLASS."""
    option: dict[str, str] = field(default_factory=dict)
    """Passed to the driver: --option split heldout seed 7. A simulated robot is of the bundle's own environment."""
    steps: int | None = None
    """Gradient steps, rounds of search, or attempts to remember; as many as the policy was trained for if not given."""
    attempts: int = 5
    """Attempts for each evaluation; 0 for none. For a policy with memory: trials, each from no memory."""
    seed: int = 0
    """Seed of exploration noise and search."""
    log: Path | None = None
    """File for every event, as JSON."""


def run(args: Args) -> None:
    console = stdout()
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        console.print(event.line, highlight=False)

    device = Device.load(args.bundle)
    manifest = device.manifest
    console.print(
        f"{args.bundle}: {manifest.learner} on {device.interface.robot}, {manifest.parameters} parameters, "
        f"{manifest.way}; golden vectors replayed",
        highlight=False,
    )
    option = args.option
    if args.driver in ("pybullet", "mujoco"):
        option = {"env": manifest.provenance.get("config", {}).get("env", "metarl/PandaReach-v0"), **option}
    try:
        with closing(connect(args.driver, **option)) as driver:
            adapt(device, driver, steps=args.steps, attempts=args.attempts, seed=args.seed, report=tell)
    finally:
        if args.log:
            write_json(args.log, [{"kind": e.kind, "step": e.step, "figures": plain(e)} for e in events])
    table = Table(COUNTED[manifest.adapts], "return", "final reward")
    for event in events:
        if event.kind == "evaluated":
            cells = (event.figures[name] for name in ("return", "final_reward"))
            table.add_row(str(event.step), *("not measured" if isnan(cell) else f"{cell:.3f}" for cell in cells))
    console.print(table)


def plain(event: Event) -> dict[str, float | None]:
    """Figures that JSON can hold: what was not measured, or not finite, is null."""
    return {name: value if isfinite(value) else None for name, value in event.figures.items()}


if __name__ == "__main__":
    main(Args, run)
