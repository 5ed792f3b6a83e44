"""The PPO baselines' oracle: what it is shown beside the observation."""

import numpy as np
import pytest

from envs.robot_env import make
from metarl.wrappers import Privileged


@pytest.mark.parametrize("unknown", [(), ("payload",)])
def test_the_oracle_sees_the_task_after_the_observation(unknown: tuple[str, ...]):
    env = Privileged(make("metarl/A1Walk-v0", unknown=unknown))
    robot = env.env
    seen, _ = env.reset(seed=0)
    plain, _ = robot.reset(seed=0)
    assert env.observation_space.contains(seen)
    np.testing.assert_array_equal(seen[: len(plain)], plain)
    np.testing.assert_allclose(seen[len(plain) :], robot.task_space.encode(robot.task), atol=1e-6)
    assert len(seen) == len(plain) + len(unknown)
    assert env.observation_space.contains(env.step(np.zeros(15))[0])
    env.close()
