"""Keeping the control rate by absolute deadlines."""

from __future__ import annotations

import time


class Pace:
    """Waits for the control steps of a clock at `hz`, which starts with this object; `skipped` counts missed ones."""

    def __init__(self, hz: float) -> None:
        self.skipped = 0
        self._period = 1 / hz
        self._start = time.monotonic()
        self._step = 0

    def wait(self) -> None:
        """Sleep until the next step is due. Steps that are already past are skipped: never a burst to catch up."""
        self._step += 1
        late = time.monotonic() - self._start - self._step * self._period
        if late >= self._period:
            missed = int(late / self._period)
            self._step += missed
            self.skipped += missed
        due = self._start + self._step * self._period
        time.sleep(max(0.0, due - time.monotonic()))
