"""Meta-train a policy of stable-baselines3 with Reptile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from metarl.console import main, object_of


@dataclass(frozen=True)
class Args:
    """Find a policy from which a few steps of stable-baselines3's own learning suffice on a new task.

    The folder gets policy.zip, which PPO.load (or that of another algorithm) reads, settings.json, curve.json, and the
    state to go on from. Then the policy learns on held-out tasks, beside one from random weights, and both are judged
    by their mean action. The defaults take some minutes.
    """

    out: Positional[Path]
    """Folder to create (or, with --resume, to go on with)."""
    env: str = "metarl/PandaSeek-v0"
    """Environment id, or MODULE:ID, with a task_space and tasks at reset(options={"task": ...})."""
    options: str = "{}"
    """What the environment is made with, as JSON, such as '{"horizon": 40}'."""
    algorithm: str = "PPO"
    """The inner learner: PPO, A2C, or MODULE:CLASS of another on-policy algorithm, such as sb3_contrib:TRPO."""
    policy: str = "MlpPolicy"
    """The algorithm's name for the kind of its network."""
    algorithm_kwargs: str = "{}"
    """Arguments of the algorithm, as JSON, such as '{"learning_rate": 3e-4, "policy_kwargs": {"net_arch": [64]}}'; over
    defaults for PPO and A2C that suit inner runs of some hundred steps."""
    optimizer: Literal["keep", "reset"] = "keep"
    """What becomes of the inner optimizer's moments between tasks; parameters are always put back."""
    environments: int = 4
    """Environments side by side in this process, all on the same task."""
    iterations: int = 60
    """Outer steps."""
    tasks: int = 5
    """Worlds per iteration."""
    inner_steps: int = 800
    """Control steps on each world; a multiple of n_steps times environments."""
    epsilon: float = 1.0
    """Outer step size at first: the share of the mean displacement that is taken."""
    epsilon_end: float = 0.0
    """What it falls to, linearly."""
    start: Path | None = None
    """A .zip saved by stable-baselines3, to begin with its weights."""
    seed: int = 0
    """Of everything random."""
    resume: bool = False
    """Go on with --out; every setting of training comes from there."""
    split: Literal["heldout", "extrapolation", "train"] = "heldout"
    """Where the worlds that judge it come from."""
    worlds: int = 20
    """How many of them; 0 leaves the judging out."""
    runs: int = 2
    """Times inner_steps that are learned on each."""
    episodes: int = 3
    """Judged attempts per world and row."""
    json: Path | None = None
    """File for the results."""


def run(args: Args) -> None:
    from contextlib import closing
    from dataclasses import replace

    from rich.table import Table

    from metarl.console import progress, stdout
    from metarl.files import write_json
    from metarl.reptile_sb3 import DEFAULTS, HELDOUT, Settings, begin, evaluate, reptile, task_space, world
    from metarl.sampling.worker import draw_tasks

    if args.worlds == 1 or min(args.worlds, args.runs) < 0 or args.episodes < 1:
        raise ValueError(
            f"worlds is {args.worlds}, runs {args.runs}, episodes {args.episodes}; expected 0 worlds or 2 and more, "
            "runs from 0 and episodes from 1 up"
        )
    console = stdout()
    if args.resume:
        settings = Settings.load(args.out)
    else:
        same = (
            "env", "algorithm", "policy", "optimizer", "environments", "iterations", "tasks", "inner_steps", "epsilon",
            "epsilon_end", "seed",
        )  # fmt: skip
        settings = Settings(
            options=object_of("options are", args.options, '{"horizon": 40}'),
            algorithm_kwargs={
                **DEFAULTS.get(args.algorithm, {}),
                **object_of("algorithm_kwargs are", args.algorithm_kwargs, '{"gamma": 0.98}'),
            },
            start=str(args.start) if args.start else None,
            **{name: getattr(args, name) for name in same},
        )
    with progress(console, f"Reptile over {settings.algorithm}", settings.iterations) as show:
        model = reptile(settings, args.out, show, args.resume)
    console.print(f"{args.out / 'policy.zip'}: read by {settings.algorithm}.load", highlight=False)
    if not args.worlds:
        return
    curves: dict[str, Any] = {}
    with closing(world(settings.env, settings.options, settings.environments)) as env:
        tasks = draw_tasks(task_space(env), args.split, (settings.seed, HELDOUT), args.worlds)
        scratch = begin(replace(settings, start=None), env)
        for name, one in (("reptile", model), ("random weights", scratch)):
            with progress(console, f"learning on {args.split} tasks from {name}", len(tasks)) as show:
                curves[name] = evaluate(one, env, tasks, args.runs, settings.inner_steps, args.episodes, show=show)
    measures = [name for name in ("return", "success", "error") if name in curves["reptile"]["curve"][0]]
    table = Table("from", "steps on the task", *measures, title=f"{settings.env}, {args.split}: means, 95 % intervals")
    for name, result in curves.items():
        for row in result["curve"]:
            cells = (row[measure] for measure in measures)
            shown = (f"{cell['mean']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]" for cell in cells)
            table.add_row(name, str(row["steps"]), *shown)
    console.print(table)
    if args.json:
        trained = settings.iterations * settings.tasks * settings.inner_steps
        write_json(args.json, {"env": settings.env, "split": args.split, "training_steps": trained, **curves})


if __name__ == "__main__":
    main(Args, run)
