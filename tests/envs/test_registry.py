"""Every robot that the package registers, in both engines: what gymnasium and stable-baselines3 ask of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import CLASSIC
from envs.robot_env import ENGINES, RobotEnv, make

WORLDS = {f"metarl/{name}-v0" for name in CLASSIC}  # have no engine: tests/envs/test_classic_env.py
IDS = sorted(name for name in gymnasium.registry if name.startswith("metarl/") and name not in WORLDS)
HOPS = 12  # control steps of a trajectory


@pytest.fixture(scope="module", params=[(name, engine) for name in IDS for engine in ENGINES], ids="-".join)
def env(request: pytest.FixtureRequest) -> Iterator[RobotEnv]:
    name, engine = request.param
    env = make(name, engine=engine)
    yield env
    env.close()


def test_seven_robots_have_their_jobs():
    arms = [f"metarl/{arm}{job}-v0" for arm in ("Panda", "Iiwa", "XArm6") for job in ("Reach", "Push", "PickPlace")]
    legs = [f"metarl/{robot}Walk-v0" for robot in ("A1", "Laikago", "MiniCheetah", "Minitaur")]
    assert {*arms, *legs, "metarl/PandaSlide-v0"} <= set(IDS)


def test_both_checkers_are_content(env: RobotEnv):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(observation|reward|seed|box|Box).*")
        # What it says of an environment that was not made by gymnasium.make; and that actions of -1 to 1 are well.
        warnings.filterwarnings("ignore", message=".*unwrapped.*|.*different render.*")
        check_env(env, skip_render_check=True)
        sb3_check_env(env, skip_render_check=True)


def test_a_trajectory_does_not_depend_on_what_was_before(env: RobotEnv):
    rng = np.random.default_rng(0)
    task, other = env.task_space.sample(rng), env.task_space.sample(rng)
    actions = rng.uniform(-1, 1, (HOPS, env.interface.action_size))

    def trajectory() -> np.ndarray:
        observation, _ = env.reset(seed=3, options={"task": task})
        rows = [observation]
        for action in actions:
            observation, reward, _, _, _ = env.step(action)
            rows.append(np.append(observation, reward))
        return np.concatenate(rows)

    first = trajectory()
    env.reset(seed=4, options={"task": other})
    for action in -actions:
        env.step(action)
    assert np.array_equal(first, trajectory())
