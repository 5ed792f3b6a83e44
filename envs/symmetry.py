"""The mirror image of a walking robot's job: of what is seen, done and unknown. Pure.

A world in which right and left are exchanged is as likely as the world itself, and a robot that is its own mirror image
does there what it does here, with right and left exchanged.
"""

from __future__ import annotations

from math import isclose
from typing import NamedTuple

import numpy as np

from envs.robot_env import Job
from envs.tasks import Choice, Parameter
from robots.actions import Action, GaitResidual, JointTarget
from robots.mirror import PLACE, TURN, Mirror, joints, twins
from robots.spec import RobotSpec

SEEN = {"angular_velocity": TURN, "gravity": PLACE, "velocity_command": (1.0, -1.0, -1.0)}
UNKNOWN = {"gyro_bias": TURN, "imu_mount": TURN, "payload_at": PLACE[:2], "gravity_tilt": TURN[:2]}
NAMES_JOINT = ("weak_joint", "reversed")
EVEN = (  # one number that is the same on either side
    "strength", "weak_strength", "battery", "delay", "observation_delay", "damping", "joint_friction", "payload",
    "mass_scale", "friction", "restitution", "noise", "push", "level",
)  # fmt: skip


class Symmetry(NamedTuple):
    """The images of an observation, an action and an encoded task."""

    observation: Mirror
    action: Mirror
    code: Mirror


def symmetry(job: Job) -> Symmetry | None:
    """A job's, or None where the robot, or anything that it sees, does or does not know, is not known to have one."""
    each = joints(job.spec)
    if each is None:
        return None
    action, phase = _action(job.interface.action, job.spec, each)
    if action is None:
        return None
    seen = {name: Mirror.of(signs) for name, signs in SEEN.items()}
    seen |= {
        "joint_position": each,
        "joint_velocity": each,
        "last_action": action,
        "gait_phase": Mirror.of((phase,) * 2),
    }
    terms = [seen.get(term.name) for term in job.interface.observation]
    codes = [_code(parameter, each) for parameter in job.space.parameters]
    if None in terms or None in codes:
        return None
    return Symmetry(Mirror.join(filter(None, terms)), action, Mirror.join(filter(None, codes)))


def _action(action: Action, spec: RobotSpec, each: Mirror) -> tuple[Mirror | None, float]:
    """Its image, and the sign of a gait's sine and cosine: where twins are half a cycle apart, it is -1."""
    if isinstance(action, JointTarget):
        return each, 1.0
    legs = twins(spec)
    if not isinstance(action, GaitResidual) or legs is None:
        return None, 1.0
    phases = np.array(action.gait.phases)
    apart = (phases[list(legs)] - phases) % 1.0
    if not (apart == apart[0]).all() or apart[0] not in (0.0, 0.5):
        return None, 1.0
    return Mirror.join((each, Mirror.of((1.0,) * 3))), 1.0 if apart[0] == 0 else -1.0


def _code(parameter: Parameter | Choice, each: Mirror) -> Mirror | None:
    """The image of an encoded parameter, whose training range is [-1, 1]: what has a sign must be as likely on either
    side."""
    name = parameter.name
    if isinstance(parameter, Choice):
        if name == "ground":
            return Mirror.of((1.0,) * parameter.code)
        if name not in NAMES_JOINT or parameter.features:
            return None
        return Mirror((0, *(1 + source for source in each.sources)), (1.0,) * parameter.code)
    if name in EVEN:
        return Mirror.of((1.0,) * parameter.code)
    if name == "joint_strength":
        return each.unsigned
    signed = {"joint_zero": each} | {known: Mirror.of(signs) for known, signs in UNKNOWN.items()}
    return signed.get(name) if isclose(parameter.low, -parameter.high) else None
