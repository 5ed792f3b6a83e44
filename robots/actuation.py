"""What lies between a commanded joint position and the joint: pure, no engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from robots.spec import PD, Array

C = TypeVar("C")


def torques(
    drive: PD,
    target: Sequence[float],
    effort: Sequence[float],
    velocity: Sequence[float],
    states: Sequence[Sequence[float]],
) -> list[float]:
    """Torques [n] (N m) of PD drives, at the physics rate: saturated at `effort`, and none beyond `velocity`.

    target [n] (rad), effort [n] (N m), velocity [n] (rad/s): a motor does not accelerate a joint that turns faster.
    states: angle and velocity of each joint (rad, rad/s), whatever follows them. Plain floats: a NumPy call per
    operation would cost more than all of it.
    """
    stiffness, damping = drive.stiffness, drive.damping
    found: list[float] = []
    add = found.append
    for goal, most, fastest, state in zip(target, effort, velocity, states):  # noqa: B905 (strict costs time here)
        speed = state[1]
        torque = stiffness * (goal - state[0]) - damping * speed
        if torque > most:
            torque = most
        elif torque < -most:
            torque = -most
        if (speed > fastest and torque > 0) or (speed < -fastest and torque < 0):
            torque = 0.0
        add(torque)
    return found


def delayed(commands: Sequence[C], delay: int, substeps: int) -> tuple[C, C, int]:
    """The commands in force during a control step of `substeps` physics steps, under a delay in physics steps.

    commands: newest first, the newest issued at the start of this control step; the oldest stands in for
    anything older. Returns the command that still holds, the one that replaces it, and after how many steps.
    """
    age, wait = divmod(delay, substeps)
    last = len(commands) - 1
    return commands[min(age + 1, last)], commands[min(age, last)], wait


def wired(commands: Array, exchanged: tuple[int, int] | None, reversed_: int | None, nominal: Array) -> Array:
    """Commands [..., n] (rad) as they arrive where two joints' cables are exchanged, or one joint turns the other way.

    A reversed joint is mirrored about its nominal angle, where it was homed.
    """
    return _mirrored(_swapped(commands, exchanged), reversed_, nominal)


def unwired(joints: Array, exchanged: tuple[int, int] | None, reversed_: int | None, nominal: Array) -> Array:
    """The readings [..., n] (rad) of joints on the same wires: `wired` undoes it."""
    return _swapped(_mirrored(joints, reversed_, nominal), exchanged)


def _swapped(values: Array, pair: tuple[int, int] | None) -> Array:
    if pair is not None:
        values = values.copy()
        values[..., list(pair)] = values[..., list(pair[::-1])]
    return values


def _mirrored(values: Array, joint: int | None, nominal: Array) -> Array:
    if joint is not None:
        values = values.copy()
        values[..., joint] = 2 * nominal[joint] - values[..., joint]
    return values
