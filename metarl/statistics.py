"""Means and their bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap, trim_mean


def interval(values: NDArray[Any]) -> dict[str, float]:
    """Mean of values [..., task], with its 95 % bootstrap interval."""
    return _bootstrapped(values, np.mean)


def interquartile(values: NDArray[Any]) -> dict[str, float]:
    """The same of the mean of the middle half, which a few failed seeds or tasks do not move (Agarwal et al. 2021)."""
    return _bootstrapped(values, lambda sample, axis=-1: trim_mean(sample, 0.25, axis=axis))


def _bootstrapped(values: NDArray[Any], mean: Any) -> dict[str, float]:
    flat = values.astype(np.float64).ravel()
    middle = float(mean(flat))
    if np.ptp(flat) == 0:
        return {"mean": middle, "low": middle, "high": middle}
    found = bootstrap((flat,), mean, n_resamples=2000, method="percentile", rng=0, vectorized=True)
    return {"mean": middle, "low": float(found.confidence_interval.low), "high": float(found.confidence_interval.high)}


def share(outcomes: NDArray[Any]) -> dict[str, float]:
    """Share of true outcomes, with its 95 % Wilson interval: a bootstrap has no width where all agree."""
    found = binomtest(int(np.sum(outcomes)), len(outcomes)).proportion_ci(method="wilson")
    return {"mean": float(np.mean(outcomes)), "low": float(found.low), "high": float(found.high)}
