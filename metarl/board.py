"""TensorBoard's log of a run. One that cannot be written costs a warning, never the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)


class Board:
    """Scalars by iteration in `folder`; what it holds from iteration `purge` on is left out. Raises OSError."""

    def __init__(self, folder: Path, purge: int) -> None:
        self._folder, self._writer, self._fails = folder, SummaryWriter(str(folder), purge_step=purge), False

    def add(self, figures: Mapping[str, float], iteration: int) -> None:
        for name, value in figures.items():
            self._try(partial(self._writer.add_scalar, name, value, iteration))

    def flush(self) -> None:
        self._try(self._writer.flush)

    def close(self) -> None:
        self._try(self._writer.close)

    def _try(self, write: Callable[[], object]) -> None:
        """The writer's thread ends at its first error, so after that there is nothing to try."""
        if self._fails:
            return
        try:
            write()
        except OSError as error:
            self._fails = True
            log.warning("no more logs in %s: %s", self._folder, error)
