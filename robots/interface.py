"""The one table between a policy and a body: sensor sample -> observation vector, action -> joint targets.

Simulation and device both call this file, and the manifest of an exported policy is `Interface.to_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robots import actions
from robots.actions import Action, Command, JointIncrement
from robots.spec import Array

REMEMBERED = ("last_action", "gait_phase")  # terms that are read from the last command, not from a sensor
LIMIT = 10.0  # of an observation's elements, in their own scale; what lies beyond is clipped


def positive(values: tuple[float, ...]) -> bool:
    return all(0 < value < np.inf for value in values)


@dataclass(frozen=True)
class ObservationTerm:
    """One block of the observation vector: `(sample[name] - offset) / scale`, clipped to ±LIMIT.

    name: also the field of the sensor sample it is read from. unit, frame: of that field. offset and scale:
    one value per element, in `unit`.
    """

    name: str
    unit: str
    frame: str
    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.offset) != len(self.scale):
            raise ValueError(
                f"observation term {self.name!r}: offset has {len(self.offset)} values and scale {len(self.scale)}; "
                "give one of each per element"
            )
        if not (np.isfinite(self.offset).all() and positive(self.scale)):
            raise ValueError(
                f"observation term {self.name!r}: offset {self.offset} and scale {self.scale} must be finite, "
                "scale positive"
            )


@dataclass(frozen=True)
class Interface:
    """Ordered observation terms and the meaning of actions of one robot and job, at one control rate [Hz].

    `joints` are the names, in order, of every vector of joints; the sensor sample must hold them as
    `joint_position` [rad], the encoders' reading. Terms named in REMEMBERED are read from the last command instead (see
    `robots.actions.Command.memory`).
    """

    robot: str
    joints: tuple[str, ...]
    control_hz: int
    observation: tuple[ObservationTerm, ...]
    action: Action

    def __post_init__(self) -> None:
        if len(self.action.lower) != len(self.joints):
            raise ValueError(
                f"action: lower has {len(self.action.lower)} values, expected one for each of the "
                f"{len(self.joints)} joints"
            )
        if getattr(self.action, "control_hz", self.control_hz) != self.control_hz:
            raise ValueError(
                f"action: its gait goes at control_hz={self.action.control_hz}, expected the interface's "  # type: ignore[attr-defined]
                f"{self.control_hz}"
            )

    @property
    def observation_size(self) -> int:
        return sum(len(term.scale) for term in self.observation)

    @property
    def action_size(self) -> int:
        return self.action.size

    @cached_property
    def _sizes(self) -> list[tuple[str, int, str]]:
        return [(term.name, len(term.scale), term.unit) for term in self.observation]

    @cached_property
    def _remembers(self) -> bool:
        return any(term.name in REMEMBERED for term in self.observation)

    @cached_property
    def fields(self) -> dict[str, int]:
        """Sensor fields that a sample must hold, and their sizes."""
        read = {term.name: len(term.scale) for term in self.observation if term.name not in REMEMBERED}
        return {"joint_position": len(self.joints), **read}

    @cached_property
    def _offset(self) -> Array:
        return np.concatenate([term.offset for term in self.observation])

    @cached_property
    def _scale(self) -> Array:
        return np.concatenate([term.scale for term in self.observation])

    def observe(self, sample: Mapping[str, Array], command: Command | None = None) -> NDArray[np.float32]:
        """Observation float32[..., observation_size] of a sensor sample (fields [..., size], in their units).

        command: the last one. Leading axes (time, say) are kept. Raises ValueError for a field that is missing, of
        the wrong size or not finite.
        """
        if command is not None and self._remembers:
            sample = {**sample, **command.memory()}
        fields = []
        for name, size, unit in self._sizes:
            value = sample.get(name)
            if value is None:
                raise ValueError(
                    f"sensor sample has no {name!r}; found {sorted(sample)}, expected "
                    f"{[term.name for term in self.observation]}"
                )
            value = np.asarray(value)
            if value.shape[-1:] != (size,):
                raise ValueError(f"sensor field {name!r} has shape {value.shape}, expected [..., {size}] in {unit}")
            fields.append(value)
        try:
            vector = np.concatenate(fields, axis=-1, dtype=np.float64)
        except TypeError as error:
            odd = [
                name for (name, *_), value in zip(self._sizes, fields, strict=True) if value.dtype.kind not in "biuf"
            ]
            raise ValueError(f"sensor fields {odd} hold what is not a number, expected finite values") from error
        vector -= self._offset
        vector /= self._scale
        flat = vector.ravel()
        if not isfinite(flat.dot(flat)):  # what isfinite().all() says, in a fifth of its time
            bad = [name for (name, *_), value in zip(self._sizes, fields, strict=True) if not np.isfinite(value).all()]
            raise ValueError(f"sensor fields {bad} hold NaN or infinity, expected finite values; check the sensor")
        np.maximum(vector, -LIMIT, out=vector)
        np.minimum(vector, LIMIT, out=vector)
        return vector.astype(np.float32)

    def field(self, name: str, observation: NDArray[Any]) -> Array:
        """The field of one term [..., size], in its unit, read back from an observation [..., observation_size]."""
        start = 0
        for term in self.observation:
            end = start + len(term.scale)
            if term.name == name:
                value: Array = observation[..., start:end] * self._scale[start:end] + self._offset[start:end]
                return value
            start = end
        raise ValueError(f"no observation term {name!r}; found {[term.name for term in self.observation]}")

    def start(self, sample: Mapping[str, Array]) -> Command:
        """The command before the first action: stay. Raises ValueError for a sample without finite encoders."""
        return self.action.start(self._reading(sample))

    def command(self, action: NDArray[Any], previous: Command, sample: Mapping[str, Array]) -> Command:
        """What the drives are told for `action` [action_size], limited to [-1, 1], given the command before.

        Raises ValueError for an action or encoders of the wrong shape or not finite.
        """
        action = np.array(action, dtype=np.float64)
        if action.shape != (self.action.size,) or not isfinite(action.dot(action)):
            raise ValueError(
                f"action is {action.tolist()}, expected {self.action_size} finite values; check the policy"
            )
        reading = self._reading(sample)
        if reading is not sample["joint_position"]:  # a driver may give plain numbers
            sample = {**sample, "joint_position": reading}
        np.maximum(action, -1.0, out=action)
        np.minimum(action, 1.0, out=action)
        return self.action.command(action, previous, sample)

    def _reading(self, sample: Mapping[str, Array]) -> Array:
        reading = np.asarray(sample.get("joint_position"), dtype=np.float64)
        if reading.shape != (len(self.joints),) or not isfinite(reading.dot(reading)):
            raise ValueError(
                f"the sensor sample's joint_position is {reading.tolist()}, expected {len(self.joints)} finite angles "
                "in rad; check the encoders"
            )
        return reading

    def label(self, readings: Array) -> NDArray[np.float32]:
        """Actions that a guided motion stands for; see `JointIncrement.label`. ValueError for other kinds of action."""
        return self._increments.label(readings)

    def motion(self, readings: Array) -> Array:
        """The same, as fast as it was; see `JointIncrement.motion`. ValueError for other kinds of action."""
        return self._increments.motion(readings)

    @property
    def _increments(self) -> JointIncrement:
        if not isinstance(self.action, JointIncrement):
            raise ValueError(
                f"actions are {type(self.action).__name__}, expected JointIncrement: only those can be read off a "
                "guided motion; use another objective"
            )
        return self.action

    def to_dict(self) -> dict[str, Any]:
        """Plain, JSON-ready values; `from_dict` reverses it."""
        return {
            "robot": self.robot,
            "joints": self.joints,
            "control_hz": self.control_hz,
            "observation": tuple(asdict(term) for term in self.observation),
            "action": actions.to_dict(self.action),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Interface:
        """Raises TypeError for unknown or missing keys, ValueError for sizes and values that do not fit."""

        def tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
            return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}

        fields = tuples(values)
        if "observation" in fields:
            fields["observation"] = tuple(ObservationTerm(**tuples(term)) for term in fields["observation"])
        if "action" in fields:
            fields["action"] = actions.from_dict(fields["action"])
        return cls(**fields)
