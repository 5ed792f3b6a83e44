"""PyBulletWorld on its own: loading, placing, driving."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from envs.frames import turned
from envs.state import Drive, Physics, Pose, Scene, Start
from envs.world import PyBulletWorld
from robots.actuation import torques
from robots.arms import PANDA
from robots.legged import A1
from robots.spec import Loop


@pytest.fixture(scope="module")
def world() -> Iterator[PyBulletWorld]:
    world = PyBulletWorld(PANDA)
    yield world
    world.close()


def follow(target: np.ndarray) -> Drive:
    return Drive(target, PANDA.effort, PANDA.velocity)


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


@pytest.mark.parametrize("text", [None, "<robot", "<robot name='x'></robot>", "<robot><link/></robot>"])
def test_a_urdf_that_cannot_be_read_leaves_no_engine_behind(text: str | None, tmp_path, monkeypatch):
    if text:
        (tmp_path / "x.urdf").write_text(text)
    closed, close = [], PyBulletWorld.close
    monkeypatch.setattr(PyBulletWorld, "close", lambda world: (closed.append(world), close(world)))
    with pytest.raises(ValueError, match=r"a1: PyBullet cannot load '.*x.urdf'.*give the path of a URDF"):
        PyBulletWorld(replace(A1, urdf=str(tmp_path / "x.urdf")), Scene(payload_at=True))
    assert len(closed) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"joints": (replace(A1.joints[0], name="hip"), *A1.joints[1:])}, r"a1.urdf has no joint \['hip'\]"),
        ({"free": {"wheel": 0.0}}, r"has no joint \['wheel'\]"),
        ({"loops": (Loop("FR_toe", (0, 0, 0), "tail", (0, 0, 0)),)}, r"has no link \['tail'\]; its links are \[.*'FR_"),
    ],
)
def test_a_legged_urdf_that_lacks_something_is_refused(change: dict, says: str):
    with pytest.raises(ValueError, match=says):
        PyBulletWorld(replace(A1, **change))


def test_placed_joints_are_at_rest_in_the_order_of_the_spec(world: PyBulletWorld):
    angles = PANDA.nominal + np.linspace(-0.3, 0.3, 7)
    world.place(Start(angles))
    state = world.read()
    np.testing.assert_array_equal(state.joints, angles)
    np.testing.assert_array_equal(state.speeds, np.zeros(7))


def test_drives_pull_to_the_target_and_stay(world: PyBulletWorld):
    world.place(Start(PANDA.nominal))
    goal = PANDA.nominal + np.linspace(-0.2, 0.2, 7)
    world.drive(follow(goal))
    world.advance(PANDA.physics_hz)
    np.testing.assert_allclose(world.read().joints, goal, atol=0.005)
    np.testing.assert_allclose(world.read().speeds, 0, atol=0.01)


def test_a_drive_without_torque_falls(world: PyBulletWorld):
    world.place(Start(PANDA.nominal))
    before = world.read().tool
    world.drive(Drive(PANDA.nominal, np.zeros(7), PANDA.velocity))
    world.advance(PANDA.physics_hz // 4)
    assert world.read().tool[2] < before[2] - 0.05


def test_the_drive_closes_its_error_with_its_time_constant(world: PyBulletWorld):
    world.place(Start(PANDA.nominal))
    step = np.zeros(7)
    step[6] = 0.05
    world.drive(follow(PANDA.nominal + step))
    world.advance(round(PANDA.drive.time * PANDA.physics_hz))
    moved = world.read().joints[6] - PANDA.nominal[6]
    assert moved / 0.05 == pytest.approx(1 - np.exp(-1), abs=0.06)


def test_joints_keep_to_their_rated_speed(world: PyBulletWorld):
    world.place(Start(PANDA.nominal))
    goal = PANDA.nominal.copy()
    goal[[0, 6]] += 2.0
    world.drive(follow(goal))
    fastest = np.zeros(7)
    for _ in range(PANDA.physics_hz // 2):
        world.advance(1)
        fastest = np.maximum(fastest, np.abs(world.read().speeds))
    assert (fastest <= [joint.velocity + 0.01 for joint in PANDA.joints]).all()


@pytest.fixture(scope="module")
def dog() -> Iterator[PyBulletWorld]:
    world = PyBulletWorld(A1)
    yield world
    world.close()


def test_a_free_base_is_at_rest_where_it_is_placed(dog: PyBulletWorld):
    pose = Pose((1.0, -2.0, 0.5), turned(0.1, -0.2, 2.0))
    for _ in range(2):
        dog.place(Start(A1.nominal + 0.1, pose))
        state = dog.read()
        np.testing.assert_array_equal(state.joints, A1.nominal + 0.1)
        assert state.base is not None
        np.testing.assert_allclose(state.base.position, pose.position, atol=1e-12)
        np.testing.assert_allclose(state.base.quaternion, pose.quaternion, atol=1e-12)
        assert not np.any([*state.speeds, *state.torques, *state.base.velocity, *state.base.angular])
        dog.drive(Drive(A1.nominal, A1.effort, A1.velocity))
        dog.advance(20)
        assert dog.read().speeds.any()


def test_torques_are_those_of_the_pd_at_every_physics_step(dog: PyBulletWorld):
    dog.place(Start(A1.nominal, Pose((0, 0, A1.height))))
    drive = Drive(A1.nominal + 0.05, 0.3 * A1.effort, A1.velocity)
    dog.drive(drive)
    for _ in range(20):
        before = dog.read()
        dog.advance(1)
        states = list(zip(before.joints.tolist(), before.speeds.tolist(), strict=True))
        limits = drive.target.tolist(), drive.effort.tolist(), drive.velocity.tolist()
        np.testing.assert_array_equal(dog.read().torques, torques(A1.drive, *limits, states))  # type: ignore[arg-type]


def test_worlds_do_not_share_anything(world: PyBulletWorld):
    other = PyBulletWorld(PANDA)
    world.place(Start(PANDA.nominal))
    other.place(Start(PANDA.nominal + 0.1))
    other.randomize(Physics(payload=1.0, damping=1.0))
    other.close()
    np.testing.assert_array_equal(world.read().joints, PANDA.nominal)
