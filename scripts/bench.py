"""Measure how fast things are here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from metarl.console import main


@dataclass(frozen=True)
class Args:
    """Time the house side by side with the bare engine and with others, and print the ratios. Let nothing else run.

    sim: an environment's step over the physics in it, a reset with a new task, PandaReach beside panda-gym (if that
    is installed: the extra `bench`). rollout: whole episodes per second beside stable-baselines3's SubprocVecEnv.
    meta: the exact meta-gradient beside learn2learn's MAML (which says how to install it), and in memory. device: an
    action and a step of adaptation in ONNX Runtime beside torch, memory of the base install, and how well a loop keeps
    50, 200 and 500 Hz, also while it adapts. cost: the parts of an iteration of training, and what they come to on more
    cores (docs/cost.md).
    """

    what: Positional[Literal["sim", "rollout", "meta", "device", "cost"]]
    """What to measure."""
    env: tuple[str, ...] = ()
    """Environment ids; sim: all of them, rollout: metarl/A1Walk-v0, if none is given."""
    json: Path | None = None
    """File for the figures: one flat object of dotted names, and the machine."""


def run(args: Args) -> None:
    # Not at the top: every simulating process imports this file, and needs none of it.
    import gymnasium

    import envs
    from metarl.benchmarks.machine import machine
    from metarl.console import progress, stdout
    from metarl.files import write_json

    console = stdout()
    if args.what == "sim":
        from metarl.benchmarks.sim import bench_sim

        ids = list(args.env) or [
            name for name in sorted(gymnasium.registry) if name.startswith("metarl/") and name[7:-3] not in envs.CLASSIC
        ]
        with progress(console, "sim", len(ids)) as show:
            found = bench_sim(ids, show)
    elif args.what == "meta":
        from metarl.benchmarks.meta import STAGES, bench_meta

        with progress(console, "meta", STAGES) as show:
            found = bench_meta(show)
    elif args.what == "device":
        from metarl.benchmarks import device

        with progress(console, "device", device.STAGES) as show:
            found = device.bench_device(show)
    elif args.what == "cost":
        from metarl.benchmarks.cost import TURNS, bench_cost

        with progress(console, "cost", TURNS) as show:
            found = bench_cost(show)
    else:
        from metarl.benchmarks.rollout import REPEATS, bench_rollout

        with progress(console, "rollout", REPEATS) as show:
            found = bench_rollout((*args.env, "metarl/A1Walk-v0")[0], show)
    for name, value in found.items():
        console.print(f"{name:60} {value:10.4g}", highlight=False)
    if args.json:
        write_json(args.json, {**found, "machine": machine()})


if __name__ == "__main__":
    main(Args, run)
