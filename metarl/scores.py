"""How attempts went: scores per task, rows of a table, and the share of a known gap that was closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from metarl.episodes import Episodes, Float
from metarl.statistics import interquartile, interval
from robots.spec import Array


@dataclass(frozen=True)
class Score:
    """Per task, over its episodes [seed, task]: mean return, share of successes at the end, the job's error there."""

    returns: Float
    success: Float
    error: Float

    @classmethod
    def of(cls, episodes: Sequence[Episodes], tolerance: float) -> Score:
        """One seed's, from each task's episodes."""
        last, lived = (
            np.stack([values[:, -1] for values in field])
            for field in ([e.error for e in episodes], [e.mask for e in episodes])
        )
        returns = np.stack([e.reward.sum(-1) for e in episodes])
        success = (last <= tolerance) & (lived > 0)
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
    """Share of the error between domain randomization and the oracle that is closed, paired over tasks.

    None unless the gap's own interval lies above zero: a share of nothing means nothing.
    """

    def gap(a: Array, c: Array, axis: int = -1) -> Any:
        return a.mean(axis) - c.mean(axis)

    def share(a: Array, b: Array, c: Array, axis: int = -1) -> Any:
        return gap(a, b, axis) / gap(a, c, axis)

    a, b, c = (score.error.astype(np.float64).ravel() for score in (without, now, oracle))
    how: dict[str, Any] = {"n_resamples": 2000, "method": "percentile", "paired": True, "vectorized": True}
    if (np.ptp(a - c) == 0 and a[0] <= c[0]) or bootstrap((a, c), gap, rng=0, **how).confidence_interval.low <= 0:
        return None
    limits = bootstrap((a, b, c), share, rng=0, **how).confidence_interval
    return {"mean": float(share(a, b, c)), "low": float(limits.low), "high": float(limits.high)}
