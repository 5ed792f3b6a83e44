"""What a memory should be able to tell: the reward of any step of its trial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarl.networks import MLP

MOMENTS = 20  # of each trial, at which the memory is asked
QUESTIONS = 10  # at each: about steps of the trial, past and future alike
WIDTH = 64


@dataclass(frozen=True)
class Recall:
    """The reward decoder of VariBAD (Zintgraf et al. 2020, arXiv 1910.08348), without its uncertainty.

    From recalled [R], and observation and action of some step of the trial, it tells that step's reward. About the
    steps to come it is right to the degree to which the memory knows the task. Where a choice in fifty pays off a
    hundred steps later, that says more about what to remember than the trial's reward does.
    """

    recalled: int
    observation: int
    action: int

    @property
    def network(self) -> MLP:
        """It regresses; `discrete` spares it a spread."""
        inputs = self.recalled + self.observation + self.action
        return MLP(inputs, 1, (WIDTH,), discrete=True, activation="relu")

    def initial(self, seed: int) -> Tensor:
        # Not the numbers that the policy of this seed begins with.
        return self.network.initial(torch.Generator().manual_seed(seed + 1))

    def error(self, theta: Tensor, recalled: Tensor, data: dict[str, Tensor], rng: np.random.Generator) -> Tensor:
        """Mean squared error about steps and at moments drawn from `rng`.

        recalled [trial, time, R]; data: observation, action, mask [trial, time, ...] as `unrolled` has them, and
        standardised, the rewards [trial, time] in units of their spread.
        """
        lengths = data["mask"].sum(1)[:, None, None].numpy()

        def times(*shape: int) -> Tensor:
            return torch.from_numpy((rng.random((len(lengths), *shape)) * lengths).astype(int))

        row, moment, asked = torch.arange(len(lengths))[:, None, None], times(MOMENTS, 1), times(MOMENTS, QUESTIONS)
        known = recalled[row, moment].expand(-1, -1, QUESTIONS, -1)
        about = [data[name][row, asked] for name in ("observation", "action")]
        answer, _ = self.network(theta, torch.cat([known, *about], -1))
        return (answer.squeeze(-1) - data["standardised"][row, asked]).square().mean()
