"""The only holder of a driver's `write`: what reaches the motors passes here. Knows no policy and no adaptation.

Every tick is judged in one order: freshness, finite, range, rate, posture and power, deadman. Targets out of range or
too fast are cut, and the tick says so; anything else is refused, and the robot holds, goes to its nominal pose, then
goes limp. Comparisons are written so that NaN fails them.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from export.device.driver import Applied, Driver, Sample, Spec, finite, require
from robots.actions import Command
from robots.interface import LIMIT, Interface
from robots.limits import NOISE, Limits
from robots.spec import Array

FREE, HOLD, NOMINAL, RELAX = "free", "hold", "nominal", "relax"


@dataclass(frozen=True)
class Reaction:
    """What follows a refusal, for as long as refusals go on.

    hold [s]: stay. nominal [s]: then move to the nominal pose, at `pace` of the rated speed, where readings are sound;
    0 for never. Then go limp, until `Guard.release`. recover [s]: of sound ticks, after which the policy acts again.
    """

    hold: float = 1.0
    nominal: float = 0.0
    pace: float = 0.1
    recover: float = 0.2

    def __post_init__(self) -> None:
        times = (self.hold, self.nominal, self.recover)
        if not all(0 <= value < math.inf for value in times) or not 0 < self.pace <= 1:
            raise ValueError(
                f"reaction is {self}, expected times in seconds from 0 up, and a pace in (0, 1] of the rated speed"
            )


class Ruling(NamedTuple):
    """What became of one tick.

    applied: what the drives were told; None where the robot holds or is limp. limits: names of those that cut or
    refused it. state: FREE, HOLD, NOMINAL or RELAX.
    """

    applied: Applied | None
    limits: tuple[str, ...]
    state: str

    @property
    def altered(self) -> bool:
        """Whether the drives were told anything but what was asked."""
        return bool(self.limits) or self.state != FREE


class Guard:
    """Stands between a loop and a driver; hand it the driver and keep no other reference.

    Reading and writing never raise: a driver that does is refused like any other fault, and `fault` says what it said.
    clock: seconds; of a driver that is not realtime, time is counted in control steps instead. Raises ValueError for a
    robot other than the interface's.
    """

    def __init__(
        self,
        driver: Driver,
        interface: Interface,
        limits: Limits,
        reaction: Reaction = Reaction(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        require(driver.spec, interface)
        self.spec: Spec = driver.spec
        self.limits, self.fault = limits, ""
        self._driver, self._interface, self._reaction = driver, interface, reaction
        self._nominal = np.array(limits.nominal)
        self._period, self._steps = 1 / interface.control_hz, 0
        self._clock = clock if driver.spec.realtime else lambda: self._steps * self._period
        self._low, self._high = np.array(limits.lower), np.array(limits.upper)
        self._rate, self._fast = np.array(limits.rate), np.array(limits.velocity)
        self._least, self._most = np.array(limits.reading_lower), np.array(limits.reading_upper)
        self._effort = np.array(limits.effort)
        self._scales = {term.name: (np.array(term.offset), np.array(term.scale)) for term in interface.observation}
        self._lock = threading.Lock()
        self.release()
        self._watchdog = _Watchdog(self) if driver.spec.realtime else None

    def release(self) -> None:
        """Forget all that was read and written, and let the policy act again, also after RELAX."""
        self.state = FREE
        self._sample = Sample({}, -math.inf, False)
        self._faults: tuple[str, ...] = ("stale",)
        self._target: Array | None = None
        self._refused_at = self._sound_since = self._wrote_at = self._moved_at = math.nan
        self._advanced_at = self._clock()
        self._still: Array | None = None
        self._still_since = math.nan

    def begin_attempt(self) -> None:
        """The robot back at a start, where it can be put there; elsewhere an attempt begins where the robot is.

        Raises what the driver raises: nothing has been asked of the policy yet.
        """
        if self.spec.restarts:
            with self._lock:
                self._driver.begin_attempt()
            self.release()
        else:  # the loop paused on purpose; what the watchdog did meanwhile stands
            self._wrote_at = self._clock()

    def guided(self) -> Mapping[str, Array]:
        """A motion led by hand."""
        with self._lock:
            found = self._driver.guided()
        self.release()
        return found

    def read(self) -> Sample:
        """The newest sample; not valid, with what was known before, if the driver failed."""
        try:
            with self._lock:
                sample = self._driver.read()
            found = Sample(sample.values, float(sample.time), bool(sample.valid))
        except Exception as error:  # whatever a driver may raise: its robot must still be stopped
            self.fault = f"{type(error).__name__}: {error}"
            found = Sample(self._sample.values, self._sample.time, False)
            self._faults = ("driver",)
            return found
        self._faults = self._judge(found)
        if not self._faults:
            self._sample = found
        return found

    def write(self, command: Command | None) -> Ruling:
        """Let a command through, as far as it is sound; None where the policy had nothing sound to say."""
        now = self._clock()
        refusals = list(self._faults)
        if command is None or not self._sound(command):
            refusals.append("policy")
        if now - self._wrote_at > self.limits.deadman:
            refusals.append("deadman")
        self._wrote_at = now
        self._steps += 1
        reading = self._sample.values.get("joint_position")
        if not refusals and self.state == FREE:
            assert command is not None
            assert reading is not None
            target, cuts = self._cut(np.asarray(command.target, np.float64), reading)
            if (power := self.limits.power) is not None and not self._power(target) <= power:
                refusals.append("power")
            else:
                return self._send(Command(target, command.action, command.grip, command.phase), cuts, FREE)
        return self._refuse(tuple(refusals), now)

    def close(self) -> None:
        """Stay where it is, and let go of the robot."""
        if self._watchdog is not None:
            self._watchdog.stop()
        try:
            if self._target is not None and self.state != RELAX:
                self._stop(HOLD)
        finally:
            self._driver.close()

    def _judge(self, sample: Sample) -> tuple[str, ...]:
        """What is wrong with a sample, given the last sound one and the time that has passed."""
        limits, now, before = self.limits, self._clock(), self._sample
        passed = now - self._advanced_at
        first = before.time == -math.inf
        if not sample.valid:
            return ("stale",)
        if not math.isfinite(sample.time):
            return ("clock",)
        if not first:
            ahead = sample.time - before.time
            if ahead < 0 or ahead > passed + limits.age:
                return ("clock",)
            if ahead == 0 and passed > (limits.age if self.spec.realtime else 0):
                return ("stale",)
        if not finite(sample.values, self._interface.fields):
            return ("finite",)
        reading = sample.values["joint_position"]
        if not ((self._least <= reading) & (reading <= self._most)).all():
            return ("range",)
        for name, (offset, scale) in self._scales.items():
            value = sample.values.get(name)
            if value is not None and not (np.abs(value - offset) <= LIMIT * scale).all():
                return ("range",)
        if not first:
            moved = np.abs(reading - before.values["joint_position"])
            if not (moved <= self._fast * (sample.time - before.time) + NOISE).all():
                return ("jump",)
        if self._frozen(reading, now):
            return ("frozen",)
        if limits.tilt is not None and not self._upright(sample.values):
            return ("tilt",)
        if first or sample.time > before.time:
            self._advanced_at = now
        return ()

    def _frozen(self, reading: Array, now: float) -> bool:
        """Whether readings have not changed by one bit while targets moved, for too long."""
        if self._still is None or not np.array_equal(reading, self._still):
            self._still, self._still_since = reading.copy(), now
        moving = self._moved_at > self._still_since
        return bool(self.limits.frozen and moving and now - self._still_since > self.limits.frozen)

    def _upright(self, values: Mapping[str, Array]) -> bool:
        gravity = values.get("gravity")
        if gravity is None:
            return True
        assert self.limits.tilt is not None
        return bool(-gravity[2] >= math.cos(self.limits.tilt) * math.sqrt(gravity.dot(gravity)))

    def _sound(self, command: Command) -> bool:
        grip = command.grip
        return bool(
            command.target.shape == self._low.shape
            and math.isfinite(command.target.dot(command.target))
            and (grip is None or 0.0 <= grip <= 1.0)
        )

    def _cut(self, target: Array, reading: Array) -> tuple[Array, tuple[str, ...]]:
        """The nearest target in range and within reach of the last one written, or of where the robot is."""
        cuts: tuple[str, ...] = ()
        inside = np.minimum(np.maximum(target, self._low), self._high)
        if not np.array_equal(inside, target):
            cuts += ("range",)
        start, most = reading if self._target is None else self._target, self._rate * self._period
        reached = np.minimum(np.maximum(inside, start - most), start + most)
        # Rounding in a policy that moves as fast as it may is no offence.
        if not (np.abs(reached - inside) <= 1e-9).all():
            cuts += ("rate",)
        # A start beyond the limits, by encoders' zeros that are off, comes back step by step.
        return np.minimum(np.maximum(reached, np.minimum(self._low, start)), np.maximum(self._high, start)), cuts

    def _power(self, target: Array) -> float:
        """Mechanical [W], of the drives' law at the last reading."""
        values, limits = self._sample.values, self.limits
        speed = values.get("joint_velocity")
        if speed is None:
            return 0.0
        torque = limits.stiffness * (target - values["joint_position"]) - limits.damping * speed
        torque = np.minimum(np.maximum(torque, -self._effort), self._effort)
        return float(np.abs(torque * speed).sum())

    def _send(self, command: Command, limits: tuple[str, ...], state: str) -> Ruling:
        try:
            with self._lock:
                applied = self._driver.write(command)
        except Exception as error:  # whatever a driver may raise
            self.fault = f"{type(error).__name__}: {error}"
            return self._refuse((*limits, "driver"), self._clock())
        if self._target is None or not np.array_equal(command.target, self._target):
            self._moved_at = self._clock()
        self._target, self.state = command.target, state
        return Ruling(applied, limits, state)

    def _refuse(self, limits: tuple[str, ...], now: float) -> Ruling:
        """The state that refusals have led to by now, and one tick of it; without new ones, recovery."""
        reaction = self._reaction
        if self.state == RELAX:
            self._stop(RELAX)
            return Ruling(None, limits, RELAX)
        if limits:
            self._sound_since = math.nan
            if self.state == FREE:
                self._refused_at = now
        elif math.isnan(self._sound_since):
            self._sound_since = now
        since = now - self._refused_at
        # Sound ticks stop the clock of what gets worse with time.
        if limits and since >= reaction.hold + reaction.nominal:
            self.state = RELAX
        elif limits and since >= reaction.hold and self._retreats(limits):
            return self._retreat(limits)
        elif not limits and now - self._sound_since >= reaction.recover:
            self.state, self._target = FREE, None  # it starts from where it is
            self._stop(HOLD)
            return Ruling(None, (), HOLD)
        else:
            self.state = HOLD
        self._stop(self.state)
        return Ruling(None, limits, self.state)

    def _retreats(self, limits: tuple[str, ...]) -> bool:
        """Whether the robot can be moved at all: with sound readings and a driver that answers."""
        return self._reaction.nominal > 0 and not self._faults and "driver" not in limits

    def _retreat(self, limits: tuple[str, ...]) -> Ruling:
        reading = self._sample.values["joint_position"]
        start = reading if self.state != NOMINAL or self._target is None else self._target
        most = self._reaction.pace * self._rate * self._period
        target = np.minimum(np.maximum(self._nominal, start - most), start + most)
        ruling = self._send(Command(target, np.zeros(self._interface.action_size)), (), NOMINAL)
        return Ruling(ruling.applied, (*limits, *ruling.limits), ruling.state)

    def _stop(self, state: str) -> None:
        """Hold or relax; what the driver says against it is noted, for there is nothing gentler left."""
        try:
            with self._lock:
                (self._driver.relax if state == RELAX else self._driver.hold)()
        except Exception as error:  # whatever a driver may raise
            self.fault = f"{type(error).__name__}: {error}"

    def _overdue(self) -> bool:
        """Whether the loop has fallen silent while the robot moves; one that went limp is not to be stiffened again."""
        moves = self._target is not None and self.state != RELAX
        return moves and self._clock() - self._wrote_at > self.limits.deadman


class _Watchdog:
    """Holds a robot whose loop has fallen silent, from a thread of its own: the loop may never come back."""

    def __init__(self, guard: Guard) -> None:
        self._guard, self._stopped = guard, threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._guard.limits.deadman / 4):
            if self._guard._overdue():
                self._guard._stop(HOLD)
