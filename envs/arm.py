"""The arm's jobs, each a whole MDP on a page: Reach and Seek."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from envs import options
from envs.faults import chosen, noise
from envs.rewards import gap
from envs.robot_env import Moment, RobotEnv, Sight
from envs.state import Marker, Scene, Start, State
from envs.tasks import Choice, Measure, Parameter, Task, TaskSpace
from robots import arms, kinematics
from robots.actions import JointIncrement
from robots.interface import Interface, ObservationTerm
from robots.spec import Array, RobotSpec

CENTER = np.array([0.5, 0.0, 0.3])  # of the workspace [m, base frame]; the camera looks down at it
HALF = np.array([0.15, 0.25, 0.15])  # of the workspace's edges [m]
CAMERA_NOISE = 0.001  # [m], one standard deviation
REWARD_NOISE = 0.01  # [m]
NEAR = Measure("distance", "m", 0.03)
Unknown = Sequence[str | Parameter | Choice]
BODY = ("joint_zero", "strength", "delay", "damping", "payload")  # what may be off in the body itself
OWN = {
    parameter.name: parameter
    for parameter in (
        Parameter("camera_yaw", "rad", 0.0, -np.pi / 3, np.pi / 3, "set"),
        Parameter("camera_shift", "m", 0.0, -0.15, 0.15, "set", size=3),
        Parameter("payload", "kg", 0.0, 0.0, 1.0, "add", bounds=(0.0, 3.0)),
    )
}
BARE = Scene()


def reading(spec: RobotSpec) -> ObservationTerm:
    """The encoders, around the nominal pose."""
    return ObservationTerm("joint_position", "rad", "encoder", spec.nominal_pose, (0.5,) * len(spec.joints))


def interface(spec: RobotSpec, *others: ObservationTerm) -> Interface:
    """Encoders and `others`; actions move the joint commands by 0.1 rad per step at most."""
    lower, upper = tuple(spec.lower.tolist()), tuple(spec.upper.tolist())
    action = JointIncrement((0.1,) * len(spec.joints), lower, upper, lead=0.3)
    return Interface(spec.name, spec.joint_names, spec.control_hz, (reading(spec), *others), action)


def seen(target: Array, yaw: float, shift: Array) -> Array:
    """Where a camera over the workspace's centre reports `target` [3] if its mounting is turned and shifted (m)."""
    c, s = np.cos(yaw), np.sin(yaw)
    x, y, z = target - CENTER
    place: Array = CENTER + shift + (c * x + s * y, c * y - s * x, z)
    return place


def believed(task: Task, place: Array) -> Array:
    """Where this task's camera reports a place [3] (m)."""
    values = task.values
    if "camera_yaw" not in values and "camera_shift" not in values:
        return place
    return seen(place, values.get("camera_yaw", (0.0,))[0], np.array(values.get("camera_shift", (0.0, 0.0, 0.0))))


@dataclass(frozen=True)
class Reach:
    """Reach targets seen through a camera whose mounting is off.

    | observation | size | unit | frame |
    |---|---|---|---|
    | joint_position | joints | rad | encoder (with its unknown zero) |
    | camera_target | 3 | m | base, by the camera's nominal mounting |

    Reward: minus the distance [m]. Unknown: the camera's yaw and shift, and BODY; or what `unknown` names of OWN and
    `envs.faults.catalogue`, and Parameters of your own. The target is drawn anew in every episode. Horizon 2 s.
    """

    spec: RobotSpec
    unknown: Unknown = ("camera_yaw", "camera_shift", *BODY)
    horizon: int = 40
    measure: Measure = NEAR
    scene: Scene = BARE
    guided: bool = True

    def __post_init__(self) -> None:
        options.unknowns(self.unknown)
        options.whole("horizon", self.horizon, 1)

    @cached_property
    def interface(self) -> Interface:
        camera = ObservationTerm("camera_target", "m", "base, nominal camera", tuple(CENTER.tolist()), (0.25,) * 3)
        return interface(self.spec, camera)

    @cached_property
    def space(self) -> TaskSpace:
        return TaskSpace(chosen(self.spec, self.unknown, OWN))

    def goal(self, task: Task, rng: np.random.Generator) -> Array:
        return CENTER + HALF * rng.uniform(-1, 1, 3)

    def start(self, task: Task, goal: Array, rng: np.random.Generator) -> Start:
        return Start(self.spec.nominal + rng.normal(0, 0.05, len(self.spec.joints)))

    def sense(self, task: Task, sight: Sight, rng: np.random.Generator) -> dict[str, Array]:
        target = believed(task, sight.goal)
        return {"camera_target": target + rng.normal(0, CAMERA_NOISE * noise(task), (*sight.time.shape, 3))}

    def reward(self, moment: Moment, rng: np.random.Generator) -> float:
        return -moment.error

    def ended(self, state: State) -> bool:
        return False

    def strayed(self, start: State, now: State) -> bool:
        return False

    def error(self, state: State, goal: Array) -> float:
        return gap(state.tool, goal)

    def guide(self, task: Task, goal: Array, rng: np.random.Generator) -> Array:
        """1.2 s of pulling the hand to the target: a share of the way each step, no joint faster than 2 rad/s.

        The arm yields as little as it can and keeps what posture it has: a hand that knew the nominal posture in
        true angles would give the joint zeros away. It starts where its encoders take for near nominal.
        """
        noise = rng.normal(0, 0.12, (*goal.shape[:-1], len(self.spec.joints)))
        path = [self.spec.nominal + noise - np.array(task.values.get("joint_zero", 0.0))]
        for _ in range(24):
            step = 0.3 * kinematics.toward(self.spec, path[-1], goal)
            step /= np.maximum(1.0, np.abs(step).max(axis=-1, keepdims=True) / 0.1)
            path.append(np.clip(path[-1] + step, self.spec.lower, self.spec.upper))
        return np.stack(path, axis=-2)

    def markers(self, task: Task, state: State, goal: Array) -> list[Marker]:
        """Green: the target. Blue: where the camera reports it."""
        return [(goal, (0.1, 0.8, 0.2, 1.0)), (believed(task, goal), (0.2, 0.4, 1.0, 0.6))]


