"""What adaptation is measured against: domain randomization, the same fine-tuned, an oracle that sees the task."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import vmap

from metarl.adaptation import inner_step
from metarl.config import Config
from metarl.networks import MLP
from metarl.objectives import Batch, Objective
from metarl.problem import Problem

DOMAIN_RANDOMIZATION, ORACLE = "domain_randomization", "oracle"
LONG = 100  # steps of `fine_tune_long`


def networks(config: Config, problem: Problem) -> dict[str, MLP]:
    """The baselines' networks: as wide as the learner's; the oracle's also takes the encoded task."""
    sizes = {DOMAIN_RANDOMIZATION: problem.observation, ORACLE: problem.observation + problem.space.size}
    return {
        name: MLP(size, problem.action, config.hidden, problem.discrete, activation=config.activation)
        for name, size in sizes.items()
    }


def fine_tune(network: MLP, objective: Objective, thetas: Tensor, batch: Batch, step_size: float) -> Tensor:
    """thetas [task, P] after one plain gradient step of the objective on each task's batch; not finite is not taken."""
    sizes, step = torch.full((1, thetas.shape[1]), step_size), torch.tensor(0)
    moved = vmap(lambda theta, data: inner_step(network, objective, theta, sizes, step, data).theta)(thetas, batch)
    return torch.where(moved.isfinite().all(-1, keepdim=True), moved, thetas)


def fine_tune_long(network: MLP, objective: Objective, thetas: Tensor, batch: Batch, rate: float) -> Tensor:
    """thetas [task, P] after LONG steps of Adam on each task's batch: what patience without meta-learning gives."""
    moved = thetas.clone().requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=rate)  # elementwise, so the tasks do not see one another
    for _ in range(LONG):
        loss = vmap(lambda theta, data: objective.loss(network, theta, data))(moved, batch).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return torch.where(moved.isfinite().all(-1, keepdim=True), moved.detach(), thetas)
