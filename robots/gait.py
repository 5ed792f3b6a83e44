"""Trajectory generators for legged robots, pure numpy: where feet and joints go in each phase of a gait.

The idea is that of policies modulating trajectory generators (Iscen et al. 2018, arXiv:1910.02812): a plain gait
walks, and a policy corrects it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import cos, pi, sin
from typing import Any

import numpy as np

from robots.spec import PD, Array, RobotSpec, Vector3


@dataclass(frozen=True)
class Gait:
    """The constants of one robot's gait: plain numbers, so that a manifest can hold them.

    feet: their places in the nominal pose [m, base frame]. phases: by how much of a cycle each leg is ahead. gain:
    turn of each joint per metre that each foot moves forward, left and up [rad/m], [n joints, 3 * legs]. It is the
    inverse Jacobian at the nominal pose: good to about 1 cm for steps up to 6 cm, and 2 cm for steps up to 9 cm.
    load: how far beyond its place each foot must be sent [m] in order to be there while it carries the robot alone:
    legs under PD control give way, and without this a trot slides back at each step.
    """

    feet: tuple[Vector3, ...]
    phases: tuple[float, ...]
    gain: tuple[tuple[float, ...], ...]
    load: tuple[Vector3, ...]

    @classmethod
    def trot(cls, spec: RobotSpec) -> Gait:
        """Diagonal legs move together. Raises ValueError for a robot without four legs."""
        if len(spec.legs) != 4:
            raise ValueError(f"{spec.name} has {len(spec.legs)} legs, expected four for a trot")
        give = 9.81 * spec.mass / spec.drive.stiffness if isinstance(spec.drive, PD) else 0.0
        gain = np.zeros((len(spec.joints), 3 * len(spec.legs)))
        load = []
        for index, leg in enumerate(spec.legs):
            gain[list(leg.joints), 3 * index : 3 * index + 3] = leg.gain
            jacobian = np.linalg.pinv(leg.gain)
            # A force f on the foot turns the joints by J' f / stiffness, and so moves the foot by J J' f / stiffness.
            x, y, z = (-give * (jacobian @ jacobian.T)[2] + 0.0).round(6).tolist()
            load.append((x, y, z))
        return cls(
            feet=tuple(leg.foot for leg in spec.legs),
            phases=(0.0, 0.5, 0.5, 0.0),
            gain=tuple(map(tuple, gain.tolist())),
            load=tuple(load),
        )

    @cached_property
    def _gain(self) -> Array:
        return np.array(self.gain)

    def steps(
        self, phase: float, command: Sequence[float], frequency: float, height: float, stance: float
    ) -> list[float]:
        """How far each foot is from its nominal place: forward, left, up for one leg after the other [3 * legs] (m).

        phase: in cycles; only its fraction counts. command: the base's velocity forward and left [m/s], and its yaw
        rate [rad/s]. frequency: of cycles [Hz]. height: how high a swinging foot is lifted [m]; at 0 all stand.
        stance: the share of the cycle, in (0, 1), that a foot spends on the ground, where it moves as the ground would.
        """
        forward, left, yaw = command
        reach = 0.5 * stance / frequency
        phases = [(phase + offset) % 1.0 for offset in self.phases]
        standing = sum(now < stance for now in phases) if height else len(phases)
        steps: list[float] = []
        for now, (x, y, _), load in zip(phases, self.feet, self.load, strict=True):
            lift = 0.0
            if now < stance:
                along = reach * (1 - 2 * now / stance)
            else:
                angle = pi * (now - stance) / (1 - stance)
                along, lift = -reach * cos(angle), height * sin(angle)
            share = 1 / standing if now < stance or not height else 0.0  # of the robot's weight
            steps += (
                along * (forward - yaw * y) + share * load[0],
                along * (left + yaw * x) + share * load[1],
                lift + share * load[2],
            )
        return steps

    def offsets(self, steps: Sequence[float]) -> Array:
        """Joint offsets [n] (rad) from the nominal pose that move the feet by `steps` [3 * legs] (m)."""
        offsets: Array = self._gain @ np.array(steps)
        return offsets

    def to_dict(self) -> dict[str, Any]:
        """Plain, JSON-ready values; `from_dict` reverses it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Gait:
        """Raises TypeError for unknown or missing keys."""
        fields: dict[str, Any] = {
            name: tuple(tuple(row) if isinstance(row, list | tuple) else row for row in rows)
            for name, rows in values.items()
        }
        return cls(**fields)
