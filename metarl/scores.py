"""How attempts went: scores per task, rows of a table, and the share of a known gap that was closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metarl.episodes import Episodes, Float
from metarl.statistics import bootstrapped, interquartile, interval
from robots.spec import Array


@dataclass(frozen=True)
class Score:
    """Per task, over its episodes [seed, task]: mean return, share of successes at the end, the job's error there."""

    returns: Float
    success: Float
    error: Float

    @classmethod
    def of(cls, episodes: Sequence[Episodes], tolerance: float, falls: bool) -> Score:
        """One seed's, from each task's episodes. falls: whether those that ended early failed; else they arrived."""
        last, lived = (
            np.stack([values[:, -1] for values in field])
            for field in ([e.error for e in episodes], [e.mask for e in episodes])
        )
        returns = np.stack([e.reward.sum(-1) for e in episodes])
        success = last <= tolerance
        if falls:
            success &= lived > 0
        return cls(returns.mean(1)[None], success.mean(1).astype(np.float32)[None], last.mean(1)[None])

    @classmethod
    def join(cls, scores: Sequence[Score]) -> Score:
        """All seeds' in one."""
        fields = zip(*((s.returns, s.success, s.error) for s in scores), strict=True)
        return cls(*(np.concatenate(field) for field in fields))

    def to_dict(self) -> dict[str, Any]:
        """Mean and interquartile mean of each figure, each with its interval."""
        fields = {"return": self.returns, "success": self.success, "error": self.error}
        return {name: {**interval(value), "iqm": interquartile(value)} for name, value in fields.items()}


@dataclass(frozen=True)
class Row:
    """A score, and what was spent on it: adaptation steps, and the episodes and seconds of experience behind them."""

    steps: int
    episodes: int
    seconds: float
    score: Score

    def to_dict(self, without: Score | None = None, oracle: Score | None = None) -> dict[str, Any]:
        """Plain values. without, oracle: the scores between which `gap_closed` is a share."""
        spent = {"steps": self.steps, "episodes": self.episodes, "seconds": self.seconds}
        gap = gap_closed(without, self.score, oracle) if without and oracle else None
        return spent | self.score.to_dict() | {"gap_closed": gap}


def gap_closed(without: Score, now: Score, oracle: Score) -> dict[str, float] | None:
    """Share of the error between domain randomization and the oracle that is closed, paired over seeds and tasks.

    None unless the gap's own interval lies above zero: a share of nothing means nothing.
    """

    def gap(a: Array, c: Array) -> Any:
        return a.mean(-1) - c.mean(-1)

    def share(a: Array, b: Array, c: Array) -> Any:
        return gap(a, b) / gap(a, c)

    if bootstrapped(gap, without.error, oracle.error)["low"] <= 0:
        return None
    return bootstrapped(share, without.error, now.error, oracle.error)
