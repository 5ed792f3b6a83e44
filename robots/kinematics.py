"""Forward and inverse kinematics of a serial chain: pure numpy, any number of poses at once, or one pose fast."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import cos, sin

import numpy as np

from robots.spec import Array, Chain, JointSpec, Leg, RobotSpec, Vector3

Numbers = tuple[float, ...]


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


@lru_cache(maxsize=256)
def _onto(axis: Vector3) -> Array:
    """A rotation matrix [3, 3] that takes z to `axis`."""
    z = np.array(axis) / np.linalg.norm(axis)
    x = np.cross((0.0, 1.0, 0.0) if abs(z[1]) < 0.9 else (0.0, 0.0, 1.0), z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=-1)


def forward(chain: Chain | RobotSpec, angles: Array) -> tuple[Array, Array]:
    """Tool position [..., 3] (base frame, m) and its Jacobian [..., 3, n] at joint angles [..., n] (rad)."""
    angles = np.asarray(angles, dtype=np.float64)
    cosine, sine = np.cos(angles)[..., None], np.sin(angles)[..., None]
    turn, place = np.broadcast_to(np.eye(3), (*angles.shape[:-1], 3, 3)), np.zeros(3)
    axes = np.empty((*angles.shape, 3))
    places = np.empty_like(axes)
    for index, joint in enumerate(chain.joints):
        place = place + turn @ joint.origin
        turn = turn @ rotation(joint.rpy)
        about_z = joint.axis == (0, 0, 1)
        if not about_z:
            turn = turn @ _onto(joint.axis)
        axes[..., index, :], places[..., index, :] = turn[..., 2], place
        x, y, c, s = turn[..., 0], turn[..., 1], cosine[..., index, :], sine[..., index, :]
        turned = np.empty_like(turn)  # filled in place: np.stack would take most of the time
        turned[..., 0], turned[..., 1], turned[..., 2] = c * x + s * y, c * y - s * x, turn[..., 2]
        turn = turned if about_z else turned @ _onto(joint.axis).T
    place = place + turn @ chain.tool
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


def leg(joints: Sequence[JointSpec], first: int, foot: Vector3, pose: Sequence[float]) -> Leg:
    """The Leg of joints in series from the base, `first` being the index of the first of them in the robot's order.

    foot: its place in the last joint's frame [m]. pose: these joints' nominal angles [rad]. With fewer than three
    joints the gain is the pseudo-inverse: what the leg cannot do, it leaves out. Places in um, gains to six digits.
    """
    place, jacobian = forward(Chain(tuple(joints), foot), np.asarray(pose, dtype=np.float64))
    x, y, z = place.round(6).tolist()
    gain = tuple((fore, left, up) for fore, left, up in (np.linalg.pinv(jacobian).round(6) + 0.0).tolist())
    return Leg(tuple(range(first, first + len(joints))), (x, y, z), gain)


@lru_cache(maxsize=64)
def _constants(chain: Chain) -> tuple[tuple[tuple[Numbers, Numbers], ...], Numbers, Numbers]:
    """Every joint's place [3] and rotation [9, row by row] in a frame of the one before that has its axis as z.

    And in the last of these frames the tool's place [3] and z direction [3].
    """
    joints, before = [], np.eye(3)
    for joint in chain.joints:
        after = _onto(joint.axis)
        turn = before.T @ rotation(joint.rpy) @ after
        turn[abs(turn) < 1e-15] = 0.0
        joints.append((tuple((before.T @ joint.origin).tolist()), tuple(turn.ravel().tolist())))
        before = after
    return tuple(joints), tuple((before.T @ chain.tool).tolist()), tuple(before[2].tolist())


def _along(chain: Chain, angles: Array) -> tuple[list[Numbers], Numbers, Numbers]:
    """Every joint's axis and place [6], the tool's place [3] and the direction [3] of its z axis (base frame, m).

    One pose, at joint angles [n] (rad), for control loops: plain floats take a quarter of the time of `forward`.
    """
    joints, tool, pointing = _constants(chain)
    xx, xy, xz, yx, yy, yz, zx, zy, zz = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0  # rotation, row by row
    px = py = pz = 0.0
    frames: list[Numbers] = []
    for ((ox, oy, oz), (a, b, c, d, e, f, g, h, i)), angle in zip(joints, angles.tolist(), strict=True):
        px, py, pz = (
            px + xx * ox + xy * oy + xz * oz,
            py + yx * ox + yy * oy + yz * oz,
            pz + zx * ox + zy * oy + zz * oz,
        )
        cosine, sine = cos(angle), sin(angle)
        ux, uy, uz = xx * a + xy * d + xz * g, yx * a + yy * d + yz * g, zx * a + zy * d + zz * g
        vx, vy, vz = xx * b + xy * e + xz * h, yx * b + yy * e + yz * h, zx * b + zy * e + zz * h
        xz, yz, zz = xx * c + xy * f + xz * i, yx * c + yy * f + yz * i, zx * c + zy * f + zz * i
        xx, yx, zx = cosine * ux + sine * vx, cosine * uy + sine * vy, cosine * uz + sine * vz
        xy, yy, zy = cosine * vx - sine * ux, cosine * vy - sine * uy, cosine * vz - sine * uz
        frames.append((xz, yz, zz, px, py, pz))
    ox, oy, oz = tool
    px, py, pz = px + xx * ox + xy * oy + xz * oz, py + yx * ox + yy * oy + yz * oz, pz + zx * ox + zy * oy + zz * oz
    ox, oy, oz = pointing
    pointing = xx * ox + xy * oy + xz * oz, yx * ox + yy * oy + yz * oz, zx * ox + zy * oy + zz * oz
    return frames, (px, py, pz), pointing


def place(chain: Chain, angles: Array) -> Array:
    """The tool's place [3] (base frame, m) at joint angles [n] (rad), as `forward` has it, in a quarter of the time."""
    return np.array(_along(chain, angles)[1])


