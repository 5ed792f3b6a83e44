"""Rewards: pure functions of small arrays and plain numbers."""

from __future__ import annotations

from math import exp, hypot

import numpy as np

from robots.spec import Array


def gap(place: Array | None, other: Array) -> float:
    """The distance between two places [3] in the same frame [m]."""
    assert place is not None, "the robot has no tool"
    return float(np.linalg.norm(place - other))


def tracking(error: float, sharpness: float) -> float:
    """exp(-error^2 / sharpness), in (0, 1]. sharpness: in the error's unit, squared."""
    return exp(-error * error / sharpness)


def miss(velocity: tuple[float, float], command: tuple[float, float]) -> float:
    """How far a planar velocity is from the one asked for [m/s]."""
    return hypot(velocity[0] - command[0], velocity[1] - command[1])


def mean_square(values: Array) -> float:
    """Mean of the squares of an array's elements."""
    return float(values @ values) / len(values)
