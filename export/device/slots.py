"""What stands between a step of adaptation and the robot: three sets of parameters, and the rules to go from one to
the next. Pure but for `Slots`; touches no robot and no file.

`base` is the bundle's and never changes, `good` has proved itself, `trial` has yet to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Act = Callable[[Vector], NDArray[np.float32]]  # theta -> mean actions [probe, n]
RECENT = 32  # of the robot's own observations, to compare actions at
ERRORS = 2.0  # standard errors by which returns must differ to be called so


@dataclass(frozen=True)
class Bounds:
    """How far adaptation may go.

    norm: of theta - base. action: the most that any element of the mean action [in units of the action, cut to ±1] may
    change on the probe observations, from base; rms: the same, root mean square over all of them. probation: attempts
    that a trial is watched for. patience: refusals in a row after which a session gives up.
    """

    norm: float
    action: float
    rms: float
    probation: int
    patience: int

    def __post_init__(self) -> None:
        sizes = (self.norm, self.action, self.rms)
        if not (all(0 < size < math.inf for size in sizes) and min(self.probation, self.patience) >= 1):
            raise ValueError(f"bounds are {self}, expected positive, finite numbers, and counts from 1 up")


@dataclass(frozen=True)
class Verdict:
    """Whether a step is accepted, and why, in words; figures: what was compared."""

    accepted: bool
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)


class Slots:
    """The three sets of parameters. taken: adaptation steps in `good`."""

    def __init__(self, base: Vector, good: Vector | None = None, taken: int = 0) -> None:
        self._base = base.copy()
        self._good = self._base if good is None else good.copy()
        self._trial: Vector | None = None
        self.taken = taken
        for slot in (self._base, self._good):
            slot.flags.writeable = False

    @property
    def base(self) -> Vector:
        return self._base

    @property
    def good(self) -> Vector:
        return self._good

    @property
    def trial(self) -> Vector | None:
        return self._trial

    @property
    def name(self) -> str:
        """Of the parameters in force."""
        if self._trial is not None:
            return "trial"
        return "good" if self.taken else "base"

    def propose(self, theta: Vector) -> None:
        self._trial = theta.copy()
        self._trial.flags.writeable = False

    def promote(self) -> None:
        assert self._trial is not None, "only a trial can be promoted"
        self._good, self._trial = self._trial, None
        self.taken += 1

    def roll_back(self) -> None:
        self._trial = None


def within(bounds: Bounds, base: Vector, trial: Vector, act: Act) -> Verdict:
    """Whether a trial is finite, near enough to base, and would act much like it."""
    with np.errstate(over="ignore", invalid="ignore"):
        norm = float(np.linalg.norm(trial.astype(np.float64) - base))
        change = np.full(1, np.nan)
        if np.isfinite(trial).all():
            change = np.abs(_cut(act(trial)).astype(np.float64) - _cut(act(base)))
    most, rms = float(change.max()), float(np.sqrt(np.mean(change**2)))
    figures = {"norm": norm, "action_change": most, "action_rms": rms}
    if not math.isfinite(norm):
        return Verdict(False, "theta is not finite", figures)
    if not norm <= bounds.norm:
        return Verdict(False, f"theta moved by {norm:.3g} from base, expected at most {bounds.norm:.3g}", figures)
    if not most <= bounds.action:
        return Verdict(False, f"actions change by {most:.3g}, expected at most {bounds.action:.3g}", figures)
    if not rms <= bounds.rms:
        return Verdict(False, f"actions change by {rms:.3g} (rms), expected at most {bounds.rms:.3g}", figures)
    return Verdict(True, "within bounds", figures)


def lower(name: str, before: float, after: float) -> Verdict:
    """Whether a loss fell."""
    figures = {f"{name}_before": before, f"{name}_after": after}
    words = f"{name.replace('_', ' ')} {before:.4g} -> {after:.4g}"
    if after < before:
        return Verdict(True, words, figures)
    return Verdict(False, f"{words}, expected less", figures)


def foresees(base: float, before: float, after: float, slack: float) -> Verdict:
    """Whether a trial's forecasts err (`after`) less than base's, and hardly more than those of `good` (`before`)."""
    figures = {"prediction_error_before": before, "prediction_error_after": after}
    words = f"prediction error {before:.4g} -> {after:.4g}"
    if after < min(base, (1 + slack) * before):
        return Verdict(True, words, figures)
    return Verdict(
        False, f"{words} (base's {base:.4g}), expected less{f' than {slack:.0%} more' * (slack > 0)}", figures
    )


def not_worse(before: Sequence[float], after: Sequence[float]) -> Verdict:
    """Whether returns after a step are not worse than before, by more than ERRORS standard errors of their difference.

    Without a measured reward nothing can be said against the trial; one that is not finite now and then says nothing
    for it.
    """
    if np.isnan([*before, *after]).all():
        return Verdict(True, "reward not measured")
    return _compared(before, after, lambda gain, error: gain >= -ERRORS * error, "not worse")


def better(before: Sequence[float], after: Sequence[float]) -> Verdict:
    """Whether returns after a step are better than before, by more than ERRORS standard errors of their difference."""
    return _compared(before, after, lambda gain, error: gain > ERRORS * error, "better")


def _compared(
    before: Sequence[float], after: Sequence[float], rule: Callable[[float, float], bool], expected: str
) -> Verdict:
    """By Welch's standard error: each side's own spread counts."""
    if not np.isfinite([*before, *after]).all():
        return Verdict(False, f"returns are {[*before]} before and {[*after]} after, expected finite ones")
    spread = sum(float(np.var(side, ddof=1)) / len(side) if len(side) > 1 else 0.0 for side in (before, after))
    old, new, error = float(np.mean(before)), float(np.mean(after)), math.sqrt(spread)
    figures = {"return_before": old, "return_after": new, "standard_error": error}
    words = f"return {old:.4g} -> {new:.4g}"
    if rule(new - old, error):
        return Verdict(True, words, figures)
    return Verdict(False, f"{words}, expected {expected} with a standard error of {error:.2g}", figures)


def left_out(
    step: Callable[[Vector, int, Mapping[str, NDArray[Any]]], tuple[Vector, float]],
    base: Vector,
    batch: Mapping[str, NDArray[Any]],
    taken: int,
) -> NDArray[np.float64]:
    """Losses [motion, 3] on each motion: of base, after `taken` and after one more step on all the other motions.

    batch [episode, ...], of two or more episodes; step: (theta, index, batch) -> (theta', loss at theta). Leaving one
    out tells a step that learns the world from one that learns the motions (Stone 1974); the chain begins at base, for
    parameters that have seen the motion are no judges of it.
    """
    count = len(next(iter(batch.values())))
    found = np.empty((count, 3))
    for out in range(count):
        others = np.arange(count) != out
        rest = {name: value[others] for name, value in batch.items()}
        alone = {name: value[[out]] for name, value in batch.items()}
        thetas = [base]
        for index in range(taken + 1):
            thetas.append(step(thetas[-1], index, rest)[0])
        found[out] = [step(thetas[index], index, alone)[1] for index in (0, taken, taken + 1)]
    return found


def generalizes(losses: NDArray[np.float64]) -> Verdict:
    """Whether losses [motion, 3] of motions left out are less than base's, and fell with the last step, by their means.

    A later step may miss the latter by a standard error over the motions: few of them cannot tell a small gain.
    """
    start, before, after = losses.mean(0).tolist()
    with np.errstate(invalid="ignore"):
        rise = losses[:, 2] - losses[:, 1]
        missed = bool(rise.mean() > rise.std(ddof=1) / math.sqrt(len(rise)))
    figures = {"left_out_loss_base": start, "left_out_loss_before": before, "left_out_loss_after": after}
    words = f"left out loss {before:.4g} -> {after:.4g}"
    if after < start and (after < before or not missed):
        return Verdict(True, words, figures)
    return Verdict(False, f"{words} (base's {start:.4g}), expected less", figures)


def thinned(observations: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """`count` of them [time, n], evenly spread; all, if there are fewer."""
    chosen = np.linspace(0, len(observations) - 1, min(count, len(observations))).round().astype(int)
    return np.asarray(observations[chosen])


def _cut(actions: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(actions, -1.0, 1.0)
