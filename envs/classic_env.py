"""ClassicEnv: one row of a classic family behind gymnasium's interface. No family's particulars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import inf
from typing import Any

import gymnasium
import numpy as np

from envs.classic import JOBS, Classic, Floats, State, stacked
from envs.tasks import Task
from robots.spec import Array


class ClassicEnv(gymnasium.Env[Floats, Any]):
    """Observation: the job's. Action: an index where the job is discrete, otherwise numbers in ±`job.action_limit`.

    `reset(seed, options)` takes `options={"task": Task}`; without it a training task is drawn. `terminated` is the end
    of the job's MDP, `truncated` its horizon if it has not ended by then. `info` holds `error` (see `job.measure`;
    infinite before the first step) and `is_success`. `task` tells where the episode plays.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's own form)

    def __init__(self, job: Classic, render_mode: str | None = None) -> None:
        if render_mode is not None:
            raise ValueError(f"render_mode is {render_mode!r}, expected None: there is nothing to see")
        self.job, self.render_mode, self.task_space = job, render_mode, job.space
        limit, reach = job.observation_limit, job.action_limit
        self.observation_space = gymnasium.spaces.Box(-limit, limit, (job.observation_size,), np.float32)
        self.action_space = (
            gymnasium.spaces.Discrete(job.action_size)
            if job.discrete
            else gymnasium.spaces.Box(-reach, reach, (job.action_size,), np.float32)
        )
        self.task = job.space.nominal
        self._state: State = None
        self._steps = 0
        self._error = inf

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        super().reset(seed=seed)
        options = options or {}
        if unknown := set(options) - {"task"}:
            raise ValueError(f"reset options {sorted(unknown)} are unknown, expected 'task'")
        task = options.get("task")
        if task is None:
            task = self.job.space.sample(self.np_random)
        elif not isinstance(task, Task):
            raise ValueError(f"task is {task!r}, expected a Task; Task.from_dict makes one of plain values")
        self.job.space.check(task)
        self.task, self._steps, self._error = task, 0, inf
        self._state, observation = self.job.start(stacked(self.job.space, [task]), self._draw())
        return observation[0], self._info()

    def step(self, action: Any) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        if self._state is None:
            raise gymnasium.error.ResetNeeded("the episode has not begun: call reset() before step()")
        self._state, outcome = self.job.step(self._state, self._vector(action), self._draw())
        self._steps += 1
        self._error = float(outcome.error[0])
        ended = bool(outcome.ended[0])
        stopped = self._steps >= self.job.horizon and not ended
        return outcome.observation[0], float(outcome.reward[0]), ended, stopped, self._info()

    def _vector(self, action: Any) -> Floats:
        """The job's action [1, action_size]. Raises ValueError for one that is none."""
        if self.job.discrete:
            if not self.action_space.contains(action):
                raise ValueError(f"action is {action!r}, expected a whole number from 0 to {self.job.action_size - 1}")
            return np.eye(self.job.action_size, dtype=np.float32)[[int(action)]]
        vector = np.asarray(action, dtype=np.float32)
        if vector.shape != (self.job.action_size,) or not np.isfinite(vector).all():
            raise ValueError(f"action is {action!r}, expected {self.job.action_size} finite numbers")
        return vector[None]

    def _draw(self) -> Array:
        return self.np_random.random((1, self.job.draws))

    def _info(self) -> dict[str, Any]:
        return {"error": self._error, "is_success": self._error <= self.job.measure.tolerance}


def build(kind: str, render_mode: str | None = None, **asked: Any) -> ClassicEnv:
    """The environment of one of envs.classic.JOBS by name; what is `asked` are its fields.

    Raises ValueError for another name or field.
    """
    if kind not in JOBS:
        raise ValueError(f"kind is {kind!r}, expected one of {sorted(JOBS)}")
    known = [field.name for field in fields(JOBS[kind])]
    if unknown := sorted(set(asked) - set(known)):
        raise ValueError(f"options {unknown} are unknown, expected some of {known}, the fields of {kind}")
    return ClassicEnv(JOBS[kind](**asked), render_mode)
