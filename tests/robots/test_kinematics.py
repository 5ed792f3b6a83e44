"""Kinematics against the engine's own, against finite differences, and there and back."""

from collections.abc import Iterator

import numpy as np
import pytest

from envs.arm import CENTER, HALF
from envs.world import PyBulletWorld
from robots import kinematics
from robots.arms import PANDA


@pytest.fixture(scope="module")
def world() -> Iterator[PyBulletWorld]:
    world = PyBulletWorld(PANDA)
    yield world
    world.close()


def poses(count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(PANDA.lower, PANDA.upper, (count, len(PANDA.joints)))


def targets(*shape: int) -> np.ndarray:
    return CENTER + HALF * np.random.default_rng(2).uniform(-1, 1, (*shape, 3))


def test_forward_agrees_with_the_engine(world: PyBulletWorld):
    angles = poses(100)
    places, _ = kinematics.forward(PANDA, angles)
    for pose, place in zip(angles, places, strict=True):
        world.place(pose)
        np.testing.assert_allclose(world.joints()[0], pose, rtol=0, atol=1e-12)
        np.testing.assert_allclose(world.tool(), place, rtol=0, atol=1e-6)


def test_jacobian_agrees_with_finite_differences():
    angles, small = poses(20), 1e-6
    _, jacobian = kinematics.forward(PANDA, angles)
    for joint, nudge in enumerate(small * np.eye(len(PANDA.joints))):
        slope = (
            (kinematics.forward(PANDA, angles + nudge)[0] - kinematics.forward(PANDA, angles - nudge)[0]) / 2 / small
        )
        np.testing.assert_allclose(jacobian[..., joint], slope, atol=1e-8)


def test_rotation_turns_about_fixed_axes():
    roll, pitch, yaw = 0.3, -0.7, 1.1
    apart = [kinematics.rotation(rpy) for rpy in ((0, 0, yaw), (0, pitch, 0), (roll, 0, 0))]
    np.testing.assert_allclose(kinematics.rotation((roll, pitch, yaw)), apart[0] @ apart[1] @ apart[2], atol=1e-15)
    np.testing.assert_allclose(kinematics.rotation((0, 0, np.pi / 2)) @ [1, 0, 0], [0, 1, 0], atol=1e-15)


def test_solve_reaches_the_workspace_within_the_limits():
    wanted = targets(300)
    angles = kinematics.solve(PANDA, wanted)
    assert np.linalg.norm(kinematics.forward(PANDA, angles)[0] - wanted, axis=-1).max() < 1e-3
    assert (angles >= PANDA.lower).all()
    assert (angles <= PANDA.upper).all()


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
