"""Kinematics against the engine's own, against finite differences, and there and back."""

from collections.abc import Callable, Iterator
from math import pi

import numpy as np
import pybullet
import pybullet_data
import pytest

from robots import kinematics
from robots.arms import IIWA, PANDA, XARM6
from robots.legged import A1
from robots.spec import Chain, JointSpec, RobotSpec

ARMS = (PANDA, IIWA, XARM6)
CENTER, HALF = np.array([0.5, 0.0, 0.35]), np.array([0.12, 0.25, 0.2])  # of a box that all of them reach

Frame = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def name(spec: RobotSpec) -> str:
    return spec.name


def chain(spec: RobotSpec) -> Chain:
    return Chain(spec.joints, spec.tool)


@pytest.fixture(scope="module", params=ARMS, ids=name)
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[RobotSpec, Frame]]:
    """A robot, and where PyBullet has its tool link: place [3] and z axis [3] at joint angles [n]."""
    spec = request.param
    client = pybullet.connect(pybullet.DIRECT)
    pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), physicsClientId=client)
    body = pybullet.loadURDF(spec.urdf, useFixedBase=True, physicsClientId=client)
    infos = [pybullet.getJointInfo(body, index, client) for index in range(pybullet.getNumJoints(body, client))]
    joints = {info[1].decode(): info[0] for info in infos}
    (tool,) = [info[0] for info in infos if info[12].decode() == spec.tool_link]

    def frame(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for joint, angle in zip(spec.joint_names, angles, strict=True):
            pybullet.resetJointState(body, joints[joint], angle, physicsClientId=client)
        state = pybullet.getLinkState(body, tool, computeForwardKinematics=1, physicsClientId=client)
        turn = np.reshape(pybullet.getMatrixFromQuaternion(state[5]), (3, 3))
        beyond = spec.tool if tool == joints[spec.joint_names[-1]] else (0, 0, 0)  # the last joint's own link
        return state[4] + turn @ beyond, turn[:, 2]

    yield spec, frame
    pybullet.disconnect(client)


def poses(spec: RobotSpec, count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(spec.lower, spec.upper, (count, len(spec.joints)))


def targets(*shape: int) -> np.ndarray:
    return CENTER + HALF * np.random.default_rng(2).uniform(-1, 1, (*shape, 3))


def test_forward_and_pose_agree_with_the_engine(engine: tuple[RobotSpec, Frame]):
    spec, frame = engine
    angles = poses(spec, 100)
    places, _ = kinematics.forward(spec, angles)
    for one, place in zip(angles, places, strict=True):
        expected, axis = frame(one)
        np.testing.assert_allclose(place, expected, rtol=0, atol=1e-6)
        place, pointing, _ = kinematics.pose(chain(spec), one)
        np.testing.assert_allclose(place, expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(pointing, axis, rtol=0, atol=1e-6)


def test_nominal_tools_point_down_over_the_workspace(engine: tuple[RobotSpec, Frame]):
    spec, frame = engine
    place, axis = frame(spec.nominal)
    np.testing.assert_allclose(axis, [0, 0, -1], atol=1e-3)
    np.testing.assert_allclose(place, [0.5, 0, 0.3], atol=0.07)


@pytest.mark.parametrize("spec", ARMS, ids=name)
def test_jacobian_agrees_with_finite_differences(spec: RobotSpec):
    angles, small = poses(spec, 20), 1e-6
    _, jacobian = kinematics.forward(spec, angles)
    for joint, nudge in enumerate(small * np.eye(len(spec.joints))):
        slope = (kinematics.forward(spec, angles + nudge)[0] - kinematics.forward(spec, angles - nudge)[0]) / 2 / small
        np.testing.assert_allclose(jacobian[..., joint], slope, atol=1e-8)


AXES = ((0, 0, 1), (0, 0, -1), (1, 0, 0), (0, -1, 0), (0.6, 0, 0.8), (1, 2, -2))
SKEW = Chain(
    tuple(JointSpec(f"{i}", (0.1, -0.2 * i, 0.3), (0.3, i, -0.7), -pi, pi, 1, 1, axis) for i, axis in enumerate(AXES)),
    tool=(0.1, 0.2, 0.3),
)


@pytest.mark.parametrize("one", [SKEW, *map(chain, ARMS)], ids=["skew", *map(name, ARMS)])
def test_pose_is_forward_and_the_direction_of_z(one: Chain):
    ahead = Chain(one.joints, tuple(np.add(one.tool, (0, 0, 1))))
    for angles in np.random.default_rng(3).uniform(-pi, pi, (20, len(one.joints))):
        place, jacobian = kinematics.forward(one, angles)
        beyond, jacobian_beyond = kinematics.forward(ahead, angles)
        found, pointing, both = kinematics.pose(one, angles)
        np.testing.assert_allclose(found, place, atol=1e-12)
        np.testing.assert_allclose(pointing, beyond - place, atol=1e-12)
        np.testing.assert_allclose(both, np.concatenate([jacobian, jacobian_beyond - jacobian]), atol=1e-12)


@pytest.mark.parametrize("spec", ARMS, ids=name)
def test_hold_down_brings_the_tool_to_a_target_upright(spec: RobotSpec):
    rng = np.random.default_rng(4)
    for target in targets(20):
        angles = spec.nominal + rng.normal(0, 0.1, len(spec.joints))
        for _ in range(8):
            step = kinematics.hold_down(chain(spec), angles, np.zeros(3), target, target)
            angles = angles + np.clip(step, -0.5, 0.5)
        place, pointing, _ = kinematics.pose(chain(spec), angles)
        np.testing.assert_allclose(place, target, atol=1e-6)
        np.testing.assert_allclose(pointing, [0, 0, -1], atol=1e-6)


@pytest.mark.parametrize("spec", ARMS, ids=name)
def test_hold_down_moves_by_the_motion_and_stays_in_the_box(spec: RobotSpec):
    low, high, motion = np.array([-9.0, -0.02, -9.0]), np.array([9.0, 0.02, 9.0]), np.array([0.01, 0.01, -0.01])
    angles = spec.nominal
    start, _, _ = kinematics.pose(chain(spec), angles)
    for _ in range(10):
        angles = angles + kinematics.hold_down(chain(spec), angles, motion, low, high)
    place, pointing, _ = kinematics.pose(chain(spec), angles)
    np.testing.assert_allclose(place - start, [0.1, 0.02, -0.1], atol=5e-3)
    np.testing.assert_allclose(pointing, [0, 0, -1], atol=1e-3)


def test_hold_down_leaves_the_turn_about_the_tool_free():
    turned = PANDA.nominal + np.eye(7)[6] * 0.5  # the last joint's axis is the tool's
    place, _, _ = kinematics.pose(chain(PANDA), turned)
    np.testing.assert_allclose(
        kinematics.hold_down(chain(PANDA), turned, np.zeros(3), place, place), np.zeros(7), atol=1e-9
    )


def test_a_leg_knows_its_foot_and_how_to_move_it():
    pose = (0.1, 0.8, -1.5)
    leg = kinematics.leg(A1.joints[3:6], 3, (0, 0, -0.2), pose)
    assert leg.joints == (3, 4, 5)
    foot, _ = kinematics.forward(Chain(A1.joints[3:6], (0, 0, -0.2)), np.array(pose))
    np.testing.assert_allclose(leg.foot, foot, atol=1e-6)
    for axis in range(3):
        step = 1e-4 * np.eye(3)[axis]
        moved, _ = kinematics.forward(Chain(A1.joints[3:6], (0, 0, -0.2)), pose + np.array(leg.gain) @ step)
        np.testing.assert_allclose(moved - foot, step, atol=1e-6)


def test_a_leg_of_two_joints_does_what_it_can():
    leg = kinematics.leg(A1.joints[1:3], 0, (0, 0, -0.2), (0.8, -1.5))
    np.testing.assert_allclose(np.array(leg.gain)[:, 1], 0, atol=1e-9)
    _, jacobian = kinematics.forward(Chain(A1.joints[1:3], (0, 0, -0.2)), np.array([0.8, -1.5]))
    np.testing.assert_allclose(jacobian @ leg.gain, np.diag([1, 0, 1]), atol=1e-6)


def test_rotation_turns_about_fixed_axes():
    roll, pitch, yaw = 0.3, -0.7, 1.1
    apart = [kinematics.rotation(rpy) for rpy in ((0, 0, yaw), (0, pitch, 0), (roll, 0, 0))]
    np.testing.assert_allclose(kinematics.rotation((roll, pitch, yaw)), apart[0] @ apart[1] @ apart[2], atol=1e-15)
    np.testing.assert_allclose(kinematics.rotation((0, 0, np.pi / 2)) @ [1, 0, 0], [0, 1, 0], atol=1e-15)


@pytest.mark.parametrize("spec", ARMS, ids=name)
def test_solve_reaches_the_workspace_within_the_limits(spec: RobotSpec):
    wanted = targets(300)
    angles = kinematics.solve(spec, wanted)
    assert np.linalg.norm(kinematics.forward(spec, angles)[0] - wanted, axis=-1).max() < 1e-3
    assert (angles >= spec.lower).all()
    assert (angles <= spec.upper).all()


def test_a_target_out_of_reach_keeps_the_limits_and_stays_finite():
    angles = kinematics.solve(PANDA, np.array([[2.0, 0, 0.3], [0, 0, 5.0], [0, 0, 0]]))
    assert ((PANDA.lower <= angles) & (angles <= PANDA.upper)).all()


def test_one_answer_whatever_the_batch():
    wanted = targets(2, 3)
    batched = kinematics.solve(PANDA, wanted)
    places, jacobians = kinematics.forward(PANDA, batched)
    assert batched.shape == (2, 3, 7)
    assert jacobians.shape == (2, 3, 3, 7)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(kinematics.solve(PANDA, wanted[index]), batched[index], rtol=0, atol=1e-12)
        place, jacobian = kinematics.forward(PANDA, batched[index])
        np.testing.assert_allclose(place, places[index], rtol=0, atol=1e-12)
        np.testing.assert_allclose(jacobian, jacobians[index], rtol=0, atol=1e-12)
