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
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.device import slots
from export.device.collect import Episode, batch
from export.device.device import Device
from export.device.driver import Driver
from export.device.guard import RELAX, Guard, Reaction
from export.device.loop import Tick, Watch, undisturbed
from export.device.plan import Plan
from export.device.policy import Vector
from export.device.session import Event, Report, Session
from export.device.slots import Verdict

LATER = 0.25  # the share of a window, its newest, that judges what the rest has taught
LEAST = 8  # ticks of a window
FRESH = 0.02  # how much worse the newest may foresee than what is in force: that much is noise, and it knows more
PATIENCE = 8  # times the interval, the longest wait after refusals


class Beside:
    """A thread that does one job at a time. `offer` one when it is `idle`; `poll` tells what came of it."""

    def __init__(self) -> None:
        self._job: tuple[Callable[[], Any], Callable[[Any, float], None]] | None = None
        self._done: tuple[Any, float] | None = None
        self._wake, self._finished, self._stopped, self.idle = threading.Event(), threading.Event(), False, True
        self._thread = threading.Thread(target=self._run, name="adapting", daemon=True)
        self._thread.start()

    def offer(self, job: Callable[[], Any], then: Callable[[Any, float], None]) -> None:
        """Do `job`; then(result or the exception raised, seconds it took) is called by `poll`."""
        self._job, self.idle = (job, then), False
        self._finished.clear()
        self._wake.set()

    def wait(self) -> None:
        """Until what was offered is done."""
        self._finished.wait()

    def poll(self) -> None:
        done = self._done
        if done is not None:  # the thread stores one for each job, and gets the next only when it is idle
            assert self._job is not None
            self._done, self.idle = None, True
            self._job[1](*done)

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
            assert self._job is not None
            start = time.monotonic()
            try:
                result = self._job[0]()
            except Exception as error:  # the loop must go on, whatever a window holds
                result = error
            self._done = result, time.monotonic() - start
            self._finished.set()


def adapted(device: Device, window: Episode, steps: int) -> tuple[Vector, Verdict]:
    """Steps from base on a window, once steps on its older part have foreseen the newer one; within the bounds."""
    manifest = device.manifest
    assert device.adapter is not None
    assert manifest.bounds is not None
    cut = len(window.action) - max(2, int(LATER * len(window.action)))
    parts = [
        Episode(window.observation[part], window.action[part], window.reward[part], window.altered[part])
        for part in (slice(None, cut), slice(cut, None))
    ]
    older, newer, whole = (batch([part], manifest.batch) for part in (*parts, window))
    tried, theta = (_stepped(device, data, steps) for data in (older, whole))
    if tried is None or theta is None:
        return device.base, Verdict(False, "loss, gradient or theta is not finite")
    before, after = (device.adapter.step(which, 0, newer).loss for which in (device.base, tried))
    recent = slots.thinned(window.observation, slots.RECENT)
    verdict = slots.within(manifest.bounds, device.base, theta, lambda each: device.probe(each, recent))
    if not verdict.accepted:
        return device.base, verdict
    judged = slots.lower("later_loss", before, after)
    return theta, Verdict(judged.accepted, judged.reason, {**verdict.figures, **judged.figures})


def _stepped(device: Device, data: Mapping[str, NDArray[Any]], steps: int) -> Vector | None:
    """Steps from base; None where one is not finite."""
    assert device.adapter is not None
    theta = device.base
    for step in range(steps):
        taken = device.adapter.step(theta, step, data)
        if not taken.finite:
            return None
        theta = taken.theta
    return theta


class _Window:
    """The latest ticks, as one episode."""

    def __init__(self, ticks: int) -> None:
        self.size = ticks
        self._ticks: deque[Tick] = deque(maxlen=ticks)

    def add(self, tick: Tick) -> None:
        if tick.observation is None or tick.sampled is None:
            self._ticks.clear()  # a gap: what lies before it does not lead to what comes after
        else:
            self._ticks.append(tick)

    def __len__(self) -> int:
        return len(self._ticks)

    @property
    def full(self) -> bool:
        return len(self) == self.size

    def episode(self) -> Episode:
        ticks = list(self._ticks)
        observation: NDArray[np.float32] = np.stack([tick.observation for tick in ticks])  # type: ignore[misc]
        action: NDArray[np.float32] = np.stack([tick.sampled for tick in ticks])  # type: ignore[misc]
        reward = np.array([tick.reward for tick in ticks], np.float32)
        return Episode(observation, action, reward, np.array([tick.altered for tick in ticks]))


