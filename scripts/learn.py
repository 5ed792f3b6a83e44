"""Learn one policy with stable-baselines3."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from metarl.console import main, options_of


@dataclass(frozen=True)
class Args:
    """Train PPO on one environment's training tasks, then judge it on others: is this world learnable?

    Settings, parameters, the learning curve (curve.json, curve.png) and the verdict (results-ENGINE-SPLIT.json) land in
    the folder.
    """

    env: Positional[str]
    """Environment id, such as metarl/A1Walk-v0."""
    out: Path
    """Folder to write."""
    steps: int = 2_000_000
    """Control steps of simulation; 0 only judges what the folder holds."""
    options: str = "{}"
    """Fields of the environment's job, as JSON, such as '{"ground": ["rough"], "level": 0.5}'."""
    gamma: float = 0.98
    """Discount."""
    gae_lambda: float = 0.95
    """Of generalized advantage estimation."""
    rollout: int = 1024
    """Steps of each of the eight environments between updates."""
    batch: int = 1024
    """Samples of a gradient step."""
    epochs: int = 5
    """Passes over the samples of an update."""
    log_std: float = -1.0
    """Of the actions, at first."""
    rate: float = 1e-3
    """Adam's, falling to zero."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the policy's and the value's layers."""
    seed: int = 0
    """Of everything random."""
    start: Path | None = None
    """A folder of a policy of the same shape to begin with."""
    split: Literal["heldout", "extrapolation", "train"] = "heldout"
    """Where the tasks that judge it come from."""
    episodes: int = 100
    """How many of them."""
    judge: str = "{}"
    """Fields of the job that differ when it is judged, as JSON."""
    engine: Literal["pybullet", "mujoco"] = "pybullet"
    """The engine in which it is judged."""


def run(args: Args) -> None:
    from envs.robot_env import make
    from metarl.console import progress, stdout
    from metarl.files import write_json
    from metarl.sb3 import Learned, Settings, judge, learn, plot

    console, options, differing = stdout(), options_of(args.options), options_of(args.judge)
    make(args.env, None, args.engine, **{**options, **differing}).close()  # what is wrong with it is said at once
    if args.steps:
        settings = Settings(
            args.env, args.steps, options, gamma=args.gamma, gae_lambda=args.gae_lambda,
            rollout=args.rollout, batch=args.batch, epochs=args.epochs,
            log_std=args.log_std, rate=args.rate, hidden=args.hidden, seed=args.seed,
            start=str(args.start) if args.start else None,
        )  # fmt: skip
        with progress(console, "PPO, steps", args.steps) as show:
            learn(settings, args.out, show)
        plot(args.out)
    learned = Learned.load(args.out)
    if learned.settings.env != args.env:
        raise ValueError(f"{args.out} holds a policy for {learned.settings.env}, expected {args.env}")
    with progress(console, "judging, episodes", args.episodes) as show:
        results = judge(learned, args.split, args.episodes, args.seed, differing, args.engine, show)
    write_json(args.out / f"results-{args.engine}-{args.split}.json", results)
    for name, value in results.items():
        console.print(f"{name:24} {value}", highlight=False)


if __name__ == "__main__":
    main(Args, run)
