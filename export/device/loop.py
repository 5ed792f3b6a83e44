"""The control loop: one tick after another, at the control rate. Knows a device and a guard; no batch, no algorithm."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from export.device.device import Device
from export.device.driver import Sample
from export.device.guard import FREE, Guard
from export.device.policy import Vector
from robots.actions import Command
from robots.spec import Array

KEPT = 1 << 16  # ticks that statistics are made of; about twenty minutes at 50 Hz


@dataclass(frozen=True)
class Tick:
    """One control step, as recorders and views see it.

    time [s]: on the device's clock, when the step was decided. sample: what was read before it. observation float32:
    None where none could be made. sampled float32[n]: the policy's action, exploring or not; None where it had none.
    applied [n]: the same as the drives followed it, in [-1, 1]; target [n] (rad): what they were told; both None where
    they hold or are limp.
    limits, state: see `guard.Ruling`. mode: "act" or "collect". slot, digest: the parameters in force. reward: of this
    step, nan if not measured. late, work [s]: how much after its time the step began, and how long it took to decide.
    """

    index: int
    time: float
    sample: Sample
    observation: Vector | None
    sampled: Vector | None
    applied: Array | None
    target: Array | None
    limits: tuple[str, ...]
    state: str
    mode: str
    slot: str
    digest: str
    reward: float
    late: float
    work: float

    @property
    def altered(self) -> bool:
        """Whether the drives were told anything but what the policy asked."""
        return bool(self.limits) or self.target is None


Watch = Callable[[Tick], None]


class Noise(Protocol):
    """Exploration, in standard deviations of the policy."""

    def __call__(self) -> Vector: ...


@dataclass
class Timing:
    """How well the rate was kept. late, work [s]: of the last KEPT ticks. skipped: control steps missed, of `ticks`."""

    late: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    ticks: int = 0
    skipped: int = 0

    def add(self, late: float, work: float, skipped: int) -> None:
        if len(self.late) >= KEPT:
            del self.late[: KEPT // 2], self.work[: KEPT // 2]
        self.late.append(late)
        self.work.append(work)
        self.ticks += 1
        self.skipped += skipped

    def summary(self) -> dict[str, float]:
        """Shares and milliseconds: miss_rate; late_ms and work_ms at p50, p99 and the most."""
        found = {"ticks": float(self.ticks), "miss_rate": self.skipped / max(1, self.ticks + self.skipped)}
        for name in ("late", "work"):
            values = 1e3 * np.array(getattr(self, name) or [0.0])
            found |= {f"{name}_ms_p50": float(np.median(values)), f"{name}_ms_p99": float(np.quantile(values, 0.99))}
            found[f"{name}_ms_max"] = float(values.max())
        return found


class Pace:
    """The control steps of a clock at `hz` that starts with this object: absolute deadlines, never a burst."""

    def __init__(
        self, hz: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._period, self._clock, self._sleep = 1 / hz, clock, sleep
        self._start, self._step = clock(), 0

    def wait(self) -> int:
        """Sleep until the next step is due; how many steps were already past, and are skipped."""
        self._step += 1
        late = self._clock() - self._start - self._step * self._period
        missed = max(0, int(late / self._period))
        self._step += missed
        self._sleep(max(0.0, self._start + self._step * self._period - self._clock()))
        return missed

    @property
    def late(self) -> float:
        """Seconds since the step that is due was due."""
        return self._clock() - self._start - self._step * self._period


class Loop:
    """Reads, decides, writes and waits, tick by tick.

    watch: told of every tick, when the step is over; it must return soon. slot: the name of the parameters in force.
    feedback: for a policy with memory, what it hears before each step (`collect.feedback`); None for others.
    """

    def __init__(self, device: Device, guard: Guard, watch: Watch = lambda tick: None) -> None:
        self.device, self.guard, self.timing = device, guard, Timing()
        self.slot = "base"
        self._watch, self._index = watch, 0
        self._pace: Pace | None = None
        self._command: Command | None = None

    def begin(self) -> Sample:
        """Take up from where the robot is: the first reading, and the clock starts."""
        self._sample, self._command = self.guard.read(), None
        self._pace = Pace(self.device.interface.control_hz) if self.guard.spec.realtime else None
        return self._sample

    def tick(self, noise: Noise | None = None, feedback: Vector | None = None) -> Tick:
        """One control step, by the mean, or with noise. A policy that fails, or is not finite, is refused."""
        start = time.monotonic()
        late = self._pace.late if self._pace else 0.0
        sample, device = self._sample, self.device
        observation = action = command = None
        if sample.valid:
            try:
                interface = device.interface
                previous = self._command or interface.start(sample.values)
                observation = interface.observe(sample.values, previous)
                if noise is None:
                    action = device.act(observation, feedback)
                else:
                    action = device.sample(observation, noise(), feedback)
                command = interface.command(action, previous, sample.values)
            except Exception:  # data that no policy should see, an action that no drive should, a graph that fails
                command = None
        ruling = self.guard.write(command)
        # What was written is what the next command starts from.
        followed = command if ruling.applied is not None and ruling.state == FREE else None
        self._command = followed and followed._replace(target=ruling.applied.target)  # type: ignore[union-attr]
        work = time.monotonic() - start
        missed = self._pace.wait() if self._pace else 0
        self._sample = self.guard.read()
        self.timing.add(max(0.0, late), work, missed)
        tick = Tick(
            index=self._index,
            time=start,
            sample=sample,
            observation=observation,
            sampled=action,
            applied=followed and followed.action,
            target=None if ruling.applied is None else ruling.applied.target,
            limits=ruling.limits,
            state=ruling.state,
            mode="act" if noise is None else "collect",
            slot=self.slot,
            digest=device.digest,
            reward=self._sample.reward if self._sample.valid else math.nan,
            late=late,
            work=work,
        )
        self._index += 1
        self._watch(tick)
        return tick


@contextmanager
def undisturbed(priority: int | None = None) -> Iterator[str]:
    """No garbage collection meanwhile, and with `priority` (1 to 99) real-time scheduling; yields what was had.

    Threads that are started meanwhile, such as one that adapts, are scheduled as they were before: they must not keep
    the loop waiting. What lives already is frozen, so that collections afterwards do not walk through it.
    """
    was, had = gc.isenabled(), "ordinary scheduling"
    gc.collect()
    gc.freeze()
    gc.disable()
    before = None
    if priority is not None:
        try:
            before = os.sched_getscheduler(0), os.sched_getparam(0)
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
            had = f"real-time scheduling at priority {priority}"
        except (OSError, AttributeError) as error:
            before, had = None, f"ordinary scheduling, real-time refused ({error})"
    try:
        yield had
    finally:
        if before is not None:
            # Only root may take the flag off again, and nothing hangs on it.
            os.sched_setscheduler(0, before[0] | os.SCHED_RESET_ON_FORK, before[1])
        gc.unfreeze()
        if was:
            gc.enable()
