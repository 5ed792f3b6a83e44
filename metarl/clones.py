"""Baselines by behaviour cloning, learned from the very motions that the learner sees, when it sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from envs.tasks import Task
from metarl.baselines import ORACLE, networks
from metarl.checkpoint import load_optimizer, optimizer_state
from metarl.config import Config
from metarl.episodes import Episodes
from metarl.objectives import Demonstration, tensors
from metarl.problem import Problem


class Clones:
    """Domain randomization and the oracle, cloned side by side; `thetas` [P] by name."""

    def __init__(self, config: Config, problem: Problem) -> None:
        self._rate, self._objective, self._space = config.learning_rate, Demonstration(), problem.space
        self._networks = networks(config, problem)
        generator = torch.Generator().manual_seed(config.seed)
        self.thetas = {name: net.initial(generator).requires_grad_() for name, net in self._networks.items()}
        self._optimizer = torch.optim.Adam(self.thetas.values(), lr=self._rate)

    def update(self, tasks: Sequence[Task], batches: Sequence[Episodes], progress: float) -> None:
        """One step on all motions, fields [task, episode, time, ...]; progress in [0, 1) sets the learning rate."""
        self._optimizer.param_groups[0]["lr"] = self._rate * (1 - progress)
        known = torch.from_numpy(np.stack([self._space.encode(task) for task in tasks]).astype(np.float32))
        self._optimizer.zero_grad()
        for motions in (batches[0], batches[-1]):
            batch = tensors(motions)
            seen = batch["observation"]
            told = torch.cat([seen, known[:, None, None].expand(*seen.shape[:3], -1)], -1)
            for name, theta in self.thetas.items():
                observation = told if name == ORACLE else seen
                loss = self._objective.loss(self._networks[name], theta, {**batch, "observation": observation})
                loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs; `load` reverses it."""
        thetas = {f"baseline.{name}": theta.detach() for name, theta in self.thetas.items()}
        return thetas | optimizer_state(self._optimizer, "baseline.adam")

    def load(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, theta in self.thetas.items():
                theta.copy_(state[f"baseline.{name}"])
        load_optimizer(self._optimizer, state, "baseline.adam")
