"""Train a meta-learner in simulation."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from metarl.config import Config, default
from metarl.console import main, options_of


@dataclass(frozen=True)
class Args:
    """Meta-train an initialization that expects to be adapted; checkpoints, a curve and TensorBoard logs land in --out.

    What is left out takes the default of the learner and its objective; metarl/config.py explains every setting.
    """

    out: Path
    """Run folder to create (or, with --resume, to go on with)."""
    learner: Literal[
        "maml", "fomaml", "metasgd", "promp", "cavia", "belief", "rma", "reptile", "es_maml", "rl2", "mann", "snail"
    ] | None = None  # fmt: skip
    """Meta-learner; by default metasgd."""
    objective: Literal["demonstration", "reward", "prediction"] | None = None
    """What a robot adapts by: guided motions, measured reward, or the error of its own forecasts."""
    env: str | None = None
    """Environment id, such as metarl/PandaReach-v0."""
    options: str | None = None
    """Fields of the environment's job, as JSON: '{"ground": ["rough"], "level": 0.5}'."""
    start: str | None = None
    """Folder with a policy to begin with, as scripts/learn.py writes it."""
    workers: int | None = None
    """Simulating processes, 2 unless given; 0 simulates in this one. On a cluster: at most so many actors, by default
    one for each core, as nodes come and go. The numbers do not depend on it."""
    ray: str | None = None
    """Simulate on a Ray cluster: the head's HOST:PORT, or auto: the cluster on this machine, else a new one."""
    seed: int = 0
    """Seed of every random draw of the run."""
    resume: bool = False
    """Go on from the newest checkpoint in --out; every other setting comes from there."""
    checkpoint_seconds: float | None = None
    """Between checkpoints, by default 20 s: what a crash may cost at most."""
    iterations: int | None = None
    """Outer steps."""
    tasks: int | None = None
    """Worlds per iteration."""
    episodes: int | None = None
    """Guided motions or attempts per world and inner step; of a trial, for memory learners."""
    query: int | None = None
    """Guided motions or attempts per world for the outer loss."""
    inner_steps: int | None = None
    """Gradient steps, or rounds of search, that training adapts by (K)."""
    hidden: tuple[int, ...] | None = None
    """Widths of the policy's hidden layers."""
    learning_rate: float | None = None
    """Of the outer step."""
    step_size: float | None = None
    """Of the inner steps, at first."""
    passes: int | None = None
    """How often an outer step reuses its data; by demonstration, how often the motions that were simulated are learned
    from: less simulation for as many iterations."""


def run(args: Args) -> None:
    # Not at the top: every simulating process imports this file, and needs none of it.
    from metarl.sampling.opening import workers_of
    from metarl.trainer import train

    names = {field.name for field in fields(Args)} & {field.name for field in fields(Config)}
    given = {name: getattr(args, name) for name in names - {"options"} if getattr(args, name) is not None}
    if args.options is not None:
        given["options"] = options_of(args.options)
    config = replace(default(args.learner, args.objective), **given)
    train(config, args.out, workers_of(args.workers, args.ray), args.resume, checkpoint_seconds=args.checkpoint_seconds)


if __name__ == "__main__":
    main(Args, run)
