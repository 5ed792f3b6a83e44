"""Train many seeds or learners at once, and compare them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metarl.config import default
from metarl.console import main, options_of


@dataclass(frozen=True)
class Args:
    """Train every learner with every seed, one process each, judge them on the same worlds, and print one table.

    Interrupted or given more seeds, the same command goes on with what is in --out. A run that fails is named in the
    table, and the others go on.
    """

    out: Path
    """Folder for the runs, as LEARNER/SEED; on a cluster, one that all nodes see."""
    learners: tuple[str, ...] = ("metasgd",)
    """Meta-learners, as scripts/train.py names them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""
    objective: Literal["demonstration", "reward", "prediction"] | None = None
    """What robots adapt by; by default the first that suits each learner."""
    env: str | None = None
    """Environment id."""
    options: str | None = None
    """Fields of the environment's job, as JSON."""
    iterations: int | None = None
    """Outer steps."""
    tasks: int | None = None
    """Worlds per iteration."""
    hidden: tuple[int, ...] | None = None
    """Widths of the policy's hidden layers."""
    split: Literal["heldout", "extrapolation", "train"] = "heldout"
    """Where the worlds come from that runs are judged in."""
    judged: int = 100
    """How many of them."""
    steps: int = 3
    """Adaptation steps."""
    at_once: int = 2
    """Runs at the same time on this machine."""
    ray: str | None = None
    """Instead, one run for each core of a Ray cluster: the head's HOST:PORT, or auto."""
    json: Path | None = None
    """File for the results, each task's own among them."""


def run(args: Args) -> None:
    # Not at the top: every process imports this file.
    from metarl.console import progress, stdout
    from metarl.files import write_json
    from metarl.problem import Problem
    from metarl.sampling.ray_cluster import Cluster
    from metarl.sweep import Judging, jobs, summary, sweep, table

    if args.at_once < 1:
        raise ValueError(f"at-once is {args.at_once}, expected 1 or more")
    names = ("objective", "env", "iterations", "tasks", "hidden")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.options is not None:
        given["options"] = options_of(args.options)
    judging = Judging(args.split, args.judged, args.steps)
    todo = jobs(args.learners, args.seeds, args.out.absolute(), given, judging)
    first = default(args.learners[0], args.objective)
    problem = Problem.of(args.env or first.env, given.get("options", first.options))
    console = stdout()
    with progress(console, "runs", len(todo)) as show:
        found = sweep(todo, args.at_once if args.ray is None else Cluster(args.ray), show)
    rows = summary(todo, found)
    console.print(table(rows, problem))
    if args.json:
        each = {f"{job.config.learner}/{job.config.seed}": one for job, one in zip(todo, found, strict=True)}
        write_json(args.json, {"rows": rows, "runs": each})
    if failed := [row for row in rows if "failed" in row]:
        raise ValueError(f"{len(failed)} of {len(todo)} runs failed; the same command goes on with them")


if __name__ == "__main__":
    main(Args, run)
