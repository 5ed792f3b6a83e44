"""What lies between a commanded joint position and the joint: pure numpy."""

from __future__ import annotations

from collections.abc import Sequence

from robots.spec import Array, RobotSpec


def position_target(spec: RobotSpec, command: Array, zero: Array, strength: Array | float) -> tuple[Array, Array]:
    """Where the drives' position loops pull the true joints [n] (rad), and the torque they saturate at [n] (N m).

    command [n] (rad) is in the encoders' frame. zero [n] (rad): encoder reading minus true angle, so that an
    offset moves the arm without the drive noticing. strength: share of the rated effort, per joint or for all.
    """
    return command - zero, strength * spec.effort


def delayed(commands: Sequence[Array], delay: int, substeps: int) -> tuple[Array, Array, int]:
    """The commands in force during a control step of `substeps` physics steps, under a delay in physics steps.

    commands: newest first, the newest issued at the start of this control step; the oldest stands in for
    anything older. Returns the command that still holds, the one that replaces it, and after how many steps.
    """
    age, wait = divmod(delay, substeps)
    last = len(commands) - 1
    return commands[min(age + 1, last)], commands[min(age, last)], wait
