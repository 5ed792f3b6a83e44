"""A controller that brings the arm to a point by nominal kinematics: the classical answers act through it."""

from __future__ import annotations

import numpy as np

from metarl.episodes import Float
from robots import kinematics
from robots.actions import JointIncrement
from robots.interface import Interface
from robots.spec import Array, RobotSpec


class PointController:
    """Drives the arm until it feels itself at `matrix @ seen + shift`, seen being the camera's target [m].

    matrix [3, 3], shift [3] (m). Where there is no camera, the point is the shift. Has a policy's signature, and
    no spread. The goal is fixed at an episode's first observation: make one controller per episode.
    """

    def __init__(self, spec: RobotSpec, interface: Interface, matrix: Array, shift: Array) -> None:
        if not isinstance(interface.action, JointIncrement):
            raise ValueError(f"actions are {type(interface.action).__name__}, expected JointIncrement")
        self._spec, self._interface, self._matrix, self._shift = spec, interface, matrix, shift
        self._scale = np.array(interface.action.scale)
        self._goal: Array | None = None
        self._still = np.full(len(spec.joints), -np.inf, np.float32)

    def __call__(self, observation: Float) -> tuple[Float, Float]:
        interface = self._interface
        if self._goal is None:
            point = self._shift
            if any(term.name == "camera_target" for term in interface.observation):
                point = self._matrix @ interface.field("camera_target", observation) + point
            self._goal = kinematics.solve(self._spec, point)
        reading = interface.field("joint_position", observation)
        action = 0.3 * (self._goal - reading) / self._scale
        return (action / max(1.0, np.abs(action).max())).astype(np.float32), self._still
