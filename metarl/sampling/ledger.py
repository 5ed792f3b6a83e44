"""Who computes which trial, and what happens when one of them fails. Plain bookkeeping: no processes, no clock."""

from __future__ import annotations

import json
import logging
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:  # not when run: every script's start loads this file
    from metarl.episodes import Episodes
    from metarl.sampling.worker import Trial

TRIES = 3  # of one trial, and of starting a worker, before sampling stops
EPISODE_SECONDS = 60.0  # what an episode may take before its worker counts as hung
START_SECONDS = 120.0  # what a worker may take to load its world
W = TypeVar("W", bound=Hashable)
log = logging.getLogger(__name__)


class SamplingError(RuntimeError):
    """A world fails on one task again and again, or no worker starts. The sampler is closed."""


class Ledger(Generic[W]):
    """The trials of one `sample`: waiting, held by a worker, or done. Each worker holds one at a time.

    seconds: what an episode may take.
    """

    def __init__(self, trials: Sequence[Trial], seconds: float = EPISODE_SECONDS) -> None:
        self._trials, self._seconds = trials, seconds
        self._waiting = deque(range(len(trials)))
        self._held: dict[W, tuple[int, float]] = {}  # index, and when it must be done
        self._failures: Counter[int] = Counter()
        self._done: dict[int, Episodes] = {}

    @property
    def finished(self) -> bool:
        return len(self._done) == len(self._trials)

    @property
    def results(self) -> list[Episodes]:
        """In the order of the trials, once all are there."""
        return [self._done[index] for index in range(len(self._trials))]

    def take(self, worker: W, now: float) -> Trial | None:
        """The next trial for a worker that holds none; None if nothing waits. now: [s], of a clock that only rises."""
        if not self._waiting:
            return None
        index = self._waiting.popleft()
        self._held[worker] = index, now + self._seconds * self._trials[index].episodes
        return self._trials[index]

    def give(self, worker: W, episodes: Episodes) -> None:
        """What a worker's trial came to."""
        index, _ = self._held.pop(worker)
        self._done[index] = episodes

    def lose(self, worker: W, why: str) -> None:
        """A worker failed; what it held waits again. Raises SamplingError if that has failed TRIES times."""
        if worker not in self._held:
            return
        index, _ = self._held.pop(worker)
        self._failures[index] += 1
        trial, count = self._trials[index], self._failures[index]
        told = f"simulating failed ({why}), try {count} of {TRIES}, on the task {json.dumps(trial.task.to_dict())}"
        if count >= TRIES:
            raise SamplingError(
                f"{told}, key {list(trial.key)}; reset the environment with that task to see why, then go on with "
                "--resume"
            )
        log.warning("%s; its episodes are computed anew", told)
        self._waiting.appendleft(index)

    def late(self, now: float) -> list[W]:
        """Workers that hold a trial past its time."""
        return [worker for worker, (_, due) in self._held.items() if now > due]

    def holds(self, worker: W) -> bool:
        return worker in self._held
