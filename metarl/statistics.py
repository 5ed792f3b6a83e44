"""Means and their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, trim_mean

RESAMPLES = 2000


def interval(values: NDArray[Any]) -> dict[str, float]:
    """Mean of values [task] or [seed, task], with its 95 % bootstrap interval over tasks, and over seeds if several."""
    return bootstrapped(lambda sample: sample.mean(-1), values)


def interquartile(values: NDArray[Any]) -> dict[str, float]:
    """The same of the mean of the middle half, which a few failed seeds or tasks do not move (Agarwal et al. 2021)."""
    return bootstrapped(lambda sample: trim_mean(sample, 0.25, axis=-1), values)


def bootstrapped(statistic: Callable[..., Any], *paired: NDArray[Any]) -> dict[str, float]:
    """A statistic of values, each [task] or [seed, task], and its 95 % interval by percentiles.

    Seeds are drawn anew as a whole, and so are tasks, as all seeds met the same: what is common to the tasks of a seed
    does not average out over them (Owen 2007, "The pigeonhole bootstrap"). statistic: of [..., sample] of each.
    """
    seeds, tasks = np.atleast_2d(paired[0]).shape
    flat = [values.astype(np.float64).ravel() for values in paired]
    rng = np.random.default_rng(0)
    task = rng.integers(0, tasks, (RESAMPLES, 1, tasks))
    seed = rng.integers(0, seeds, (RESAMPLES, seeds, 1))
    rows = (seed * tasks + task).reshape(RESAMPLES, -1)
    low, high = np.percentile(statistic(*(values[rows] for values in flat)), (2.5, 97.5))
    return {"mean": float(statistic(*flat)), "low": float(low), "high": float(high)}


def share(outcomes: NDArray[Any]) -> dict[str, float]:
    """Share of true outcomes, with its 95 % Wilson interval: a bootstrap has no width where all agree."""
    found = binomtest(int(np.sum(outcomes)), len(outcomes)).proportion_ci(method="wilson")
    return {"mean": float(np.mean(outcomes)), "low": float(found.low), "high": float(found.high)}
