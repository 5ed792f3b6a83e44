"""The legged robots' job, a whole MDP on a page: Walk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import cos, pi, sin
from typing import Any

import numpy as np

from envs import options, terrain
from envs.faults import chosen
from envs.frames import heading, into, turned, upright
from envs.rewards import mean_square, miss, tracking
from envs.robot_env import Moment, RobotEnv, Sight
from envs.state import Marker, Motion, Pose, Scene, Start, State
from envs.tasks import Choice, Measure, Parameter, Task, TaskSpace
from robots import legged
from robots.actions import Action, GaitResidual, JointTarget
from robots.gait import Gait
from robots.interface import Interface, ObservationTerm
from robots.spec import Array, RobotSpec

Range = tuple[float, float]
EDGE = terrain.TILE / 2 - 0.2  # [m] from where a robot starts: there its tile ends
ON_PACE = Measure("velocity error", "m/s", 0.1)


@dataclass(frozen=True)
class Walk:
    """Walk at a commanded planar velocity and yaw rate, drawn anew in every episode.

    | observation | size | unit | scale | frame |
    |---|---|---|---|---|
    | angular_velocity | 3 | rad/s | 2 | base, by the IMU |
    | gravity | 3 | 1 | 1 | base, by the IMU: where down is |
    | joint_position | n | rad | 0.5, from nominal | encoder (with its unknown zero) |
    | joint_velocity | n | rad/s | 10 | encoder |
    | velocity_command | 3 | m/s, m/s, rad/s | 0.5 | base, horizontal: forward, left, yaw rate |
    | last_action | n + 3 | 1 | 1 | |
    | gait_phase | 2 | 1 | 1 | sine and cosine of the cycle |

    | action | size | meaning |
    |---|---|---|
    | residual | n | joint targets around the gait's, +-`residual` rad at most |
    | modulation | 3 | frequency, lift and stance of the gait, over their ranges |

    With `gait=False` joint targets lie around the nominal pose, and modulation and phase are gone.

    | reward, per control step | |
    |---|---|
    | velocity | exp(-miss^2 / 0.05), miss of the horizontal velocity [m/s] |
    | turning | 0.5 exp(-miss^2 / 0.1), miss of the yaw rate [rad/s] |
    | steadiness | -0.5 v_z^2 - 0.02 (w_x^2 + w_y^2), of the base |
    | effort | -0.2 mean square of torque over rated torque |
    | smoothness | -0.1 mean square of the change of action |

    Ends when the trunk lies over (up < 0.5) or sinks below 0.4 of its standing height over ground. Horizon 20 s, or
    the edge of the tile.

    | unknown | unit | from, to |
    |---|---|---|
    | friction | 1 | 0.4, 1.25, of the ground |
    | payload | kg | 0, the robot's rated one, on the trunk |
    | joint_strength | 1 | 0.7, 1 of the rated torque, each joint |
    | joint_zero | rad | -0.05, 0.05, each joint |
    | delay | s | 0, 0.04, of actions |
    | ground, level | | kinds of `envs.terrain`; `easiest` (0) to `level` (1): only if `ground` names some |

    `unknown` takes any names of `envs.faults.catalogue`, or Parameters of your own.
    """

    spec: RobotSpec
    unknown: Sequence[str | Parameter | Choice] = ("friction", "payload", "joint_strength", "joint_zero", "delay")
    ground: tuple[str, ...] = ()
    level: float = 1.0
    easiest: float = 0.0
    forward: Range = (-0.3, 0.7)
    left: Range = (-0.2, 0.2)
    yaw_rate: Range = (-0.5, 0.5)
    gait: bool = True
    residual: float = 0.3
    frequency: Range = (2.0, 3.0)
    lift: Range = (0.02, 0.1)
    stance: Range = (0.5, 0.8)
    horizon: int = 1000
    measure: Measure = ON_PACE
    ground_seed: int = 0
    guided: bool = False

    def __post_init__(self) -> None:
        options.unknowns(self.unknown)
        options.names("ground", self.ground)
        options.number("level", self.level, 0.001, 1)
        options.number("easiest", self.easiest, 0, self.level - 0.001)
        options.number("residual", self.residual, 0.001)
        options.whole("horizon", self.horizon, 1)
        options.whole("ground_seed", self.ground_seed, 0)
        for name in ("forward", "left", "yaw_rate"):
            options.interval(name, getattr(self, name))
        options.interval("frequency", self.frequency, 0.1)  # [Hz]
        options.interval("lift", self.lift, 0)
        options.interval("stance", self.stance, 0.05, 0.95)

    @cached_property
    def interface(self) -> Interface:
        spec, n = self.spec, len(self.spec.joints)
        lower, upper = tuple(spec.lower.tolist()), tuple(spec.upper.tolist())
        scale, ahead = (self.residual,) * n, (0.0,)
        action: Action = JointTarget(spec.nominal_pose, scale, lower, upper)
        if self.gait:
            action = GaitResidual(
                spec.nominal_pose, scale, lower, upper, Gait.trot(spec), spec.control_hz,
                self.frequency, self.lift, self.stance,
            )  # fmt: skip
        terms = [
            ObservationTerm("angular_velocity", "rad/s", "base, by the IMU", ahead * 3, (2.0,) * 3),
            ObservationTerm("gravity", "1", "base, by the IMU", ahead * 3, (1.0,) * 3),
            ObservationTerm("joint_position", "rad", "encoder", spec.nominal_pose, (0.5,) * n),
            ObservationTerm("joint_velocity", "rad/s", "encoder", ahead * n, (10.0,) * n),
            ObservationTerm("velocity_command", "m/s, rad/s", "base, horizontal", ahead * 3, (0.5,) * 3),
            ObservationTerm("last_action", "1", "", ahead * action.size, (1.0,) * action.size),
            ObservationTerm("gait_phase", "1", "", ahead * 2, (1.0,) * 2),
        ]
        return Interface(
            spec.name, spec.joint_names, spec.control_hz, tuple(terms[: None if self.gait else -1]), action
        )

    @cached_property
    def space(self) -> TaskSpace:
        unknown = chosen(self.spec, self.unknown)
        if not self.ground:
            return TaskSpace(unknown)
        level = Parameter("level", "1", self.easiest, self.easiest, self.level, "set", bounds=(0.0, 1.0))
        return TaskSpace((Choice("ground", self.ground), level, *unknown))

    @cached_property
    def scene(self) -> Scene:
        grid = terrain.grid(self.ground, self.ground_seed) if self.ground else None
        return Scene(terrain=grid, payload_at="payload_at" in self.space.nominal.values)

    def goal(self, task: Task, rng: np.random.Generator) -> Array:
        drawn: Array = rng.uniform(*np.transpose([self.forward, self.left, self.yaw_rate]))
        return drawn

    def start(self, task: Task, goal: Array, rng: np.random.Generator) -> Start:
        x = y = 0.0
        if self.scene.terrain is not None:
            kind, level = self.ground[int(task.values["ground"][0])], terrain.row(task.values["level"][0])
            x, y = self.scene.terrain.centre(kind, level).tolist()
        base = Pose((x, y, self._ground(x, y) + self.spec.height + 0.01), turned(0.0, 0.0, rng.uniform(-pi, pi)))
        return Start(self.spec.nominal + rng.normal(0, 0.03, len(self.spec.joints)), base)

    def sense(self, task: Task, sight: Sight, rng: np.random.Generator) -> dict[str, Array]:
        return {"velocity_command": sight.goal}

    def reward(self, moment: Moment, rng: np.random.Generator) -> float:
        base = _base(moment.now)
        roll_rate, pitch_rate, yaw_rate = into(base.quaternion, base.angular)
        action, last = moment.command.action, moment.previous.action
        return (
            tracking(moment.error, 0.05)
            + 0.5 * tracking(yaw_rate - float(moment.goal[2]), 0.1)
            - 0.5 * base.velocity[2] ** 2
            - 0.02 * (roll_rate**2 + pitch_rate**2)
            - 0.2 * mean_square(moment.now.torques / self.spec.effort)
            - 0.1 * mean_square(action - last)
        )

    def ended(self, state: State) -> bool:
        x, y, z = _base(state).position
        return upright(_base(state).quaternion) < 0.5 or z - self._ground(x, y) < 0.4 * self.spec.height

    def strayed(self, start: State, now: State) -> bool:
        if not self.ground:
            return False
        (x, y, _), (u, v, _) = _base(start).position, _base(now).position
        return max(abs(x - u), abs(y - v)) > EDGE

    def error(self, state: State, goal: Array) -> float:
        base = _base(state)
        yaw, (x, y, _) = heading(base.quaternion), base.velocity
        c, s = cos(yaw), sin(yaw)
        forward, left, _ = goal.tolist()
        return miss((c * x + s * y, c * y - s * x), (forward, left))

    def guide(self, task: Task, goal: Array, rng: np.random.Generator) -> Array:
        raise ValueError("Walk has no guided motions: nobody leads a walking robot by hand; use another objective")

    def markers(self, task: Task, state: State, goal: Array) -> list[Marker]:
        """Green: where the command leads in a second."""
        base = _base(state)
        yaw = heading(base.quaternion)
        ahead = (cos(yaw) * goal[0] - sin(yaw) * goal[1], sin(yaw) * goal[0] + cos(yaw) * goal[1])
        x, y = base.position[0] + ahead[0], base.position[1] + ahead[1]
        return [(np.array((x, y, self._ground(x, y) + 0.03)), (0.1, 0.8, 0.2, 1.0))]

    def _ground(self, x: float, y: float) -> float:
        """Height of the ground [m]."""
        return 0.0 if self.scene.terrain is None else self.scene.terrain.height(x, y)


def _base(state: State) -> Motion:
    assert state.base is not None, "a walking robot has a free base"
    return state.base


ROBOTS = {spec.name: spec for spec in vars(legged).values() if isinstance(spec, RobotSpec)}


def build(robot: str | RobotSpec, render_mode: str | None = None, engine: str = "pybullet", **asked: Any) -> RobotEnv:
    """A legged robot's environment: one of ROBOTS by name, or your own; what is `asked` are fields of Walk."""
    return RobotEnv(options.arrange(Walk, robot, ROBOTS, asked), render_mode, engine)
