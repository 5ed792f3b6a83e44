"""The device's session: evaluate, then adapt and evaluate, K times. Prints nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from export.device.adapter import Step
from export.device.collect import Episode, attempt, batch, guided
from export.device.device import Device
from export.device.driver import Driver


@dataclass(frozen=True)
class Event:
    """Something that happened. kind: "evaluated", "collected", "adapted" or "restored"; line: the same in words.

    step: adaptation steps taken before it. figures, by kind: evaluated: return, return_std, final_reward, attempts,
    skipped; collected: episodes, samples; adapted: loss, gradient_norm, accepted (1 or 0), change (norm of theta's).
    """

    kind: str
    step: int
    line: str
    figures: Mapping[str, float] = field(default_factory=dict)


Report = Callable[[Event], None]


def run(
    device: Device,
    driver: Driver,
    *,
    steps: int | None = None,
    attempts: int = 5,
    seed: int = 0,
    restore: bool = False,
    report: Report = lambda event: None,
) -> list[float]:
    """Adapt `device` on `driver` by `steps` steps (None: as many as it was trained for).

    attempts: for each evaluation, by the mean action; 0 for none. seed: of the exploration noise. restore: go back
    to the initial parameters at the end. Tells `report` of each event, and returns the mean return before and
    after each step. Raises ValueError for a driver whose data do not fit, and before anything moves if the bundle
    cannot adapt.
    """
    manifest = device.manifest
    if steps is None:
        steps = manifest.step_sizes.count if manifest.step_sizes else 0
    if steps < 0 or attempts < 0:
        raise ValueError(f"steps is {steps} and attempts {attempts}, expected 0 or more of each")
    if steps and manifest.collect is None:
        raise ValueError(f"the bundle's learner {manifest.learner!r} cannot adapt, expected steps 0, found {steps}")
    returns = [_evaluate(device, driver, attempts, 0, report)]
    episodes: list[Episode] = []
    for step in range(steps):
        assert manifest.collect is not None
        if not (episodes and manifest.collect.kind == "guided"):
            episodes = _collect(device, driver, seed, step, report)
        before = device.theta
        taken = device.adapt(batch(episodes, manifest.batch), step)
        _tell_step(taken, float(np.linalg.norm(device.theta - before)), step, report)
        returns.append(_evaluate(device, driver, attempts, step + 1, report))
    if restore:
        device.restore()
        report(Event("restored", 0, "back at the initial parameters"))
    return returns


def _evaluate(device: Device, driver: Driver, attempts: int, step: int, report: Report) -> float:
    if not attempts:
        return float("nan")
    made = [attempt(device, driver, device.manifest.horizon) for _ in range(attempts)]
    returns = np.array([episode.reward.sum() for episode in made])
    final = float(np.mean([episode.reward[-1] for episode in made]))
    skipped = sum(episode.skipped for episode in made)
    figures = {
        "return": float(returns.mean()),
        "return_std": float(returns.std()),
        "final_reward": final,
        "attempts": attempts,
        "skipped": skipped,
    }
    taken = f"after {step} step{'' if step == 1 else 's'}"
    line = f"{taken}: return {returns.mean():.4g} ± {returns.std():.2g}, final reward {final:.4g}"
    if np.isnan(final):
        line = f"{taken}: reward not measured"
    late = f", {skipped} control steps skipped" if skipped else ""
    report(Event("evaluated", step, f"{line} ({attempts} attempts{late})", figures))
    return figures["return"]


def _collect(device: Device, driver: Driver, seed: int, step: int, report: Report) -> list[Episode]:
    plan = device.manifest.collect
    assert plan is not None
    episodes = []
    for index in range(plan.episodes):
        if plan.kind == "guided":
            episodes.append(guided(device, driver))
        else:
            rng = np.random.default_rng([seed, step, index])
            episodes.append(attempt(device, driver, plan.steps, rng))
    samples = sum(len(episode.action) for episode in episodes)
    name = "guided motions" if plan.kind == "guided" else "exploring attempts"
    line = f"collected {len(episodes)} {name}, {samples} samples"
    report(Event("collected", step, line, {"episodes": len(episodes), "samples": samples}))
    return episodes


def _tell_step(taken: Step, change: float, step: int, report: Report) -> None:
    verdict = f"accepted, theta moved by {change:.3g}" if taken.finite else "refused (not finite), theta as before"
    figures = {
        "loss": taken.loss,
        "gradient_norm": taken.gradient_norm,
        "accepted": float(taken.finite),
        "change": change,
    }
    line = f"step {step + 1}: loss {taken.loss:.4g}, gradient norm {taken.gradient_norm:.3g}, {verdict}"
    report(Event("adapted", step, line, figures))
