"""The table between policy and body: observations, commands, labels, and the way through JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robots.actions import Command, JointIncrement, JointTarget
from robots.interface import LIMIT, Interface, ObservationTerm

TABLE = Interface(
    robot="toy",
    joints=("a", "b"),
    control_hz=20,
    observation=(
        ObservationTerm("joint_position", "rad", "encoder", (1.0, -1.0), (0.5, 2.0)),
        ObservationTerm("target", "m", "base", (0.0, 0.0, 0.5), (0.1, 0.1, 0.1)),
    ),
    action=JointIncrement((0.1, 0.2), (-2.0, -1.0), (2.0, 1.0), lead=0.3),
)
LOWER, UPPER = np.array([-2.0, -1.0]), np.array([2.0, 1.0])
STILL = Command(np.zeros(2), np.zeros(2))


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


@pytest.mark.parametrize("kind", [np.int64, np.float32, bool, list])
def test_a_driver_may_give_plain_numbers(kind: type):
    plain = {"joint_position": [1, 0], "target": [0, 1, 1]}
    exact = {name: np.array(values, dtype=np.float64) for name, values in plain.items()}
    given = plain if kind is list else {name: np.array(values, dtype=kind) for name, values in plain.items()}
    np.testing.assert_array_equal(TABLE.observe(given), TABLE.observe(exact))
    action = np.array([1.0, -1.0])
    command, expected = (TABLE.command(action, TABLE.start(felt), felt) for felt in (given, exact))
    np.testing.assert_array_equal(command.target, expected.target)
    assert command.target.dtype == np.float64
    assert isinstance(plain["joint_position"], list)


def test_what_is_not_a_number_is_named():
    for odd in ([None, 0, 0], ["a", "b", "c"]):
        with pytest.raises(ValueError, match=r"\['target'\] hold what is not a number"):
            TABLE.observe(sample(target=odd))


def test_observe_names_the_missing_field():
    with pytest.raises(ValueError, match=r"no 'target'.*\['joint_position'\].*expected"):
        TABLE.observe({"joint_position": np.zeros(2)})


@given(vector(-9, 9), vector(-3, 3), vector(-3, 3))
def test_a_command_is_the_actions_within_its_limits(action: np.ndarray, previous: np.ndarray, reading: np.ndarray):
    before = Command(previous, np.zeros(2))
    command = TABLE.command(action, before, sample(joint_position=reading))
    expected = TABLE.action.command(np.clip(action, -1, 1), before, {"joint_position": reading})
    np.testing.assert_array_equal(command.target, expected.target)
    np.testing.assert_array_equal(command.action, np.clip(action, -1, 1))


def test_a_command_leaves_the_action_alone():
    action = np.array([5.0, -5.0])
    TABLE.command(action, STILL, sample())
    np.testing.assert_array_equal(action, [5.0, -5.0])


def test_the_first_command_is_to_stay():
    start = TABLE.start(sample())
    np.testing.assert_array_equal(start.target, [1.5, 1.0])
    np.testing.assert_array_equal(start.action, [0, 0])


@pytest.mark.parametrize("action", [[np.nan, 0], [0, np.inf], [0], [0, 0, 0], [[0, 0]]])
def test_a_command_refuses(action: list):
    with pytest.raises(ValueError, match="expected 2 finite values"):
        TABLE.command(np.array(action), STILL, sample())


@pytest.mark.parametrize("reading", [[np.nan, 0], [0, np.inf], [0], [0, 0, 0], [[0, 0]], None])
def test_encoders_that_make_no_sense_are_refused(reading: list | None):
    for call in (TABLE.start, lambda felt: TABLE.command(np.zeros(2), STILL, felt)):
        with pytest.raises(ValueError, match=r"joint_position is .*, expected 2 finite angles in rad; check the enc"):
            call(sample(joint_position=reading))


def test_a_policy_is_shown_its_own_past():
    terms = tuple(
        ObservationTerm(name, "1", "", (0.0, 0.0), (scale, scale))
        for name, scale in (("last_action", 1.0), ("gait_phase", 0.5))
    )
    table = replace(TABLE, observation=(*TABLE.observation, *terms))
    command = Command(np.zeros(2), np.array([0.5, -1.0]), phase=0.25)
    np.testing.assert_array_equal(table.observe(sample(), command)[:5], TABLE.observe(sample()))
    np.testing.assert_allclose(table.observe(sample(), command)[5:], [0.5, -1, 2, 0], atol=1e-6)
    with pytest.raises(ValueError, match="no 'last_action'"):
        table.observe(sample())


@given(vector(-1, 1, 8, 2), vector(-0.2, 0.2))
def test_labels_recover_the_actions_of_a_motion(actions: np.ndarray, start: np.ndarray):
    readings = [start]
    for action in actions:
        before = Command(readings[-1], action)
        readings.append(TABLE.command(action, before, sample(joint_position=readings[-1])).target)
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


def test_only_increments_can_be_read_off_a_motion():
    targets = replace(TABLE, action=JointTarget((0.0,) * 2, (0.1,) * 2, (-2.0, -1.0), (2.0, 1.0)))
    with pytest.raises(ValueError, match=r"actions are JointTarget, expected JointIncrement.*another objective"):
        targets.label(np.zeros((3, 2)))


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
        (changed(joints=["a"]), ValueError, "lower has 2 values, expected one for each of the 1 joints"),
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


def test_fields_are_read_back_from_an_observation():
    observation = np.stack([TABLE.observe(sample())] * 3)
    np.testing.assert_allclose(TABLE.field("target", observation), [sample()["target"]] * 3, atol=1e-6)
    np.testing.assert_allclose(TABLE.field("joint_position", observation[0]), sample()["joint_position"], atol=1e-6)
    with pytest.raises(ValueError, match=r"no observation term 'colour'; found \['joint_position', 'target'\]"):
        TABLE.field("colour", observation)
