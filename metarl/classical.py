"""The answers a roboticist would give without learning: registration, trilateration, the best point visited."""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from metarl.episodes import Episodes
from robots import kinematics
from robots.interface import Interface
from robots.spec import Array, RobotSpec

Point = tuple[Array, Array]  # matrix [3, 3] and shift [3] (m), as PointController takes them


def register(spec: RobotSpec, interface: Interface, motions: Episodes) -> Point:
    """The rigid motion from where the camera saw the targets to where the arm felt itself when guided there.

    motions: fields [episode, time, ...]. Least squares over the motions' ends (Kabsch 1976), by nominal kinematics;
    of a turn that the ends leave open, the smallest.
    """
    ends = motions.observation[:, -1]
    seen = interface.field("camera_target", ends)
    felt, _ = kinematics.forward(spec, interface.field("joint_position", ends))
    pairs = [np.vstack([points - points.mean(0), np.eye(3)]) for points in (felt, seen)]
    rotation, _ = Rotation.align_vectors(*pairs, weights=[1.0] * len(ends) + [1e-6] * 3)
    matrix = rotation.as_matrix()
    return matrix, felt.mean(0) - matrix @ seen.mean(0)


def trilaterate(spec: RobotSpec, interface: Interface, attempts: Episodes) -> Point:
    """The point whose distances to where the arm felt itself best explain the measured rewards (minus distance)."""
    places, rewards = _visited(spec, interface, attempts)
    guess = places[rewards.argmax()]
    fit = least_squares(lambda point: np.linalg.norm(places - point, axis=1) + rewards, guess)
    return np.zeros((3, 3)), fit.x


def best_visited(spec: RobotSpec, interface: Interface, attempts: Episodes) -> Point:
    """The place with the best measured reward."""
    places, rewards = _visited(spec, interface, attempts)
    return np.zeros((3, 3)), places[rewards.argmax()]


def _visited(spec: RobotSpec, interface: Interface, attempts: Episodes) -> tuple[Array, Array]:
    """Places felt [m, 3] (m) and the rewards measured there [m]; a reward belongs to the next observation."""
    readings = interface.field("joint_position", attempts.observation[:, 1:]).reshape(-1, len(spec.joints))
    return kinematics.forward(spec, readings)[0], attempts.reward[:, :-1].reshape(-1).astype(np.float64)
