"""Every kind of action: what it asks of the joints, what it never asks, and the way through JSON."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robots import kinematics
from robots.actions import (
    KINDS,
    Action,
    Command,
    GaitResidual,
    JointIncrement,
    JointTarget,
    ToolIncrement,
    from_dict,
    to_dict,
)
from robots.arms import PANDA
from robots.gait import Gait
from robots.legged import A1
from robots.spec import RobotSpec


def limits(spec: RobotSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(spec.lower.tolist()), tuple(spec.upper.tolist())


INCREMENT = JointIncrement((0.1, 0.2), (-2.0, -1.0), (2.0, 1.0), lead=0.3)
TARGET = JointTarget((0.5, -0.5), (0.1, 1.0), (-2.0, -1.0), (2.0, 1.0))
GAIT = GaitResidual(
    A1.nominal_pose, (0.3,) * 12, *limits(A1), Gait.trot(A1), 50, frequency=(1.0, 3.0), lift=(0.02, 0.1),
    stance=(0.4, 0.6),
)  # fmt: skip
TOOL = ToolIncrement(
    PANDA.joints, PANDA.tool, 0.02, (0.3, -0.3, 0.1), (0.7, 0.3, 0.6), *limits(PANDA), lead=0.3, step=0.1, grip=True
)
ACTIONS: dict[str, Action] = {
    "joint_increment": INCREMENT, "joint_target": TARGET, "gait": GAIT, "tool_increment": TOOL
}  # fmt: skip
AT = {"joint_increment": np.zeros(2), "joint_target": np.zeros(2), "gait": A1.nominal, "tool_increment": PANDA.nominal}
FORWARD = np.array([0.5, 0.0, 0.0])


def vector(low: float, high: float, *shape: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, shape or (2,), elements=st.floats(low, high))


def felt(reading: np.ndarray, velocity: np.ndarray = FORWARD) -> dict[str, np.ndarray]:
    return {"joint_position": reading, "velocity_command": velocity}


def ahead(action: Action, values: np.ndarray, reading: np.ndarray, steps: int = 1) -> list[Command]:
    """The commands of a constant action while the joints stay where they are, the start first."""
    commands = [action.start(reading)]
    for _ in range(steps):
        commands.append(action.command(values, commands[-1], felt(reading)))
    return commands


def test_every_kind_is_tested():
    assert set(ACTIONS) == set(KINDS)
    assert all(isinstance(action, KINDS[kind]) for kind, action in ACTIONS.items())


@pytest.mark.parametrize("kind", ACTIONS)
def test_there_and_back_through_json(kind: str):
    values = json.loads(json.dumps(to_dict(ACTIONS[kind]), allow_nan=False))
    assert values["kind"] == kind
    assert from_dict(values) == ACTIONS[kind]


@pytest.mark.parametrize("kind", ACTIONS)
def test_the_start_is_to_stay(kind: str):
    action, reading = ACTIONS[kind], AT[kind] + 0.01
    start = action.start(reading)
    np.testing.assert_array_equal(start.target, reading)
    np.testing.assert_array_equal(start.action, np.zeros(action.size))
    assert (start.grip, start.phase) == (0.0 if kind == "tool_increment" else None, 0.0)


@pytest.mark.parametrize("kind", ACTIONS)
@given(data=st.data())
def test_commands_keep_the_limits(kind: str, data: st.DataObject):
    action, at = ACTIONS[kind], AT[kind]
    values = data.draw(vector(-1, 1, action.size))
    reading, previous = at + data.draw(vector(-3, 3, len(at))), at + data.draw(vector(-3, 3, len(at)))
    phase = data.draw(st.floats(0, 1, exclude_max=True))
    command = action.command(values, Command(previous, np.zeros(action.size), phase=phase), felt(reading))
    assert ((command.target >= action.lower) & (command.target <= action.upper)).all()
    assert 0 <= command.phase < 1
    moves = 3 if kind == "tool_increment" else action.size  # the last of its elements says open or closed
    np.testing.assert_array_equal(command.action[:moves], values[:moves])


@given(vector(-1, 1), vector(-3, 3), vector(-3, 3))
def test_an_increment_keeps_lead_and_step(action: np.ndarray, previous: np.ndarray, reading: np.ndarray):
    lower, upper, step = np.array(INCREMENT.lower), np.array(INCREMENT.upper), np.array(INCREMENT.scale)
    target = INCREMENT.command(action, Command(previous, action), felt(reading)).target
    inside = (reading >= lower) & (reading <= upper)
    assert (np.abs(target - reading)[inside] <= 0.3 + 1e-12).all()
    free = inside & (previous >= lower) & (previous <= upper) & (np.abs(previous - reading) <= 0.3)
    assert (np.abs(target - previous)[free] <= step[free] + 1e-12).all()


def test_an_increment_moves_by_scale_times_action():
    np.testing.assert_allclose(ahead(INCREMENT, np.array([0.5, -1.0]), np.zeros(2))[1].target, [0.05, -0.2])


def test_a_blocked_arm_does_not_wind_up():
    np.testing.assert_allclose(ahead(INCREMENT, np.ones(2), np.zeros(2), 50)[-1].target, [0.3, 0.3])


@given(vector(-1, 1), vector(-3, 3), vector(-3, 3))
def test_a_target_lies_around_its_pose_wherever_the_joints_are(
    action: np.ndarray, previous: np.ndarray, reading: np.ndarray
):
    target = TARGET.command(action, Command(previous, action), felt(reading)).target
    np.testing.assert_array_equal(target, np.clip([0.5 + 0.1 * action[0], -0.5 + action[1]], -1.0, [2.0, 1.0]))


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1, exclude_max=True))
def test_the_last_elements_modulate_the_gait(a: float, b: float, c: float, phase: float):
    action = np.concatenate([np.linspace(-0.1, 0.1, 12), [a, b, c]])
    command = GAIT.command(action, Command(A1.nominal, action, phase=phase), felt(A1.nominal))
    frequency, lift, stance = 2 + a, 0.06 + 0.04 * b, 0.5 + 0.1 * c
    assert command.phase == pytest.approx((phase + frequency / 50) % 1.0)
    steps = GAIT.gait.steps(command.phase, FORWARD.tolist(), frequency, lift, stance)
    expected = A1.nominal + GAIT.gait.offsets(steps) + 0.3 * action[:12]
    np.testing.assert_allclose(command.target, np.clip(expected, A1.lower, A1.upper), atol=1e-9)


def test_a_gait_takes_plain_numbers_as_its_command():
    start, exact = GAIT.start(A1.nominal), np.array([1.0, 0.0, 0.0])
    given = GAIT.command(np.zeros(15), start, felt(A1.nominal, [1, 0, 0]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(given.target, GAIT.command(np.zeros(15), start, felt(A1.nominal, exact)).target)


def test_a_gait_goes_round_and_shows_its_phase():
    commands = ahead(GAIT, np.zeros(15), A1.nominal, 50)  # 2 Hz at 50 Hz
    assert commands[25].phase % 1 == pytest.approx(0, abs=1e-9)
    assert commands[12].phase == pytest.approx(0.48)
    for command in commands:
        angle = 2 * np.pi * command.phase
        np.testing.assert_allclose(command.memory()["gait_phase"], [np.sin(angle), np.cos(angle)])
    assert np.ptp([command.target for command in commands], axis=0).max() > 0.1


def test_nobody_walks_who_is_told_to_stand():
    command, targets = GAIT.start(A1.nominal), []
    for _ in range(50):
        command = GAIT.command(np.zeros(15), command, felt(A1.nominal, np.zeros(3)))
        targets.append(command.target)
    np.testing.assert_allclose(targets, np.tile(targets[0], (50, 1)), atol=1e-12)
    loads = np.array(GAIT.gait.load).ravel() / 4  # each leg carries its share
    np.testing.assert_allclose(targets[0], A1.nominal + GAIT.gait.offsets(loads.tolist()), atol=1e-12)


@given(vector(-1, 1, 3))
def test_the_tool_moves_by_scale_times_action_and_points_down(action: np.ndarray):
    start, _ = kinematics.forward(PANDA, PANDA.nominal)
    target = ahead(TOOL, np.array([*action, 0.0]), PANDA.nominal)[1].target
    place, pointing, _ = kinematics.pose(TOOL._chain, target)
    np.testing.assert_allclose(place - start, 0.02 * action, atol=0.002)  # by first order
    np.testing.assert_allclose(pointing, [0, 0, -1], atol=0.01)


@pytest.mark.parametrize(("axis", "sign"), [(0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)])
def test_the_tool_stays_in_its_box(axis: int, sign: int):
    action, command, reading = np.zeros(4), TOOL.start(PANDA.nominal), PANDA.nominal
    action[axis] = sign
    for _ in range(60):
        command = TOOL.command(action, command, felt(reading))
        reading = command.target  # an arm that follows at once
    place, pointing, _ = kinematics.pose(TOOL._chain, reading)
    assert place[axis] == pytest.approx((TOOL.high if sign > 0 else TOOL.low)[axis], abs=0.002)
    assert pointing[2] < -0.99


@given(vector(-1, 1, 4), vector(-0.4, 0.4, 7), vector(-0.4, 0.4, 7))
def test_the_tools_joints_keep_lead_and_step(action: np.ndarray, off: np.ndarray, further: np.ndarray):
    reading = np.clip(PANDA.nominal + off, PANDA.lower, PANDA.upper)
    previous = np.clip(reading + further, PANDA.lower, PANDA.upper)
    target = TOOL.command(action, Command(previous, action), felt(reading)).target
    assert (np.abs(target - reading) <= TOOL.lead + 1e-12).all()
    free = np.abs(previous - reading) <= TOOL.lead
    assert (np.abs(target - previous)[free] <= TOOL.step + 1e-12).all()


@pytest.mark.parametrize("before", [0.0, 1.0])
@pytest.mark.parametrize(("last", "grip"), [(1.0, 1.0), (0.51, 1.0), (0.5, None), (-0.5, None), (-0.51, 0.0)])
def test_the_gripper_follows_the_last_element_or_stays(last: float, grip: float | None, before: float):
    previous = Command(PANDA.nominal, np.zeros(4), before)
    command = TOOL.command(np.array([0, 0, 0, last]), previous, felt(PANDA.nominal))
    assert command.grip == (before if grip is None else grip)
    assert command.action[3] == 2 * command.grip - 1


def test_there_may_be_no_gripper():
    bare = replace(TOOL, grip=False)
    assert (TOOL.size, bare.size) == (4, 3)
    assert ahead(bare, np.zeros(3), PANDA.nominal)[1].grip is None


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("joint_increment", "scale"),
        ("joint_increment", "lead"),
        ("joint_target", "scale"),
        ("gait", "scale"),
        ("gait", "frequency"),
        ("gait", "stance"),
        ("gait", "control_hz"),
        ("tool_increment", "scale"),
        ("tool_increment", "lead"),
        ("tool_increment", "step"),
    ],
)
def test_scales_are_positive_and_finite(kind: str, name: str, value: float):
    before = getattr(ACTIONS[kind], name)
    after: Any = (value, *before[1:]) if isinstance(before, tuple) else value
    with pytest.raises(ValueError, match=f"action '{kind}': {name} is .*, expected positive finite values"):
        replace(ACTIONS[kind], **{name: after})  # type: ignore[type-var]


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize(("name", "value"), [("lower", 9.0), ("lower", np.nan), ("upper", np.nan), ("upper", np.inf)])
def test_limits_are_ordered_and_finite(kind: str, name: str, value: float):
    limit = (value, *getattr(ACTIONS[kind], name)[1:])
    with pytest.raises(ValueError, match=f"action '{kind}': lower .* and upper .* must be finite and in order"):
        replace(ACTIONS[kind], **{name: limit})  # type: ignore[type-var]


def test_the_tools_box_is_ordered():
    with pytest.raises(ValueError, match=r"'tool_increment': lower .* and upper .* in order"):
        replace(TOOL, low=(0.8, 0, 0))


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("joint_increment", {"scale": (0.1,)}, "scale has 1 values, expected one for each of 2 joints"),
        ("joint_increment", {"lower": (0.1,)}, "lower .* and upper"),
        ("joint_target", {"nominal": (0.1,)}, "nominal has 1 values, expected one for each of 2 joints"),
        ("gait", {"nominal": (0.1,)}, "nominal has 1 values, expected one for each of 12 joints"),
        ("gait", {"gait": replace(GAIT.gait, gain=GAIT.gait.gain[1:])}, "gain has 11 values"),
        ("gait", {"gait": replace(GAIT.gait, phases=(0.0,))}, "phases and gain do not fit 4 feet"),
        ("gait", {"gait": replace(GAIT.gait, load=GAIT.gait.load[1:])}, "load .* expected x, y, z of each foot"),
        ("gait", {"gait": replace(GAIT.gait, load=((0.0, 0.0),) * 4)}, "load .* expected x, y, z of each foot"),
        ("gait", {"gait": replace(GAIT.gait, feet=((0.0, 0.0),) * 4)}, "feet .* expected x, y, z of each foot"),
        ("gait", {"stance": (0.5, 1.0)}, r"stance is \(0.5, 1.0\), expected shares of a cycle below 1"),
        ("gait", {"lift": (0.1, 0.0)}, "in order"),
        ("tool_increment", {"joints": PANDA.joints[1:]}, "joints has 6 values, expected one for each of 7 joints"),
    ],
)
def test_lengths_fit_the_joints(kind: str, change: dict, says: str):
    with pytest.raises(ValueError, match=f"action '{kind}': .*{says}"):
        replace(ACTIONS[kind], **change)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"kind": "magic"}, ValueError, r"action kind is 'magic', expected one of \['gait', 'joint_increment'"),
        ({}, ValueError, "action kind is None"),
        ({"kind": "joint_target"}, TypeError, "'nominal'"),
        ({**to_dict(INCREMENT), "colour": "red"}, TypeError, "'colour'"),
    ],
)
def test_from_dict_refuses(values: dict, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        from_dict(values)
