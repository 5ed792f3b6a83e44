"""What is known of a task that nobody tells: a mean and a certainty for each element of its code. numpy only.

Elements are whitened by their moments over training tasks. A certainty k in [0, 1] is the share of an element's
variance that is known: a consistent belief has a mean m that is normal with variance k, and the truth is normal about m
with variance 1 - k. So (0, 0) is what is known of every task before anything is felt, (truth, 1) what an oracle knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.tasks import Task, TaskSpace
from metarl.episodes import Float

DRAWS = 4096  # of tasks, for their moments


@dataclass(frozen=True)
class Prior:
    """Mean and deviation [Z] of the encoded task over training tasks."""

    mean: Float
    deviation: Float

    @classmethod
    def of(cls, space: TaskSpace) -> Prior:
        rng = np.random.default_rng(0)
        codes = np.stack([space.encode(space.sample(rng)) for _ in range(DRAWS)])
        return cls(codes.mean(0).astype(np.float32), codes.std(0).astype(np.float32))

    def truth(self, space: TaskSpace, task: Task) -> Float:
        """The task's code [Z], whitened."""
        return ((space.encode(task) - self.mean) / self.deviation).astype(np.float32)
