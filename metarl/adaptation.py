"""The inner step: one pure function, differentiated by the meta-trainer and traced by the exporter."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value

from metarl.networks import GaussianMLP
from metarl.objectives import Batch, Objective


class Step(NamedTuple):
    """theta after the step [P], the loss before it, its gradient's norm, and whether all of that is finite."""

    theta: Tensor
    loss: Tensor
    gradient_norm: Tensor
    finite: Tensor


def inner_step(
    network: GaussianMLP,
    objective: Objective,
    theta: Tensor,
    step_sizes: Tensor,
    step: Tensor,
    batch: Batch,
    first_order: bool = False,
) -> Step:
    """theta [P] moved against the gradient of the objective on one task's batch.

    step_sizes [K, P] are learned per step and parameter (Li et al. 2017, "Meta-SGD"); `step` (int64 scalar)
    selects the row, and beyond K the last serves. first_order stops gradients of the gradient (FOMAML).
    """
    gradient, loss = grad_and_value(lambda at: objective.loss(network, at, batch))(theta)
    if first_order:
        gradient = gradient.detach()
    row = step_sizes.index_select(0, step.clamp(max=step_sizes.shape[0] - 1).reshape(1))[0]
    moved = theta - row * gradient
    norm = gradient.square().sum().sqrt()
    return Step(moved, loss, norm, torch.isfinite(moved).all() & torch.isfinite(loss) & torch.isfinite(norm))
