"""What a deployed robot may suffer from, as named parameters, and what a task means to engine and body. Pure.

Every fault acts on stored nominals and is nominal where a task does not name it, so any of them compose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, sin

import numpy as np

from envs.frames import Quaternion, turned
from envs.state import Physics
from envs.tasks import Choice, Parameter, Task
from envs.terrain import row
from robots.spec import PD, Array, RobotSpec, Vector3

GRAVITY = 9.81  # [m/s^2]
NONE = "none"
PARTNERS = {"weak_strength": "weak_joint", "payload_at": "payload"}  # what means nothing alone


def chosen(
    spec: RobotSpec, asked: Sequence[str | Parameter | Choice], own: Mapping[str, Parameter | Choice] | None = None
) -> tuple[Parameter | Choice, ...]:
    """What a job is asked to leave unknown, in order: names of its `own` parameters or of the catalogue, or values.

    Raises ValueError for a name that is in neither, or for one that means nothing without another.
    """
    known = {**catalogue(spec), **(own or {})}
    if unknown := sorted({name for name in asked if isinstance(name, str)} - set(known)):
        raise ValueError(f"faults {unknown} are unknown, expected some of {sorted(known)}")
    found = tuple(known[p] if isinstance(p, str) else p for p in asked)
    names = [parameter.name for parameter in found]
    for name, needed in PARTNERS.items():
        if name in names and needed not in names:
            raise ValueError(f"fault {name!r} does nothing without {needed!r}: ask for both")
    return found


def catalogue(spec: RobotSpec) -> dict[str, Parameter | Choice]:
    """Every fault by name, with ranges for this robot."""
    n, names = len(spec.joints), spec.joint_names
    pairs = tuple(f"{a}/{b}" for a, b in pairwise(names))
    share = (0.0, 1.0)
    # Engines integrate PD and joint damping explicitly: much more than this, and light legs chatter.
    damping = 0.2 * spec.drive.damping if isinstance(spec.drive, PD) else 1.0
    known: tuple[Parameter | Choice, ...] = (
        Parameter("joint_zero", "rad", 0.0, -0.05, 0.05, "add", size=n),
        Parameter("strength", "1", 1.0, 0.6, 1.0, "scale", bounds=(0.1, 1.0)),
        Parameter("joint_strength", "1", 1.0, 0.7, 1.0, "scale", size=n, bounds=share),
        Choice("weak_joint", (NONE, *names)),
        Parameter("weak_strength", "1", 1.0, 0.0, 0.8, "scale", bounds=share),
        # Voltage, as a share of the nominal: it bounds torque and speed alike, where strength bounds torque alone.
        Parameter("battery", "1", 1.0, 0.6, 1.0, "scale", bounds=(0.3, 1.0)),
        Parameter("delay", "s", 0.0, 0.0, 0.04, "add", bounds=(0.0, 0.5)),
        Parameter("observation_delay", "s", 0.0, 0.0, 2 / spec.control_hz, "add", bounds=(0.0, 0.5)),
        Parameter("damping", "N m s/rad", 0.0, 0.0, damping, "add", bounds=(0.0, 10.0)),
        Parameter("joint_friction", "N m", 0.0, 0.0, 0.02 * float(spec.effort.max()), "add", bounds=(0.0, 10.0)),
        Parameter("payload", "kg", 0.0, 0.0, spec.payload, "add", bounds=(0.0, 3 * spec.payload)),
        Parameter("payload_at", "m", 0.0, -0.1, 0.1, "set", size=2, bounds=(-0.15, 0.15)),
        Parameter("mass_scale", "1", 1.0, 0.8, 1.2, "scale", bounds=(0.3, 3.0)),
        Parameter("friction", "1", 1.0, 0.4, 1.25, "set", bounds=(0.05, 2.0)),
        Parameter("restitution", "1", 0.0, 0.0, 0.5, "set", bounds=share),
        Parameter("noise", "1", 1.0, 0.0, 3.0, "scale", bounds=(0.0, 10.0)),
        Choice("exchanged", (NONE, *pairs)),
        Choice("reversed", (NONE, *names)),
        Parameter("push", "N s", 0.0, 0.0, 6.0 if spec.floating else 1.0, "set", bounds=(0.0, 100.0)),
        Parameter("gravity_tilt", "rad", 0.0, -0.15, 0.15, "set", size=2, bounds=(-1.0, 1.0)),
    )
    if spec.floating:  # only such a robot has an IMU
        known += (
            Parameter("gyro_bias", "rad/s", 0.0, -0.1, 0.1, "add", size=3),
            Parameter("imu_mount", "rad", 0.0, -0.2, 0.2, "set", size=3),
        )
    return {parameter.name: parameter for parameter in known}


def noise(task: Task) -> float:
    """Times how noisy sensors are in this task."""
    return _value(task, "noise", 1.0)


def _value(task: Task, name: str, nominal: float) -> float:
    values = task.values.get(name)
    return nominal if values is None else values[0]


def _down(task: Task) -> Vector3:
    """Where gravity pulls: down, turned by the tilt about x, then about y."""
    roll, pitch = task.values.get("gravity_tilt", (0.0, 0.0))
    return -sin(pitch) * cos(roll), sin(roll), -cos(roll) * cos(pitch)


LASTING = ("ground", "level", "object")  # stay what they are in an episode


def later(now: Task, other: Task) -> Task:
    """`other`, as the world may become it under way: on the ground and with the object that there are now."""
    return Task({**other.values, **{name: now.values[name] for name in LASTING if name in now.values}})


def physics(task: Task) -> Physics:
    """What the engine computes with in this task."""
    at = task.values.get("payload_at", (0.0, 0.0))
    down = _down(task)
    thing, ground = task.values.get("object"), task.values.get("ground")
    return Physics(
        payload=_value(task, "payload", 0.0),
        payload_at=(at[0], at[1]),
        mass_scale=_value(task, "mass_scale", 1.0),
        damping=_value(task, "damping", 0.0),
        joint_friction=_value(task, "joint_friction", 0.0),
        friction=_value(task, "friction", 1.0),
        restitution=_value(task, "restitution", 0.0),
        gravity=(GRAVITY * down[0], GRAVITY * down[1], GRAVITY * down[2]),
        tile=None if ground is None else (int(ground[0]), row(_value(task, "level", 0.0))),
        object=None if thing is None else int(thing[0]),
        object_mass=_value(task, "object_mass", 0.1),
        object_friction=_value(task, "object_friction", 0.5),
        object_restitution=_value(task, "object_restitution", 0.0),
    )


@dataclass(frozen=True)
class Faults:
    """What is wrong outside the engine.

    zero [n] (rad): encoder reading minus true angle. effort [n] (N m), velocity [n] (rad/s): what the drives can.
    delay: of actions, in physics steps. lag: of sensors, in control steps. noise: times the sensors' own. gyro_bias [3]
    (rad/s). imu: how the IMU sits in the base, None if straight. down: where gravity pulls (world frame, unit length).
    exchanged, reversed: joints by index (see `actuation.wired`). push [N s]: of a shove now and then.
    """

    zero: Array
    effort: Array
    velocity: Array
    delay: int
    lag: int
    noise: float
    gyro_bias: Array
    imu: Quaternion | None
    down: Vector3
    exchanged: tuple[int, int] | None
    reversed: int | None
    push: float


def body_faults(task: Task, spec: RobotSpec) -> Faults:
    """What is wrong with sensors, wiring and drives in this task. Delays are rounded to whole steps."""
    values = task.values
    strength = np.full(len(spec.joints), _value(task, "strength", 1.0))
    if "joint_strength" in values:
        strength *= task["joint_strength"]
    if weak := int(_value(task, "weak_joint", 0.0)):
        strength[weak - 1] *= _value(task, "weak_strength", 0.0)  # dead, unless told how weak
    battery = _value(task, "battery", 1.0)
    swap, mirror = int(_value(task, "exchanged", 0.0)), int(_value(task, "reversed", 0.0))
    mount = values.get("imu_mount", (0.0, 0.0, 0.0))
    return Faults(
        zero=task["joint_zero"] if "joint_zero" in values else np.zeros(len(spec.joints)),
        effort=strength * battery * spec.effort,
        velocity=battery * spec.velocity,
        delay=round(_value(task, "delay", 0.0) * spec.physics_hz),
        lag=round(_value(task, "observation_delay", 0.0) * spec.control_hz),
        noise=noise(task),
        gyro_bias=np.array(values.get("gyro_bias", (0.0, 0.0, 0.0))),
        imu=turned(*mount) if any(mount) else None,
        down=_down(task),
        exchanged=(swap - 1, swap) if swap else None,
        reversed=mirror - 1 if mirror else None,
        push=_value(task, "push", 0.0),
    )