def pose(chain: Chain, angles: Array) -> tuple[Array, Array, Array]:
    """The tool's place [3] (base frame, m), the direction [3] of its z axis, and the Jacobian of both [6, n]."""
    frames, place, pointing = _along(chain, angles)
    return np.array(place), np.array(pointing), _columns(frames, place, pointing).T


def _columns(frames: list[Numbers], place: Numbers, pointing: Numbers) -> Array:
    """The Jacobian's columns [n, 6], of what `_along` found."""
    (px, py, pz), (ux, uy, uz) = place, pointing
    columns = []
    for ax, ay, az, bx, by, bz in frames:
        lx, ly, lz = px - bx, py - by, pz - bz
        columns.append((
            ay * lz - az * ly, az * lx - ax * lz, ax * ly - ay * lx,
            ay * uz - az * uy, az * ux - ax * uz, ax * uy - ay * ux,
        ))  # fmt: skip
    return np.array(columns)


def hold_down(chain: Chain, angles: Array, motion: Array, low: Array, high: Array, damping: float = 1e-4) -> Array:
    """The smallest joint motion [n] (rad) that moves the tool by `motion` [3] (m) and has its z axis point down.

    To first order, by damped least squares as in `toward`; the turn about that axis is free. The tool's place is kept
    between `low` and `high` [3] (base frame, m): both at a target, they bring it there. From above the horizon, the
    axis would be turned to point up.
    """
    frames, place, pointing = _along(chain, angles)
    bounds = zip(place, motion.tolist(), low.tolist(), high.tolist(), strict=True)
    error = [min(max(at + by, least), most) - at for at, by, least, most in bounds]
    columns = _columns(frames, place, pointing)[:, :5]
    square = columns.T @ columns
    square.flat[::6] += damping
    step: Array = columns @ np.linalg.solve(square, (*error, -pointing[0], -pointing[1]))
    return step
