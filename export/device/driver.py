"""What stands between the device and a robot: the Driver protocol, and how one is found by name. Moves nothing."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from robots.actions import Command
from robots.interface import Interface
from robots.spec import Array

GROUP = "sim2adapt.drivers"
REWARD = "reward"  # the sensor field of the reward measured for the step that ended with the sample


@dataclass(frozen=True)
class Spec:
    """What a driver drives.

    joints: names, in the order of every vector of joints. fields: sensor fields and their sizes: joint_position always,
    `reward` where one is measured. realtime: time runs by itself, and the caller keeps the control rate; otherwise
    `write`, `hold` and `relax` advance one control step. restarts: `begin_attempt` brings the robot back to a start.
    guided: somebody can lead it by hand.
    """

    robot: str
    joints: tuple[str, ...]
    control_hz: int
    fields: Mapping[str, int]
    realtime: bool
    restarts: bool = False
    guided: bool = False


class Sample(NamedTuple):
    """values: every field of the spec [size], in its unit. time [s]: when it was measured, by the robot's own clock,
    which only goes forward. valid: whether the reading succeeded; if not, values may be old, or missing.
    """

    values: Mapping[str, Array]
    time: float
    valid: bool = True

    @property
    def reward(self) -> float:
        """The measured reward, nan if there is none."""
        found = self.values.get(REWARD)
        return float("nan") if found is None else float(found[0])


class Applied(NamedTuple):
    """What the drives were really told: joint targets [n] (rad), and the gripper where there is one."""

    target: Array
    grip: float | None


class NotMeasuredError(ValueError):
    """The driver has no such measurement."""


class Driver(Protocol):
    """A robot, real or simulated. Joint vectors are in the interface's order, in the encoders' frame [rad].

    Making a driver never moves the robot. Any exception of `read` or `write` counts as a fault of the robot.
    """

    @property
    def spec(self) -> Spec: ...

    def read(self) -> Sample:
        """The sensors now. Does not wait for longer than a fraction of a control step."""

    def write(self, command: Command) -> Applied:
        """Command joint positions, and the gripper where there is one, for the coming control step."""

    def hold(self) -> None:
        """Stay, stiff, where it is."""

    def relax(self) -> None:
        """Go limp."""

    def begin_attempt(self) -> None:
        """Return when the robot rests where an attempt starts. Raises ValueError if it cannot."""

    def guided(self) -> Mapping[str, Array]:
        """Sensor fields [time + 1, size], one row per control step, of one motion led by hand.

        Raises NotMeasuredError where nobody can lead the robot.
        """

    def close(self) -> None:
        """Let go of the robot; closing twice is allowed."""


def require(spec: Spec, interface: Interface) -> None:
    """Raises ValueError, naming both values, unless the robot is the one that a policy was made for."""
    for name, found, expected in (
        ("robot", spec.robot, interface.robot),
        ("joints", spec.joints, interface.joints),
        ("control rate [Hz]", spec.control_hz, interface.control_hz),
        *((f"size of the field {name!r}", spec.fields.get(name), size) for name, size in interface.fields.items()),
    ):
        if found != expected:
            raise ValueError(
                f"the driver's {name} is {found!r}, expected {expected!r} as in the bundle; connect the robot that "
                "the policy was trained for, or load its own bundle"
            )


def connect(name: str, suggestions: Mapping[str, Any] | None = None, **options: Any) -> Driver:
    """The driver `name`: an entry point of the group "sim2adapt.drivers" ("udp:HOST:PORT" hands it what follows the
    first colon), or MODULE:CLASS, made with `options`. suggestions: options for drivers that take them.

    Raises ValueError for a name that is not known, a module that cannot be imported, or options it does not take.
    """
    known = {point.name: point for point in entry_points(group=GROUP)}
    head, colon, rest = name.partition(":")
    address: tuple[str, ...] = ()
    try:
        if head in known:
            factory, address = known[head].load(), (rest,) if colon else ()
        elif colon:
            factory = getattr(importlib.import_module(head), rest)
        else:
            raise ValueError(f"driver is {name!r}, expected one of {sorted(known)} or MODULE:CLASS")
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"driver {name!r} cannot be imported ({error}), expected one of {sorted(known)} or MODULE:CLASS; "
            "install what it needs or check the name"
        ) from error
    signature = inspect.signature(factory)
    options = {key: value for key, value in (suggestions or {}).items() if key in signature.parameters} | options
    try:
        signature.bind(*address, **options)
    except TypeError as error:
        raise ValueError(f"driver {name!r}: {error}; it takes the options {signature}") from error
    return cast(Driver, factory(*address, **options))


def finite(values: Mapping[str, Any], fields: Mapping[str, int]) -> bool:
    """Whether a sample holds every field, of its size and finite."""
    for name, size in fields.items():
        value = values.get(name)
        if value is None or np.shape(value) != (size,) or not np.isfinite(value).all():
            return False
    return True
