"""The sampler interface, and the one that works in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from metarl.episodes import Episodes
from metarl.sampling.worker import Actor, Trial, Worker


class Sampler(Protocol):
    """Turns trials into episodes, in order; the numbers do not depend on who computes them."""

    def sample(self, trials: Sequence[Trial]) -> list[Episodes]: ...

    def close(self) -> None: ...


class SerialSampler:
    """One worker in this process."""

    def __init__(self, env_id: str, actors: Mapping[str, Actor], options: Mapping[str, Any] | None = None) -> None:
        self._worker = Worker(env_id, actors, options or {})

    def sample(self, trials: Sequence[Trial]) -> list[Episodes]:
        return [self._worker.run(trial) for trial in trials]

    def close(self) -> None:
        self._worker.close()
