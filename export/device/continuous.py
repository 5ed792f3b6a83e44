"""Adaptation while the robot works: every few seconds, beside the control loop, from the latest window of its motion.

Always from `base`, never chained: what a window taught wrongly is gone with the next (as GrBAL adapts; Nagabandi et al.
2019). The gradient steps run on a thread of their own, and ONNX Runtime lets the control loop run meanwhile; what they
find waits for the loop, which takes it between two ticks.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.device import slots
from export.device.collect import Episode, batch
from export.device.device import Device
from export.device.driver import Driver
from export.device.guard import RELAX, Guard, Reaction
from export.device.loop import Tick, Watch, undisturbed
from export.device.policy import Vector
from export.device.session import Event, Report, Session
from export.device.slots import Verdict

LATER = 0.25  # the share of a window, its newest, that judges what the rest has taught
PATIENCE = 8  # times the interval, the longest that refusals make it


@dataclass(frozen=True)
class Plan:
    """every [s]: between adaptations. window [s]: of motion that each reads. steps: of gradient. probation [s]: that a
    trial is watched for before it counts as good.
    """

    every: float = 1.0
    window: float = 2.0
    steps: int = 3
    probation: float = 1.0

    def __post_init__(self) -> None:
        times = (self.every, self.window, self.probation)
        if not all(0 < value < math.inf for value in times) or self.steps < 1:
            raise ValueError(f"the plan is {self}, expected positive times in seconds, and steps from 1 up")


@dataclass(frozen=True)
class Found:
    """What one adaptation came to. verdict: of the later part of its own window, and of the bounds."""

    theta: Vector
    verdict: Verdict
    seconds: float


class Adapting:
    """The thread. `offer` a window when it is `idle`; `poll` for what it found."""

    def __init__(self, device: Device, steps: int) -> None:
        self._device, self._steps = device, steps
        self._window: Episode | None = None
        self._found: Found | None = None
        self._wake, self._stopped, self.idle = threading.Event(), False, True
        self._thread = threading.Thread(target=self._run, name="adapting", daemon=True)
        self._thread.start()

    def offer(self, window: Episode) -> None:
        self._window, self.idle = window, False
        self._wake.set()

    def poll(self) -> Found | None:
        """What was found since the last call."""
        found = self._found
        if found is not None:  # the thread stores one for each window, and gets the next only when it is idle
            self._found, self.idle = None, True
        return found

    def close(self) -> None:
        self._stopped = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stopped:
                return
            assert self._window is not None
            start = time.monotonic()
            try:
                theta, verdict = adapted(self._device, self._window, self._steps)
            except Exception as error:  # the loop must go on, whatever a window holds
                theta, verdict = self._device.base, Verdict(False, f"{type(error).__name__}: {error}")
            self._found = Found(theta, verdict, time.monotonic() - start)


def adapted(device: Device, window: Episode, steps: int) -> tuple[Vector, Verdict]:
    """Steps from base on the older part of a window, judged by the loss on the newer one and by the bounds."""
    adapter, manifest = device.adapter, device.manifest
    assert adapter is not None
    assert manifest.bounds is not None
    cut = len(window.action) - max(2, int(LATER * len(window.action)))
    parts = [
        Episode(window.observation[part], window.action[part], window.reward[part], window.altered[part])
        for part in (slice(None, cut), slice(cut, None))
    ]
    older, newer = (batch([part], manifest.batch) for part in parts)
    theta = device.base
    for step in range(steps):
        taken = adapter.step(theta, step, older)
        if not taken.finite:
            return device.base, Verdict(False, f"step {step + 1}: loss, gradient or theta is not finite")
        theta = taken.theta
    before, after = (adapter.step(which, 0, newer).loss for which in (device.base, theta))
    verdict = slots.within(manifest.bounds, device.base, theta, device.probe)
    if not verdict.accepted:
        return device.base, verdict
    judged = slots.lower("later_loss", before, after)
    return theta, Verdict(judged.accepted, judged.reason, {**verdict.figures, **judged.figures})


class _Window:
    """The latest ticks, as one episode."""

    def __init__(self, ticks: int) -> None:
        self._ticks: deque[Tick] = deque(maxlen=ticks)

    def add(self, tick: Tick) -> None:
        if tick.observation is None or tick.sampled is None:
            self._ticks.clear()  # a gap: what lies before it does not lead to what comes after
        else:
            self._ticks.append(tick)

    @property
    def full(self) -> bool:
        return len(self._ticks) == self._ticks.maxlen

    def episode(self) -> Episode:
        ticks = list(self._ticks)
        observation: NDArray[np.float32] = np.stack([tick.observation for tick in ticks])  # type: ignore[misc]
        action: NDArray[np.float32] = np.stack([tick.sampled for tick in ticks])  # type: ignore[misc]
        reward = np.array([tick.reward for tick in ticks], np.float32)
        return Episode(observation, action, reward, np.array([tick.altered for tick in ticks]))


def work(
    device: Device,
    driver: Driver,
    seconds: float,
    plan: Plan | None = None,
    *,
    reaction: Reaction = Reaction(),  # noqa: B008 (frozen)
    priority: int | None = None,
    report: Report = lambda event: None,
    watch: Watch = lambda tick: None,
    stop: Callable[[], bool] = lambda: False,
) -> Session:
    """Let the policy act for `seconds`, by its mean, adapting as `plan` says (None: not at all).

    A trial whose probation the guard has to step into is rolled back, and the next adaptation waits twice as long,
    PATIENCE times at most. priority: 1 to 99, of real-time scheduling. stop: asked before every tick. Raises ValueError
    for a bundle that cannot adapt from plain motion, before anything moves, and if the guard lets the robot go limp.
    """
    manifest, hz = device.manifest, device.interface.control_hz
    if plan is not None and manifest.objective != "prediction":
        raise ValueError(
            f"the bundle adapts by {manifest.objective or 'no objective'}, expected 'prediction': only that needs "
            "nothing but motion; run it with attempts instead, or without adapting"
        )
    guard = Guard(driver, device.interface, manifest.limits, reaction)
    with closing(guard), undisturbed(priority) as had:
        if priority is not None:
            report(Event("scheduled", 0, had))
        session = Session(device, guard, report, watch)
        adapting = Adapting(device, plan.steps) if plan else None
        try:
            _work(session, round(seconds * hz), plan, adapting, stop)
        finally:
            if adapting:
                adapting.close()
    return session


def _work(session: Session, ticks: int, plan: Plan | None, adapting: Adapting | None, stop: Callable[[], bool]) -> None:
    device, hz = session.device, session.device.interface.control_hz
    window = _Window(max(8, round((plan.window if plan else 1.0) * hz)))
    wait, due, settled = (plan.every if plan else math.inf), 0, 0
    session.guard.begin_attempt()
    device.begin_trial()
    session.loop.begin()
    for index in range(ticks):
        if stop():
            return
        tick = session.loop.tick()
        window.add(tick)
        if tick.state == RELAX:
            raise ValueError(f"the guard let the robot go limp: {', '.join(tick.limits)} {session.guard.fault}".strip())
        if plan is None or adapting is None:
            continue
        if session.slots.trial is not None and tick.altered:
            session.abandon(f"the guard stepped in: {', '.join(tick.limits)}")
            wait = min(2 * wait, PATIENCE * plan.every)
        elif session.slots.trial is not None and index >= settled:
            session.slots.promote()
            session.loop.slot = session.slots.name
            session.report(Event("promoted", index, f"{index / hz:.2f} s: kept, the guard never stepped in"))
        found = adapting.poll()
        if found is not None:
            accepted = found.verdict.accepted
            figures = {**found.verdict.figures, "accepted": float(accepted), "seconds": found.seconds}
            said = "accepted" if accepted else "refused"
            line = f"{index / hz:.2f} s: {said} after {1e3 * found.seconds:.1f} ms ({found.verdict.reason})"
            session.report(Event("adapted", index, line, figures))
            wait = plan.every if accepted else min(2 * wait, PATIENCE * plan.every)
            due = index + round(wait * hz)
            if accepted:
                session.try_out(found.theta)
                settled = index + round(plan.probation * hz)
        # One trial at a time: the next window is offered when this one has proved itself, or has not.
        if adapting.idle and session.slots.trial is None and index >= due and window.full:
            adapting.offer(window.episode())
