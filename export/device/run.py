"""The device's session: evaluate, then adapt and evaluate, K times, in the way that the bundle was trained for."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from export.device.collect import Episode, require_reward
from export.device.device import Device
from export.device.driver import Driver
from export.device.guard import Guard, Reaction
from export.device.loop import Watch, undisturbed
from export.device.search import candidates, choose
from export.device.session import Event, Report, Session
from export.device.slots import Verdict


def run(
    device: Device,
    driver: Driver,
    *,
    steps: int | None = None,
    attempts: int = 5,
    seed: int = 0,
    restore: bool = False,
    state: Path | None = None,
    reaction: Reaction = Reaction(),  # noqa: B008 (frozen)
    priority: int | None = None,
    report: Report = lambda event: None,
    watch: Watch = lambda tick: None,
) -> list[float]:
    """Adapt `device` on `driver` by `steps` steps (None: as many as it was trained for), under guard.

    A step is a gradient step, or a round of search, or, with memory, an attempt lived through. attempts: for each
    evaluation, by the mean action, which is a step's probation as well; 0: as few as the bundle asks. With memory an
    attempt both adapts and is judged: attempts is then the number of trials, each from no memory and of steps + 1
    attempts by the mean action, whose returns are averaged by their place in the trial (0: one trial, without the
    attempt after the last step); the last trial stays in memory. seed: of exploration noise and of candidates. state:
    file that keeps the parameters that proved themselves, and where the session begins if it is there. restore: go back
    to the initial parameters, and no memory, at the end. priority: 1 to 99, of real-time scheduling. watch: told of
    every control step. The driver is closed.

    A step that the gate refuses, or that does worse on the robot, leaves the parameters as they were; so many of them
    in a row as the bundle's bounds say end the session. Tells `report` of each event, and returns the mean return
    before and after each step, nan where none was measured. Raises ValueError for a driver whose data do not fit, theta
    then being that of the last step that proved itself; and before anything moves if the bundle cannot adapt, is of
    another robot, or adapts by a reward that the driver does not measure.
    """
    manifest = device.manifest
    if steps is None:
        steps = manifest.steps
    if steps < 0 or attempts < 0:
        raise ValueError(f"steps is {steps} and attempts {attempts}, expected 0 or more of each")
    if steps and manifest.adapts is None:
        raise ValueError(f"the bundle's learner {manifest.learner!r} cannot adapt, expected steps 0, found {steps}")
    guard = Guard(driver, device.interface, manifest.limits, reaction)
    with closing(guard), undisturbed(priority) as had:
        if priority is not None:
            report(Event("scheduled", 0, had))
        if steps and (manifest.adapts == "search" or manifest.objective == "reward"):
            require_reward(guard)
        session = Session(device, guard, report, watch, state)
        try:
            if manifest.adapts == "memory":
                returns = _live(session, steps, attempts)
            else:
                returns = _adapt(session, steps, attempts, seed)
        finally:
            session.abandon()
        if restore:
            session.restore()
    return returns


def _adapt(session: Session, steps: int, attempts: int, seed: int) -> list[float]:
    """Gradient steps or rounds of search, each proposed, watched, and kept or not."""
    manifest, bounds = session.device.manifest, session.device.manifest.bounds
    attempts = attempts or (bounds.probation if bounds and steps else 0)
    made = session.evaluate(attempts, session.slots.taken)
    returns, refusals, episodes = [_mean(made)], 0, list[Episode]()
    for number in range(steps):
        verdict: Verdict | None
        if manifest.adapts == "search":
            verdict = _search(session, seed, number)
        else:
            if not (episodes and manifest.collect and manifest.collect.kind == "guided"):
                episodes = session.gather(seed, number)
            verdict = session.propose_step(episodes)
        if verdict is None:  # nothing new to try
            returns.append(returns[-1])
            continue
        if verdict.accepted:
            watched = session.evaluate(attempts, session.slots.taken + 1)
            verdict = session.settle(watched)
        returns.append(_mean(watched) if verdict.accepted else returns[-1])
        refusals = 0 if verdict.accepted else refusals + 1
        if not verdict.accepted:
            episodes = []  # what misled once would mislead again
        if bounds and refusals >= bounds.patience:
            line = f"{refusals} steps in a row refused or rolled back: stopped at what proved itself"
            session.report(Event("stopped", session.slots.taken, line))
            break
    return returns + returns[-1:] * (steps + 1 - len(returns))


def _search(session: Session, seed: int, step: int) -> Verdict | None:
    """One round, by the mean action, which needs no noise that a pair could share. None if nothing is better.

    A candidate that the gate refuses is never tried on the robot, nor is its partner.
    """
    device = session.device
    search, theta = device.manifest.search, device.theta.copy()
    assert search is not None
    tried = candidates(search, theta, np.random.default_rng([seed, step]))
    partners = tried.reshape(search.tries, -1, theta.size)
    let = [all(session.gate(parameters).accepted for parameters in group) for group in partners]
    if not any(let):
        none = Verdict(False, "not one candidate is within bounds", {"accepted": 0.0, "change": 0.0})
        session.report(Event("searched", step, f"round {step + 1}: {none.reason}, theta as before", none.figures))
        return none
    search, tried = replace(search, tries=sum(let)), partners[let].reshape(-1, theta.size)
    climbs, values = search.kind == "climb", list[float]()
    for number, parameters in enumerate([theta, *tried] if climbs else tried):
        session.try_out(parameters)
        made = [session.attempt() for _ in range(search.episodes)]
        values.append(_mean(made))
        if not np.isfinite(values[-1]):
            raise ValueError(
                f"round {step + 1}: attempt {(number + 1) * search.episodes} or one before it has the return "
                f"{values[-1]}, expected finite ones: search goes by measured rewards; check what measures them"
            )
    session.abandon()
    own = values.pop(0) if climbs else None
    found, _ = choose(search, theta, own, tried, values)
    before = float(np.mean(values)) if own is None else own
    change = float(np.linalg.norm(found - theta))
    verdict = session.consider(found) if change > 0 else None
    kept = verdict is not None and verdict.accepted
    figures = {
        "before": before,
        "best": max(values),
        "attempts": search.episodes * (len(values) + climbs),
        "accepted": float(kept),
        "change": change if kept else 0.0,
    }
    words = f"return {before:.4g}, best of {len(values)} candidates {max(values):.4g}"
    if not climbs:
        words = f"mean return {before:.4g} and best {max(values):.4g} of {search.tries} pairs"
    said = "none is better, theta as before"
    if verdict is not None:
        said = f"accepted, theta moved by {change:.3g}" if kept else f"refused, theta as before ({verdict.reason})"
    session.report(Event("searched", step, f"round {step + 1}: {words}, {said}", figures))
    return verdict


def _live(session: Session, steps: int, attempts: int) -> list[float]:
    """Trials from no memory. The last of them tells the mean over all, place by place, as it goes."""
    trials, length = max(1, attempts), steps + bool(attempts)
    lived: list[list[Episode]] = []
    returns: list[float] = []
    for trial in range(trials):
        made: list[Episode] = []
        lived.append(made)
        for place in range(length):
            made.append(session.attempt(previous=made[-1] if made else None))
            if attempts and trial == trials - 1:
                returns.append(session.tell_evaluation([each[place] for each in lived], place))
        if made and not (attempts and trial == trials - 1):
            found = [float(episode.reward.sum()) for episode in made]
            line = f"trial {trial + 1} of {trials}: returns {', '.join(f'{value:.4g}' for value in found)}"
            figures = {"trial": trial, "attempts": length, "first": found[0], "last": found[-1]}
            session.report(Event("lived", steps, line, figures))
    return returns or [*(float(episode.reward.sum()) for episode in lived[0]), float("nan")]


def _mean(made: list[Episode]) -> float:
    """Return, nan if there is none."""
    return float(np.mean([episode.reward.sum() for episode in made])) if made else float("nan")
