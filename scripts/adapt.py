"""Adapt a robot online, from a workstation."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from math import isfinite, isnan
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from export.device import Device
from export.device.continuous import work
from export.device.driver import connect
from export.device.guard import Reaction
from export.device.loop import Tick
from export.device.plan import chosen
from export.device.recorder import Recorder
from export.device.run import run as adapt
from export.device.session import Event
from metarl.console import main, stdout
from metarl.files import write_json

COUNTED = {"gradient": "gradient steps", "memory": "attempts before", "search": "rounds of search", None: "steps"}
SHOWN = 8  # last events in the live view


@dataclass(frozen=True)
class Args:
    """Load a bundle, connect to a robot, and let the policy adapt with ONNX Runtime, under guard; no torch is involved.

    With --seconds the policy works instead of making attempts, and with --every it adapts meanwhile, from its motion.
    On the robot itself, with the base install: python -m export.device.
    """

    bundle: Positional[Path]
    """Bundle that scripts/export_policy.py wrote, or one that comes with the package: zoo:NAME."""
    driver: str = "pybullet"
    """An installed driver, udp:HOST:PORT, or MODULE:CLASS."""
    option: dict[str, str] = field(default_factory=dict)
    """Passed to the driver: --option split heldout seed 7. A simulated robot is of the bundle's own environment."""
    steps: int | None = None
    """Gradient steps, rounds of search, or attempts to remember; as many as the policy was trained for if not given.
    0: do not adapt while working."""
    attempts: int = 5
    """Attempts for each evaluation, which are a step's probation; 0: as few as the bundle asks. With memory: trials."""
    seed: int = 0
    """Seed of exploration noise and search."""
    seconds: float | None = None
    """Let the policy work for so long [s] instead; 20 for one that was trained to adapt while it works."""
    every: float | None = None
    """Working, adapt so often [s] from the latest motion; as it was trained to, or not at all, if not given."""
    window: float | None = None
    """Motion [s] that such an adaptation reads; as in training, or 2, if not given."""
    state: Path | None = None
    """File that keeps what proved itself; the next session starts from it."""
    log: Path | None = None
    """Black box of every control step: a new MCAP file, for Foxglove, PlotJuggler and scripts/replay.py."""
    json: Path | None = None
    """File for every event, as JSON."""
    plot: Path | None = None
    """File for a picture of returns and of how well the rate was kept."""
    trust: Path | None = None
    """PEM file of the public key that must have signed the bundle."""
    hold: float = 1.0
    """After a refusal by the guard, stay for so long [s]."""
    nominal: float = 0.0
    """Then retreat to the nominal pose for so long [s] before going limp."""


class View:
    """What the terminal shows while the robot moves: the loop, the guard, and the last events."""

    def __init__(self, console: Console, device: Device) -> None:
        self.console, self.events = console, list[Event]()
        self._hz, self._last = device.interface.control_hz, deque[Tick](maxlen=4 * device.interface.control_hz)
        self._limits: Counter[str] = Counter()
        self.late, self.work = list[float](), list[float]()
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._render)

    def __enter__(self) -> View:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def tick(self, tick: Tick) -> None:
        self._last.append(tick)
        self._limits.update(tick.limits)
        self.late.append(tick.late)
        self.work.append(tick.work)

    def tell(self, event: Event) -> None:
        self.events.append(event)
        if not self.console.is_terminal:
            self.console.print(event.line, highlight=False)

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 2))
        if len(self._last) > 1:
            first, last = self._last[0], self._last[-1]
            rate = (len(self._last) - 1) / max(last.time - first.time, 1e-9)
            missed = sum(tick.late > 1 / self._hz for tick in self._last)
            table.add_row("rate", f"{rate:.1f} Hz of {self._hz}, {missed} late of the last {len(self._last)}")
            table.add_row("reward", "not measured" if isnan(last.reward) else f"{last.reward:.3f}")
            table.add_row("parameters", f"{last.slot} {last.digest}, {last.mode}")
            limits = ", ".join(f"{name} {count}" for name, count in self._limits.most_common()) or "nothing"
            table.add_row("guard", f"{last.state}; so far it stepped in for {limits}")
        return Group(table, *(Text(event.line) for event in self.events[-SHOWN:]))


