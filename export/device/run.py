"""The device's session: evaluate, then adapt and evaluate, K times. Prints nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from export.device.adapter import Step
from export.device.collect import Episode, attempt, batch, guided, require_reward
from export.device.device import Device
from export.device.driver import Driver
from export.device.search import candidates, choose


@dataclass(frozen=True)
class Event:
    """Something that happened. kind: "evaluated", "collected", "adapted", "searched", "lived" or "restored"; line:
    the same in words.

    step: adaptation steps taken before it. figures, by kind: evaluated: return, return_std, final_reward, attempts,
    skipped; collected: episodes, samples; adapted: loss, gradient_norm, accepted (1 or 0), change (norm of theta's);
    searched: before (theta's value; with "estimate" the mean of the candidates'), best, attempts, accepted, change;
    lived (a trial with memory): trial, attempts, first, last (returns of those attempts).
    """

    kind: str
    step: int
    line: str
    figures: Mapping[str, float] = field(default_factory=dict)


Report = Callable[[Event], None]

NOUNS = {"gradient": "step", "memory": "attempt", "search": "round", None: "step"}  # of one adaptation step


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

    A step is a gradient step, or a round of search, or, with memory, an attempt lived through. attempts: for each
    evaluation, by the mean action; 0 for none. With memory an attempt both adapts and is judged: attempts is then
    the number of trials, each from no memory and of steps + 1 attempts by the mean action, whose returns are
    averaged by their place in the trial (0: one trial, without the attempt after the last step); the last trial
    stays in memory. seed: of exploration noise and of candidates. restore: go back to the initial parameters, and no
    memory, at the end.

    Tells `report` of each event, and returns the mean return before and after each step, nan where none was
    measured. Raises ValueError for a driver whose data do not fit, theta then being that of the last whole step; and
    before anything moves if the bundle cannot adapt, or adapts by a reward that the driver does not measure.
    """
    manifest = device.manifest
    if steps is None:
        steps = manifest.steps
    if steps < 0 or attempts < 0:
        raise ValueError(f"steps is {steps} and attempts {attempts}, expected 0 or more of each")
    if steps and manifest.adapts is None:
        raise ValueError(f"the bundle's learner {manifest.learner!r} cannot adapt, expected steps 0, found {steps}")
    if manifest.adapts == "memory":
        returns = _live(device, driver, steps, attempts, report)
    else:
        if steps and manifest.adapts == "search":
            require_reward(driver)
        returns = [_evaluate(device, driver, attempts, 0, report)]
        episodes: list[Episode] = []
        for step in range(steps):
            if manifest.adapts == "search":
                _search(device, driver, seed, step, report)
            else:
                episodes = _descend(device, driver, episodes, seed, step, report)
            returns.append(_evaluate(device, driver, attempts, step + 1, report))
    if restore:
        device.restore()
        report(Event("restored", 0, "back at the initial parameters"))
    return returns


def _evaluate(device: Device, driver: Driver, attempts: int, step: int, report: Report) -> float:
    if not attempts:
        return float("nan")
    made = [attempt(device, driver, device.manifest.horizon) for _ in range(attempts)]
    return _tell_evaluation(device, made, step, report)


def _tell_evaluation(device: Device, made: Sequence[Episode], step: int, report: Report) -> float:
    adapts = device.manifest.adapts
    taken = f"after {step} {NOUNS[adapts]}{'' if step == 1 else 's'}"
    returns = np.array([episode.reward.sum() for episode in made])
    final = float(np.mean([episode.reward[-1] for episode in made]))
    skipped = sum(episode.skipped for episode in made)
    figures = {
        "return": float(returns.mean()),
        "return_std": float(returns.std()),
        "final_reward": final,
        "attempts": len(made),
        "skipped": skipped,
    }
    line = f"{taken}: return {returns.mean():.4g} ± {returns.std():.2g}, final reward {final:.4g}"
    if np.isnan(final):
        line = f"{taken}: reward not measured"
    late = f", {skipped} control steps skipped" if skipped else ""
    report(
        Event(
            "evaluated", step, f"{line} ({len(made)} {'trials' if adapts == 'memory' else 'attempts'}{late})", figures
        )
    )
    return figures["return"]


def _live(device: Device, driver: Driver, steps: int, attempts: int, report: Report) -> list[float]:
    """Trials from no memory. The last of them tells the mean over all, place by place, as it goes."""
    trials, length = max(1, attempts), steps + bool(attempts)
    lived: list[list[Episode]] = []
    returns: list[float] = []
    for trial in range(trials):
        made: list[Episode] = []
        lived.append(made)
        for place in range(length):
            made.append(attempt(device, driver, device.manifest.horizon, previous=made[-1] if made else None))
            if attempts and trial == trials - 1:
                returns.append(_tell_evaluation(device, [each[place] for each in lived], place, report))
        if made and not (attempts and trial == trials - 1):
            found = [float(episode.reward.sum()) for episode in made]
            line = f"trial {trial + 1} of {trials}: returns {', '.join(f'{value:.4g}' for value in found)}"
            figures = {"trial": trial, "attempts": length, "first": found[0], "last": found[-1]}
            report(Event("lived", steps, line, figures))
    return returns or [*(float(episode.reward.sum()) for episode in lived[0]), float("nan")]


def _search(device: Device, driver: Driver, seed: int, step: int, report: Report) -> None:
    """One round, by the mean action, which needs no noise that a pair could share. theta is as before if it fails."""
    search, theta = device.manifest.search, device.theta.copy()
    assert search is not None
    tried = candidates(search, theta, np.random.default_rng([seed, step]))
    climbs = search.kind == "climb"
    values = []
    try:
        for number, parameters in enumerate([theta, *tried] if climbs else tried):
            device.theta = parameters
            made = [attempt(device, driver, device.manifest.horizon) for _ in range(search.episodes)]
            values.append(float(np.mean([episode.reward.sum() for episode in made])))
            if not np.isfinite(values[-1]):
                raise ValueError(
                    f"round {step + 1}: attempt {(number + 1) * search.episodes} or one before it has the return "
                    f"{values[-1]}, expected finite ones: search goes by measured rewards; check what measures them"
                )
    finally:
        device.theta = theta
    own = values.pop(0) if climbs else None
    device.theta, _ = choose(search, theta, own, tried, values)
    before = float(np.mean(values)) if own is None else own
    change = float(np.linalg.norm(device.theta - theta))
    figures = {
        "before": before,
        "best": max(values),
        "attempts": search.episodes * (len(values) + climbs),
        "accepted": float(change > 0),
        "change": change,
    }
    found = f"return {before:.4g}, best of {len(values)} candidates {max(values):.4g}"
    if not climbs:
        found = f"mean return {before:.4g} and best {max(values):.4g} of {search.tries} pairs"
    verdict = f"accepted, theta moved by {change:.3g}" if change > 0 else "none is better, theta as before"
    report(Event("searched", step, f"round {step + 1}: {found}, {verdict}", figures))


def _descend(
    device: Device, driver: Driver, episodes: list[Episode], seed: int, step: int, report: Report
) -> list[Episode]:
    """One gradient step, on `episodes` where they are guided motions, else on new ones; returns those it read."""
    plan = device.manifest.collect
    assert plan is not None
    if not (episodes and plan.kind == "guided"):
        episodes = _collect(device, driver, seed, step, report)
    before = device.theta
    taken = device.adapt(batch(episodes, device.manifest.batch), step)
    _tell_step(taken, float(np.linalg.norm(device.theta - before)), step, report)
    return episodes


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
