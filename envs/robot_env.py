"""RobotEnv: one robot, one job, one world behind gymnasium's interface. No job's particulars."""

from __future__ import annotations

import importlib
import inspect
from collections import deque
from collections.abc import Callable, Mapping
from math import cos, isfinite, pi, sin
from typing import Any, NamedTuple, Protocol, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from numpy.typing import NDArray

from envs import CLASSIC, sensors
from envs.faults import Faults, body_faults, physics
from envs.state import Drive, Marker, Scene, Start, State
from envs.tasks import Measure, Task, TaskSpace
from envs.world import PyBulletWorld, World
from robots import kinematics
from robots.actions import Command
from robots.actuation import delayed, wired
from robots.interface import LIMIT, Interface
from robots.spec import Array, RobotSpec

Observation = NDArray[np.float32]
ENGINES = ("pybullet", "mujoco")
BETWEEN_PUSHES = 2.0  # [s], on average


class Sight(NamedTuple):
    """What a job's own sensors look at: the true state, the goal, and the time since the start [...] (s).

    felt: the body's own sensor fields.
    """

    state: State
    goal: Array
    time: Array
    felt: Mapping[str, Array]


class Moment(NamedTuple):
    """One control step, for its reward: true states before and after, the goal, the command and the one before.

    error: the job's, now.
    """

    before: State
    now: State
    goal: Array
    command: Command
    previous: Command
    error: float


class Job(Protocol):
    """A whole MDP but for the body.

    `horizon` counts control steps; `guided` says whether someone could show the way, so that `guide` works.
    """

    @property
    def spec(self) -> RobotSpec: ...
    @property
    def interface(self) -> Interface: ...
    @property
    def space(self) -> TaskSpace: ...
    @property
    def scene(self) -> Scene: ...
    @property
    def horizon(self) -> int: ...
    @property
    def measure(self) -> Measure: ...
    @property
    def guided(self) -> bool: ...

    def goal(self, task: Task, rng: np.random.Generator) -> Array:
        """What is asked for in this episode: a place [3] (m, world frame), a velocity command [3]."""

    def start(self, task: Task, goal: Array, rng: np.random.Generator) -> Start:
        """How an episode begins; joints as rightly wired encoders [n] (rad) have them: robots home by those."""

    def sense(self, task: Task, sight: Sight, rng: np.random.Generator) -> dict[str, Array]:
        """Sensor fields beyond the body's own (`envs.sensors`), leading axes of `time` kept."""

    def reward(self, moment: Moment, rng: np.random.Generator) -> float:
        """The measured reward of a control step."""

    def ended(self, state: State) -> bool:
        """Whether the MDP ends here: a fall."""

    def strayed(self, start: State, now: State) -> bool:
        """Whether the robot has come to the edge of its world, where an episode stops without an end of the MDP."""

    def error(self, state: State, goal: Array) -> float:
        """How far from what was asked, in the unit of `measure`."""

    def guide(self, task: Task, goal: Array, rng: np.random.Generator) -> Array:
        """True joint angles [..., time, n] (rad) along which a teacher's hand leads the arm to goals [..., 3]."""

    def markers(self, task: Task, state: State, goal: Array) -> list[Marker]:
        """What a picture shows beside the robot."""


def make_world(engine: str, spec: RobotSpec, scene: Scene) -> World:
    """A world of one of the ENGINES. Raises ValueError for another name, or for one that is not installed."""
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}, expected one of {ENGINES}")
    if engine == "pybullet":
        return PyBulletWorld(spec, scene)
    try:
        from envs.mujoco_world import MujocoWorld
    except ModuleNotFoundError as error:
        raise ValueError(f"engine 'mujoco' needs {error.name!r}: pip install '.[sim2sim]'") from error
    return MujocoWorld(spec, scene)


class RobotEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """Observation: the job's interface table. Action: see the interface's action, in [-1, 1].

    `reset(seed, options)` takes `options={"task": Task, "goal": [3], "then": (seconds, Task)}`, all optional; without
    the first two a training task and the job's own goal are drawn, and `then` is when `change` comes, and to what.
    `terminated` is the job's end (a fall; reaching a target must not cut the reward off) or a simulation that has blown
    up, then with `info["diverged"]`; `truncated` is the horizon, or the edge of the world. `info` holds `error` (see
    `job.measure`) and `is_success`. `task`, `goal`, `state` (the truth) and `sample` (the last sensor sample) tell
    where the episode stands. engine: one of ENGINES.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (gymnasium's own form)

    def __init__(self, job: Job, render_mode: str | None = None, engine: str = "pybullet") -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}, expected None or 'rgb_array'")
        self.job, self.render_mode, self.engine = job, render_mode, engine
        self.task_space, self.interface = job.space, job.interface
        self.observation_space = gymnasium.spaces.Box(-LIMIT, LIMIT, (job.interface.observation_size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (job.interface.action_size,), np.float32)
        self.metadata = {**self.metadata, "render_fps": job.spec.control_hz}
        self._fields = [term.name for term in job.interface.observation]
        if "joint_position" not in self._fields:
            self._fields.insert(0, "joint_position")
        self.world = make_world(engine, job.spec, job.scene)
        self.state = self.world.read()
        if self.state.tool is not None:
            stated, _ = kinematics.forward(job.spec, job.spec.nominal)
            if not np.allclose(stated, self.state.tool, atol=1e-3):
                raise ValueError(
                    f"{job.spec.name}: the spec puts the tool at {stated} m in the nominal pose, {job.spec.urdf} at "
                    f"{self.state.tool}; check the joints' origins, rpy and the tool"
                )
        self.task = job.space.nominal
        self._faults: Faults = body_faults(self.task, job.spec)
        self.goal = np.zeros(3)
        self.sample: dict[str, Array] = {}
        self._samples: deque[dict[str, Array]] = deque()
        self._commands: deque[Command] = deque()
        self._steps = 0
        self._then: tuple[int, Task] | None = None
        self._diverged = self._closed = False
        self._error = self._reward = 0.0
        self._first = self.state

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        if self._closed:
            raise ValueError("the environment is closed, expected an open one; make another")
        job, options = self.job, options or {}
        if unknown := set(options) - {"task", "goal", "then"}:
            raise ValueError(f"reset options {sorted(unknown)} are unknown, expected 'task', 'goal' or 'then'")
        task = options.get("task")
        if task is None:
            task = job.space.sample(self.np_random)
        elif not isinstance(task, Task):
            raise ValueError(f"task is {task!r}, expected a Task; Task.from_dict makes one of plain values")
        job.space.check(task)
        goal = job.goal(task, self.np_random)
        if "goal" in options:
            goal = np.asarray(options["goal"], dtype=np.float64)
            if goal.shape != (3,) or not np.isfinite(goal).all():
                raise ValueError(f"goal is {options['goal']!r}, expected 3 finite numbers")
        then = self._later(task, options["then"]) if "then" in options else None
        if self._diverged:  # no engine is to be trusted after that
            self.world.close()
            self.world = make_world(self.engine, job.spec, job.scene)
        if task != self.task:
            self._faults = body_faults(task, job.spec)
        self.task, self.goal, self._steps, self._diverged, self._then = task, goal, 0, False, then
        self.world.randomize(physics(task))
        start, faults = job.start(task, goal, self.np_random), self._faults
        self.world.place(start._replace(joints=start.joints - faults.zero))
        self.state = self.world.read()
        self._first, self._reward, self._error = self.state, 0.0, job.error(self.state, goal)
        self._samples.clear()
        self._commands.clear()
        self._remember()
        self._sense()
        self._commands.append(self.interface.start(self.sample))
        return self.interface.observe(self.sample, self._commands[0]), self._info()

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if not self._commands:
            raise gymnasium.error.ResetNeeded("the episode has not begun: call reset() before step()")
        job = self.job
        reward = self.move(self.interface.command(action, self._commands[0], self.sample))
        ended = self._diverged or job.ended(self.state)
        stopped = self._steps >= job.horizon or job.strayed(self._first, self.state)
        observation = self.interface.observe(self.sample, self._commands[0])
        return observation, reward, ended, stopped, self._info()

    def change(self, task: Task) -> None:
        """The world becomes another between two steps: a payload is taken up, a motor fails, an encoder slips.

        Ground that is already under foot keeps its friction in PyBullet until the foot lifts. Raises ValueError for a
        task that is none of this job's, or that has other ground or another object.
        """
        self._check_change(self.task, task)
        self.task, self._faults = task, body_faults(task, self.job.spec)
        self.world.randomize(physics(task))
        self._remember()

    def _check_change(self, now: Task, task: Task) -> None:
        self.job.space.check(task)
        before, after = physics(now), physics(task)
        if (before.tile, before.object) != (after.tile, after.object):
            raise ValueError("the ground and the object stay what they are in an episode, expected the same in both")

    def _later(self, now: Task, then: Any) -> tuple[int, Task]:
        """The control step before which the change comes, and the task. Raises ValueError for what is not a change."""
        match then:
            case (int() | float() as seconds, Task() as task) if 0 <= seconds < float("inf"):
                self._check_change(now, task)
                return round(seconds * self.job.spec.control_hz), task
        raise ValueError(f"then is {then!r}, expected (seconds from the start, Task)")

    def _remember(self) -> None:
        """Keep as many samples and commands as this task's delays need."""
        keep = self._faults.delay // self.job.spec.substeps + 2
        self._samples = deque(self._samples, maxlen=self._faults.lag + 1)
        self._commands = deque([*self._commands][:keep], maxlen=keep)

    @property
    def last(self) -> Command:
        """The last command."""
        return self._commands[0]

    def move(self, command: Command, limp: bool = False) -> float:
        """Let the drives follow a command for a control step; limp: without any torque instead, at once.

        Returns the measured reward; `sample` then holds what the sensors say. Of a simulation that has blown up
        nothing is shown, and it pays nothing: sensors and state stay as they were until the next reset, and what the
        last step cost is due at once for all that are left.
        """
        if self._then and self._then[0] == self._steps:
            self.change(self._then[1])
        substeps, world, faults, commands = self.job.spec.substeps, self.world, self._faults, self._commands
        before, previous = self.state, commands[0]
        commands.appendleft(command)
        held, next_, wait = delayed(commands, faults.delay, substeps)
        if faults.push and self.np_random.random() < 1 / (BETWEEN_PUSHES * self.job.spec.control_hz):
            angle = self.np_random.uniform(0, 2 * pi)
            world.push((faults.push * cos(angle), faults.push * sin(angle), 0.0))
        if wait:
            world.drive(self._drive(held, limp))
            world.advance(wait)
        world.drive(self._drive(next_, limp))
        world.advance(substeps - wait)
        self._steps += 1
        state = world.read()
        if self._diverged or not _sound(state):
            due = 0.0 if self._diverged else min(self._reward, 0.0) * (self.job.horizon - self._steps + 1)
            self._diverged = True
            return due
        self.state = state
        self._sense()
        self._error = self.job.error(state, self.goal)
        moment = Moment(before, state, self.goal, command, previous, self._error)
        self._reward = self.job.reward(moment, self.np_random)
        return self._reward

    def _drive(self, command: Command, limp: bool) -> Drive:
        faults = self._faults
        target = wired(command.target, faults.exchanged, faults.reversed, self.job.spec.nominal) - faults.zero
        return Drive(target, self.job.spec.still if limp else faults.effort, faults.velocity, command.grip)

    def guided(self, path: Array) -> dict[str, Array]:
        """Sensor samples, fields [time, size], while a hand leads the arm along `path` [time, n] (true rad).

        The hand is stronger than the motors: the arm is where it is put. Uses the task and goal of the last
        reset, and nothing but sensors comes back. Reset before the next step.
        """
        self._commands.clear()
        led = self.state._replace(joints=self.world.lead(path))
        return self._feel(led, np.arange(len(path)) / self.job.spec.control_hz)

    def render(self) -> NDArray[np.uint8] | None:
        if self.render_mode is None:
            return None
        return self.world.render(self.job.markers(self.task, self.state, self.goal))

    def close(self) -> None:
        self._closed = True
        self._commands.clear()
        self.world.close()

    def _sense(self) -> None:
        """Read the sensors into `sample`, as late as they are: fields [size], in their units."""
        self._samples.append(self._feel(self.state, np.array(self._steps / self.job.spec.control_hz)))
        self.sample = self._samples[0]

    def _feel(self, state: State, time: Array) -> dict[str, Array]:
        sample = sensors.body(self._fields, self.job.spec, state, self._faults, self.np_random)
        sample.update(self.job.sense(self.task, Sight(state, self.goal, time, sample), self.np_random))
        return sample

    def _info(self) -> dict[str, Any]:
        good = self._error <= self.job.measure.tolerance and not self._diverged
        info = {"error": self._error, "is_success": good}
        if self._diverged:
            info["diverged"] = True
        return info


