"""The loop: gather, update, log, checkpoint."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import torch
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from envs.tasks import Task
from metarl.checkpoint import Run
from metarl.clones import Clones
from metarl.config import Config
from metarl.console import progress, stdout
from metarl.episodes import Episodes
from metarl.learners.learner import ACTOR
from metarl.learners.registry import make_learner
from metarl.problem import Problem
from metarl.sampling.opening import open_sampler
from metarl.sampling.worker import draw_tasks

CHECKPOINT_SECONDS = 20.0  # what a crash may cost at most


def train(config: Config, out: Path, workers: int = 2, resume: bool = False, console: Console | None = None) -> Run:
    """Train a run in folder `out` to its configured end and return it.

    With resume, the folder's own configuration counts and `config` is not looked at. The numbers do not depend
    on `workers`, nor on interruptions. Raises ValueError for a folder, environment, learner or objective that
    cannot be used, FloatingPointError if training diverges (the last good checkpoint stays).
    """
    torch.set_num_threads(1)  # the other cores simulate; and sums keep one order
    if resume:
        config = Run(out).config
    problem = Problem.of(config.env, config.options)
    learner = make_learner(config, problem)
    guided = learner.objective.gather == "guided"
    run = Run(out) if resume else Run.create(out, config)
    if run.iteration >= config.iterations:
        return run
    clones = Clones(config, problem) if guided else None
    curve: list[dict[str, float]] = []
    if run.iteration:
        state, curve = run.load()
        learner.load(state)
        if clones:
            clones.load(state)
    with (
        closing(open_sampler(problem, {ACTOR: learner.network}, workers)) as sampler,
        closing(SummaryWriter(str(out / "tb"), purge_step=run.iteration + 1)) as board,
        ThreadPoolExecutor(1) as gatherer,
        progress(console or stdout(), "training", config.iterations) as show,
    ):
        show(run.iteration)

        def gather(iteration: int) -> tuple[list[Task], list[Episodes]]:
            tasks = draw_tasks(problem.space, "train", (config.seed, iteration), config.tasks)
            return tasks, learner.gather(sampler, tasks, (config.seed, iteration))

        ahead: Future[tuple[list[Task], list[Episodes]]] = gatherer.submit(gather, run.iteration)
        saved = started = time.monotonic()
        for iteration in range(run.iteration, config.iterations):
            tasks, batches = ahead.result()
            last = iteration + 1 == config.iterations
            # Guided motions do not depend on the parameters: the next ones are gathered while these are learned.
            if guided and not last:
                ahead = gatherer.submit(gather, iteration + 1)
            figures = learner.update(batches, iteration / config.iterations)
            if clones:
                clones.update(tasks, batches, iteration / config.iterations)
            if not guided and not last:
                ahead = gatherer.submit(gather, iteration + 1)
            now = time.monotonic()
            steps = sum(batch.mask.size for batch in {id(batch): batch for batch in batches}.values())
            rate = steps / (now - started)
            started = now
            curve.append({"iteration": iteration + 1, **figures})
            for name, value in {**figures, "steps_per_second": rate}.items():
                board.add_scalar(name, value, iteration + 1)
            show(iteration + 1, _line(figures, rate))
            if last or now - saved > CHECKPOINT_SECONDS:
                board.flush()
                run.save(iteration + 1, learner.state() | (clones.state() if clones else {}), curve)
                saved = now
    return run


def _line(figures: dict[str, float], rate: float) -> str:
    kind = "return" if "return_before" in figures else "loss"
    return f"{kind} {figures[f'{kind}_before']:.3f} -> {figures[f'{kind}_after']:.3f}  {rate:,.0f} steps/s"
