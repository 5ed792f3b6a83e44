"""Film an environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from metarl.console import main, options_of


@dataclass(frozen=True)
class Args:
    """Write a short film (GIF) of a random or a learned policy on sampled tasks.

    The ball is green where the robot should go.
    """

    env: Positional[str]
    """Environment id, such as metarl/A1Walk-v0."""
    policy: Path | None = None
    """Folder that scripts/learn.py wrote; without it, actions are random (small ones, held for half a second)."""
    out: Path = Path("view.gif")
    """File to write."""
    engine: Literal["pybullet", "mujoco"] = "pybullet"
    """Which engine simulates; the picture is PyBullet's."""
    options: str = "{}"
    """Fields of the environment's job, as JSON, such as '{"ground": ["stairs_up"], "level": 0.5}'."""
    split: Literal["train", "heldout", "extrapolation"] = "heldout"
    """Where the tasks come from."""
    episodes: int = 2
    """How many tasks."""
    seconds: float = 6.0
    """Of each, at most."""
    seed: int = 0
    """Of tasks, noise and random actions."""


def run(args: Args) -> None:
    import numpy as np

    from envs.robot_env import make
    from metarl.sb3 import Learned
    from metarl.video import Act, show

    options = options_of(args.options)
    if args.policy:
        learned = Learned.load(args.policy)
        if learned.settings.env != args.env:
            raise ValueError(f"{args.policy} holds a policy for {learned.settings.env}, expected {args.env}")
        options = {**learned.settings.options, **options}
        act: Act = learned.act
    env = make(args.env, "rgb_array", args.engine, **options)
    if not args.policy:
        rng, held, left = np.random.default_rng(args.seed), np.zeros(env.interface.action_size, np.float32), 0

        def act(observation: np.ndarray) -> np.ndarray:
            nonlocal held, left
            if not left:
                held, left = rng.uniform(-0.5, 0.5, held.shape).astype(np.float32), env.job.spec.control_hz // 2
            left -= 1
            return held

    show(env, act, args.out, args.split, args.seed, args.episodes, args.seconds)
    env.close()
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main(Args, run)
