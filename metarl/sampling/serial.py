"""The sampler interface, and the one that works in this process."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from metarl.episodes import Episodes
from metarl.sampling.ledger import Ledger, SamplingError
from metarl.sampling.worker import Actor, Trial, Worker


class Sampler(Protocol):
    """Turns trials into episodes, in order; the numbers do not depend on who computes them.

    Raises SamplingError where a world fails on one task again and again.
    """

    def sample(self, trials: Sequence[Trial]) -> list[Episodes]: ...

    def close(self) -> None:
        """May be called while another thread samples, whose call then ends in an error."""


class SerialSampler:
    """One worker in this process: a world that fails is loaded anew; one that hangs, hangs."""

    def __init__(self, env_id: str, actors: Mapping[str, Actor], options: Mapping[str, Any] | None = None) -> None:
        self._arguments = env_id, actors, options or {}
        self._worker = Worker(*self._arguments)
        self._closed, self._at_work = False, threading.Lock()

    def sample(self, trials: Sequence[Trial]) -> list[Episodes]:
        ledger: Ledger[None] = Ledger(trials)
        while trial := ledger.take(None, 0.0):
            with self._at_work:
                if self._closed:
                    raise SamplingError("the sampler was closed while it sampled")
                try:
                    ledger.give(None, self._worker.run(trial))
                except Exception as error:
                    self._worker.close()
                    self._worker = Worker(*self._arguments)
                    ledger.lose(None, f"{type(error).__name__}: {error}")
        return ledger.results

    def close(self) -> None:
        """Waits for the trial that another thread is at."""
        self._closed = True
        with self._at_work:
            self._worker.close()
