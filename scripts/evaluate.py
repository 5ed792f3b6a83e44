"""Evaluate a run over gradient steps, beside its baselines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from metarl.console import main, stdout


@dataclass(frozen=True)
class Args:
    """Adapt a run on worlds that it was not trained in, with ONNX Runtime, and print return, success and error.

    Beside it stand domain randomization, the same fine-tuned, an oracle that sees the task, and classical answers. A
    run by demonstration has learned its baselines along the way; for one by reward, PPO trains them at the first call
    and they are kept in the run folder.
    """

    runs: Positional[tuple[Path, ...]]
    """Run folders: several are of one setting and different seeds, and their tasks count together."""
    split: Literal["heldout", "extrapolation", "train"] = "heldout"
    """Where the worlds come from: other draws from the training ranges, or ranges half as wide again."""
    steps: int = 3
    """Gradient steps, rounds of search, or attempts remembered."""
    tasks: int = 100
    """Worlds."""
    episodes: int = 5
    """Judged attempts per world and row."""
    seed: int = 1
    """Seed of worlds and noise."""
    workers: int | None = None
    """Simulating processes, 2 unless given; 0 simulates in this one. On a cluster: at most so many actors."""
    ray: str | None = None
    """Simulate on a Ray cluster: the head's HOST:PORT, or auto: the cluster on this machine, else a new one."""
    engine: Literal["pybullet", "mujoco"] = "pybullet"
    """Which engine simulates; in MuJoCo nothing was trained."""
    json: Path | None = None
    """File for the results."""


def run(args: Args) -> None:
    # Not at the top: every simulating process imports this file, and needs none of it.
    from metarl.checkpoint import Run
    from metarl.evaluation import evaluate
    from metarl.files import write_json
    from metarl.report import table
    from metarl.sampling.opening import workers_of

    console = stdout()
    results = evaluate(
        [Run(path) for path in args.runs],
        args.split,
        args.tasks,
        args.steps,
        args.episodes,
        args.seed,
        workers_of(args.workers, args.ray),
        console,
        engine=args.engine,
    )
    console.print(table(results))
    if args.json:
        write_json(args.json, results)


if __name__ == "__main__":
    main(Args, run)
