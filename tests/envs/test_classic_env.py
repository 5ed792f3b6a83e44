"""A classic family behind gymnasium's interface."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import CLASSIC
from envs.classic import JOBS, stacked
from envs.classic_env import ClassicEnv
from envs.tasks import Task


@pytest.fixture(params=CLASSIC)
def env(request: pytest.FixtureRequest) -> Iterator[ClassicEnv]:
    env = gymnasium.make(f"metarl/{request.param}-v0").unwrapped
    assert isinstance(env, ClassicEnv)
    yield env
    env.close()


def test_every_family_is_registered():
    assert set(CLASSIC) == set(JOBS)


def test_both_checkers_are_content(env: ClassicEnv):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(observation|reward|seed|box|Box).*")
        warnings.filterwarnings("ignore", message=".*unwrapped.*|.*different render.*")
        if env.job.action_limit != 1:  # a prediction is not scaled, and they would have it so
            warnings.filterwarnings("ignore", message=".*symmetric and normalized.*|.*we recommend.*normalize.*")
        check_env(env, skip_render_check=True)
        sb3_check_env(env, skip_render_check=True)


def test_an_episode_is_one_row_of_the_batch(env: ClassicEnv):
    job, task = env.job, env.task_space.sample(np.random.default_rng(0))
    observation, info = env.reset(seed=5, options={"task": task})
    assert (info, env.task) == ({"error": np.inf, "is_success": False}, task)
    rng = np.random.default_rng(5)
    state, seen = job.start(stacked(job.space, [task]), rng.random((1, job.draws)))
    assert np.array_equal(observation, seen[0])
    env.action_space.seed(1)
    for step in range(1, job.horizon + 1):
        action = env.action_space.sample()
        vector = np.eye(job.action_size)[[action]] if job.discrete else action[None]
        state, outcome = job.step(state, vector, rng.random((1, job.draws)))
        observation, reward, ended, stopped, info = env.step(action)
        assert np.array_equal(observation, outcome.observation[0])
        assert observation in env.observation_space
        assert (reward, ended) == (outcome.reward[0], outcome.ended[0])
        assert stopped == (step == job.horizon and not ended)
        assert info == {"error": outcome.error[0], "is_success": outcome.error[0] <= job.measure.tolerance}
        if ended:
            break
    assert ended or stopped


def test_without_a_task_training_tasks_are_drawn(env: ClassicEnv):
    env.reset(seed=0)
    first = env.task
    env.reset()
    second = env.task
    assert first != second
    env.reset(seed=0)
    assert env.task == first
    env.task_space.check(second)


def test_options_are_the_fields_of_the_family():
    env = gymnasium.make("metarl/Bandit-v0", arms=10)
    assert env.action_space == gymnasium.spaces.Discrete(10)
    assert gymnasium.make("metarl/TabularMDP-v0", states=3).observation_space.shape == (3,)


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("Bandit", {"amrs": 3}, r"options \['amrs'\] are unknown, expected some of \['arms'\], the fields of Bandit"),
        ("Sinusoid", {"horizon": 3}, r"options \['horizon'\] are unknown, expected some of \[\], the fields of Sinus"),
        ("Bandit", {"arms": 1}, "arms is 1"),
        ("Bandit", {"kind": "Coin"}, r"kind is 'Coin', expected one of \['Bandit', 'Binding'"),
        ("Maze", {"render_mode": "human"}, "render_mode is 'human', expected None"),
    ],
)
def test_wrong_options_are_refused(name: str, asked: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        gymnasium.make(f"metarl/{name}-v0", **asked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": 1}, r"reset options \['goal'\] are unknown, expected 'task'"),
        ({"task": {"probability": [0.5] * 5}}, "expected a Task"),
        ({"task": Task({"probability": (0.5,) * 4})}, "has 4 values, expected 5"),
        ({"task": Task({"probability": (0.5, 0.5, 1.1, 0.5, 0.5)})}, "expected values in"),
        ({"task": Task({})}, "expected"),
    ],
)
def test_wrong_resets_are_refused(options: dict[str, Any], message: str):
    env = gymnasium.make("metarl/Bandit-v0").unwrapped
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


@pytest.mark.parametrize(
    ("name", "action"),
    [("Bandit", 5), ("Bandit", -1), ("Bandit", 0.5), ("RotatedPoint", [0.0]), ("RotatedPoint", [np.nan, 0.0])],
)
def test_wrong_actions_are_refused(name: str, action: Any):
    env = gymnasium.make(f"metarl/{name}-v0").unwrapped
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action is .*, expected"):
        env.step(action)
