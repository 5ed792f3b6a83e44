"""The control loop: absolute deadlines, overruns skipped, a policy that fails refused, nothing collected meanwhile."""

import gc
import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from toy_driver import Toy

from export.device import Device
from export.device.adapter import Field
from export.device.collect import Explorer, attempt, batch
from export.device.guard import Guard
from export.device.loop import KEPT, Loop, Pace, Tick, Timing, undisturbed
from export.device.manifest import Collect


class Clock:
    """Time that passes only in sleep, or when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_steps_begin_at_absolute_deadlines_and_overruns_are_skipped():
    clock = Clock()
    pace = Pace(50, clock, clock.sleep)
    for step in range(1, 6):
        clock.now += 0.013  # work
        assert pace.wait() == 0
        assert clock.now == pytest.approx(0.02 * step)
    clock.now += 0.075  # 3.75 periods
    assert pace.wait() == 2
    assert clock.now == pytest.approx(0.175)  # the step of 0.16 begins late, those of 0.12 and 0.14 never
    assert pace.late == pytest.approx(0.015)
    assert pace.wait() == 0
    assert clock.now == pytest.approx(0.18)  # on the old schedule


def test_real_time_is_kept():
    pace, start = Pace(100), time.monotonic()
    skipped = sum(pace.wait() for _ in range(30))
    assert time.monotonic() - start == pytest.approx(0.01 * (30 + skipped), abs=0.02)


def test_timing_tells_misses_and_quantiles():
    timing = Timing()
    for late in np.linspace(0, 0.001, 101):
        timing.add(late, 0.002, 0)
    timing.add(0.05, 0.002, 3)
    found = timing.summary()
    assert found["miss_rate"] == pytest.approx(3 / 105)
    assert (found["late_ms_p50"], found["late_ms_max"]) == (pytest.approx(0.505, abs=0.01), pytest.approx(50))
    for _ in range(KEPT):
        timing.add(0.0, 0.0, 0)
    assert len(timing.late) <= KEPT
    assert timing.ticks == KEPT + 102


def test_nothing_is_collected_meanwhile():
    assert gc.isenabled()
    with undisturbed() as had:
        assert had == "ordinary scheduling"
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    with undisturbed(priority=10) as had:  # granted or refused, and said so
        assert "real-time" in had


@pytest.fixture
def device(bundle) -> Device:
    return Device.load(bundle)


def looped(device: Device, driver: Toy, watch=lambda tick: None) -> Loop:
    loop = Loop(device, Guard(driver, device.interface, device.manifest.limits), watch)
    loop.guard.begin_attempt()
    loop.begin()
    return loop


def test_what_runs_beside_a_real_time_loop_is_not_real_time():
    policies = []
    with undisturbed(priority=1) as had:
        if "refused" in had:
            pytest.skip(had)
        beside = threading.Thread(target=lambda: policies.append(os.sched_getscheduler(0)))
        beside.start()
        beside.join()
        policies.append(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)
    policies.append(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)
    assert policies == [os.SCHED_OTHER, os.SCHED_FIFO, os.SCHED_OTHER]


def test_a_tick_says_what_happened(device):
    ticks: list[Tick] = []
    driver = Toy()
    loop = looped(device, driver, ticks.append)
    loop.tick()
    loop.tick(lambda: np.array([9.0, -9.0], np.float32))
    first, second = ticks
    assert (first.index, first.mode, first.state, first.slot, first.limits) == (0, "act", "free", "base", ())
    np.testing.assert_array_equal(first.sampled, device.act(first.observation))
    np.testing.assert_array_equal(first.target, driver.commands[0])
    assert first.digest == device.digest
    assert first.reward == pytest.approx(-np.linalg.norm(driver.commands[0] - driver.target))
    assert second.mode == "collect"
    np.testing.assert_array_equal(second.applied, [1, -1])  # as drawn it was beyond
    assert np.abs(second.sampled).min() > 1


def test_a_policy_that_fails_is_refused_and_the_loop_goes_on(device):
    loop = looped(device, Toy())

    def fails(observation, feedback=None):
        raise ValueError("no")

    def wild(observation, feedback=None):
        return np.full(2, np.nan, np.float32)

    for act in (fails, wild):
        device.act = act
        tick = loop.tick()
        assert (tick.limits, tick.state, tick.target) == (("policy",), "hold", None)


def test_exploration_is_repeatable_correlated_and_capped():
    plan = Collect("attempts", 1, 10, correlation=0.8, cap=2.0)
    first, again = (Explorer(3, plan, np.random.default_rng(5)) for _ in range(2))
    path = np.array([first() for _ in range(20_000)])
    np.testing.assert_array_equal(path[:50], [again() for _ in range(50)])
    assert np.abs(path).max() == 2.0
    loose = Explorer(3, replace(plan, cap=9.0), np.random.default_rng(5))
    path = np.array([loose() for _ in range(20_000)])
    assert path.std() == pytest.approx(1, abs=0.03)
    assert np.corrcoef(path[1:, 0], path[:-1, 0])[0, 1] == pytest.approx(0.8, abs=0.03)


def test_what_the_guard_altered_is_masked(device):
    tight = replace(device.manifest.limits, rate=(4.0, 4.0))  # 0.08 rad a step where the policy asks for up to 0.1
    loop = Loop(device, Guard(Toy(), device.interface, tight))
    noise = Explorer(2, Collect("attempts", 1, 30, 0.0, 3.0), np.random.default_rng(0))
    made = attempt(loop, 30, noise)
    assert 0 < made.altered.sum() < 30
    assert made.trips >= 1
    data = batch([made], [Field("mask", ("episode", "time")), Field("reward", ("episode", "time"))])
    np.testing.assert_array_equal(data["mask"][0], ~made.altered)
    assert not data["reward"][0][made.altered].any()
