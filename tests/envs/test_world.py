"""PyBulletWorld on its own: loading, placing, driving."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from envs.world import PyBulletWorld
from robots.arms import PANDA


@pytest.fixture(scope="module")
def world() -> Iterator[PyBulletWorld]:
    world = PyBulletWorld(PANDA)
    yield world
    world.close()


def renamed(index: int, name: str) -> tuple:
    return tuple(replace(j, name=name) if i == index else j for i, j in enumerate(PANDA.joints))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"urdf": "no/such.urdf"}, r"panda: PyBullet cannot load 'no/such.urdf'"),
        ({"joints": renamed(2, "elbow")}, r"panda.urdf has no joint \['elbow'\]; its joints are \[.*'panda_joint1'"),
        ({"held": {"thumb": 0.0}}, r"has no joint \['thumb'\]"),
        ({"tool_link": "hook"}, r"has no link \['hook'\]; its links are \[.*'panda_hand'"),
    ],
)
def test_a_urdf_that_lacks_something_is_refused(change: dict, says: str):
    with pytest.raises(ValueError, match=says):
        PyBulletWorld(replace(PANDA, **change))


def test_placed_joints_are_at_rest_in_the_order_of_the_spec(world: PyBulletWorld):
    angles = PANDA.nominal + np.linspace(-0.3, 0.3, 7)
    world.place(angles)
    positions, velocities = world.joints()
    np.testing.assert_array_equal(positions, angles)
    np.testing.assert_array_equal(velocities, np.zeros(7))


def test_drives_pull_to_the_target_and_stay(world: PyBulletWorld):
    world.place(PANDA.nominal)
    goal = PANDA.nominal + np.linspace(-0.2, 0.2, 7)
    world.drive(goal, PANDA.effort)
    world.advance(PANDA.physics_hz)
    np.testing.assert_allclose(world.joints()[0], goal, atol=0.005)
    np.testing.assert_allclose(world.joints()[1], 0, atol=0.01)


def test_a_drive_without_torque_falls(world: PyBulletWorld):
    world.place(PANDA.nominal)
    before = world.tool()
    world.drive(PANDA.nominal, np.zeros(7))
    world.advance(PANDA.physics_hz // 4)
    assert world.tool()[2] < before[2] - 0.05


def test_the_drive_closes_its_error_with_its_time_constant(world: PyBulletWorld):
    world.place(PANDA.nominal)
    step = np.zeros(7)
    step[6] = 0.05
    world.drive(PANDA.nominal + step, PANDA.effort)
    world.advance(round(PANDA.servo_time * PANDA.physics_hz))
    moved = world.joints()[0][6] - PANDA.nominal[6]
    assert moved / 0.05 == pytest.approx(1 - np.exp(-1), abs=0.06)


def test_joints_keep_to_their_rated_speed(world: PyBulletWorld):
    world.place(PANDA.nominal)
    goal = PANDA.nominal.copy()
    goal[[0, 6]] += 2.0
    world.drive(goal, PANDA.effort)
    fastest = np.zeros(7)
    for _ in range(PANDA.physics_hz // 2):
        world.advance(1)
        fastest = np.maximum(fastest, np.abs(world.joints()[1]))
    assert (fastest <= [joint.velocity + 0.01 for joint in PANDA.joints]).all()


def test_worlds_do_not_share_anything(world: PyBulletWorld):
    other = PyBulletWorld(PANDA)
    world.place(PANDA.nominal)
    other.place(PANDA.nominal + 0.1)
    other.randomize(payload=1.0, damping=1.0)
    other.close()
    np.testing.assert_array_equal(world.joints()[0], PANDA.nominal)
