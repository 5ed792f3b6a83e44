"""What a policy may see beside the observation: the task itself, or its own past."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from envs.classic_env import ClassicEnv
from envs.robot_env import Observation, RobotEnv
from metarl.sampling.history import History
from robots.interface import LIMIT


class Privileged(gymnasium.ObservationWrapper[Observation, Any, Observation]):
    """The encoded task after the observation."""

    def __init__(self, env: RobotEnv | ClassicEnv) -> None:
        super().__init__(env)
        self._inner = env
        seen = env.observation_space
        assert isinstance(seen, gymnasium.spaces.Box)
        told = np.full(env.task_space.size, LIMIT, np.float32)
        low, high = np.concatenate([seen.low, -told]), np.concatenate([seen.high, told])
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)

    def observation(self, observation: Observation) -> Observation:
        known = self._inner.task_space.encode(self._inner.task)
        return np.concatenate([observation, known]).astype(np.float32)


class Past(gymnasium.Wrapper[Observation, Any, Observation, Any]):
    """The last `length` observations and actions, as `History` has them."""

    def __init__(self, env: RobotEnv, length: int) -> None:
        super().__init__(env)
        sizes = env.interface.observation_size, env.interface.action_size
        self._history = History(length, *sizes)
        limit = np.full(length * sum(sizes), LIMIT, np.float32)
        self.observation_space = gymnasium.spaces.Box(-limit, limit, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._history.start()
        return self._history.see(observation), info

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        observation, reward, ended, stopped, info = self.env.step(action)
        self._history.act(action)
        return self._history.see(observation), reward, ended, stopped, info
