"""What reaches a driver's `write`: cut where that is safe, refused where it is not, and never anything but finite."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_driver import LIMITS, TABLE

from export.device.driver import Applied, Sample, Spec, require
from export.device.guard import Guard, Reaction
from robots.actions import Command

FIELDS = {"joint_position": 2, "target": 2}
SPEC = Spec("toy", ("a", "b"), 50, FIELDS, realtime=False, restarts=True)
COMMAND = Command(np.array([0.01, -0.01]), np.zeros(2))


class Body:
    """A driver whose next reading can be set; it notes what it is told."""

    def __init__(self, spec: Spec = SPEC) -> None:
        self.spec, self.told, self.joints = spec, [], np.zeros(2)
        self.extra: Mapping[str, np.ndarray] = {}
        self.time, self.valid, self.fails = 0.0, True, set()

    def read(self) -> Sample:
        if "read" in self.fails:
            raise OSError("no answer")
        return Sample({"joint_position": self.joints, "target": np.zeros(2), **self.extra}, self.time, self.valid)

    def write(self, command: Command) -> Applied:
        if "write" in self.fails:
            raise OSError("bus is off")
        self._tell("write")
        self.joints = command.target + np.random.default_rng(len(self.told)).normal(0, 1e-4, 2)
        return Applied(command.target, command.grip)

    def hold(self) -> None:
        self._tell("hold")

    def relax(self) -> None:
        self._tell("relax")

    def begin_attempt(self) -> None:
        pass

    def close(self) -> None:
        self._tell("close")

    def _tell(self, what: str) -> None:
        self.told.append(what)
        self.time += 0.02


def guarded(body: Body, reaction: Reaction = Reaction(), limits=LIMITS) -> Guard:  # noqa: B008
    guard = Guard(body, TABLE, limits, reaction)
    guard.read()
    return guard


def tick(guard: Guard, command: Command | None = COMMAND):
    ruling = guard.write(command)
    guard.read()
    return ruling


def test_a_sound_command_passes_as_it_is():
    body = Body()
    ruling = tick(guarded(body))
    assert ruling.limits == ()
    assert not ruling.altered
    np.testing.assert_array_equal(ruling.applied.target, COMMAND.target)
    assert body.told == ["write"]


def test_starting_moves_nothing():
    body = Body()
    guard = guarded(body)
    guard.begin_attempt()
    guard.read()
    assert body.told == []
    guard.close()
    assert body.told == ["close"]


def test_targets_are_cut_to_range_and_rate():
    body = Body()
    body.joints = np.array([0.95, 0.0])
    ruling = tick(guarded(body), Command(np.array([1.04, 3.0]), np.zeros(2)))
    assert ruling.limits == ("range", "rate")
    np.testing.assert_allclose(ruling.applied.target, [1.0, 0.12])  # 6 rad/s in 20 ms


def test_the_rate_counts_from_the_last_target():
    body = Body()
    guard = guarded(body)
    for expected in (0.12, 0.24, 0.36):
        ruling = tick(guard, Command(np.array([0.9, 0.0]), np.zeros(2)))
        assert ruling.applied.target[0] == pytest.approx(expected)
        assert ruling.limits == ("rate",)


@given(
    st.lists(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=2, max_size=2), max_size=12),
    st.floats(allow_nan=True, allow_infinity=True),
)
@settings(max_examples=200, deadline=None)
def test_nothing_but_finite_targets_within_range_and_rate_is_written(targets, grip):
    body, written = Body(), []
    body.write = lambda command: written.append(command.target) or Body.write(body, command)
    guard = guarded(body)
    for target in targets:
        tick(guard, Command(np.array(target), np.zeros(2), grip))
    path = np.array([np.zeros(2), *written])
    assert np.isfinite(path).all()
    assert (np.abs(path) <= 1.0).all()
    assert (np.abs(np.diff(path, axis=0)) <= 6.0 / 50 + 1e-3).all()


def faulty(body: Body, guard: Guard, fault: str) -> None:
    """Break the next reading."""
    if fault == "stale":
        guard.write(COMMAND)
        body.time -= 0.02
    elif fault == "invalid":
        body.valid = False
    elif fault == "back":
        body.time -= 1.0
    elif fault == "forward":
        body.time += 1.0
    elif fault == "clock":
        body.time = math.nan
    elif fault == "nan":
        body.joints = np.array([math.nan, 0.0])
    elif fault == "missing":
        body.extra = {"joint_position": np.zeros(3)}
    elif fault == "other":
        body.extra = {"target": np.array([math.inf, 0.0])}
    elif fault == "range":
        body.joints = np.array([1.6, 0.0])
    elif fault == "wild":
        body.extra = {"target": np.array([5.1, 0.0])}
    elif fault == "jump":
        body.joints = body.joints + np.array([0.45, 0.0])
    elif fault == "driver":
        body.fails.add("read")


SAID = {
    "stale": "stale", "invalid": "stale", "back": "clock", "forward": "clock", "clock": "clock", "nan": "finite",
    "missing": "finite", "other": "finite", "range": "range", "wild": "range", "jump": "jump", "driver": "driver",
}  # fmt: skip


@pytest.mark.parametrize("fault", SAID)
def test_a_fault_is_refused_in_the_same_tick_and_recovered_from(fault):
    body = Body()
    guard = guarded(body)
    for _ in range(3):
        tick(guard)
    before = body.joints, body.time + 0.02
    faulty(body, guard, fault)
    guard.read()
    ruling = guard.write(COMMAND)
    assert (ruling.limits, ruling.state, ruling.applied) == ((SAID[fault],), "hold", None)
    assert body.told[-1] == "hold"
    body.joints, body.valid, body.extra, body.fails = before[0], True, {}, set()
    body.time = before[1] + 0.02
    states = []
    for _ in range(20):
        guard.read()
        states.append(guard.write(COMMAND).state)
    assert states.index("free") in (11, 12)  # 0.2 s of sound ticks


def test_readings_that_do_not_change_while_targets_do_are_refused():
    body = Body()
    guard = guarded(body)
    tick(guard)
    stuck, said = body.joints.copy(), []
    for step in range(40):
        body.joints = stuck
        guard.read()
        said.append(guard.write(Command(np.array([0.001 * step, 0.0]), np.zeros(2))).limits)
    assert said.index(("frozen",)) in (25, 26)  # 0.5 s
    assert set(said[:25]) == {()}


def test_a_policy_that_says_nothing_sound_is_refused():
    for command in (None, Command(np.array([math.nan, 0]), np.zeros(2)), Command(np.zeros(2), np.zeros(2), grip=2.0)):
        body = Body()
        assert tick(guarded(body), command).limits == ("policy",)
        assert body.told == ["hold"]


def test_refusals_lead_from_hold_to_the_nominal_pose_to_limp():
    body = Body()
    guard = guarded(body, Reaction(hold=0.1, nominal=0.2, pace=0.5))
    body.joints = np.array([0.5, 0.0])
    guard.release()
    guard.read()
    rulings = [tick(guard, None) for _ in range(20)]
    states = [ruling.state for ruling in rulings]
    counts = [states.count(state) for state in ("hold", "nominal", "relax")]
    assert states == ["hold"] * counts[0] + ["nominal"] * counts[1] + ["relax"] * counts[2]
    assert counts == pytest.approx([5, 10, 5], abs=1)
    path = [ruling.applied.target[0] for ruling in rulings if ruling.state == "nominal"]
    np.testing.assert_allclose(path, np.maximum(0.5 - 0.06 * np.arange(1, len(path) + 1), 0), atol=1e-3)
    assert tick(guard).state == "relax"  # sound commands do not wake it
    guard.release()
    guard.read()
    assert tick(guard).state == "free"


def test_without_sound_readings_it_does_not_move_to_the_nominal_pose():
    body = Body()
    guard = guarded(body, Reaction(hold=0.1, nominal=0.2))
    tick(guard)
    body.fails.add("read")
    guard.read()
    states = [tick(guard).state for _ in range(20)]
    assert set(states[:5]) == {"hold"}
    assert states[-1] == "relax"
    assert body.told.count("write") == 1


def test_a_driver_that_fails_to_write_is_a_fault_not_a_crash():
    body = Body()
    guard = guarded(body)
    body.fails.add("write")
    ruling = guard.write(COMMAND)
    assert (ruling.limits, ruling.state) == (("driver",), "hold")
    assert guard.fault == "OSError: bus is off"


def walker() -> tuple[Body, Guard]:
    body = Body(replace(SPEC, fields={**FIELDS, "gravity": 3, "joint_velocity": 2}))
    body.extra = {"gravity": np.array([0.0, 0.0, -1.0]), "joint_velocity": np.zeros(2)}
    limits = replace(LIMITS, tilt=1.0, power=5.0, stiffness=100.0, damping=0.0)
    return body, guarded(body, limits=limits)


def test_a_walker_that_lies_over_is_refused():
    body, guard = walker()
    assert tick(guard).limits == ()
    body.extra = {**body.extra, "gravity": np.array([math.sin(1.1), 0.0, -math.cos(1.1)])}
    guard.read()
    assert guard.write(COMMAND).limits == ("tilt",)


def test_power_is_bounded():
    body, guard = walker()
    body.extra = {**body.extra, "joint_velocity": np.array([4.0, 4.0])}
    guard.read()
    assert guard.write(Command(np.array([0.1, 0.1]), np.zeros(2))).limits == ("power",)


def test_another_robot_is_refused_naming_both_values():
    for changes, message in (
        ({"robot": "other"}, "robot is 'other', expected 'toy'"),
        ({"joints": ("b", "a")}, r"joints is \('b', 'a'\), expected \('a', 'b'\)"),
        ({"control_hz": 100}, "control rate .Hz. is 100, expected 50"),
        ({"fields": {"joint_position": 2}}, "size of the field 'target' is None, expected 2"),
        ({"fields": {"joint_position": 2, "target": 3}}, "size of the field 'target' is 3, expected 2"),
    ):
        with pytest.raises(ValueError, match=message):
            require(replace(SPEC, **changes), TABLE)


def test_what_went_limp_is_not_stiffened_by_the_watchdog():
    body = Body(replace(SPEC, realtime=True))
    guard = guarded(body, Reaction(hold=0.0), replace(LIMITS, deadman=0.03))
    tick(guard)
    tick(guard, None)
    assert guard.state == "relax"
    told = len(body.told)
    time.sleep(0.2)
    guard.close()
    assert body.told[told:] == ["close"]


def test_a_pause_between_attempts_is_no_offence():
    body = Body(replace(SPEC, realtime=True, restarts=False))
    guard = guarded(body, limits=replace(LIMITS, deadman=0.05))
    tick(guard)
    time.sleep(0.1)
    guard.begin_attempt()
    guard.read()
    assert tick(guard).limits == ()
    time.sleep(0.1)
    assert tick(guard).limits == ("deadman",)
    guard.close()


def test_a_loop_that_falls_silent_is_held_by_the_watchdog_and_refused_when_it_returns():
    body = Body(replace(SPEC, realtime=True))
    body.read = lambda: Sample({"joint_position": body.joints, "target": np.zeros(2)}, time.monotonic())
    guard = guarded(body)
    assert tick(guard).state == "free"
    time.sleep(0.3)
    assert "hold" in body.told
    ruling = tick(guard)
    assert "deadman" in ruling.limits
    guard.close()


@pytest.mark.parametrize("changes", [{"hold": -1.0}, {"nominal": math.nan}, {"pace": 0.0}, {"pace": 2.0}])
def test_a_reaction_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="reaction is"):
        Reaction(**changes)
