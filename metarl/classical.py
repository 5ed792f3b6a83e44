"""The answers a roboticist would give without learning: registration, trilateration, the best point visited."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from envs.robot_env import Job
from metarl.episodes import Episodes
from robots import kinematics
from robots.actions import JointIncrement
from robots.interface import Interface
from robots.spec import Array, RobotSpec

Point = tuple[Array, Array]  # matrix [3, 3] and shift [3] (m), as PointController takes them
Answer = Callable[[RobotSpec, Interface, Episodes], Point]


def answers(job: Job, guided: bool) -> dict[str, Answer]:
    """Those that apply to a job, by name; only an arm whose joints move by increments can be brought to a point.

    From guided motions, registration, if a camera sees the target. From attempts, trilateration and the best point
    visited, if the task alone decides where the target is, and the error is the distance to it.
    """
    interface, nominal = job.interface, job.space.nominal
    if not isinstance(interface.action, JointIncrement):
        return {}
    if guided:
        camera = any(term.name == "camera_target" for term in interface.observation)
        return {"registration": register} if camera else {}
    first, second = (job.goal(nominal, np.random.default_rng(seed)) for seed in range(2))
    if job.measure.unit != "m" or not np.array_equal(first, second):
        return {}
    return {"trilateration": trilaterate, "best_visited": best_visited}


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
    lived = attempts.mask[:, 1:] > 0
    readings = interface.field("joint_position", attempts.observation[:, 1:][lived])
    return kinematics.forward(spec, readings)[0], attempts.reward[:, :-1][lived].astype(np.float64)
