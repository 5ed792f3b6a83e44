"""What a job may be asked for: its fields, checked one by one, each with one clear ValueError. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any

from envs.tasks import Choice, Parameter
from robots.spec import RobotSpec


def arrange(
    kind: type[Any], robot: str | RobotSpec, robots: Mapping[str, RobotSpec], options: Mapping[str, Any]
) -> Any:
    """A job of this kind for one of `robots` by name, or for a robot of your own; `options` are the job's fields.

    Raises ValueError for an unknown robot or field.
    """
    spec = robots.get(robot) if isinstance(robot, str) else robot
    if not isinstance(spec, RobotSpec):
        raise ValueError(f"robot is {robot!r}, expected one of {sorted(robots)} or a RobotSpec of your own")
    known = [field.name for field in fields(kind) if field.name != "spec"]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"options {unknown} are unknown, expected some of {known}, the fields of {kind.__name__}")
    return kind(spec, **options)


def whole(name: str, value: Any, least: int) -> None:
    """Raises ValueError unless it is a whole number from `least` up."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}, expected a whole number from {least} up")


def number(name: str, value: Any, low: float = -inf, high: float = inf) -> None:
    """Raises ValueError unless it is a finite number in [low, high]."""
    if not _number(value) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, expected a finite number{_within(low, high)}")


def interval(name: str, value: Any, low: float = -inf, high: float = inf) -> None:
    """Raises ValueError unless it is a pair of finite numbers, in order and in [low, high]."""
    fits = isinstance(value, tuple) and len(value) == 2 and all(_number(end) for end in value)
    if not fits or not low <= value[0] <= value[1] <= high:
        raise ValueError(f"{name} is {value!r}, expected (from, to): two finite numbers in order{_within(low, high)}")


def names(name: str, value: Any) -> None:
    """Raises ValueError unless it is a tuple of texts: a text alone would be read letter by letter."""
    if not isinstance(value, tuple) or not all(isinstance(entry, str) for entry in value):
        raise ValueError(f"{name} is {value!r}, expected a tuple of names, even for one")


def unknowns(value: Any) -> None:
    """Raises ValueError unless it is a sequence of names, Parameters and Choices."""
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    if not listed or not all(isinstance(entry, str | Parameter | Choice) for entry in value):
        raise ValueError(
            f"unknown is {value!r}, expected a tuple of names of faults, Parameters and Choices, such as ('payload',)"
        )


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def _within(low: float, high: float) -> str:
    return f" in [{low:g}, {high:g}]" if (low, high) != (-inf, inf) else ""
