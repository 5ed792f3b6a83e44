"""Reptile: move the initialization towards where each task's training ends (Nichol et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from envs.tasks import Task
from metarl.adaptation import Step, inner_step
from metarl.config import Config
from metarl.episodes import Episodes
from metarl.learners.inner import gather, shared
from metarl.learners.learner import initial
from metarl.learners.trained import check_shape, cosine
from metarl.networks import MLP
from metarl.objectives import Batch, Objective
from metarl.sampling.serial import Sampler

DECAY, TINY = 0.999, 1e-8  # Adam's, of the second moment


class Reptile:
    """theta += epsilon * mean over tasks of (theta_i' - theta), the whole displacement. Methods as in Learner.

    As in the authors' code, the inner optimizer is Adam without a first moment, and its second moment outlives the
    tasks: by then it is a fixed scale, so that on the device the step is a plain one, of a size per parameter. Here
    tasks step side by side, and the moment takes the mean of their squared gradients. epsilon is `learning_rate`.
    """

    def __init__(self, network: MLP, objective: Objective, config: Config, start: Tensor | None = None) -> None:
        self.network, self.objective, self.config = network, objective, config
        self.theta = initial(network, config, start)
        self._settle(torch.zeros(network.size), torch.zeros(()))

    def _settle(self, moment: Tensor, count: Tensor) -> None:
        """Keep the inner optimizer's state, and what it says of step sizes [1, P]: plain numbers to whoever traces."""
        self._moment, self._count = moment, count
        self.step_sizes = self._sizes(moment, count)[None]

    def adapt(self, theta: Tensor, step: Tensor, *fields: Tensor) -> Step:
        batch = dict(zip(self.objective.fields, fields, strict=True))
        return inner_step(self.network, self.objective, theta, self.step_sizes, step, batch)

    def gather(self, sampler: Sampler, tasks: Sequence[Task], key: tuple[int, int]) -> list[Episodes]:
        """A batch for each inner step, and one more, on which Reptile steps as well."""
        return gather(self, sampler, tasks, key)

    def update(self, batches: Sequence[Episodes], progress: float) -> dict[str, float]:
        data = shared(batches)
        thetas = self.theta.expand(len(batches[0].mask), -1)
        moment, count, losses = self._moment, self._count, []
        for batch in data:
            thetas, moment, count, loss = self._step(thetas, moment, count, batch)
            losses.append(loss.item())
        displacement = (thetas - self.theta).mean(0)
        if not (torch.isfinite(displacement).all() and torch.isfinite(moment).all()):
            raise FloatingPointError(f"the mean displacement is not finite, after losses {losses}")
        self.theta = self.theta + self.config.learning_rate * cosine(progress) * displacement
        self._settle(moment, count)
        figures = {"displacement": displacement.norm().item()}
        if self.objective.gather == "guided":
            return figures | {"loss_before": losses[0], "loss_after": losses[-1]}
        before, *_, after = (float(batch.reward.sum(-1).mean()) for batch in batches)
        return figures | {"return_before": before, "return_after": after}

    def state(self) -> dict[str, Tensor]:
        return {"theta": self.theta, "moment": self._moment, "count": self._count}

    def load(self, state: dict[str, Tensor]) -> None:
        for name, value in self.state().items():
            check_shape(name, state, value)
        self.theta = state["theta"]
        self._settle(state["moment"], state["count"])

    def _sizes(self, moment: Tensor, count: Tensor) -> Tensor:
        """Step size of each parameter [P], the moment's early bias taken out; before the first step none is known."""
        if not count:
            return torch.full_like(moment, self.config.step_size)
        return self.config.step_size / ((moment / (1 - DECAY**count)).sqrt() + TINY)

    def _step(
        self, thetas: Tensor, moment: Tensor, count: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One Adam step of all tasks: thetas [task, P], moment, count, mean loss."""

        def loss(theta: Tensor, data: Batch) -> Tensor:
            return self.objective.loss(self.network, theta, data)

        gradients, losses = vmap(grad_and_value(loss))(thetas, batch)
        moment, count = DECAY * moment + (1 - DECAY) * gradients.square().mean(0), count + 1
        return thetas - self._sizes(moment, count) * gradients, moment, count, losses.mean()
