"""When a robot at work adapts, and from how much of its motion: what training in simulation and the device share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

WORK = 20.0  # [s], of a policy that adapts while it works, unless told otherwise


@dataclass(frozen=True)
class Plan:
    """every [s]: between adaptations. window [s]: of motion that each reads at most. steps: of gradient. probation [s]:
    that a trial is watched for before it counts as good. first [s]: after the start, of the first adaptation; None:
    when the window is full.
    """

    every: float = 1.0
    window: float = 2.0
    steps: int = 3
    probation: float = 1.0
    first: float | None = None

    def __post_init__(self) -> None:
        times = (self.every, self.window, self.probation, self.start)
        if not all(0 < value < math.inf for value in times) or self.steps < 1:
            raise ValueError(f"the plan is {self}, expected positive times in seconds, and steps from 1 up")

    @property
    def start(self) -> float:
        """Motion [s] before the first adaptation."""
        return self.window if self.first is None else self.first


def chosen(own: Plan | None, trained: int, every: float | None, window: float | None, steps: int | None) -> Plan | None:
    """A bundle's own plan, or else one of as many steps as it was trained for, with what was asked for in its place.

    None where nothing asks for adapting: no plan of its own and no `every`, or 0 `steps`.
    """
    if steps == 0 or (own is None and every is None):
        return None
    plan = own or Plan(steps=trained)
    return replace(plan, every=every or plan.every, window=window or plan.window, steps=steps or plan.steps)
