"""A world that becomes another in the middle of an episode."""

from collections.abc import Iterator

import numpy as np
import pytest

from envs.robot_env import ENGINES, RobotEnv, make
from envs.tasks import Task

HORIZON, AT = 20, 10  # control steps; a walking robot's are 20 ms
OPTIONS = {
    "unknown": ("payload", "joint_zero", "delay", "observation_delay", "friction"),
    "ground": ("rough", "slope_up"),
    "horizon": HORIZON,
}


@pytest.fixture(scope="module", params=ENGINES)
def env(request: pytest.FixtureRequest) -> Iterator[RobotEnv]:
    env = make("metarl/A1Walk-v0", None, request.param, **OPTIONS)
    yield env
    env.close()


def altered(env: RobotEnv, **values: float) -> Task:
    """The nominal task but for these, the same in every element."""
    nominal = env.task_space.nominal.values
    return Task({**nominal, **{name: (value,) * len(nominal[name]) for name, value in values.items()}})


def lived(env: RobotEnv, task: Task, then: tuple[float, Task] | None = None) -> list[np.ndarray]:
    """Observations of an episode at rest, the first at its start."""
    seen = [env.reset(seed=1, options={"task": task, **({"then": then} if then else {})})[0]]
    action = np.zeros(env.interface.action_size)
    return seen + [env.step(action)[0] for _ in range(HORIZON)]


def test_nothing_changes_before_its_time(env: RobotEnv):
    now, then = env.task_space.nominal, altered(env, payload=4.0, delay=0.03, observation_delay=0.03)
    plain, changed = lived(env, now), lived(env, now, (AT / 50, then))
    np.testing.assert_array_equal(plain[: AT + 1], changed[: AT + 1])
    assert np.abs(plain[-1] - changed[-1]).max() > 0.02
    assert env.task == then


def test_a_change_to_the_same_is_none(env: RobotEnv):
    task = altered(env, payload=2.0, joint_zero=0.03, delay=0.013, observation_delay=0.03, friction=0.6)
    np.testing.assert_array_equal(lived(env, task), lived(env, task, (AT / 50, task)))


def test_what_was_changed_is_forgotten_at_the_next_reset(env: RobotEnv):
    now, then = env.task_space.nominal, altered(env, payload=5.0, joint_zero=0.04, friction=0.5)
    plain = lived(env, now)
    lived(env, now, (AT / 50, then))
    np.testing.assert_array_equal(plain, lived(env, now))


def test_an_encoder_that_slips_reads_otherwise_at_once(env: RobotEnv):
    env.reset(seed=1, options={"task": env.task_space.nominal})
    for zero in (0.0, 0.05):
        env.change(altered(env, joint_zero=zero))
        env.step(np.zeros(env.interface.action_size))
        np.testing.assert_allclose(env.sample["joint_position"] - env.state.joints, zero, atol=0.02)


def test_a_change_can_come_by_hand(env: RobotEnv):
    now, then = env.task_space.nominal, altered(env, payload=4.0)
    planned = lived(env, now, (AT / 50, then))
    env.reset(seed=1, options={"task": now})
    for step in range(HORIZON):
        if step == AT:
            env.change(then)
        observation = env.step(np.zeros(env.interface.action_size))[0]
    np.testing.assert_array_equal(observation, planned[-1])


def test_a_bad_change_is_refused_before_anything_begins(env: RobotEnv):
    nominal = env.task_space.nominal
    for then, says in (
        (nominal, r"expected \(seconds from the start, Task\)"),
        ((-0.1, nominal), r"expected \(seconds from the start, Task\)"),
        ((float("nan"), nominal), r"expected \(seconds from the start, Task\)"),
        ((0.1, dict(nominal.values)), r"expected \(seconds from the start, Task\)"),
        ((0.1, altered(env, payload=99.0)), r"'payload' is \[99.0\] kg"),
        ((0.1, altered(env, ground=1.0)), "the ground and the object stay"),
    ):
        with pytest.raises(ValueError, match=says):
            env.reset(seed=1, options={"task": nominal, "then": then})
