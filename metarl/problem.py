"""What learning needs to know of an environment, be it a robot's or one of the papers' little ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium

from envs.classic import Classic
from envs.classic_env import ClassicEnv
from envs.robot_env import Job, RobotEnv, make
from envs.symmetry import Symmetry, symmetry
from envs.tasks import Measure, TaskSpace
from metarl.config import tuples

CLASSIC = "envs.classic_env:build"  # the entry point of all that is no robot
# Observation terms that say what is asked for or what was done, and so need no forecast.
TOLD = ("camera_target", "velocity_command", "goal_position", "last_action", "gait_phase", "time")


@dataclass(frozen=True)
class Problem:
    """Sizes, tasks and measure of one environment: of a robot's Job, or else of a Classic.

    felt: elements of the observation that the robot's own sensors bring.
    """

    env: str
    options: Mapping[str, Any]
    robot: Job | None
    classic: Classic | None
    observation: int
    action: int
    discrete: bool
    felt: tuple[int, ...]

    @property
    def job(self) -> Job | Classic:
        job = self.robot or self.classic
        assert job is not None
        return job

    @property
    def space(self) -> TaskSpace:
        return self.job.space

    @property
    def horizon(self) -> int:
        return self.job.horizon

    @property
    def measure(self) -> Measure:
        return self.job.measure

    @property
    def guided(self) -> bool:
        return self.job.guided

    @property
    def falls(self) -> bool:
        """Whether an episode that ends early has failed, as a robot's; the little ones end where they arrive."""
        return self.robot is not None

    @cached_property
    def symmetry(self) -> Symmetry | None:
        """Of a robot that is its own mirror image, with all that is unknown of it."""
        return symmetry(self.robot) if self.robot else None

    @property
    def seconds(self) -> float:
        """Of one control step; 1 where there is no robot."""
        return 1 / self.robot.interface.control_hz if self.robot else 1.0

    @classmethod
    def of(cls, env_id: str, options: Mapping[str, Any] | None = None) -> Problem:
        """Raises ValueError for an environment that is not known, or does not take the options."""
        options = tuples(options or {})
        env = open_env(env_id, options)
        env.close()
        if isinstance(env, ClassicEnv):
            job = env.job
            felt = tuple(range(job.observation_size))
            return cls(env_id, options, None, job, job.observation_size, job.action_size, job.discrete, felt)
        interface = env.job.interface
        felt, start = (), 0
        for term in interface.observation:
            end = start + len(term.scale)
            felt += () if term.name in TOLD else tuple(range(start, end))
            start = end
        sizes = interface.observation_size, interface.action_size
        return cls(env_id, options, env.job, None, *sizes, discrete=False, felt=felt)


def open_env(env_id: str, options: Mapping[str, Any]) -> RobotEnv | ClassicEnv:
    """The environment itself, without wrappers. Raises ValueError as `envs.robot_env.make` does."""
    known = gymnasium.registry.get(env_id)
    if known is None and ":" not in env_id:
        ids = sorted(name for name in gymnasium.registry if name.startswith("metarl/"))
        raise ValueError(f"environment {env_id!r} is unknown, expected one of {ids}, or MODULE:ID of your own")
    if known is None or known.entry_point != CLASSIC:
        return make(env_id, **options)
    env = gymnasium.make(env_id, **options).unwrapped
    assert isinstance(env, ClassicEnv)
    return env
