"""The inner step: one pure function, differentiated by the meta-trainer and traced by the exporter."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value

from metarl.informed import Plain
from metarl.objectives import Batch, Objective


class Step(NamedTuple):
    """theta after the step [P], the loss before it, its gradient's norm, and whether all of that is finite."""

    theta: Tensor
    loss: Tensor
    gradient_norm: Tensor
    finite: Tensor


def inner_step(
    network: Plain,
    objective: Objective,
    theta: Tensor,
    step_sizes: Tensor,
    step: Tensor,
    batch: Batch,
) -> Step:
    """theta [P], of which the first A entries moved against the gradient of the objective on one task's batch.

    step_sizes [K, A] are per step and parameter (learned, they are Li et al. 2017, "Meta-SGD"); `step` (int64 scalar)
    selects the row, and beyond K the last serves. A is P, or the length of a context (CAVIA).
    """
    adapted = step_sizes.shape[-1]
    own, rest = theta[:adapted], theta[adapted:]

    def whole(part: Tensor) -> Tensor:
        return torch.cat([part, rest]) if len(rest) else part

    gradient, loss = grad_and_value(lambda at: objective.loss(network, whole(at), batch))(own)
    row = step_sizes.index_select(0, step.clamp(max=step_sizes.shape[0] - 1).reshape(1))[0]
    moved = own - row * gradient
    norm = gradient.square().sum().sqrt()
    return Step(whole(moved), loss, norm, torch.isfinite(moved).all() & torch.isfinite(loss) & torch.isfinite(norm))
