"""Forward and inverse kinematics of a serial chain: pure numpy, any number of poses at once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from robots.spec import Array, RobotSpec, Vector3


@lru_cache(maxsize=256)
def rotation(rpy: Vector3) -> Array:
    """Rotation matrix [3, 3] of fixed-axis roll, pitch, yaw [rad], URDF's convention."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    matrix = np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
    matrix.flags.writeable = False  # shared by all callers
    return matrix


def forward(spec: RobotSpec, angles: Array) -> tuple[Array, Array]:
    """Tool position [..., 3] (base frame, m) and its Jacobian [..., 3, n] at joint angles [..., n] (rad)."""
    angles = np.asarray(angles, dtype=np.float64)
    cosine, sine = np.cos(angles)[..., None], np.sin(angles)[..., None]
    turn, place = np.broadcast_to(np.eye(3), (*angles.shape[:-1], 3, 3)), np.zeros(3)
    axes = np.empty((*angles.shape, 3))
    places = np.empty_like(axes)
    for index, joint in enumerate(spec.joints):
        place = place + turn @ joint.origin
        turn = turn @ rotation(joint.rpy)
        axes[..., index, :], places[..., index, :] = turn[..., 2], place
        x, y, c, s = turn[..., 0], turn[..., 1], cosine[..., index, :], sine[..., index, :]
        turned = np.empty_like(turn)  # filled in place: np.stack would take most of the time
        turned[..., 0], turned[..., 1], turned[..., 2] = c * x + s * y, c * y - s * x, turn[..., 2]
        turn = turned
    place = place + turn @ spec.tool
    (ax, ay, az), (lx, ly, lz) = np.moveaxis(axes, -1, 0), np.moveaxis(place[..., None, :] - places, -1, 0)
    # np.cross, written out: it spends most of its time on its arguments.
    jacobian = np.stack([ay * lz - az * ly, az * lx - ax * lz, ax * ly - ay * lx], axis=-2)
    return place, jacobian


def toward(spec: RobotSpec, angles: Array, target: Array, damping: float = 1e-4) -> Array:
    """The smallest joint motion [..., n] (rad) that, to first order, brings the tool from `angles` to `target` (m).

    Damped least squares (Wampler 1986; Nakamura and Hanafusa 1986).
    """
    place, jacobian = forward(spec, angles)
    return (_inverse(jacobian, damping) @ (target - place)[..., None])[..., 0]


def _inverse(jacobian: Array, damping: float) -> Array:
    transpose = np.swapaxes(jacobian, -1, -2)
    inverse: Array = transpose @ np.linalg.inv(jacobian @ transpose + damping * np.eye(3))
    return inverse


def solve(spec: RobotSpec, target: Array, iterations: int = 25, damping: float = 1e-4) -> Array:
    """Joint angles [..., n] that bring the tool to `target` [..., 3] (base frame, m).

    Damped least squares, as `toward`, from the nominal pose, with steps and joints held to their limits. The free
    directions are drawn to that pose too, so that a target has one answer.
    A target out of reach ends at the nearest pose found: compare `forward` of the answer with the target.
    """
    target = np.asarray(target, dtype=np.float64)
    angles = np.broadcast_to(spec.nominal, (*target.shape[:-1], len(spec.joints)))
    for _ in range(iterations):
        place, jacobian = forward(spec, angles)
        posture = 0.3 * (spec.nominal - angles)
        error = target - place - (jacobian @ posture[..., None])[..., 0]
        step = posture + (_inverse(jacobian, damping) @ error[..., None])[..., 0]
        angles = np.clip(angles + np.clip(step, -0.4, 0.4), spec.lower, spec.upper)
    return angles
