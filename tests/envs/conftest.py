"""What the tests of worlds share: one environment per file, and trajectories as plain arrays."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from envs.arm import panda_reach
from envs.robot_env import RobotEnv
from envs.tasks import Task

Roll = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def env() -> Iterator[RobotEnv]:
    env = panda_reach(render_mode="rgb_array")
    yield env
    env.close()


@pytest.fixture(scope="session")
def changed() -> Callable[..., Task]:
    """The nominal task of an environment with some of its values changed; one number stands for every element."""

    def task(env: RobotEnv, **values: float | tuple[float, ...]) -> Task:
        plain: dict[str, Any] = env.task_space.nominal.to_dict()
        for name, value in values.items():
            plain[name] = value if isinstance(value, tuple) else [value] * len(plain[name])
        return Task.from_dict(plain)

    return task


@pytest.fixture(scope="session")
def roll() -> Roll:
    """One episode: an array [step, ...] of true joints and velocities, tool, observation, reward and distance."""

    def trajectory(env: RobotEnv, task: Task, seed: int = 0, actions: np.ndarray | None = None) -> np.ndarray:
        if actions is None:
            actions = np.random.default_rng(5).uniform(-1, 1, (env.job.horizon, env.interface.action_size))
        observation, info = env.reset(seed=seed, options={"task": task})
        rows = [np.concatenate([*env.world.joints(), env.world.tool(), observation, [0.0, info["distance"]]])]
        for action in actions:
            observation, reward, _, _, info = env.step(action)
            state = [*env.world.joints(), env.world.tool(), observation, [reward, info["distance"]]]
            rows.append(np.concatenate(state))
        return np.array(rows)

    return trajectory
