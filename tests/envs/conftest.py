"""What the tests of worlds share: one environment per file, and trajectories as plain arrays."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from envs.robot_env import RobotEnv, make
from envs.state import State
from envs.tasks import Task

Roll = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def env() -> Iterator[RobotEnv]:
    env = make("metarl/PandaReach-v0", render_mode="rgb_array")
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


def flat(state: State) -> np.ndarray:
    """Everything true of a moment as one vector, the joints first."""
    parts = [part for field in state if field is not None for part in (field if isinstance(field, tuple) else (field,))]
    return np.concatenate(parts)


@pytest.fixture(scope="session")
def roll() -> Roll:
    """One episode: an array [step, ...] of all that is true (joints first), observation, reward and error."""

    def trajectory(env: RobotEnv, task: Task, seed: int = 0, actions: np.ndarray | None = None) -> np.ndarray:
        if actions is None:
            steps = min(env.job.horizon, 40)
            actions = np.random.default_rng(5).uniform(-1, 1, (steps, env.interface.action_size))
        observation, info = env.reset(seed=seed, options={"task": task})
        rows = [np.concatenate([flat(env.state), observation, [0.0, info["error"]]])]
        for action in actions:
            observation, reward, ended, _, info = env.step(action)
            rows.append(np.concatenate([flat(env.state), observation, [reward, info["error"]]]))
            if ended:
                break
        return np.array(rows)

    return trajectory
