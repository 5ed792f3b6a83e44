"""The one table between a policy and a body: sensor sample -> observation vector, action -> joint targets.

Simulation and device both call this file, and the manifest of an exported policy is `Interface.to_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robots.spec import Array

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
class ActionTerm:
    """What an action in [-1, 1] means: the commanded joint position moves by `scale * action` in a control step.

    scale [rad per control step], lower and upper [rad, encoder frame]: per joint. lead [rad]: how far the command
    may run ahead of the reading, so that a blocked arm does not wind it up.
    """

    name: str
    unit: str
    scale: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    lead: float

    def __post_init__(self) -> None:
        if not positive((*self.scale, self.lead)):
            raise ValueError(
                f"action term {self.name!r}: scale {self.scale} and lead {self.lead} must be positive and finite"
            )
        limits = (*self.lower, *self.upper)
        if not np.isfinite(limits).all() or any(low > high for low, high in zip(self.lower, self.upper, strict=False)):
            raise ValueError(
                f"action term {self.name!r}: lower {self.lower} and upper {self.upper} must be finite and in order"
            )


@dataclass(frozen=True)
class Interface:
    """Ordered observation terms and the action term of one robot and job, at one control rate [Hz].

    `joints` are the names, in order, of every vector of joints; the sensor sample must hold them as
    `joint_position` [rad], the encoders' reading.
    """

    robot: str
    joints: tuple[str, ...]
    control_hz: int
    observation: tuple[ObservationTerm, ...]
    action: ActionTerm

    def __post_init__(self) -> None:
        for field in ("scale", "lower", "upper"):
            values = getattr(self.action, field)
            if len(values) != len(self.joints):
                raise ValueError(
                    f"action term {self.action.name!r}: {field} has {len(values)} values, expected one for each of "
                    f"the {len(self.joints)} joints"
                )

    @property
    def observation_size(self) -> int:
        return sum(len(term.scale) for term in self.observation)

    @property
    def action_size(self) -> int:
        return len(self.joints)

    @cached_property
    def _offset(self) -> Array:
        return np.concatenate([term.offset for term in self.observation])

    @cached_property
    def _scale(self) -> Array:
        return np.concatenate([term.scale for term in self.observation])

    @cached_property
    def _action(self) -> tuple[Array, Array, Array]:
        return np.array(self.action.scale), np.array(self.action.lower), np.array(self.action.upper)

    def observe(self, sample: Mapping[str, Array]) -> NDArray[np.float32]:
        """Observation float32[..., observation_size] of a sensor sample (fields [..., size], in their units).

        Leading axes (time, say) are kept. Raises ValueError for a field that is missing, of the wrong size or
        not finite.
        """
        fields = []
        for term in self.observation:
            if term.name not in sample:
                raise ValueError(
                    f"sensor sample has no {term.name!r}; found {sorted(sample)}, expected "
                    f"{[t.name for t in self.observation]}"
                )
            value = np.asarray(sample[term.name])
            if value.shape[-1:] != (len(term.scale),):
                raise ValueError(
                    f"sensor field {term.name!r} has shape {value.shape}, expected [..., {len(term.scale)}] "
                    f"in {term.unit}"
                )
            fields.append(value)
        vector = (np.concatenate(fields, axis=-1) - self._offset) / self._scale
        if not np.isfinite(vector).all():
            bad = [term.name for term in self.observation if not np.isfinite(sample[term.name]).all()]
            raise ValueError(f"sensor fields {bad} hold NaN or infinity, expected finite values; check the sensor")
        return np.minimum(np.maximum(vector, -LIMIT), LIMIT).astype(np.float32)

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

    def command(self, action: NDArray[Any], previous: Array, reading: Array) -> Array:
        """Commanded joint positions [n] (rad) after `action` [n], clipped to [-1, 1].

        previous: the command before [n] (at the start, the reading). reading: the encoders, now [n] (rad).
        Raises ValueError for any of them if it is of the wrong shape or not finite.
        """
        action = np.asarray(action)
        for name, value in (("action", action), ("previous command", previous), ("reading", reading)):
            if value.shape != (len(self.joints),) or not np.isfinite(value).all():
                raise ValueError(
                    f"{name} is {value!r}, expected {len(self.joints)} finite values; check policy and encoders"
                )
        scale, lower, upper = self._action
        target = previous + scale * np.minimum(np.maximum(action, -1.0), 1.0)
        lead = self.action.lead
        target = np.minimum(np.maximum(target, reading - lead), reading + lead)
        limited: Array = np.minimum(np.maximum(target, lower), upper)
        return limited

    def label(self, readings: Array) -> NDArray[np.float32]:
        """Actions float32[time, n] that a guided motion stands for, from its readings [time + 1, n] (rad).

        What moved between consecutive readings, in units of the action: nothing but encoders is needed, and the
        same rule labels motions in simulation and on the device.
        """
        moved = np.diff(readings, axis=-2) / self._action[0]
        return np.clip(moved, -1.0, 1.0).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain, JSON-ready values; `from_dict` reverses it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Interface:
        """Raises TypeError for unknown or missing keys, ValueError for sizes and values that do not fit."""

        def tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
            return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}

        fields = tuples(values)
        if "observation" in fields:
            fields["observation"] = tuple(ObservationTerm(**tuples(term)) for term in fields["observation"])
        if "action" in fields:
            fields["action"] = ActionTerm(**tuples(fields["action"]))
        return cls(**fields)
