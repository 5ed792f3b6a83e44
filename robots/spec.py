"""RobotSpec and its parts: a machine written down as one constant. No behaviour, no engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import hypot, inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Vector3 = tuple[float, float, float]


@dataclass(frozen=True)
class JointSpec:
    """One revolute joint. Its frame is the parent joint's, moved by `origin`, turned by `rpy`, then about `axis`.

    origin [m] and rpy [rad] (fixed-axis roll, pitch, yaw) as in URDF; lower, upper [rad]; velocity [rad/s];
    effort [N m]. Raises ValueError for an axis without a direction.
    """

    name: str
    origin: Vector3
    rpy: Vector3
    lower: float
    upper: float
    velocity: float
    effort: float
    axis: Vector3 = (0, 0, 1)

    def __post_init__(self) -> None:
        if len(self.axis) != 3 or not 0 < hypot(*self.axis) < inf:
            raise ValueError(f"joint {self.name!r}: axis is {self.axis}, expected three finite numbers, not all zero")


class Chain(NamedTuple):
    """Joints in series from the base and the tip's place in the last one's frame [m]: an arm, or one leg."""

    joints: tuple[JointSpec, ...]
    tool: Vector3


@dataclass(frozen=True)
class Servo:
    """Position loops as industrial arms close them, inside the engine's solver: `time` is their constant [s].

    Each joint heads for its target at error / time, at most at its rated velocity, with at most its rated effort.
    """

    time: float


@dataclass(frozen=True)
class PD:
    """Torque = stiffness * (target - angle) - damping * velocity, at the physics rate, cut at the rated effort.

    stiffness [N m/rad], damping [N m s/rad]: of every joint.
    """

    stiffness: float
    damping: float


@dataclass(frozen=True)
class Leg:
    """Which joints (by index) move a foot, and how.

    foot: its place in the nominal pose [m, base frame]. gain: for each of the joints, its turn per metre that the
    foot moves forward, left and up (base frame) [rad/m]: the inverse Jacobian there.
    """

    joints: tuple[int, ...]
    foot: Vector3
    gain: tuple[Vector3, ...]


class Loop(NamedTuple):
    """A closed kinematic loop, which URDF cannot say: a point of one link [m, its frame] is a point of another."""

    link: str
    point: Vector3
    other_link: str
    other_point: Vector3


@dataclass(frozen=True)
class Fingers:
    """A parallel gripper: its joints run from 0 (closed) to `opening` [m], each pushed by at most `effort` [N]."""

    joints: tuple[str, ...]
    opening: float
    effort: float


@dataclass(frozen=True)
class Suction:
    """A flat suction pad at the tool, without a body of its own.

    While on, and an object's surface is within `reach` [m], a point of the object sticks to the pad with at most
    `force` [N]; the object turns freely about it, and is lost when pulled further off than `reach`.
    """

    reach: float
    force: float


@dataclass(frozen=True)
class RobotSpec:
    """A robot. The order of `joints` is the contract for every vector of joints in this project.

    urdf: path that PyBullet resolves (pybullet_data is on its search path). nominal_pose [rad], in joint order.
    Physics runs at physics_hz, which must be a multiple of control_hz. drive: how joints follow their targets.
    held: other joints, and the position they are held at [m or rad]. payload: what it may carry beside itself [kg].
    Arms: tool is its place in the last joint's frame [m]; tool_link the link whose frame is there, or, for want of one,
    the last joint's own; gripper what holds objects there.
    Legged robots: height is the base's over flat ground in the nominal pose [m] (0: the base is bolted down); mass
    [kg] of all of it; legs, front to back, right before left; free: joints that turn freely, with their nominal
    positions; loops.
    Raises ValueError if the constants contradict each other.
    """

    name: str
    urdf: str
    joints: tuple[JointSpec, ...]
    nominal_pose: tuple[float, ...]
    control_hz: int
    physics_hz: int
    drive: Servo | PD
    held: dict[str, float] = field(default_factory=dict)
    tool_link: str = ""
    tool: Vector3 = (0, 0, 0)
    gripper: Fingers | Suction | None = None
    payload: float = 1.0
    height: float = 0.0
    mass: float = 0.0
    legs: tuple[Leg, ...] = ()
    free: dict[str, float] = field(default_factory=dict)
    loops: tuple[Loop, ...] = ()

    def __post_init__(self) -> None:
        if len(self.nominal_pose) != len(self.joints):
            raise ValueError(
                f"{self.name}: nominal_pose has {len(self.nominal_pose)} values, expected one for each of the "
                f"{len(self.joints)} joints"
            )
        for joint, angle in zip(self.joints, self.nominal_pose, strict=True):
            if not joint.lower <= angle <= joint.upper:
                raise ValueError(
                    f"{self.name}: nominal_pose of {joint.name} is {angle} rad, expected a value in "
                    f"[{joint.lower}, {joint.upper}]"
                )
        if self.physics_hz % self.control_hz:
            raise ValueError(
                f"{self.name}: physics_hz={self.physics_hz} must be a multiple of control_hz={self.control_hz}"
            )
        if self.floating != bool(self.legs):
            raise ValueError(
                f"{self.name}: height is {self.height} m with {len(self.legs)} legs, expected both for a legged robot, "
                "or neither for one that is bolted down"
            )
        if wrong := [leg for leg in self.legs if len(leg.gain) != len(leg.joints)]:
            raise ValueError(f"{self.name}: {wrong[0]} needs one row of gain for each of its joints")

    @property
    def substeps(self) -> int:
        """Physics steps in one control step."""
        return self.physics_hz // self.control_hz

    @property
    def floating(self) -> bool:
        """Whether the base moves freely."""
        return self.height > 0

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @cached_property
    def nominal(self) -> Array:
        return np.array(self.nominal_pose, dtype=np.float64)

    @cached_property
    def still(self) -> Array:
        """No velocity, for every joint."""
        return np.zeros(len(self.joints))

    @cached_property
    def lower(self) -> Array:
        return np.array([joint.lower for joint in self.joints])

    @cached_property
    def upper(self) -> Array:
        return np.array([joint.upper for joint in self.joints])

    @cached_property
    def effort(self) -> Array:
        return np.array([joint.effort for joint in self.joints], dtype=np.float64)

    @cached_property
    def velocity(self) -> Array:
        return np.array([joint.velocity for joint in self.joints], dtype=np.float64)
