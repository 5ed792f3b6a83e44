"""Turning vectors between frames: plain floats, because one NumPy call costs more than all of a rotation."""

from __future__ import annotations

from math import atan2, cos, sin

from robots.spec import Vector3

Quaternion = tuple[float, float, float, float]  # xyzw


def into(quaternion: Quaternion, vector: Vector3) -> Vector3:
    """A world vector in the frame of a body with this orientation."""
    x, y, z, w = quaternion
    a, b, c = vector
    # v + 2 u x (u x v + w v) with u = -xyz: the rotation by the inverse.
    p, q, r = b * z - c * y + w * a, c * x - a * z + w * b, a * y - b * x + w * c
    return a + 2 * (q * z - r * y), b + 2 * (r * x - p * z), c + 2 * (p * y - q * x)


def out_of(quaternion: Quaternion, vector: Vector3) -> Vector3:
    """A body's vector in the world frame."""
    x, y, z, w = quaternion
    return into((-x, -y, -z, w), vector)


def heading(quaternion: Quaternion) -> float:
    """Yaw [rad], fixed-axis."""
    x, y, z, w = quaternion
    return atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def upright(quaternion: Quaternion) -> float:
    """How much of a body's z axis points up: 1 upright, -1 upside down."""
    x, y, _, _ = quaternion
    return 1 - 2 * (x * x + y * y)


def turned(roll: float, pitch: float, yaw: float) -> Quaternion:
    """The quaternion of fixed-axis roll, pitch and yaw [rad]."""
    (a, b, c), (d, e, f) = (
        (cos(roll / 2), cos(pitch / 2), cos(yaw / 2)),
        (sin(roll / 2), sin(pitch / 2), sin(yaw / 2)),
    )
    return d * b * c - a * e * f, a * e * c + d * b * f, a * b * f - d * e * c, a * b * c + d * e * f
