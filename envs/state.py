"""The plain values between environments and engines: poses, states, what an engine computes with. No engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from envs.frames import Quaternion
from envs.objects import Thing
from envs.terrain import Grid
from robots.spec import Array, Vector3

Marker = tuple[Array, tuple[float, float, float, float]]  # position [3] (m, world frame) and RGBA
UPRIGHT: Quaternion = (0.0, 0.0, 0.0, 1.0)
ROLLING = 0.002  # [m] friction of objects against rolling and spinning
PARKED = -100.0  # [m], height at which unused objects wait
ABOVE = 0.05  # [m] height of an off-centre payload over its mount's frame


class Pose(NamedTuple):
    """position [m] and quaternion (xyzw), world frame."""

    position: Vector3
    quaternion: Quaternion = UPRIGHT


class Motion(NamedTuple):
    """A body's pose, velocity [m/s] and angular velocity [rad/s], all in the world frame. Plain floats."""

    position: Vector3
    quaternion: Quaternion
    velocity: Vector3
    angular: Vector3


class State(NamedTuple):
    """What is true at the end of a control step.

    joints, speeds, torques [n] (rad, rad/s, N m; torques of PD drives only, else zero); tool [3] (m, world frame) of
    an arm; base of a legged robot; object: the one in play, if any.
    """

    joints: Array
    speeds: Array
    torques: Array
    tool: Array | None
    base: Motion | None
    object: Motion | None


@dataclass(frozen=True)
class Scene:
    """What stands around the robot: a pool of objects, of which one at most is in play, and the ground.

    terrain: None is a plane. payload_at: whether payloads may be off-centre, which costs the engine four links more.
    """

    objects: tuple[Thing, ...] = ()
    terrain: Grid | None = None
    payload_at: bool = False


@dataclass(frozen=True)
class Physics:
    """Everything about a world that an engine computes with; the defaults are the nominal robot and ground.

    payload [kg], at payload_at [m, x and y of the mount's frame]: the mount is a legged robot's base, an arm's hand
    (its tool, where the scene lets payloads sit off-centre).
    mass_scale: of every link, with its inertia. damping [N m s/rad] and joint_friction [N m]: added to every joint.
    friction, restitution: of the ground. gravity [m/s^2, world frame]. tile: of the scene's terrain, by the index of
    its kind and its level. object: the one in play, an index into the scene's objects, or None; its object_mass [kg],
    and its object_friction and object_restitution against everything.
    """

    payload: float = 0.0
    payload_at: tuple[float, float] = (0.0, 0.0)
    mass_scale: float = 1.0
    damping: float = 0.0
    joint_friction: float = 0.0
    friction: float = 1.0
    restitution: float = 0.0
    gravity: Vector3 = (0.0, 0.0, -9.81)
    tile: tuple[int, int] | None = None
    object: int | None = None
    object_mass: float = 0.1
    object_friction: float = 0.5
    object_restitution: float = 0.0


class Start(NamedTuple):
    """Where everything rests at the start: true joints [n] (rad), base (None for a bolted robot), object in play."""

    joints: Array
    base: Pose | None = None
    object: Pose | None = None


class Drive(NamedTuple):
    """What the drives are told: true joint positions [n] (rad), and what they can at most, [n] N m and [n] rad/s.

    grip: 0 opens the gripper or releases, 1 closes it or sucks; None leaves it as it rests, half open.
    """

    target: Array
    effort: Array
    velocity: Array
    grip: float | None = None


class Link(NamedTuple):
    """A link as an engine needs it: mass [kg], principal inertia [kg m^2] and its frame in the link's frame."""

    mass: float
    inertia: Vector3
    position: Vector3
    quaternion: Quaternion
