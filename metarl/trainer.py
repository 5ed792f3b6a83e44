"""The loop: gather, update, log, checkpoint."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from rich.console import Console

from envs.tasks import Task
from metarl.board import Board
from metarl.checkpoint import Run, locked
from metarl.clones import Clones
from metarl.config import Config
from metarl.console import Interrupted, progress, stdout
from metarl.episodes import Episodes
from metarl.learners.learner import ACTOR
from metarl.learners.registry import make_learner
from metarl.problem import Problem
from metarl.replay import replayed
from metarl.sampling.ledger import SamplingError
from metarl.sampling.opening import Workers, actor_of, open_sampler
from metarl.sampling.ray_cluster import Cluster, reach
from metarl.sampling.worker import draw_tasks

CHECKPOINT_SECONDS = 20.0  # what a crash may cost at most
log = logging.getLogger(__name__)


def train(
    config: Config,
    out: Path,
    workers: Workers = 2,
    resume: bool = False,
    console: Console | None = None,
    checkpoint_seconds: float | None = None,
) -> Run:
    """Train a run in folder `out` to its configured end and return it.

    With resume, the folder's own configuration counts and `config` is not looked at. The numbers do not depend on
    `workers`, nor on interruptions. checkpoint_seconds: between checkpoints, by default CHECKPOINT_SECONDS; one that
    cannot be written is tried again later. SIGINT and SIGTERM end training with a checkpoint, in Interrupted; a second
    one at once.

    Raises ValueError for a folder, environment, learner or objective that cannot be used, or a folder in which another
    trainer is at work; OSError if the folder cannot be written; SamplingError if a world fails again and again;
    FloatingPointError if training diverges (the last good checkpoint stays).
    """
    apart = CHECKPOINT_SECONDS if checkpoint_seconds is None else checkpoint_seconds
    torch.set_num_threads(1)  # the other cores simulate; and sums keep one order
    if resume:
        config = Run(out).config
    problem = Problem.of(config.env, config.options)
    learner = make_learner(config, problem)
    guided = learner.objective.gather == "guided"
    if isinstance(workers, Cluster) and problem.robot:
        reach(workers)  # before anything is made
    run = Run(out) if resume else Run.create(out, config)
    if run.iteration >= config.iterations:
        return run
    with locked(out):
        done = run.iteration
        clones = Clones(config, problem) if guided else None
        curve: list[dict[str, float]] = []
        if done:
            state, curve = run.load()
            learner.load(state)
            if clones:
                clones.load(state)

        def save() -> None:
            """Raises OSError."""
            board.flush()
            run.save(len(curve), learner.state() | (clones.state() if clones else {}), curve)

        def gather(iteration: int) -> tuple[list[Task], list[Episodes]]:
            tasks = draw_tasks(problem.space, "train", (config.seed, iteration), config.tasks)
            return tasks, learner.gather(sampler, tasks, (config.seed, iteration))

        source = replayed(gather, config)
        with (
            closing(open_sampler(problem, {ACTOR: actor_of(learner)}, workers)) as sampler,
            closing(Board(out / "tb", done + 1)) as board,
            ThreadPoolExecutor(1) as gatherer,
            progress(console or stdout(), "training", config.iterations) as show,
            _signals() as caught,
        ):
            show(done)
            ahead: Future[tuple[list[Task], list[Episodes]]] = gatherer.submit(source, done)
            saved = started = time.monotonic()
            for iteration in range(done, config.iterations):
                while not (caught or ahead.done()):
                    wait([ahead], 0.2)
                if caught or isinstance(ahead.exception(), SamplingError):
                    if iteration > done:
                        _kept(save, out)
                    sampler.close()  # the gatherer's call ends there
                    if not caught:
                        ahead.result()
                    name = signal.Signals(caught[0]).name
                    raise Interrupted(
                        f"stopped by {name} after iteration {iteration} of {config.iterations}; go on with: python "
                        f"scripts/train.py --out {out} --resume",
                        caught[0],
                    )
                tasks, batches = ahead.result()
                last = iteration + 1 == config.iterations
                # Guided motions do not depend on the parameters: the next are gathered while these are learned.
                if guided and not last:
                    ahead = gatherer.submit(source, iteration + 1)
                figures = learner.update(batches, iteration / config.iterations)
                if clones:
                    clones.update(tasks, batches, iteration / config.iterations)
                if not guided and not last:
                    ahead = gatherer.submit(source, iteration + 1)
                now = time.monotonic()
                steps = sum(batch.mask.size for batch in {id(batch): batch for batch in batches}.values())
                rate = steps / (now - started)
                started = now
                curve.append({"iteration": iteration + 1, **figures})
                board.add({**figures, "steps_per_second": rate}, iteration + 1)
                show(iteration + 1, _line(figures, rate))
                if last:
                    _kept(save, out)
                elif now - saved > apart:
                    try:
                        save()
                    except OSError as error:
                        log.warning(
                            "no checkpoint at iteration %d (%s); the next one is tried later", len(curve), error
                        )
                    saved = now
    return run


def _kept(save: Callable[[], None], out: Path) -> None:
    """Save at the end of a run. Raises OSError that says what to do."""
    try:
        save()
    except OSError as error:
        raise OSError(
            f"the last checkpoint in {out} could not be written ({error}); make room, then go on from the one before: "
            f"python scripts/train.py --out {out} --resume"
        ) from error


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Signals caught so far: SIGINT and SIGTERM are noted, and a second one ends at once. In a thread, none."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, frame: object) -> None:
        if caught:
            raise Interrupted("stopped at once, without a checkpoint; an older one may be there", number)
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _line(figures: dict[str, float], rate: float) -> str:
    kind = "return" if "return_before" in figures else "loss"
    return f"{kind} {figures[f'{kind}_before']:.3f} -> {figures[f'{kind}_after']:.3f}  {rate:,.0f} steps/s"
