"""The sampler on this machine's processes. A trial travels out and its episodes travel back, nothing in between."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from envs.robot_env import make
from metarl.episodes import Episodes
from metarl.sampling.serial import Sampler, SerialSampler
from metarl.sampling.worker import Actor, Trial, Worker

_worker: Worker  # of this process, once it is a worker


def _start(env_id: str, actors: Mapping[str, Actor], options: Mapping[str, Any]) -> None:
    global _worker
    end_with_parent()
    _worker = Worker(env_id, actors, options)


def end_with_parent() -> None:
    """Let this worker process end when its parent does: if that was killed, a pool's workers would wait forever."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(trial: Trial) -> Episodes:
    return _worker.run(trial)


class ProcessSampler:
    """`workers` processes, each with a world of its own. Raises BrokenProcessPool if one dies."""

    def __init__(self, env_id: str, actors: Mapping[str, Actor], workers: int, options: Mapping[str, Any]) -> None:
        make(env_id, **options).close()  # a wrong id should fail here, not in every worker
        self._pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(env_id, actors, options)
        )

    def sample(self, trials: Sequence[Trial]) -> list[Episodes]:
        return list(self._pool.map(_run, trials))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def make_sampler(
    env_id: str, actors: Mapping[str, Actor], workers: int, options: Mapping[str, Any] | None = None
) -> Sampler:
    """A sampler with `workers` processes; with 0, in this process. options: fields of the environment's job."""
    if workers < 0:
        raise ValueError(f"workers is {workers}, expected 0 (in this process) or more")
    options = options or {}
    return ProcessSampler(env_id, actors, workers, options) if workers else SerialSampler(env_id, actors, options)