def run(args: Args) -> None:
    console = stdout()
    device = Device.load(args.bundle, args.trust)
    manifest = device.manifest
    console.print(
        f"{args.bundle}: {manifest.learner} on {device.interface.robot}, {manifest.parameters} parameters, "
        f"{manifest.way}; golden vectors replayed",
        highlight=False,
    )
    seconds, plan = chosen(manifest.plan, manifest.steps, args.seconds, args.every, args.window, args.steps)
    reaction, view = Reaction(args.hold, args.nominal), View(console, device)
    with ExitStack() as stack:
        driver = connect(args.driver, manifest.suggestions, **args.option)
        recorder = stack.enter_context(closing(Recorder(args.log, device))) if args.log else None
        stack.callback(lambda: _keep(args, view))
        stack.enter_context(view)

        def report(event: Event) -> None:
            view.tell(event)
            if recorder:
                recorder.event(event)

        def watch(tick: Tick) -> None:
            view.tick(tick)
            if recorder:
                recorder.tick(tick)

        if seconds is not None:
            work(device, driver, seconds, plan, reaction=reaction, state=args.state, report=report, watch=watch)
        else:
            adapt(
                device, driver, steps=args.steps, attempts=args.attempts, seed=args.seed, state=args.state,
                reaction=reaction, report=report, watch=watch,
            )  # fmt: skip
    if recorder and recorder.dropped:
        console.print(f"{recorder.dropped} messages were not recorded: the disk is too slow")
    if any(event.kind == "evaluated" for event in view.events):
        console.print(summary(view.events, COUNTED[manifest.adapts]))


def summary(events: list[Event], counted: str) -> Table:
    table = Table(counted, "return", "final reward", "verdict")
    for event, then in zip(events, [*events[1:], None], strict=True):
        if event.kind == "evaluated":
            cells = (event.figures[name] for name in ("return", "final_reward"))
            verdict = {"promoted": "kept", "rolled_back": "rolled back"}.get(then.kind if then else "", "")
            table.add_row(str(event.step), *("not measured" if isnan(c) else f"{c:.3f}" for c in cells), verdict)
    return table


def _keep(args: Args, view: View) -> None:
    """Events and picture, also of a session that ended early."""
    if args.json:
        write_json(args.json, [{"kind": e.kind, "step": e.step, "figures": plain(e)} for e in view.events])
    if args.plot:
        draw(args.plot, view)


def plain(event: Event) -> dict[str, float | None]:
    """Figures that JSON can hold: what was not measured, or not finite, is null."""
    return {name: value if isfinite(value) else None for name, value in event.figures.items()}


def draw(path: Path, view: View) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    returns, clock = figure.subplots(1, 2)
    found = [(event.step, event.figures) for event in view.events if event.kind == "evaluated"]
    if found:
        steps, figures = zip(*found, strict=True)
        returns.errorbar(
            steps, [f["return"] for f in figures], [f["return_std"] for f in figures], marker="o", capsize=3
        )
    taken = [event for event in view.events if event.kind == "adapted" and "loss" in event.figures]
    if not found and taken:
        returns.plot([event.figures["loss"] for event in taken], marker="o")
    returns.xaxis.get_major_locator().set_params(integer=True)
    returns.set(xlabel="adaptation steps", ylabel="return, mean and deviation" if found else "loss")
    clock.hist([1e3 * value for value in view.work], bins=40, alpha=0.7, label="work")
    clock.hist([1e3 * value for value in view.late], bins=40, alpha=0.7, label="late")
    clock.set(xlabel="milliseconds", ylabel="control steps", yscale="log")
    clock.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main(Args, run)
