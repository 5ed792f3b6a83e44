"""RobotEnv: one robot, one job, one world behind gymnasium's interface. No job's particulars."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from envs import randomize
from envs.tasks import Task, TaskSpace
from envs.world import Marker, PyBulletWorld
from robots import actuation, kinematics
from robots.interface import LIMIT, Interface
from robots.spec import Array, RobotSpec

Observation = NDArray[np.float32]


@dataclass(frozen=True)
class Sight:
    """What sensors may look at: encoder readings [..., n] (rad), target [3] (m, world frame), time [...] (s)."""

    reading: Array
    target: Array
    time: Array


class Job(Protocol):
    """A whole MDP but for the body.

    `horizon` counts control steps; success is within `tolerance` [m]; `guided` says whether someone could show
    the way, so that `guide` works.
    """

    @property
    def spec(self) -> RobotSpec: ...
    @property
    def interface(self) -> Interface: ...
    @property
    def space(self) -> TaskSpace: ...
    @property
    def horizon(self) -> int: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def guided(self) -> bool: ...

    def target(self, task: Task, rng: np.random.Generator) -> Array:
        """Where the tool should go in this episode [3] (m, world frame)."""

    def start(self, rng: np.random.Generator) -> Array:
        """Where the encoders stand at the start of an episode [n] (rad): a robot homes by what it reads."""

    def sense(self, task: Task, sight: Sight, rng: np.random.Generator) -> dict[str, Array]:
        """The sensor sample: every field that the interface's observation terms read, leading axes kept."""

    def reward(self, tool: Array, target: Array, rng: np.random.Generator) -> float:
        """The measured reward at a tool position [3] (m, world frame)."""

    def guide(self, task: Task, target: Array, rng: np.random.Generator) -> Array:
        """True joint angles [..., time, n] (rad) along which a teacher's hand leads the arm to targets [..., 3]."""

    def markers(self, task: Task, target: Array) -> list[Marker]:
        """What a picture shows beside the robot."""


class RobotEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """Observation: the job's interface table. Action: joint commands in [-1, 1], one per joint.

    `reset(seed, options)` takes `options={"task": Task, "target": [3] in m, world frame}`, both optional; without
    them a training task and the job's own target are drawn. `terminated` is never set (reaching the target
    early must not cut the reward off), `truncated` is the horizon. `info` holds `distance` [m] and `is_success`.
    `task`, `target` [3] (m, world frame) and `sample` (the last sensor sample) tell where the episode stands.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (gymnasium's own form)

    def __init__(self, job: Job, render_mode: str | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}, expected None or 'rgb_array'")
        self.job, self.render_mode = job, render_mode
        self.task_space, self.interface = job.space, job.interface
        self.observation_space = gymnasium.spaces.Box(-LIMIT, LIMIT, (job.interface.observation_size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (job.interface.action_size,), np.float32)
        self.metadata = {**self.metadata, "render_fps": job.spec.control_hz}
        self.world = PyBulletWorld(job.spec)
        stated, _ = kinematics.forward(job.spec, job.spec.nominal)
        if not np.allclose(stated, self.world.tool(), atol=1e-3):
            raise ValueError(
                f"{job.spec.name}: the spec puts the tool at {stated} m in the nominal pose, {job.spec.urdf} at "
                f"{self.world.tool()}; check the joints' origins, rpy and the tool"
            )
        self.task = job.space.nominal
        self._drive = randomize.apply(self.task, job.spec, self.world)
        self.target = np.zeros(3)
        self.sample: dict[str, Array] = {}
        self._commands: deque[Array] = deque()
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        job, options = self.job, options or {}
        if unknown := set(options) - {"task", "target"}:
            raise ValueError(f"reset options {sorted(unknown)} are unknown, expected 'task' or 'target'")
        task = options.get("task")
        if task is None:
            task = job.space.sample(self.np_random)
        elif not isinstance(task, Task):
            raise ValueError(f"task is {task!r}, expected a Task; Task.from_dict makes one of plain values")
        job.space.check(task)
        target = job.target(task, self.np_random)
        if "target" in options:
            target = np.asarray(options["target"], dtype=np.float64)
            if target.shape != (3,) or not np.isfinite(target).all():
                raise ValueError(f"target is {options['target']!r}, expected 3 finite numbers [m]")
        self.task, self.target, self._steps = task, target, 0
        self._drive = randomize.apply(task, job.spec, self.world)
        self.world.place(job.start(self.np_random) - self._drive.zero)
        self._sense()
        start = self.sample["joint_position"]
        self._commands = deque([start], maxlen=self._drive.delay // job.spec.substeps + 2)
        return self.interface.observe(self.sample), self._info()

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if not self._commands:
            raise gymnasium.error.ResetNeeded("the episode has not begun: call reset() before step()")
        reward = self.move(self.interface.command(action, self._commands[0], self.sample["joint_position"]))
        return self.interface.observe(self.sample), reward, False, self._steps >= self.job.horizon, self._info()

    def move(self, command: Array) -> float:
        """Let the drives follow joint positions `command` [n] (rad, encoder frame) for a control step.

        Returns the measured reward; `sample` then holds what the sensors say.
        """
        spec, world, drive = self.job.spec, self.world, self._drive
        self._commands.appendleft(command)
        held, next_, wait = actuation.delayed(self._commands, drive.delay, spec.substeps)
        if wait:
            world.drive(*actuation.position_target(spec, held, drive.zero, drive.strength))
            world.advance(wait)
        world.drive(*actuation.position_target(spec, next_, drive.zero, drive.strength))
        world.advance(spec.substeps - wait)
        self._steps += 1
        self._sense()
        return self.job.reward(world.tool(), self.target, self.np_random)

    def guided(self, path: Array) -> dict[str, Array]:
        """Sensor samples, fields [time, size], while a hand leads the arm along `path` [time, n] (true rad).

        The hand is stronger than the motors: the arm is where it is put. Uses the task and target of the last
        reset, and nothing but sensors comes back. Reset before the next step.
        """
        self._commands.clear()
        readings = self.world.lead(path) + self._drive.zero
        time = np.arange(len(path)) / self.job.spec.control_hz
        return self.job.sense(self.task, Sight(readings, self.target, time), self.np_random)

    def render(self) -> NDArray[np.uint8] | None:
        if self.render_mode is None:
            return None
        return self.world.render(self.job.markers(self.task, self.target))

    def close(self) -> None:
        self.world.close()

    def _sense(self) -> None:
        """Read the sensors into `sample`: fields [size], in their units."""
        reading = self.world.joints()[0] + self._drive.zero
        time = np.array(self._steps / self.job.spec.control_hz)
        self.sample = self.job.sense(self.task, Sight(reading, self.target, time), self.np_random)

    def _info(self) -> dict[str, Any]:
        distance = float(np.linalg.norm(self.world.tool() - self.target))
        return {"distance": distance, "is_success": distance <= self.job.tolerance}


def make(env_id: str, render_mode: str | None = None) -> RobotEnv:
    """The environment itself, without wrappers.

    env_id: a registered id, or MODULE:ID for one that importing MODULE registers. Raises ValueError, naming the ids
    that are known, for another one.
    """
    module, colon, name = env_id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f"environment {env_id!r}: module {module!r} cannot be imported ({error})") from error
    known = sorted(known for known in gymnasium.registry if known.startswith("metarl/"))
    if name not in gymnasium.registry:
        raise ValueError(f"environment {env_id!r} is unknown, expected one of {known}, or MODULE:ID of your own")
    env = gymnasium.make(name, render_mode=render_mode).unwrapped
    if not isinstance(env, RobotEnv):
        raise ValueError(f"environment {env_id!r} is a {type(env).__name__}, expected a RobotEnv, such as {known}")
    return env
