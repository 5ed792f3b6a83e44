"""Every fault in every phase of a session: nothing but finite targets within limits reaches the driver, and the fault
is answered in the very tick in which it shows. `pytest -s` prints the figures.
"""

import time
from collections import Counter

import numpy as np
import pytest
from toy_driver import LIMITS, Toy

from export.device import Device
from export.device.driver import Applied, Sample
from export.device.guard import FREE
from export.device.run import run
from robots.actions import Command

PHASES = ("act", "collect", "probation", "hold")
# The step that it begins in: behind an attempt's start, where the first reading has no other to be compared with.
WHEN = {"act": 4, "collect": 5 * 12 + 3, "probation": 5 * 12 + 6 * 10 + 4, "hold": 5}
LASTS = 6  # steps
SAID = {  # by which limits a fault may be answered; none: commands stay within limits all the same
    "dropout": {"stale"}, "frozen": {"stale"}, "nan": {"finite"}, "inf": {"finite"}, "spike": {"range", "jump"},
    "swapped": set(), "clock back": {"clock"}, "clock forward": {"clock"}, "stall 1 ms": set(), "stall 5 ms": set(),
    "stall 50 ms": set(), "read fails": {"driver"}, "write fails": {"driver"}, "lost": {"stale", "clock"},
    "repeated": {"stale"}, "reordered": {"clock", "stale"},
}  # fmt: skip


class Faulty(Toy):
    """A toy that breaks in the step `when`, for LASTS steps; it notes what it is told, and when the fault shows."""

    def __init__(self, fault: str, when: int, seed: int) -> None:
        super().__init__(seed, realtime=fault.startswith("stall") and when == WHEN["act"])
        self.kind, self.when, self.shown, self.seen = fault, when, list[int](), list[Sample]()
        self.noise = np.random.default_rng(seed)

    @property
    def broken(self) -> bool:
        return self.when <= self.steps < self.when + LASTS

    def read(self) -> Sample:
        sample = super().read()
        joints = sample.values["joint_position"] + self.noise.normal(0, 1e-4, 2)
        sample = sample._replace(values=dict(sample.values) | {"joint_position": joints})
        self.seen.append(sample)
        if not self.broken:
            return sample
        self.shown.append(self.steps)
        return self._break(sample)

    def _break(self, sample: Sample) -> Sample:
        joints = sample.values["joint_position"]

        def reading(value: np.ndarray) -> Sample:
            return sample._replace(values=dict(sample.values) | {"joint_position": value})

        kind = self.kind
        if kind == "read fails":
            raise OSError("no answer")
        if kind.startswith("stall"):
            time.sleep(float(kind.split()[1]) / 1000)
        old = self.seen[-1 - min(len(self.seen) - 1, 1 + self.steps - self.when)]
        older = self.seen[max(0, len(self.seen) - 4)]
        return {
            "dropout": sample._replace(valid=False),
            "frozen": old,
            "nan": reading(joints * np.nan),
            "inf": reading(joints + np.inf),
            "spike": reading(10 * joints + np.sign(joints) * 0.6),
            "swapped": reading(joints[::-1]),
            "clock back": sample._replace(time=sample.time - 5),
            "clock forward": sample._replace(time=sample.time + 5),
            "lost": old,
            "repeated": self.seen[max(0, len(self.seen) - 2)],
            "reordered": older,
        }.get(kind, sample)

    def write(self, command: Command) -> Applied:
        if self.kind == "write fails" and self.broken:
            self.shown.append(self.steps)
            self.steps += 1
            raise OSError("bus is off")
        return super().write(command)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("fault", SAID)
def test_no_fault_in_any_phase_lets_a_bad_command_through(fault, phase, bundles):
    driver, ticks, events = Faulty(fault, WHEN[phase], seed=1), [], []
    if phase == "hold":  # it meets a robot that is already being held
        first = Faulty.read

        def blind(self):
            sample = first(self)
            return sample._replace(valid=False) if 2 <= self.steps < 5 else sample

        driver.read = blind.__get__(driver)
    device = Device.load(bundles["reward"])
    base = device.base.copy()
    run(device, driver, steps=0 if driver.spec.realtime else 1, watch=ticks.append, report=events.append)
    path = np.array(driver.commands)
    limit = np.array(LIMITS.rate) / 50
    wild = int((~np.isfinite(path)).any(1).sum())
    outside = int((np.abs(path) > 1.0).any(1).sum())
    # From attempt to attempt the robot is put back, and targets start from there.
    leaps = int((np.abs(np.diff(path, axis=0)) > limit + 1e-9).any(1).sum())
    attempts = sum(episode.figures.get("attempts", 0) for episode in events) + 6
    altered = [tick for tick in ticks if tick.altered]
    late = [
        step for step in driver.shown if SAID[fault] and not any(tick.index == step and tick.altered for tick in ticks)
    ]
    said = Counter(name for tick in altered for name in tick.limits)
    print(f"\n{fault:14} {phase:10} shown {len(driver.shown):2} refused {len(altered):3} {dict(said)} late {len(late)}")
    assert driver.shown or phase == "hold"
    assert (wild, outside) == (0, 0)
    assert leaps <= attempts
    assert late == []
    if SAID[fault] and phase != "hold":
        assert set(said) & SAID[fault]
    assert ticks[-1].state == FREE  # it passed
    assert device.base.tobytes() == base.tobytes()
