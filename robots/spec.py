"""RobotSpec and JointSpec: a machine written down as one constant. No behaviour, no engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Vector3 = tuple[float, float, float]


@dataclass(frozen=True)
class JointSpec:
    """One revolute joint. Its frame is the parent joint's, moved by `origin`, turned by `rpy`, then about z.

    origin [m] and rpy [rad] (fixed-axis roll, pitch, yaw) as in URDF; lower, upper [rad]; velocity [rad/s];
    effort [N m].
    """

    name: str
    origin: Vector3
    rpy: Vector3
    lower: float
    upper: float
    velocity: float
    effort: float


@dataclass(frozen=True)
class RobotSpec:
    """A robot. The order of `joints` is the contract for every vector of joints in this project.

    urdf: path that PyBullet resolves (pybullet_data is on its search path). tool_link: the link whose frame is
    the tool; tool: that frame's place in the last joint's frame [m]. nominal_pose [rad], in joint order.
    servo_time: time constant of the drives' position loops [s]. held: other joints and the position they are held
    at [m or rad]. Physics runs at physics_hz, which must be a multiple of control_hz. Raises ValueError if the
    constants contradict each other.
    """

    name: str
    urdf: str
    joints: tuple[JointSpec, ...]
    nominal_pose: tuple[float, ...]
    tool_link: str
    tool: Vector3
    control_hz: int
    physics_hz: int
    servo_time: float
    held: dict[str, float] = field(default_factory=dict)

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

    @property
    def substeps(self) -> int:
        """Physics steps in one control step."""
        return self.physics_hz // self.control_hz

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @cached_property
    def nominal(self) -> Array:
        return np.array(self.nominal_pose)

    @cached_property
    def lower(self) -> Array:
        return np.array([joint.lower for joint in self.joints])

    @cached_property
    def upper(self) -> Array:
        return np.array([joint.upper for joint in self.joints])

    @cached_property
    def effort(self) -> Array:
        return np.array([joint.effort for joint in self.joints])