@dataclass(frozen=True)
class Seek:
    """Go to a target that no sensor sees; only a noisy distance is measured, as reward (Meta-World's ML1 reach).

    | observation | size | unit | frame |
    |---|---|---|---|
    | joint_position | joints | rad | encoder (with its unknown zero) |
    | time | 1 | s | since the attempt began |

    Reward: minus the distance [m], with 1 cm of noise. Unknown: the target, and `unknown` as in Reach.
    Horizon 1 s.
    """

    spec: RobotSpec
    unknown: Unknown = BODY
    horizon: int = 20
    measure: Measure = NEAR
    scene: Scene = BARE
    guided: bool = False

    def __post_init__(self) -> None:
        options.unknowns(self.unknown)
        options.whole("horizon", self.horizon, 1)

    @cached_property
    def interface(self) -> Interface:
        return interface(self.spec, ObservationTerm("time", "s", "attempt", (0.5,), (0.5,)))

    @cached_property
    def space(self) -> TaskSpace:
        axes = zip("xyz", CENTER.tolist(), HALF.tolist(), strict=True)
        target = tuple(Parameter(f"target_{axis}", "m", c, c - half, c + half, "set") for axis, c, half in axes)
        return TaskSpace((*target, *chosen(self.spec, self.unknown, OWN)))

    def goal(self, task: Task, rng: np.random.Generator) -> Array:
        return np.array([task.values[f"target_{axis}"][0] for axis in "xyz"])

    def start(self, task: Task, goal: Array, rng: np.random.Generator) -> Start:
        return Start(self.spec.nominal + rng.normal(0, 0.02, len(self.spec.joints)))

    def sense(self, task: Task, sight: Sight, rng: np.random.Generator) -> dict[str, Array]:
        return {"time": sight.time[..., None]}

    def reward(self, moment: Moment, rng: np.random.Generator) -> float:
        return float(rng.normal(0, REWARD_NOISE)) - moment.error

    def ended(self, state: State) -> bool:
        return False

    def strayed(self, start: State, now: State) -> bool:
        return False

    def error(self, state: State, goal: Array) -> float:
        return gap(state.tool, goal)

    def guide(self, task: Task, goal: Array, rng: np.random.Generator) -> Array:
        raise ValueError("Seek has no guided motions: nobody knows the target; use the objective 'reward'")

    def markers(self, task: Task, state: State, goal: Array) -> list[Marker]:
        """Green: the target, which the robot does not see."""
        return [(goal, (0.1, 0.8, 0.2, 1.0))]


ROBOTS = {spec.name: spec for spec in vars(arms).values() if isinstance(spec, RobotSpec)}
JOBS: dict[str, Any] = {job.__name__: job for job in (Reach, Seek)}


def build(
    robot: str | RobotSpec, job: str, render_mode: str | None = None, engine: str = "pybullet", **asked: Any
) -> RobotEnv:
    """An arm's environment: one of ROBOTS by name, or your own, and one of JOBS; what is `asked` are its fields."""
    if job not in JOBS:
        raise ValueError(f"job is {job!r}, expected one of {sorted(JOBS)}")
    return RobotEnv(options.arrange(JOBS[job], robot, ROBOTS, asked), render_mode, engine)
