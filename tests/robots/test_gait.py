"""The trot: where feet go, how joints follow, and the way through JSON. No engine."""

import json
from dataclasses import replace
from math import pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots import kinematics
from robots.arms import PANDA
from robots.gait import Gait
from robots.legged import A1, LAIKAGO, MINI_CHEETAH, MINITAUR
from robots.spec import Chain, RobotSpec, Servo

QUADRUPEDS = (A1, LAIKAGO, MINI_CHEETAH, MINITAUR)
FEET = {"a1": (0, 0, -0.2), "laikago": (0, -0.25, -0.022), "mini_cheetah": (0, 0, -0.18)}  # in the last joint's frame
LOADED = Gait.trot(A1)
TROT = Gait.trot(replace(A1, mass=0.0))
speeds = st.tuples(st.floats(-0.5, 0.5), st.floats(-0.3, 0.3), st.floats(-0.5, 0.5))


def steps(phase: float, command: tuple = (0.4, 0, 0), gait: Gait = TROT, **changes: float) -> np.ndarray:
    """[legs, 3] (m)."""
    values = {"frequency": 2.0, "height": 0.06, "stance": 0.6, **changes}
    return np.reshape(gait.steps(phase, command, **values), (-1, 3))


@given(st.floats(-3, 3), speeds, st.floats(1, 4), st.floats(0.4, 0.8))
def test_a_standing_foot_moves_with_the_ground(phase: float, command: tuple, frequency: float, stance: float):
    small = 1e-5
    before, after = (
        steps(at, command, frequency=frequency, stance=stance) for at in (phase, phase + small * frequency)
    )
    forward, left, yaw = command
    for leg, (x, y, _) in enumerate(TROT.feet):
        now = (phase + TROT.phases[leg]) % 1
        if now < stance - 2 * small * frequency:
            ground = [-(forward - yaw * y), -(left + yaw * x), 0]  # as the base sees it
            np.testing.assert_allclose((after[leg] - before[leg]) / small, ground, atol=1e-6)


@given(st.floats(0, 1), speeds)
def test_feet_do_not_jump(phase: float, command: tuple):
    assert np.abs(steps(phase + 1e-6, command) - steps(phase, command)).max() < 1e-5


def test_feet_stand_at_zero_height_and_swing_up_to_the_height_asked_for():
    lifts = np.array([steps(phase)[:, 2] for phase in np.arange(0, 1, 1e-3)])
    np.testing.assert_allclose(lifts.max(axis=0), 0.06, atol=1e-5)
    assert (lifts >= 0).all()
    np.testing.assert_allclose((lifts == 0).mean(axis=0), 0.6, atol=2e-3)


def test_steps_are_centred_on_the_nominal_feet():
    reach = np.array([steps(phase) for phase in np.arange(0, 1, 1e-3)])[..., 0]
    np.testing.assert_allclose(reach.max(axis=0), 0.4 * 0.6 / 2 / 2, atol=1e-3)
    np.testing.assert_allclose(reach.min(axis=0), -0.4 * 0.6 / 2 / 2, atol=1e-3)


def test_diagonal_legs_move_together_and_the_pairs_half_a_cycle_apart():
    for phase in np.arange(0, 1, 0.05):
        right_front, left_front, right_rear, left_rear = steps(phase)
        np.testing.assert_allclose(right_front, left_rear, atol=1e-12)
        np.testing.assert_allclose(left_front, right_rear, atol=1e-12)
        np.testing.assert_allclose(right_front, steps(phase + 0.5)[1], atol=1e-12)


def test_turning_left_moves_right_feet_forward_of_left_ones():
    start = steps(0.6 - 1e-9, (0, 0, 0.5)) - steps(0.0, (0, 0, 0.5))  # over the stance of FR and RL
    assert start[0][0] < 0 < start[3][0]  # the ground under the right foot goes back
    assert start[0][1] < 0 < start[3][1]  # under the front foot to the right


def test_joints_put_the_feet_where_the_gait_wants_them():
    """To about 1 cm, for steps up to 6 cm: the gain is the nominal pose's."""
    for spec in (A1, LAIKAGO, MINI_CHEETAH):
        gait = Gait.trot(replace(spec, mass=0.0))
        for phase in np.arange(0, 1, 0.05):
            wanted = gait.steps(phase, (0.3, 0.1, 0.2), frequency=2.0, height=0.06, stance=0.6)
            angles = spec.nominal + gait.offsets(wanted)
            for leg, step in zip(spec.legs, np.reshape(wanted, (4, 3)), strict=True):
                chain = Chain(tuple(spec.joints[i] for i in leg.joints), FEET[spec.name])
                foot, _ = kinematics.forward(chain, angles[list(leg.joints)])
                assert np.linalg.norm(foot - leg.foot - step) < 0.012


@pytest.mark.parametrize("spec", QUADRUPEDS, ids=lambda spec: spec.name)
def test_load_is_what_the_drives_give_way(spec: RobotSpec):
    """A leg that carries the robot alone, its PD commanded to its pose plus load, has the foot in its nominal place."""
    mass = 10.0
    gait = Gait.trot(replace(spec, mass=mass))
    for leg, load in zip(spec.legs, gait.load, strict=True):
        gain = np.array(leg.gain)
        jacobian = np.linalg.pinv(gain)
        torque = jacobian.T @ (0, 0, -9.81 * mass)  # that holds the robot up
        np.testing.assert_allclose(spec.drive.stiffness * gain @ load, torque, atol=0.1)
    assert all(z < 0 for _, _, z in gait.load)


@given(st.floats(0, 1), st.floats(0.3, 0.8))
def test_standing_feet_share_the_weight(phase: float, stance: float):
    bare, loaded = (steps(phase, gait=one, stance=stance) for one in (TROT, LOADED))
    standing = np.array([(phase + offset) % 1 < stance for offset in LOADED.phases])
    expected = standing[:, None] * np.array(LOADED.load) / max(standing.sum(), 1)
    np.testing.assert_allclose(loaded - bare, expected, atol=1e-12)
    np.testing.assert_allclose(steps(phase, (0, 0, 0), LOADED, height=0.0, stance=stance), np.array(LOADED.load) / 4)


def test_servos_do_not_give_way():
    assert Gait.trot(replace(A1, drive=Servo(0.05))) == TROT


def test_only_four_legs_trot():
    with pytest.raises(ValueError, match="panda has 0 legs, expected four"):
        Gait.trot(PANDA)


@pytest.mark.parametrize("spec", QUADRUPEDS, ids=lambda spec: spec.name)
def test_there_and_back_through_json(spec: RobotSpec):
    gait = Gait.trot(spec)
    assert Gait.from_dict(json.loads(json.dumps(gait.to_dict()))) == gait
    with pytest.raises(TypeError, match="colour"):
        Gait.from_dict({**gait.to_dict(), "colour": [pi]})