class _Adapting:
    """What is done about adapting between two ticks."""

    def __init__(self, session: Session, plan: Plan, beside: Beside) -> None:
        self._session, self._plan, self._beside = session, plan, beside
        self._hz = session.device.interface.control_hz
        self._window = _Window(max(LEAST, round(plan.window * self._hz)))
        self._least = min(self._window.size, max(LEAST, round(plan.start * self._hz)))
        self._wait, self._due, self._index, self._taken = plan.every, 0, 0, 0

    def __call__(self, tick: Tick, index: int) -> None:
        session, beside, self._index = self._session, self._beside, index
        self._window.add(tick)
        if session.slots.trial is not None:
            self._probation.add(tick)
            if tick.altered:
                self._conclude(Verdict(False, f"the guard stepped in: {', '.join(tick.limits)}"))
        beside.poll()
        # One trial at a time: the next window is offered when this one has proved itself, or has not.
        if not beside.idle:
            return
        good, trial = session.slots.good, session.slots.trial
        if trial is not None and self._probation.full:
            watched = self._probation.episode()
            self._offer(lambda: session.forecasts(good, trial, [watched], FRESH), partial(self._judged, trial))
        elif trial is None and index >= self._due and len(self._window) >= self._least:
            window, self._taken = self._window.episode(), index
            self._offer(lambda: adapted(session.device, window, self._plan.steps), self._found)

    def _offer(self, job: Callable[[], Any], then: Callable[[Any, float], None]) -> None:
        self._beside.offer(job, then)
        if not self._session.guard.spec.realtime:
            self._beside.wait()  # a simulation would be over before a thread has begun; its time stands still

    def _found(self, result: tuple[Vector, Verdict] | Exception, seconds: float) -> None:
        theta, verdict = (self._session.device.base, _failed(result)) if isinstance(result, Exception) else result
        figures = {**verdict.figures, "accepted": float(verdict.accepted), "seconds": seconds}
        said = "accepted" if verdict.accepted else "refused"
        line = f"{self._clock}: {said} after {1e3 * seconds:.1f} ms ({verdict.reason})"
        self._session.report(Event("adapted", self._index, line, figures))
        if verdict.accepted:
            self._session.try_out(theta)
            self._probation = _Window(max(2, round(self._plan.probation * self._hz)))
        else:
            self._settle(False)

    def _judged(self, trial: Vector, result: Verdict | Exception, seconds: float) -> None:
        if self._session.slots.trial is not trial:
            return  # the guard was quicker
        verdict = _failed(result) if isinstance(result, Exception) else result
        self._conclude(verdict)
        if verdict.accepted:
            self._offer(self._session.save, self._saved)

    def _saved(self, result: Exception | None, seconds: float) -> None:
        if result is not None:
            self._session.tell_unsaved(result, self._index)

    def _conclude(self, verdict: Verdict) -> None:
        self._session.conclude(verdict, f"{self._clock}: trial", self._index)
        self._settle(verdict.accepted)

    def _settle(self, accepted: bool) -> None:
        self._wait = self._plan.every if accepted else min(2 * self._wait, PATIENCE * self._plan.every)
        self._due = self._taken + round(self._wait * self._hz)

    @property
    def _clock(self) -> str:
        return f"{self._index / self._hz:.2f} s"


def _failed(error: Exception) -> Verdict:
    return Verdict(False, f"{type(error).__name__}: {error}")


def work(
    device: Device,
    driver: Driver,
    seconds: float,
    plan: Plan | None = None,
    *,
    reaction: Reaction = Reaction(),  # noqa: B008 (frozen)
    state: Path | None = None,
    priority: int | None = None,
    report: Report = lambda event: None,
    watch: Watch = lambda tick: None,
    stop: Callable[[], bool] = lambda: False,
) -> Session:
    """Let the policy act for `seconds`, by its mean, adapting as `plan` says (None: not at all).

    A trial is kept if it foresees the motion of its own probation better than the bundle's parameters, and as well as
    those in force before it, within FRESH; and if the guard never steps in. After one that is refused or rolled back
    the next adaptation waits twice as long, PATIENCE times at most. state: file that keeps what proved itself, and
    where the session begins if it is there. priority: 1 to 99, of real-time scheduling. stop: asked before every tick.
    Raises ValueError for a bundle that cannot adapt from plain motion, or has a memory, and for seconds that are none,
    before anything moves; and if the guard lets the robot go limp.
    """
    manifest, hz = device.manifest, device.interface.control_hz
    if plan is not None and manifest.objective != "prediction":
        raise ValueError(
            f"the bundle adapts by {manifest.objective or 'no objective'}, expected 'prediction': only that needs "
            "nothing but motion; run it with attempts instead, or without adapting"
        )
    if manifest.memory:
        raise ValueError("the bundle's policy remembers attempts and what they paid: leave out the seconds to work for")
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds is {seconds}, expected a finite time above 0")
    guard = Guard(driver, device.interface, manifest.limits, reaction)
    with closing(guard), undisturbed(priority) as had, ExitStack() as stack:
        if priority is not None:
            report(Event("scheduled", 0, had))
        session = Session(device, guard, report, watch, state)
        stack.callback(session.abandon)  # a trial that is still on probation has not proved itself
        adapting = _Adapting(session, plan, stack.enter_context(closing(Beside()))) if plan else None
        guard.begin_attempt()
        device.begin_trial()
        session.loop.begin()
        for index in range(round(seconds * hz)):
            if stop():
                break
            tick = session.loop.tick()
            if tick.state == RELAX:
                raise ValueError(f"the guard let the robot go limp: {', '.join(tick.limits)} {guard.fault}".strip())
            if adapting:
                adapting(tick, index)
    return session
