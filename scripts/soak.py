"""How well a loop keeps its rate for minutes, with and without adapting."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from metarl.console import main, progress, stdout


@dataclass(frozen=True)
class Args:
    """Run the control loop with a 48-128-128-12 network at each rate, with nothing beside it and with steps of
    adaptation on 1000 samples one after another in a second thread, and count what it missed. The machine's load
    average [processes that want a core] is recorded beside each.
    """

    minutes: float = 10.0
    """Of each loop; there are two for each rate."""
    rates: tuple[int, ...] = (50, 200, 500)
    """Control rates [Hz]."""
    priority: int | None = None
    """Of the loop in real-time scheduling (1 to 99), for a machine that has other work."""
    json: Path = Path("docs/results/soak.json")
    """File for the figures."""


def run(args: Args) -> None:
    from metarl.benchmarks.device import keep_rate, made
    from metarl.benchmarks.machine import machine
    from metarl.files import write_json

    console, found = stdout(), dict[str, float]()
    _, theta, policy, adapter, batch = made()
    flat, observation = theta.numpy(), batch["observation"][0, 0]
    answer = policy.fixed(flat)
    table = Table("loop", "missed", "late p99 [ms]", "late at most [ms]", "load")
    with progress(console, "loops", 2 * len(args.rates)) as show:
        for hz in args.rates:
            for beside in (None, lambda: adapter.step(flat, 0, batch)):
                name = f"{hz}hz" + ("_adapting" if beside else "")
                kept = keep_rate(hz, 60 * args.minutes, lambda: answer(observation), beside, args.priority)
                kept["load"] = os.getloadavg()[1]
                found |= {f"soak.{key}_{name}": value for key, value in kept.items()}
                table.add_row(
                    name, *(f"{kept[key]:.3g}" for key in ("miss_rate", "late_ms_p99", "late_ms_max", "load"))
                )
                show(table.row_count, name)
    console.print(table)
    settings = {"soak.minutes": args.minutes, "soak.priority": args.priority or 0}
    write_json(args.json, {**found, **settings, "machine": machine()})


if __name__ == "__main__":
    main(Args, run)
