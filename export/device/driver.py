"""What stands between the device and a robot: the Driver protocol, and how one is found by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

from robots.actions import Command
from robots.spec import Array

GROUP = "sim2adapt.drivers"


class NotMeasuredError(ValueError):
    """The driver has no such measurement."""


class Driver(Protocol):
    """A robot, real or simulated. Joint vectors are in the interface's order, in the encoders' frame [rad]."""

    realtime: bool
    """True: time runs by itself, and the caller keeps the control rate. False: `write` advances one control step."""

    def read(self) -> Mapping[str, Array]:
        """The sensor sample now: every field that the interface's observation terms name, and joint_position [n]."""

    def write(self, command: Command) -> None:
        """Command joint positions, and the gripper where there is one, for the coming control step."""

    def reward(self) -> float:
        """The reward measured for the step that ended with the last `read`.

        Raises NotMeasuredError if none is measured. Before the first step, too, this call tells whether one will be;
        the number is then not used.
        """

    def begin_attempt(self) -> None:
        """Return when the robot rests where an attempt starts. Raises ValueError if it cannot."""

    def guided(self) -> Mapping[str, Array]:
        """Sensor samples [time + 1, size], one per control step, of one motion led by hand.

        Raises NotMeasuredError where nobody can lead the robot.
        """

    def close(self) -> None:
        """Let go of the robot; closing twice is allowed."""


def connect(name: str, **options: Any) -> Driver:
    """The driver `name`: an entry point of the group "sim2adapt.drivers", or MODULE:CLASS, made with `options`.

    Raises ValueError for a name that is not known, a module that cannot be imported, or options it does not take.
    """
    known = {point.name: point for point in entry_points(group=GROUP)}
    try:
        if name in known:
            factory = known[name].load()
        elif ":" in name:
            module, _, attribute = name.partition(":")
            factory = getattr(importlib.import_module(module), attribute)
        else:
            raise ValueError(f"driver is {name!r}, expected one of {sorted(known)} or MODULE:CLASS")
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"driver {name!r} cannot be imported ({error}), expected one of {sorted(known)} or MODULE:CLASS; "
            "install what it needs or check the name"
        ) from error
    signature = inspect.signature(factory)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ValueError(f"driver {name!r}: {error}; it takes the options {signature}") from error
    return cast(Driver, factory(**options))
