"""Many runs at once, each in a process of its own, on this machine or a cluster; all of them judged alike."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from envs.tasks import Split
from metarl.config import Config, default
from metarl.console import Show
from metarl.evaluation import EVALUATION, Evaluator, load_learner
from metarl.evidence.cell import trained
from metarl.learners.learner import ACTOR
from metarl.problem import Problem
from metarl.report import in_unit
from metarl.sampling.ledger import TRIES
from metarl.sampling.opening import open_sampler
from metarl.sampling.ray_cluster import Cluster, connect, import_ray
from metarl.sampling.worker import draw_tasks
from metarl.scores import Row, Score

log = logging.getLogger(__name__)
Found = list[dict[str, Any]]  # a row per number of adaptation steps: what was spent, and each task's figures


@dataclass(frozen=True)
class Judging:
    """How every run is judged: on `tasks` worlds of a split, after 0 ... steps steps, by so many attempts each.

    Raises ValueError for numbers that judge nothing.
    """

    split: Split = "heldout"
    tasks: int = 100
    steps: int = 3
    episodes: int = 5
    seed: int = 1

    def __post_init__(self) -> None:
        if self.tasks < 1 or self.steps < 0 or self.episodes < 1:
            raise ValueError(
                f"judging is of {self.tasks} worlds, {self.steps} steps and {self.episodes} attempts, expected 1 or "
                "more of the worlds and attempts, 0 or more of the steps"
            )


@dataclass(frozen=True)
class Job:
    """One run in its folder; where that holds a part of the run already, it goes on."""

    config: Config
    folder: Path
    judging: Judging

    def run(self) -> Found:
        """Train and judge. Raises ValueError if the folder holds another run."""
        run = trained(self.config, self.folder, 0, Console(quiet=True))
        torch.set_num_threads(1)
        learner, problem, _ = load_learner(run)
        judging, key = self.judging, (self.judging.seed, EVALUATION)
        with closing(open_sampler(problem, {ACTOR: learner.network}, 0)) as sampler:
            where = draw_tasks(problem.space, judging.split, key, judging.tasks), key
            rows, _ = Evaluator(learner, problem, sampler).adapted(where, judging.steps, judging.episodes)
        return [
            {"steps": row.steps, "episodes": row.episodes, "seconds": row.seconds}
            | {name: getattr(row.score, name)[0].tolist() for name in ("returns", "success", "error")}
            for row in rows
        ]


def jobs(
    learners: Sequence[str], seeds: Sequence[int], out: Path, given: Mapping[str, Any], judging: Judging
) -> list[Job]:
    """Every learner with every seed. given: settings that differ from the learner's own. Raises ValueError."""
    made = []
    for learner in learners:
        config = replace(default(learner, given.get("objective")), **given)
        made += [Job(replace(config, seed=seed), out / learner / str(seed), judging) for seed in seeds]
    if len({job.folder for job in made}) < len(made) or not made:
        raise ValueError(
            f"learners are {list(learners)} and seeds {list(seeds)}, expected different ones, at least one"
        )
    return made


def sweep(todo: Sequence[Job], at: int | Cluster, show: Show = lambda done, figures="": None) -> list[Found | str]:
    """What each job came to, or why it failed; others go on. at: so many jobs at once on this machine, or a cluster,
    whose nodes see the jobs' folders. A job whose process dies goes on from its checkpoint, TRIES times at most.
    """
    with ThreadPoolExecutor(len(todo) if isinstance(at, Cluster) else at) as threads:
        do: Callable[[Job], Found] = _alone
        if isinstance(at, Cluster):
            connect(at)
            do = partial(_there, import_ray().remote(num_cpus=1, max_retries=TRIES - 1)(_run))
        futures: dict[Future[Found], int] = {threads.submit(do, job): index for index, job in enumerate(todo)}
        found: dict[int, Found | str] = {}
        while len(found) < len(todo):
            done, _ = wait([future for future in futures if futures[future] not in found], return_when=FIRST_COMPLETED)
            for future in done:
                error = future.exception()
                found[futures[future]] = f"{type(error).__name__}: {error}" if error else future.result()
            show(len(found))
    return [found[index] for index in range(len(todo))]


def _run(job: Job) -> Found:
    return job.run()


def _there(remote: Any, job: Job) -> Found:
    """On some node of a cluster."""
    from ray.exceptions import RayTaskError

    try:
        found: Found = import_ray().get(remote.remote(job))
    except RayTaskError as error:
        raise RuntimeError(f"{type(error.cause).__name__}: {error.cause}") from error
    return found


def _alone(job: Job) -> Found:
    """In a process of its own, which may die without taking others along."""
    context = multiprocessing.get_context("spawn")
    for count in range(1, TRIES + 1):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(theirs, job))
        process.start()
        theirs.close()
        try:
            found, why = ours.recv()
        except EOFError:
            log.warning("the process of %s died, try %d of %d", job.folder, count, TRIES)
            continue
        finally:
            process.join()
        if why:
            raise RuntimeError(why)
        done: Found = found
        return done
    raise RuntimeError(f"its process died {TRIES} times, for want of memory perhaps")


def _send(connection: Connection, job: Job) -> None:
    try:
        connection.send((job.run(), ""))
    except (Exception, KeyboardInterrupt) as error:
        connection.send((None, f"{type(error).__name__}: {error}"))


def summary(todo: Sequence[Job], found: Sequence[Found | str]) -> list[dict[str, Any]]:
    """A row per learner and number of steps, over its seeds' tasks; and one per job that failed."""
    rows: list[dict[str, Any]] = []
    for learner in dict.fromkeys(job.config.learner for job in todo):
        mine = [(job, one) for job, one in zip(todo, found, strict=True) if job.config.learner == learner]
        runs = [one for _, one in mine if not isinstance(one, str)]
        for step in range(min(map(len, runs), default=0)):
            scores = [
                Score(*(np.array([run[step][name]], np.float32) for name in ("returns", "success", "error")))
                for run in runs
            ]
            spent = {name: runs[0][step][name] for name in ("steps", "episodes", "seconds")}
            rows.append({"learner": learner, "seeds": len(runs), **Row(**spent, score=Score.join(scores)).to_dict()})
        rows += [
            {"learner": learner, "seed": job.config.seed, "failed": one} for job, one in mine if isinstance(one, str)
        ]
    return rows


def table(rows: Sequence[Mapping[str, Any]], problem: Problem) -> Table:
    """For a terminal: means, and 95 % bootstrap intervals over seeds and tasks."""
    scale, unit = in_unit(problem.measure.unit)
    error = f"{problem.measure.name} {unit}".strip()
    made = Table("learner", "seeds", "steps", "episodes", error, "success [%]", "return")
    for row in rows:
        if "failed" in row:
            made.add_row(row["learner"], f"seed {row['seed']}", "failed", "", row["failed"])
            continue
        spans = [
            f"{factor * row[name]['mean']:.1f} [{factor * row[name]['low']:.1f}, {factor * row[name]['high']:.1f}]"
            for name, factor in (("error", scale), ("success", 100.0))
        ]
        counts = [str(row[name]) for name in ("seeds", "steps", "episodes")]
        made.add_row(row["learner"], *counts, *spans, f"{row['return']['mean']:.2f}")
    return made
