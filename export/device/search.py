"""Search for better parameters by returns alone. numpy only, pure: training and the device call the same functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

KINDS = ("climb", "estimate")
SIGMA = (1e-6, 1e3)  # less is lost in rounding beside weights of size 1; more is no search; in between all is finite
LARGEST = 10_000  # tries, episodes or rounds

Parameters = NDArray[np.float32]


@dataclass(frozen=True)
class Search:
    """How parameters are searched, round by round, from a start that was trained for it (Song et al. 2020, ES-MAML).

    kind "climb": each round tries `tries` candidates around theta and goes to the best one, if it beats theta, which
    is measured anew in every round: a lucky return would otherwise stand forever. "estimate": it tries `tries`
    antithetic pairs and takes a step of size `rate` along the gradient of the return, smoothed over `sigma`, that
    they estimate. sigma: standard deviation of each parameter's perturbation. rate: read by "estimate" alone.
    episodes: attempts for each candidate, whose mean return is its value. rounds: as many as it was trained for.
    Raises ValueError for values that are none of that.
    """

    kind: str
    sigma: float
    rate: float
    tries: int
    episodes: int
    rounds: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"search kind is {self.kind!r}, expected one of {KINDS}; choose one")
        if not (SIGMA[0] <= self.sigma <= SIGMA[1] and 0 <= self.rate < math.inf):
            raise ValueError(
                f"search has sigma {self.sigma} and rate {self.rate}, expected sigma in {SIGMA} and a finite rate from "
                "0 up; choose others"
            )
        if self.kind == "estimate" and self.rate == 0:
            raise ValueError("search has rate 0, expected more for 'estimate': theta would never move; choose one")
        for name in ("tries", "episodes", "rounds"):
            if not 1 <= getattr(self, name) <= LARGEST:
                raise ValueError(f"search has {name} {getattr(self, name)}, expected 1 to {LARGEST}; choose another")

    @property
    def size(self) -> int:
        """Candidates of one round."""
        return self.tries if self.kind == "climb" else 2 * self.tries


def candidates(search: Search, theta: Parameters, rng: np.random.Generator) -> Parameters:
    """What one round tries, float32[size, P], for theta float32[P].

    "climb": theta + sigma e, with e of the unit normal. "estimate": pairs in neighbouring rows, theta + sigma e in
    row 2 i and theta - sigma e in row 2 i + 1, so that on a robot little changes between the two. Whoever measures
    them gives both of a pair the same task, starts and noise. All are finite. Raises ValueError for a theta that is
    not a finite vector.
    """
    theta = _vector(theta)
    offset = np.float32(search.sigma) * rng.standard_normal((search.tries, theta.size), dtype=np.float32)
    if search.kind == "climb":
        return theta + offset
    return np.stack([theta + offset, theta - offset], axis=1).reshape(search.size, theta.size)


def choose(
    search: Search, theta: Parameters, value: float | None, tried: Parameters, values: ArrayLike
) -> tuple[Parameters, float | None]:
    """Where a round ends: theta' float32[P], and its value where that was measured, else None.

    value: theta's own, None if it was not measured; the more, the better. tried [size, P]: what `candidates` made
    around theta; values [size]: theirs. "climb": the best of them if better than theta's own value (the first of
    equals; without such a value the best one in any case), else theta. "estimate": theta + rate / (2 tries sigma) *
    sum of (f+ - f-) e over the pairs; `value` is not read. Raises ValueError for values that are not finite (a
    return that was not measured, say), for shapes that do not fit, or if theta' is not finite.
    """
    theta, found = _vector(theta), np.asarray(values, np.float64)
    if tried.shape != (search.size, theta.size) or found.shape != (search.size,):
        raise ValueError(
            f"there are candidates {list(tried.shape)} with values {list(found.shape)}, expected "
            f"{[search.size, theta.size]} and {[search.size]}; give one value for each of the round's candidates"
        )
    if not (np.isfinite(found).all() and (value is None or math.isfinite(value))):
        raise ValueError(
            f"returns are {found.tolist()} for the candidates and {value} for theta, expected finite ones; search "
            "needs a measured reward in every step"
        )
    if search.kind == "climb":
        best = int(np.argmax(found))
        if value is None or found[best] > value:
            return tried[best].copy(), float(found[best])
        return theta.copy(), value
    # e as float32 rounded it: what was tried, not what was meant. Summed in a fixed order, unlike a matrix product.
    direction = (tried[0::2].astype(np.float64) - tried[1::2]) / (2 * search.sigma)
    with np.errstate(over="ignore", invalid="ignore"):
        slope = ((found[0::2] - found[1::2])[:, None] * direction).sum(0)
        moved = (theta + search.rate / (2 * search.tries * search.sigma) * slope).astype(np.float32)
    if not np.isfinite(moved).all():
        raise ValueError(
            f"the step of rate {search.rate} leaves the range of float32; choose a smaller rate, or scale the reward"
        )
    return moved, None


def _vector(theta: Parameters) -> Parameters:
    theta = np.asarray(theta, np.float32)
    if theta.ndim != 1 or not np.isfinite(theta).all():
        raise ValueError(f"theta has shape {list(theta.shape)} or is not finite, expected a finite vector")
    return theta
