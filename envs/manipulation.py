"""What arms do with things, each job a whole MDP on a page: Push, PickPlace and Slide."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import dist, hypot, pi
from typing import Any, ClassVar

import numpy as np

from envs import objects, options
from envs.arm import ROBOTS, Unknown, believed, reading
from envs.faults import chosen, noise
from envs.objects import Thing
from envs.rewards import tracking
from envs.robot_env import Moment, RobotEnv, Sight
from envs.state import Marker, Motion, Pose, Scene, Start, State
from envs.tasks import Measure, Parameter, Task, TaskSpace
from robots import kinematics
from robots.actions import ToolIncrement
from robots.interface import Interface, ObservationTerm
from robots.spec import Array, Chain, RobotSpec, Suction, Vector3

NOISE = np.repeat((0.002, 0.02), 3)  # of the camera: places [m] and velocities [m/s], one standard deviation
CAMERA = {  # how the camera over the table may be mounted otherwise than believed
    "camera_yaw": Parameter("camera_yaw", "rad", 0.0, -0.2, 0.2, "set", bounds=(-pi, pi)),
    "camera_shift": Parameter("camera_shift", "m", 0.0, -0.05, 0.05, "set", size=3, bounds=(-0.3, 0.3)),
}
NEAR = Measure("distance", "m", 0.05)
HOME = (0.45, 0.0, 0.14)  # of the tool [m, base frame]


@dataclass(frozen=True)
class _Table:
    """What the jobs share: a tool that points down at one thing on the ground, which a camera sees.

    unknown: names of `envs.faults.catalogue`, CAMERA or `envs.objects.UNKNOWN`, or Parameters of your own. objects:
    names of `envs.objects.POOL` (none: all of them); which of them is in play is always unknown.
    """

    spec: RobotSpec
    unknown: Unknown = ("object_mass", "object_friction", "joint_zero", "strength", "delay")
    objects: tuple[str, ...] = ()
    horizon: int = 80
    measure: Measure = NEAR
    guided: bool = False

    LOW: ClassVar[Vector3] = (0.3, -0.3, 0.02)  # the tool is kept between these [m, base frame]
    HIGH: ClassVar[Vector3] = (0.7, 0.3, 0.3)
    SPEED: ClassVar[float] = 0.03  # [m] that the tool moves in a step along each axis, at most
    GRIP: ClassVar[bool] = False
    FAR: ClassVar[float] = 0.1  # [m] scale of goal_position

    def __post_init__(self) -> None:
        options.unknowns(self.unknown)
        options.names("objects", self.objects)
        options.whole("horizon", self.horizon, 1)

    @cached_property
    def scene(self) -> Scene:
        return Scene(objects.pool(*self.objects), payload_at="payload_at" in self.space.nominal.values)

    @cached_property
    def interface(self) -> Interface:
        spec, zero = self.spec, (0.0, 0.0, 0.0)
        action = ToolIncrement(
            spec.joints, spec.tool, self.SPEED, self.LOW, self.HIGH, tuple(spec.lower.tolist()),
            tuple(spec.upper.tolist()), lead=0.3, step=0.2, grip=self.GRIP,
        )  # fmt: skip
        terms = [
            reading(spec),
            ObservationTerm("tool_position", "m", "base, by the encoders", HOME, (0.1, 0.2, 0.1)),
            ObservationTerm("object_position", "m", "from the tool, by the camera", zero, (0.1,) * 3),
            ObservationTerm("object_velocity", "m/s", "base, by the camera", zero, (0.5,) * 3),
            ObservationTerm("goal_position", "m", "from the object, by the camera", zero, (self.FAR,) * 3),
        ]
        if self.GRIP:
            terms.append(ObservationTerm("last_action", "1", "", (0.0,) * action.size, (1.0,) * action.size))
        return Interface(spec.name, spec.joint_names, spec.control_hz, tuple(terms), action)

    @cached_property
    def space(self) -> TaskSpace:
        zero = Parameter("joint_zero", "rad", 0.0, -0.02, 0.02, "add", size=len(self.spec.joints))
        known = {"joint_zero": zero, **CAMERA, **objects.UNKNOWN}
        return TaskSpace((objects.choice(objects.pool(*self.objects)), *chosen(self.spec, self.unknown, known)))

    @cached_property
    def _chain(self) -> Chain:
        return Chain(self.spec.joints, self.spec.tool)

    @cached_property
    def _home(self) -> Array:
        angles, home = self.spec.nominal, np.array(HOME)
        for _ in range(30):
            step = kinematics.hold_down(self._chain, angles, np.zeros(3), home, home)
            angles = np.clip(angles + np.clip(step, -0.3, 0.3), self.spec.lower, self.spec.upper)
        return angles

    def thing(self, task: Task) -> Thing:
        """The one in play."""
        return self.scene.objects[int(task.values["object"][0])]

    def _start(self, thing: Thing, x: float, y: float, yaw: float, rng: np.random.Generator) -> Start:
        joints = self._home + rng.normal(0, 0.02, len(self._home))
        return Start(joints, object=Pose(*thing.standing(x, y, yaw)))

    def sense(self, task: Task, sight: Sight, rng: np.random.Generator) -> dict[str, Array]:
        thing, goal = _thing(sight.state), sight.goal
        noisy = rng.standard_normal(6)
        noisy *= noise(task) * NOISE
        noisy += (*thing.position, *thing.velocity)
        place = believed(task, noisy[:3])
        tool = kinematics.place(self._chain, sight.felt["joint_position"])
        return {
            "tool_position": tool,
            "object_position": place - tool,
            "object_velocity": noisy[3:],
            "goal_position": goal - place,
        }

    def ended(self, state: State) -> bool:
        return False

    def strayed(self, start: State, now: State) -> bool:
        return False

    def error(self, state: State, goal: Array) -> float:
        return dist(_thing(state).position, goal.tolist())

    def guide(self, task: Task, goal: Array, rng: np.random.Generator) -> Array:
        raise ValueError(f"{type(self).__name__} has no guided motions: a hand that leads the arm moves no objects")

    def markers(self, task: Task, state: State, goal: Array) -> list[Marker]:
        """Green: the goal."""
        return [(goal, (0.1, 0.8, 0.2, 1.0))]


@dataclass(frozen=True)
class Push(_Table):
    """Push a thing along the ground to a place 10 to 25 cm away.

    | observation | size | unit | frame |
    |---|---|---|---|
    | joint_position | joints | rad | encoder (with its unknown zero) |
    | tool_position | 3 | m | base, by kinematics from the encoders |
    | object_position | 3 | m | from that tool position, by the camera |
    | object_velocity | 3 | m/s | base, by the camera |
    | goal_position | 3 | m | from the object, by the camera |

    | action | size | meaning |
    |---|---|---|
    | motion | 3 | of the tool along x, y, z, +-3 cm at most |

    | reward, per control step | d: from the object to the goal [m] |
    |---|---|
    | there | exp(-d^2 / 0.05^2) |
    | distance | -2 d |
    | reaching | -(1 - there) x from the tool to where pushing begins, behind the object [m] |

    Unknown: the object (held out: shapes never seen), its mass and friction, joint zeros, strength, delay; on request
    where the camera is. Horizon 4 s.
    """

    def goal(self, task: Task, rng: np.random.Generator) -> Array:
        return np.array((*_spot(rng), self.thing(task).rest))

    def start(self, task: Task, goal: Array, rng: np.random.Generator) -> Start:
        x, y = _spot(rng)
        while not 0.1 <= hypot(x - goal[0], y - goal[1]) <= 0.25:
            x, y = _spot(rng)
        return self._start(self.thing(task), x, y, rng.uniform(-pi, pi), rng)

    def reward(self, moment: Moment, rng: np.random.Generator) -> float:
        there = tracking(moment.error, 0.05**2)
        return there - 2 * moment.error - (1 - there) * _behind(moment)


@dataclass(frozen=True)
class Slide(_Table):
    """Strike a puck so that it slides to a place that the arm cannot reach, 30 to 57 cm ahead.

    Observation and unknown: see `Push`, but the puck's friction is that of ice. How hard to strike, the outcome of one
    attempt tells the next.

    | action | size | meaning |
    |---|---|---|
    | motion | 3 | of the tool along x, y, z, +-6 cm at most; it stays behind x = 0.65 m |

    | reward, per control step | d: from the puck to the goal [m] |
    |---|---|
    | there | exp(-d^2 / 0.1^2) |
    | distance | -d |
    | reaching | minus from the tool to behind the puck [m], until that has left the arm's reach |

    Horizon 3 s.
    """

    unknown: Unknown = (
        Parameter("object_mass", "kg", 0.2, 0.1, 0.4, "set", bounds=(0.01, 2.0)),
        Parameter("object_friction", "1", 0.07, 0.05, 0.09, "set", bounds=(0.01, 2.0)),
        *("joint_zero", "strength", "delay"),
    )
    objects: tuple[str, ...] = ("puck",)
    horizon: int = 60

    HIGH: ClassVar[Vector3] = (0.65, 0.3, 0.3)
    SPEED: ClassVar[float] = 0.06
    FAR: ClassVar[float] = 0.3

    def goal(self, task: Task, rng: np.random.Generator) -> Array:
        return np.array((rng.uniform(0.85, 1.05), rng.uniform(-0.15, 0.15), self.thing(task).rest))

    def start(self, task: Task, goal: Array, rng: np.random.Generator) -> Start:
        return self._start(self.thing(task), rng.uniform(0.48, 0.55), rng.uniform(-0.1, 0.1), 0.0, rng)

    def reward(self, moment: Moment, rng: np.random.Generator) -> float:
        out = _thing(moment.now).position[0] > self.HIGH[0]
        return tracking(moment.error, 0.1**2) - moment.error - (0.0 if out else _behind(moment))


@dataclass(frozen=True)
class PickPlace(_Table):
    """Pick a thing up and hold it at a place in the air.

    Observation and unknown: see `Push`; and `last_action` [4].

    | action | size | meaning |
    |---|---|---|
    | motion | 3 | of the tool along x, y, z, +-3 cm at most |
    | grip | 1 | above 0.5: fingers close, or the suction pad sucks; below -0.5: they open, or it lets go |

    | reward, per control step | d: from the object to the goal [m]; r: from the tool to where it holds the object [m] |
    |---|---|
    | there | exp(-d^2 / 0.05^2) |
    | distance | -d |
    | reaching | -(1 - there) r + 0.25 at, at = exp(-r^2 / 0.04^2) |
    | grasp | 0.25 at, while the gripper is closed |
    | lift | 0.5 at x height above rest, up to 4 cm, as a share of that |

    Horizon 4 s.
    """

    GRIP: ClassVar[bool] = True

    def goal(self, task: Task, rng: np.random.Generator) -> Array:
        return np.array((*_spot(rng), rng.uniform(0.1, 0.25)))

    def start(self, task: Task, goal: Array, rng: np.random.Generator) -> Start:
        return self._start(self.thing(task), *_spot(rng), rng.uniform(-0.3, 0.3), rng)

    def reward(self, moment: Moment, rng: np.random.Generator) -> float:
        assert moment.now.tool is not None
        x, y, z = _thing(moment.now).position
        above = 0.03 if isinstance(self.spec.gripper, Suction) else 0.0
        reach = dist(moment.now.tool.tolist(), (x, y, z + above))
        there, at = tracking(moment.error, 0.05**2), tracking(reach, 0.04**2)
        closed = moment.command.grip or 0.0
        lift = min(max(z - 0.035, 0.0) / 0.04, 1.0)
        return there - moment.error - (1 - there) * reach + at * (0.25 + 0.25 * closed + 0.5 * lift)


def _thing(state: State) -> Motion:
    assert state.object is not None, "this job needs an object in play"
    return state.object


def _spot(rng: np.random.Generator) -> tuple[float, float]:
    """A place on the ground where things and goals may be [m]."""
    return rng.uniform(0.4, 0.6), rng.uniform(-0.2, 0.2)


def _behind(moment: Moment) -> float:
    """From the tool to where pushing begins: 5 cm behind the object, seen from the goal [m]."""
    assert moment.now.tool is not None
    x, y, z = _thing(moment.now).position
    dx, dy = x - float(moment.goal[0]), y - float(moment.goal[1])
    share = 0.05 / max(hypot(dx, dy), 1e-6)
    return dist(moment.now.tool.tolist(), (x + share * dx, y + share * dy, z))


JOBS: dict[str, Any] = {job.__name__: job for job in (Push, PickPlace, Slide)}


def build(
    robot: str | RobotSpec, job: str, render_mode: str | None = None, engine: str = "pybullet", **asked: Any
) -> RobotEnv:
    """An arm's environment with objects: one of ROBOTS by name, or your own; what is `asked` are the job's fields."""
    if job not in JOBS:
        raise ValueError(f"job is {job!r}, expected one of {sorted(JOBS)}")
    return RobotEnv(options.arrange(JOBS[job], robot, ROBOTS, asked), render_mode, engine)
