"""The table between policy and body: observations, commands, labels, and the way through JSON."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robots.interface import LIMIT, ActionTerm, Interface, ObservationTerm

TABLE = Interface(
    robot="toy",
    joints=("a", "b"),
    control_hz=20,
    observation=(
        ObservationTerm("joint_position", "rad", "encoder", (1.0, -1.0), (0.5, 2.0)),
        ObservationTerm("target", "m", "base", (0.0, 0.0, 0.5), (0.1, 0.1, 0.1)),
    ),
    action=ActionTerm("joint_increment", "rad", (0.1, 0.2), (-2.0, -1.0), (2.0, 1.0), lead=0.3),
)
LOWER, UPPER, STEP = np.array([-2.0, -1.0]), np.array([2.0, 1.0]), np.array([0.1, 0.2])


def vector(low: float, high: float, *shape: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, shape or (2,), elements=st.floats(low, high))


def sample(**changes: object) -> dict:
    return {"joint_position": np.array([1.5, 1.0]), "target": np.array([0.1, 0.0, 0.4]), **changes}


def test_observe_offsets_scales_and_orders():
    assert TABLE.observation_size == 5
    assert TABLE.action_size == 2
    seen = TABLE.observe({"extra": np.zeros(9), **sample()})
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, [1, 1, 1, 0, -1], atol=1e-6)


def test_observe_keeps_leading_axes():
    base = sample()
    many = {name: np.broadcast_to(value, (4, 3, *value.shape)) for name, value in base.items()}
    assert TABLE.observe(many).shape == (4, 3, 5)
    np.testing.assert_array_equal(TABLE.observe(many)[2, 1], TABLE.observe(base))


@given(vector(-1e9, 1e9), vector(-1e9, 1e9, 3))
def test_observe_is_finite_and_bounded(position: np.ndarray, target: np.ndarray):
    assert (np.abs(TABLE.observe(sample(joint_position=position, target=target))) <= LIMIT).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target": np.zeros(2)}, r"'target' has shape \(2,\), expected \[..., 3\] in m"),
        ({"target": 1.0}, r"'target' has shape \(\)"),
        ({"target": np.array([0, np.nan, 0])}, r"\['target'\] hold NaN"),
        ({"joint_position": np.array([np.inf, 0])}, r"\['joint_position'\] hold NaN or infinity"),
    ],
)
def test_observe_refuses(changes: dict, says: str):
    with pytest.raises(ValueError, match=says):
        TABLE.observe(sample(**changes))


def test_observe_names_the_missing_field():
    with pytest.raises(ValueError, match=r"no 'target'.*\['joint_position'\].*expected"):
        TABLE.observe({"joint_position": np.zeros(2)})


@given(vector(-9, 9), vector(-3, 3), vector(-3, 3))
def test_a_command_keeps_limits_lead_and_step(action: np.ndarray, previous: np.ndarray, reading: np.ndarray):
    command = TABLE.command(action, previous, reading)
    assert ((command >= LOWER) & (command <= UPPER)).all()
    inside = (reading >= LOWER) & (reading <= UPPER)
    assert (np.abs(command - reading)[inside] <= 0.3 + 1e-12).all()
    free = inside & (previous >= LOWER) & (previous <= UPPER) & (np.abs(previous - reading) <= 0.3)
    assert (np.abs(command - previous)[free] <= STEP[free] + 1e-12).all()
    np.testing.assert_array_equal(command, TABLE.command(np.clip(action, -1, 1), previous, reading))


def test_a_command_moves_by_scale_times_action():
    np.testing.assert_allclose(TABLE.command(np.array([0.5, -1.0]), np.zeros(2), np.zeros(2)), [0.05, -0.2])


def test_a_blocked_arm_does_not_wind_up():
    command = np.zeros(2)
    for _ in range(50):
        command = TABLE.command(np.ones(2), command, np.zeros(2))
    np.testing.assert_allclose(command, [0.3, 0.3])


@pytest.mark.parametrize("action", [[np.nan, 0], [0, np.inf], [0], [0, 0, 0], [[0, 0]]])
def test_a_command_refuses(action: list):
    with pytest.raises(ValueError, match="expected 2 finite values"):
        TABLE.command(np.array(action), np.zeros(2), np.zeros(2))


@given(vector(-1, 1, 8, 2), vector(-0.2, 0.2))
def test_labels_recover_the_actions_of_a_motion(actions: np.ndarray, start: np.ndarray):
    readings = [start]
    for action in actions:
        readings.append(TABLE.command(action, readings[-1], readings[-1]))
    labels = TABLE.label(np.array(readings))
    assert labels.dtype == np.float32
    assert labels.shape == (8, 2)
    path = np.array(readings)
    free = ((path > LOWER) & (path < UPPER))[1:]
    np.testing.assert_allclose(labels[free], actions[free], atol=1e-5)


def test_labels_are_clipped_and_keep_leading_axes():
    readings = np.stack([np.zeros((3, 2)), np.arange(6.0).reshape(3, 2)])
    labels = TABLE.label(readings)
    assert labels.shape == (2, 2, 2)
    assert (labels[0] == 0).all()
    assert (labels[1] == 1).all()


def test_there_and_back_through_json():
    assert Interface.from_dict(json.loads(json.dumps(TABLE.to_dict()))) == TABLE


def changed(**changes: object) -> dict:
    return {**json.loads(json.dumps(TABLE.to_dict())), **changes}


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        (changed(colour="red"), TypeError, "colour"),
        ({name: value for name, value in changed().items() if name != "joints"}, TypeError, "joints"),
        ({name: value for name, value in changed().items() if name != "observation"}, TypeError, "observation"),
        (changed(joints=["a"]), ValueError, "scale has 2 values, expected one for each of the 1 joints"),
    ],
)
def test_from_dict_refuses(values: dict, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        Interface.from_dict(values)


def test_a_term_needs_as_many_offsets_as_scales():
    with pytest.raises(ValueError, match="'x': offset has 1 values and scale 2"):
        ObservationTerm("x", "m", "base", (0.0,), (1.0, 1.0))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_are_positive_and_finite(scale: float):
    with pytest.raises(ValueError, match=r"'x'.*positive"):
        ObservationTerm("x", "m", "base", (0.0,), (scale,))
    with pytest.raises(ValueError, match=r"'y'.*positive"):
        ActionTerm("y", "rad", (scale,), (-1.0,), (1.0,), lead=0.1)


@pytest.mark.parametrize(
    ("lower", "upper", "lead"),
    [
        (1.0, -1.0, 0.1),
        (float("nan"), 1.0, 0.1),
        (-1.0, float("nan"), 0.1),
        (-1.0, 1.0, 0.0),
        (-1.0, 1.0, float("nan")),
    ],
)
def test_limits_are_ordered_and_finite(lower: float, upper: float, lead: float):
    with pytest.raises(ValueError, match="'y'"):
        ActionTerm("y", "rad", (0.1,), (lower,), (upper,), lead=lead)


def test_fields_are_read_back_from_an_observation():
    observation = np.stack([TABLE.observe(sample())] * 3)
    np.testing.assert_allclose(TABLE.field("target", observation), [sample()["target"]] * 3, atol=1e-6)
    np.testing.assert_allclose(TABLE.field("joint_position", observation[0]), sample()["joint_position"], atol=1e-6)
    with pytest.raises(ValueError, match=r"no observation term 'colour'; found \['joint_position', 'target'\]"):
        TABLE.field("colour", observation)
