"""The arm's jobs, each a whole MDP on a page: Reach and Seek."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from envs.randomize import body_parameters
from envs.rewards import closeness
from envs.robot_env import RobotEnv, Sight
from envs.tasks import Parameter, Task, TaskSpace
from envs.world import Marker
from robots import kinematics
from robots.arms import PANDA
from robots.interface import ActionTerm, Interface, ObservationTerm
from robots.spec import Array, RobotSpec

CENTER = np.array([0.5, 0.0, 0.3])  # of the workspace [m, base frame]; the camera looks down at it
HALF = np.array([0.15, 0.25, 0.15])  # of the workspace's edges [m]
ENCODER_NOISE = 0.001  # [rad], one standard deviation
CAMERA_NOISE = 0.001  # [m]
REWARD_NOISE = 0.01  # [m]


def joint_terms(spec: RobotSpec) -> tuple[ObservationTerm, ActionTerm]:
    """Encoder readings around the nominal pose, and increments of the joint command: 0.1 rad per step at most."""
    n = len(spec.joints)
    reading = ObservationTerm("joint_position", "rad", "encoder", spec.nominal_pose, (0.5,) * n)
    command = ActionTerm(
        "joint_increment", "rad", (0.1,) * n, tuple(spec.lower.tolist()), tuple(spec.upper.tolist()), lead=0.3
    )
    return reading, command


def interface(spec: RobotSpec, *others: ObservationTerm) -> Interface:
    reading, command = joint_terms(spec)
    return Interface(spec.name, spec.joint_names, spec.control_hz, (reading, *others), command)


def seen(target: Array, yaw: float, shift: Array) -> Array:
    """Where a camera over the workspace's centre reports `target` [3] if its mounting is turned and shifted (m)."""
    c, s = np.cos(yaw), np.sin(yaw)
    x, y, z = target - CENTER
    place: Array = CENTER + shift + (c * x + s * y, c * y - s * x, z)
    return place


@dataclass(frozen=True)
class Reach:
    """Reach targets seen through a camera whose mounting is off.

    | observation | size | unit | frame |
    |---|---|---|---|
    | joint_position | joints | rad | encoder (with its unknown zero) |
    | camera_target | 3 | m | base, by the camera's nominal mounting |

    Reward: minus the distance [m]. Unknown: `body_parameters`, the camera's yaw and shift. The target is drawn
    anew in every episode. Horizon 2 s.
    """

    spec: RobotSpec
    horizon: int = 40
    tolerance: float = 0.03
    guided: bool = True

    @cached_property
    def interface(self) -> Interface:
        camera = ObservationTerm("camera_target", "m", "base, nominal camera", tuple(CENTER.tolist()), (0.25,) * 3)
        return interface(self.spec, camera)

    @cached_property
    def space(self) -> TaskSpace:
        return TaskSpace(
            (
                Parameter("camera_yaw", "rad", 0.0, -np.pi / 3, np.pi / 3, "set"),
                Parameter("camera_shift", "m", 0.0, -0.15, 0.15, "set", size=3),
                *body_parameters(self.spec),
            )
        )

    def target(self, task: Task, rng: np.random.Generator) -> Array:
        return CENTER + HALF * rng.uniform(-1, 1, 3)

    def start(self, rng: np.random.Generator) -> Array:
        return self.spec.nominal + rng.normal(0, 0.05, len(self.spec.joints))

    def sense(self, task: Task, sight: Sight, rng: np.random.Generator) -> dict[str, Array]:
        target = seen(sight.target, task.values["camera_yaw"][0], task["camera_shift"])
        return {
            "joint_position": sight.reading + rng.normal(0, ENCODER_NOISE, sight.reading.shape),
            "camera_target": target + rng.normal(0, CAMERA_NOISE, (*sight.time.shape, 3)),
        }

    def reward(self, tool: Array, target: Array, rng: np.random.Generator) -> float:
        return closeness(tool, target)

    def guide(self, task: Task, target: Array, rng: np.random.Generator) -> Array:
        """1.2 s of pulling the hand to the target: a share of the way each step, no joint faster than 2 rad/s.

        The arm yields as little as it can and keeps what posture it has: a hand that knew the nominal posture in
        true angles would give the joint zeros away. It starts where its encoders take for near nominal.
        """
        noise = rng.normal(0, 0.12, (*target.shape[:-1], len(self.spec.joints)))
        path = [self.spec.nominal + noise - task["joint_zero"]]
        for _ in range(24):
            step = 0.3 * kinematics.toward(self.spec, path[-1], target)
            step /= np.maximum(1.0, np.abs(step).max(axis=-1, keepdims=True) / 0.1)
            path.append(np.clip(path[-1] + step, self.spec.lower, self.spec.upper))
        return np.stack(path, axis=-2)

    def markers(self, task: Task, target: Array) -> list[Marker]:
        """Green: the target. Blue: where the camera reports it."""
        believed = seen(target, task.values["camera_yaw"][0], task["camera_shift"])
        return [(target, (0.1, 0.8, 0.2, 1.0)), (believed, (0.2, 0.4, 1.0, 0.6))]


@dataclass(frozen=True)
class Seek:
    """Go to a target that no sensor sees; only a noisy distance is measured, as reward (Meta-World's ML1 reach).

    | observation | size | unit | frame |
    |---|---|---|---|
    | joint_position | joints | rad | encoder (with its unknown zero) |
    | time | 1 | s | since the attempt began |

    Reward: minus the distance [m], with 1 cm of noise. Unknown: the target, `body_parameters`. Horizon 1 s.
    """

    spec: RobotSpec
    horizon: int = 20
    tolerance: float = 0.03
    guided: bool = False

    @cached_property
    def interface(self) -> Interface:
        return interface(self.spec, ObservationTerm("time", "s", "attempt", (0.5,), (0.5,)))

    @cached_property
    def space(self) -> TaskSpace:
        axes = zip("xyz", CENTER.tolist(), HALF.tolist(), strict=True)
        target = tuple(Parameter(f"target_{axis}", "m", c, c - half, c + half, "set") for axis, c, half in axes)
        return TaskSpace((*target, *body_parameters(self.spec)))

    def target(self, task: Task, rng: np.random.Generator) -> Array:
        return np.array([task.values[f"target_{axis}"][0] for axis in "xyz"])

    def start(self, rng: np.random.Generator) -> Array:
        return self.spec.nominal + rng.normal(0, 0.02, len(self.spec.joints))

    def sense(self, task: Task, sight: Sight, rng: np.random.Generator) -> dict[str, Array]:
        return {
            "joint_position": sight.reading + rng.normal(0, ENCODER_NOISE, sight.reading.shape),
            "time": sight.time[..., None],
        }

    def reward(self, tool: Array, target: Array, rng: np.random.Generator) -> float:
        return closeness(tool, target) + float(rng.normal(0, REWARD_NOISE))

    def guide(self, task: Task, target: Array, rng: np.random.Generator) -> Array:
        raise ValueError("Seek has no guided motions: nobody knows the target; use the objective 'reward'")

    def markers(self, task: Task, target: Array) -> list[Marker]:
        """Green: the target, which the robot does not see."""
        return [(target, (0.1, 0.8, 0.2, 1.0))]


def panda_reach(render_mode: str | None = None) -> RobotEnv:
    return RobotEnv(Reach(PANDA), render_mode)


def panda_seek(render_mode: str | None = None) -> RobotEnv:
    return RobotEnv(Seek(PANDA), render_mode)
