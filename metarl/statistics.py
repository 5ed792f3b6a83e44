"""Means and their bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap


def interval(values: NDArray[Any]) -> dict[str, float]:
    """Mean, with its 95 % bootstrap interval."""
    mean = float(np.mean(values, dtype=np.float64))
    if np.ptp(values) == 0:
        return {"mean": mean, "low": mean, "high": mean}
    found = bootstrap((values.astype(np.float64),), np.mean, n_resamples=2000, method="percentile", rng=0)
    return {"mean": mean, "low": float(found.confidence_interval.low), "high": float(found.confidence_interval.high)}


def share(outcomes: NDArray[Any]) -> dict[str, float]:
    """Share of true outcomes, with its 95 % Wilson interval: a bootstrap has no width where all agree."""
    found = binomtest(int(np.sum(outcomes)), len(outcomes)).proportion_ci(method="wilson")
    return {"mean": float(np.mean(outcomes)), "low": float(found.low), "high": float(found.high)}
