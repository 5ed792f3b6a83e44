"""What is known of a task that nobody tells: a mean and a certainty for each element of its code. numpy only.

Elements are whitened by their moments over training tasks. A certainty k in [0, 1] is the share of an element's
variance that is known: a consistent belief has a mean m that is normal with variance k, and the truth is normal about m
with variance 1 - k. So (0, 0) is what is known of every task before anything is felt, (truth, 1) what an oracle knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.tasks import Choice, Task, TaskSpace
from metarl.episodes import Float

DRAWS = 4096  # of tasks, for their moments
CERTAIN = 0.995  # the most that a robot may believe to know, as a share of the variance


@dataclass(frozen=True)
class Prior:
    """Mean and deviation [Z] of the encoded task over training tasks; and which elements tell which of some options it
    is."""

    mean: Float
    deviation: Float
    choice: NDArray[np.bool_]

    @classmethod
    def of(cls, space: TaskSpace) -> Prior:
        rng = np.random.default_rng(0)
        codes = np.stack([space.encode(space.sample(rng)) for _ in range(DRAWS)])
        choice = np.concatenate([np.full(each.code, isinstance(each, Choice)) for each in space.parameters])
        return cls(codes.mean(0).astype(np.float32), codes.std(0).astype(np.float32), choice)

    def truth(self, space: TaskSpace, task: Task) -> Float:
        """The task's code [Z], whitened."""
        return ((space.encode(task) - self.mean) / self.deviation).astype(np.float32)


def knowing(truth: Float) -> Float:
    """Beliefs [..., 2 Z], means then certainties, of who is told the truth [..., Z]."""
    return np.concatenate([truth, np.full_like(truth, CERTAIN)], -1)


def imagine(truth: Float, nothing: float, rng: np.random.Generator) -> Float:
    """Beliefs [task, 2 Z] that nobody inferred: the truth [task, Z], for all but a share of `nothing` of the tasks, of
    which nothing is known."""
    return knowing(truth) * (rng.random((len(truth), 1)) >= nothing)
