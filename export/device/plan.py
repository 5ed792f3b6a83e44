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


def chosen(
    own: Plan | None,
    trained: int,
    seconds: float | None = None,
    every: float | None = None,
    window: float | None = None,
    steps: int | None = None,
) -> tuple[float | None, Plan | None]:
    """For how long a policy works, None if it makes attempts instead; and how it adapts meanwhile, None if not at all.

    By what was asked for, else by a bundle's own plan, else, of as many steps as it was `trained` for, not at all.
    Raises ValueError for times that no plan can have, and for those of work where there is none.
    """
    if seconds is None and own is None and not (every is None and window is None):
        raise ValueError(f"every is {every} and window {window}, expected them with seconds to work for")
    seconds = WORK if seconds is None and own else seconds
    if steps == 0 or (own is None and every is None):
        return seconds, None
    plan = own or Plan(steps=trained)
    return seconds, replace(
        plan,
        every=plan.every if every is None else every,
        window=plan.window if window is None else window,
        steps=plan.steps if steps is None else steps,
    )
