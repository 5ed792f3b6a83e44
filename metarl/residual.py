"""A policy with memory on top of a plain one: how memory learners begin with what walks already."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.memory import Memory, Outputs
from metarl.networks import MLP

SHARE = 0.1  # of the memory in the mean, so that training begins near the plain policy


@dataclass(frozen=True)
class Residual:
    """The plain policy's mean plus a share of the remembering one's; spread from the former, value from the latter.

    theta holds the remembering part, then the plain one. Methods as in Memory.
    """

    plain: MLP
    upper: Memory

    @property
    def observation(self) -> int:
        return self.plain.observation

    @property
    def action(self) -> int:
        return self.plain.action

    @property
    def discrete(self) -> bool:
        return self.plain.discrete

    @property
    def size(self) -> int:
        return self.upper.size + self.plain.size

    @property
    def memory(self) -> int:
        return self.upper.memory

    @property
    def recalled(self) -> int:
        return self.upper.recalled

    def initial(self, generator: torch.Generator, std: float = 0.4) -> Tensor:
        return torch.cat([self.upper.initial(generator, std), self.plain.initial(generator, std)])

    def begin(self, theta: Tensor, start: Tensor) -> Tensor:
        """theta with the plain policy's parameters `start` in their place."""
        return torch.cat([theta[: self.upper.size], start])

    def step(self, theta: Tensor, memory: Tensor, observation: Tensor, feedback: Tensor) -> tuple[Outputs, Tensor]:
        found, following = self.upper.step(theta[: self.upper.size], memory, observation, feedback)
        return self._sum(theta, observation, found), following

    def sequence(self, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
        return self._sum(theta, observation, self.upper.sequence(theta[: self.upper.size], observation, feedback))

    def _sum(self, theta: Tensor, observation: Tensor, found: Outputs) -> Outputs:
        mean, log_std = self.plain(theta[self.upper.size :], observation)
        return Outputs(mean + SHARE * found.mean, log_std, found.value, found.recalled)
