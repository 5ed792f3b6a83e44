"""Policies as pure functions of one flat parameter vector."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import log, sqrt

import torch
from torch import Tensor

LOG_STD = (-2.5, 0.5)  # bounds of the policy's log standard deviation


@dataclass(frozen=True)
class GaussianMLP:
    """A tanh network to the mean of a Gaussian with a standard deviation per action element.

    theta [P] holds each layer's weight [out, in] and bias [out] in order, then the log standard deviation.
    """

    observation: int
    action: int
    hidden: tuple[int, ...]

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(in, out) of every linear layer."""
        sizes = (self.observation, *self.hidden, self.action)
        return list(pairwise(sizes))

    @property
    def size(self) -> int:
        """P, the length of theta."""
        return sum((inputs + 1) * outputs for inputs, outputs in self.layers) + self.action

    def initial(self, generator: torch.Generator, std: float = 0.4) -> Tensor:
        """A random theta [P]: variance 1/in, the last layer a tenth of that spread, so that it starts at rest."""
        parts = []
        for index, (inputs, outputs) in enumerate(self.layers):
            gain = 0.1 if index == len(self.layers) - 1 else 1.0
            parts += [torch.randn(inputs * outputs, generator=generator) * gain / sqrt(inputs), torch.zeros(outputs)]
        return torch.cat([*parts, torch.full((self.action,), log(std))])

    def __call__(self, theta: Tensor, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [..., action] at observation [..., observation], and log standard deviation [action]."""
        sizes = [size for inputs, outputs in self.layers for size in (inputs * outputs, outputs)]
        *pieces, log_std = torch.split(theta, [*sizes, self.action])
        hidden = observation.reshape(-1, self.observation)
        for index, (inputs, outputs) in enumerate(self.layers):
            weight, bias = pieces[2 * index].reshape(outputs, inputs), pieces[2 * index + 1]
            hidden = torch.addmm(bias, hidden, weight.T)
            if index < len(self.layers) - 1:
                hidden = torch.tanh(hidden)
        return hidden.reshape(*observation.shape[:-1], self.action), log_std.clamp(*LOG_STD)


def log_probability(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Log density [...] of action [..., n] under the Gaussian, up to a constant; summed over the elements."""
    deviation = (action - mean) * torch.exp(-log_std)
    return -(0.5 * deviation.square() + log_std).sum(-1)


def divergence(mean: Tensor, log_std: Tensor, old_mean: Tensor, old_log_std: Tensor) -> Tensor:
    """KL(old || new) [...] between diagonal Gaussians, means [..., n]."""
    variance, old_variance = torch.exp(2 * log_std), torch.exp(2 * old_log_std)
    terms = log_std - old_log_std + (old_variance + (mean - old_mean).square()) / (2 * variance) - 0.5
    return terms.sum(-1)
