"""Tasks acting on the world: without history, idempotent, and with the effect that their names promise."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pybullet
import pybullet_data
import pytest

from envs import randomize
from envs.arm import panda_reach, panda_seek
from envs.robot_env import RobotEnv
from envs.tasks import Task
from robots.arms import PANDA

Changed = Callable[..., Task]
Roll = Callable[..., np.ndarray]
DOWN = np.tile([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], (60, 1))  # into the floor


def engine(env: RobotEnv) -> list[Any]:
    """Every value of links and joints that the engine would tell."""
    body, client = env.world._body, env.world._client
    links = range(pybullet.getNumJoints(body, client))
    dynamics = [pybullet.getDynamicsInfo(body, link, client) for link in (-1, *links)]
    return dynamics + [pybullet.getJointInfo(body, link, client) for link in links]


@pytest.mark.parametrize("factory", [panda_reach, panda_seek])
def test_trajectories_have_no_history(factory: Callable[[], RobotEnv], roll: Roll):
    env, fresh = factory(), factory()
    rng = np.random.default_rng(0)
    task, nominal = env.task_space.sample(rng, "extrapolation"), env.task_space.nominal
    wanted = [(task, None), (nominal, None), (task, DOWN)]
    first = [roll(fresh, t, seed=7, actions=actions) for t, actions in wanted]
    for trial in range(5):
        other = env.task_space.sample(rng, "extrapolation")
        roll(env, other, seed=trial, actions=DOWN)
        roll(env, other, seed=trial, actions=np.tile(rng.choice([-1.0, 1.0], 7), (40, 1)))
        for (t, actions), expected in zip(wanted, first, strict=True):
            np.testing.assert_array_equal(roll(env, t, seed=7, actions=actions), expected)
    env.close()
    fresh.close()


def test_that_an_arm_can_touch_the_floor(env: RobotEnv, roll: Roll):
    """So that the test above has contacts in it."""
    roll(env, env.task_space.nominal, seed=7, actions=DOWN)
    assert pybullet.getContactPoints(physicsClientId=env.world._client)


def test_nominal_restores_every_value_of_the_engine(env: RobotEnv):
    randomize.apply(env.task_space.nominal, PANDA, env.world)
    nominal = engine(env)
    task = env.task_space.sample(np.random.default_rng(3), "extrapolation")
    randomize.apply(task, PANDA, env.world)
    once = engine(env)
    assert once != nominal
    randomize.apply(task, PANDA, env.world)
    assert engine(env) == once
    randomize.apply(env.task_space.nominal, PANDA, env.world)
    assert engine(env) == nominal


def test_the_nominal_robot_is_the_urdf_and_a_payload_is_mass_alone(env: RobotEnv, changed: Changed):
    client = pybullet.connect(pybullet.DIRECT)
    urdf = str(Path(pybullet_data.getDataPath()) / PANDA.urdf)
    body = pybullet.loadURDF(urdf, useFixedBase=True, physicsClientId=client)
    links = range(-1, pybullet.getNumJoints(body, client))
    loaded = [pybullet.getDynamicsInfo(body, link, client)[:5] for link in links]
    pybullet.disconnect(client)
    randomize.apply(env.task_space.nominal, PANDA, env.world)
    assert [info[:5] for info in engine(env)[: len(links)]] == loaded
    randomize.apply(changed(env, payload=1.0), PANDA, env.world)
    loads = [(now[0] - was[0], now[1:5] == was[1:5]) for now, was in zip(engine(env), loaded, strict=False)]
    assert sorted(loads) == [(0.0, True)] * (len(links) - 1) + [(1.0, True)]


def test_a_task_applied_twice_acts_as_once(env: RobotEnv, roll: Roll):
    task = env.task_space.sample(np.random.default_rng(4), "extrapolation")
    once = roll(env, task)
    randomize.apply(task, PANDA, env.world)
    np.testing.assert_array_equal(roll(env, task), once)


@pytest.mark.parametrize(
    ("name", "value"), [("payload", 1.0), ("damping", 1.0), ("strength", 0.6), ("delay", 0.04)], ids=str
)
def test_dynamics_really_change(env: RobotEnv, changed: Changed, roll: Roll, name: str, value: float):
    nominal = roll(env, env.task_space.nominal)[:, :7]
    other = roll(env, changed(env, **{name: value}))[:, :7]
    np.testing.assert_array_equal(other[0], nominal[0])
    assert np.abs(other - nominal).max() > 0.005


def test_a_payload_is_lifted_with_more_torque(env: RobotEnv, changed: Changed):
    torque = []
    for payload in (0.0, 1.0):
        env.reset(seed=0, options={"task": changed(env, payload=payload)})
        for _ in range(20):
            env.step(np.zeros(7))
        shoulder = env.world._joints[1]
        torque.append(pybullet.getJointState(env.world._body, shoulder, env.world._client)[3])
    reach = env.world.tool()[0]
    assert abs(torque[1] - torque[0]) == pytest.approx(9.81 * reach, rel=0.15)


class Recorder:
    """A world that writes down its joints after every physics step."""

    def __init__(self, world: Any) -> None:
        self.world, self.joints_seen = world, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self.world.advance(1)
            self.joints_seen.append(self.world.joints()[0])


@pytest.fixture
def recorder(env: RobotEnv) -> Iterator[Recorder]:
    world = env.world
    env.world = Recorder(world)  # type: ignore[assignment]
    yield env.world
    env.world = world


@pytest.mark.parametrize(("seconds", "delay"), [(0, 0), (0.005, 1), (0.0136, 3), (0.025, 5), (0.04, 8), (0.05, 10)])
def test_delay_is_counted_in_physics_steps(
    env: RobotEnv, changed: Changed, recorder: Recorder, seconds: float, delay: int
):
    task = changed(env, delay=seconds)
    paths = []
    for action in (0.0, 0.5):
        recorder.joints_seen.clear()
        env.reset(seed=0, options={"task": task})
        for _ in range(3):
            env.step(np.full(7, action))
        paths.append(np.array(recorder.joints_seen))
    same = (paths[0] == paths[1]).all(axis=-1)
    assert same[:delay].all()
    assert not same[delay:].any()


def test_a_zero_offset_shifts_the_arm_behind_the_encoders(env: RobotEnv, changed: Changed, roll: Roll):
    zero = np.linspace(-0.05, 0.05, 7)
    plain, offset = roll(env, env.task_space.nominal), roll(env, changed(env, joint_zero=tuple(zero.tolist())))
    np.testing.assert_allclose(offset[:, :7], plain[:, :7] - zero, atol=0.005)
    read = [env.interface.field("joint_position", path[:, 17:-2]) for path in (plain, offset)]
    np.testing.assert_allclose(read[1], read[0], atol=0.005)
    assert np.abs(read[1] - offset[:, :7] - zero).max() < 0.006  # the encoders' noise