def _sound(state: State) -> bool:
    """Whether a state is one that a robot can be in: finite, near, and slower than what blows up (NaN compares false).

    Bullet holds every speed at 100 rad/s or m/s at most, and so hides what it cannot solve.
    """
    # A sum of squares is finite if all of them are, and costs a fifth of asking each.
    speeds = state.speeds
    turning = float(speeds.dot(speeds))
    squares = turning + float(state.joints.dot(state.joints) + state.torques.dot(state.torques))
    if state.tool is not None:
        squares += float(state.tool.dot(state.tool))
    if not isfinite(squares) or (turning > 99**2 and np.abs(speeds).max() > 99):
        return False
    for body in (state.base, state.object):
        if body is not None:
            (x, y, z), (a, b, c, d), (u, v, w), (p, q, r) = body
            if not (-1000 < x < 1000 and -1000 < y < 1000 and -1000 < z < 1000 and isfinite(a + b + c + d + p + q + r)):
                return False
            if not (-50 < u < 50 and -50 < v < 50 and -50 < w < 50):
                return False
    return True


def make(env_id: str, render_mode: str | None = None, engine: str = "pybullet", **options: Any) -> RobotEnv:
    """The environment itself, without wrappers.

    env_id: a registered id, or MODULE:ID for one that importing MODULE registers. options: fields of its job. Raises
    ValueError, naming the ids that are known, for another one, and for options that it does not take.
    """
    module, colon, name = env_id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f"environment {env_id!r}: module {module!r} cannot be imported ({error})") from error
    known = sorted(known for known in gymnasium.registry if known.startswith("metarl/") and known[7:-3] not in CLASSIC)
    if name not in gymnasium.registry:
        raise ValueError(f"environment {env_id!r} is unknown, expected one of {known}, or MODULE:ID of your own")
    spec, arguments = gymnasium.spec(name), {"render_mode": render_mode, "engine": engine, **options}
    entry = spec.entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    signature = inspect.signature(cast(Callable[..., Any], creator))
    if "engine" not in signature.parameters:
        raise ValueError(f"environment {env_id!r} is no RobotEnv, expected one of {known}, or MODULE:ID of your own")
    try:
        signature.bind(**{**spec.kwargs, **arguments})
    except TypeError as error:
        raise ValueError(f"environment {env_id!r} takes the options {signature}: {error}") from error
    env = gymnasium.make(name, **arguments).unwrapped
    if not isinstance(env, RobotEnv):
        raise ValueError(f"environment {env_id!r} is a {type(env).__name__}, expected a RobotEnv, such as {known}")
    return env
