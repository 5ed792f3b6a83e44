"""Train a meta-learner in simulation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from metarl.config import DEFAULTS
from metarl.console import main


@dataclass(frozen=True)
class Args:
    """Meta-train an initialization and its step sizes; checkpoints, a curve and TensorBoard logs land in --out.

    What is left out takes the objective's own default.
    """

    out: Path
    """Run folder to create (or, with --resume, to go on with)."""
    objective: Literal["demonstration", "reward"] = "demonstration"
    """What a robot adapts by: guided motions, or measured reward."""
    env: str | None = None
    """Environment id, such as metarl/PandaReach-v0."""
    learner: str = "maml"
    """Meta-learner."""
    workers: int = 2
    """Simulating processes; 0 simulates in this one. The numbers do not depend on it."""
    seed: int = 0
    """Seed of every random draw of the run."""
    resume: bool = False
    """Go on from the newest checkpoint in --out; every other setting comes from there."""
    iterations: int | None = None
    """Outer steps."""
    tasks: int | None = None
    """Worlds per iteration."""
    episodes: int | None = None
    """Guided motions or attempts per world and inner step."""
    query: int | None = None
    """Guided motions or attempts per world for the outer loss."""
    inner_steps: int | None = None
    """Gradient steps that training adapts by (K)."""
    hidden: tuple[int, ...] | None = None
    """Widths of the policy's hidden layers."""
    learning_rate: float | None = None
    """Of the outer Adam."""
    first_order: bool = False
    """Drop second derivatives (FOMAML)."""


def run(args: Args) -> None:
    # Not at the top: every simulating process imports this file, and needs none of it.
    from metarl.trainer import train

    names = ("env", "iterations", "tasks", "episodes", "query", "inner_steps", "hidden", "learning_rate")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    config = replace(
        DEFAULTS[args.objective], learner=args.learner, seed=args.seed, first_order=args.first_order, **given
    )
    train(config, args.out, args.workers, args.resume)


if __name__ == "__main__":
    main(Args, run)
