"""Episodes: what robots lived through, as padded arrays with a mask. numpy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Episodes:
    """Arrays [..., episode, time, size], or without the size, float32.

    observation, action (sampled; for guided motions, what the motion stands for), reward (zero for guided
    motions), mask (1 where a step was lived), error (how far from what was asked after the step, in the unit of the
    job's measure; for evaluation only). An episode that ended early is padded with zeros, and its error stays.
    """

    observation: Float
    action: Float
    reward: Float
    mask: Float
    error: Float

    def map(self, function: Callable[[Float], Float]) -> Episodes:
        """The same function of every field."""
        return Episodes(**{f.name: function(getattr(self, f.name)) for f in fields(self)})

    def padded(self, length: int) -> Episodes:
        """One episode, fields [time, ...], of `length` steps."""
        missing = length - len(self.mask)
        if not missing:
            return self

        def fill(name: str) -> Float:
            value: Float = getattr(self, name)
            widths = [(0, missing)] + [(0, 0)] * (value.ndim - 1)
            return np.pad(value, widths, "edge" if name == "error" else "constant")

        return Episodes(**{f.name: fill(f.name) for f in fields(self)})

    @classmethod
    def join(cls, parts: Sequence[Episodes], axis: int = 0) -> Episodes:
        """Along an axis; all parts must agree in the others."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts], axis) for f in fields(cls)})

    @classmethod
    def stack(cls, parts: Sequence[Episodes]) -> Episodes:
        """Along a new first axis; all parts must be of one shape."""
        return cls(**{f.name: np.stack([getattr(part, f.name) for part in parts]) for f in fields(cls)})
