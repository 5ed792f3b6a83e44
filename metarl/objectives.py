"""What an inner step descends: pure functions of a flat theta and one task's padded batch.

A batch maps field names to arrays [episode, time, ...]; `mask` [episode, time] is 1 where a step was lived.
Everything the gradient needs happens in here, so that a device stacks fields and knows no algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from metarl.episodes import Episodes
from metarl.informed import Plain
from metarl.networks import log_probability

Batch = Mapping[str, Tensor]


class Objective(Protocol):
    """A name, the batch fields in order, how a robot gathers them, and the inner loss."""

    @property
    def name(self) -> str: ...
    @property
    def fields(self) -> tuple[str, ...]: ...
    @property
    def gather(self) -> Literal["guided", "attempts"]: ...

    def loss(self, network: Plain, theta: Tensor, batch: Batch) -> Tensor:
        """The scalar whose gradient in theta is the inner step's."""


@dataclass(frozen=True)
class Demonstration:
    """Squared error between the policy's mean and what guided motions stand for (behaviour cloning)."""

    name = "demonstration"
    fields = ("observation", "action", "mask")
    gather: Literal["guided"] = "guided"

    def loss(self, network: Plain, theta: Tensor, batch: Batch) -> Tensor:
        mean, _ = network(theta, batch["observation"])
        error = (mean - batch["action"]).square().sum(-1)
        return (error * batch["mask"]).sum() / batch["mask"].sum()


@dataclass(frozen=True)
class Reward:
    """Policy gradient on measured reward, as a likelihood ratio against a stopped gradient.

    The plain log-likelihood has the right first derivative but a wrong second one; the ratio has both
    (Rothfuss et al. 2019, "ProMP"; Foerster et al. 2018, "DiCE").
    """

    discount: float = 0.95
    name = "reward"
    fields = ("observation", "action", "reward", "mask")
    gather: Literal["attempts"] = "attempts"

    def loss(self, network: Plain, theta: Tensor, batch: Batch) -> Tensor:
        logp = log_probability(*network(theta, batch["observation"]), batch["action"])
        ratio = torch.exp(logp - logp.detach())
        weight = self.advantage(batch["reward"], batch["mask"]) * batch["mask"]
        return -(ratio * weight).sum() / batch["mask"].sum()

    def advantage(self, reward: Tensor, mask: Tensor) -> Tensor:
        """Normalised advantages [episode, time]: discounted reward to go less what the other attempts got.

        The baseline is the mean over the other episodes at the same time (leave one out): unbiased, and no
        solver is needed on the device. A step that only one episode reached has nothing to compare: zero.
        """
        time = torch.arange(reward.shape[-1], device=reward.device)
        ahead = (time[:, None] - time[None, :]).to(reward.dtype)  # [later, now]
        discount = torch.where(ahead >= 0, self.discount ** ahead.clamp(min=0), 0.0)
        togo = (reward * mask) @ discount * mask
        others = mask.sum(0) - 1
        baseline = (togo.sum(0) - togo) / others.clamp(min=1)
        advantage = (togo - baseline) * mask * (others > 0)
        spread = (advantage.square().sum() / mask.sum()).sqrt()
        return advantage / (spread + 1e-6)


@dataclass(frozen=True)
class Prediction:
    """Squared error of the forecast next observation: what a robot can compare without being told anything.

    The forecast is made from the policy's own features, so that what repairs it also moves the policy (Hansen et al.
    2021, "Self-supervised policy adaptation during deployment"); the outer loss makes the move a useful one.
    elements: of the observation that the robot itself feels, so not what it is asked for.
    """

    elements: tuple[int, ...]
    name = "prediction"
    fields = ("observation", "action", "mask")
    gather: Literal["attempts"] = "attempts"

    def loss(self, network: Plain, theta: Tensor, batch: Batch) -> Tensor:
        change, lived = self.changes(batch)
        surprise = network.surprise(theta, batch["observation"], batch["action"], change)
        return (surprise * lived).sum() / lived.sum().clamp(min=1)

    def changes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """How what is felt changed over each step [episode, time, felt], and which were lived [episode, time]."""
        observation, felt = batch["observation"], list(self.elements)
        # Looked up, not sliced: a graph with slices of the time axis would be of no use for episodes of one step.
        time = torch.arange(observation.shape[1], device=observation.device)
        after = (time + 1).clamp(max=time[-1])
        lived = batch["mask"] * batch["mask"].index_select(1, after) * (time < time[-1])
        return (observation.index_select(1, after) - observation)[..., felt], lived


def tensors(episodes: Episodes) -> dict[str, Tensor]:
    """The fields that objectives read, as tensors that share the arrays' memory."""
    names = ("observation", "action", "reward", "mask")
    return {name: torch.from_numpy(np.ascontiguousarray(getattr(episodes, name))) for name in names}
