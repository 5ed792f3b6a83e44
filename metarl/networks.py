"""Policies as pure functions of one flat parameter vector, and the distributions that they name."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import log, sqrt
from typing import Literal

import torch
from torch import Tensor

from robots.mirror import Mirror

LOG_STD = (-2.5, 0.5)  # bounds of the policy's log standard deviation
ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


@dataclass(frozen=True)
class MLP:
    """A network to the mean of a Gaussian with a standard deviation per action element, or to logits of choices.

    theta [P] holds the context [context] if there is one, each layer's weight [out, in] and bias [out] in order, then
    the log standard deviation [action] (not for choices), then the weight and bias of the predicting head.

    context: of CAVIA (Zintgraf et al. 2019), parameters that enter beside the observation and alone are adapted.
    predicts: elements of the observation that the predicting head forecasts; see `predict`.
    """

    observation: int
    action: int
    hidden: tuple[int, ...]
    discrete: bool = False
    context: int = 0
    predicts: int = 0
    activation: Literal["tanh", "relu"] = "tanh"

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(in, out) of every linear layer."""
        sizes = (self.observation + self.context, *self.hidden, self.action)
        return list(pairwise(sizes))

    @property
    def adapted(self) -> int:
        """A, how many of theta's first entries the inner steps move."""
        return self.context or self.size

    @property
    def size(self) -> int:
        """P, the length of theta."""
        return self._body + self.predicts * (self._seen + 1)

    @property
    def _body(self) -> int:
        """Length of what acts."""
        spread = 0 if self.discrete else self.action
        return self.context + sum((inputs + 1) * outputs for inputs, outputs in self.layers) + spread

    @property
    def _seen(self) -> int:
        """Inputs of the predicting head."""
        return self.layers[-1][0] + self.action

    def initial(self, generator: torch.Generator, std: float = 0.4) -> Tensor:
        """A random theta [P]: variance 1/in, what comes last a tenth of that spread, so that it starts at rest."""
        parts = [torch.zeros(self.context)]
        for index, (inputs, outputs) in enumerate(self.layers):
            gain = 0.1 if index == len(self.layers) - 1 else 1.0
            parts += [torch.randn(inputs * outputs, generator=generator) * gain / sqrt(inputs), torch.zeros(outputs)]
        spread = [] if self.discrete else [torch.full((self.action,), log(std))]
        head = torch.randn(self.predicts * self._seen, generator=generator) * 0.1 / sqrt(self._seen)
        return torch.cat([*parts, *spread, head, torch.zeros(self.predicts)])

    def __call__(self, theta: Tensor, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [..., action] at observation [..., observation], and log standard deviation [action].

        For choices, logits [..., action] and an empty tensor.
        """
        parts = self._split(theta)
        features, (weight, bias) = self._features(parts, observation)
        mean = torch.addmm(bias, features, weight.T).reshape(*observation.shape[:-1], self.action)
        return mean, parts[-2].clamp(*LOG_STD)

    def predict(self, theta: Tensor, observation: Tensor, action: Tensor) -> Tensor:
        """The forecast change [..., predicts] of the observation over a step, from the policy's own last features."""
        parts = self._split(theta)
        features, _ = self._features(parts, observation)
        seen = torch.cat([features, action.reshape(-1, self.action)], -1)
        head = parts[-1]
        weight = head[: self.predicts * self._seen].reshape(self.predicts, self._seen)
        change = torch.addmm(head[self.predicts * self._seen :], seen, weight.T)
        return change.reshape(*observation.shape[:-1], self.predicts)

    def surprise(self, theta: Tensor, observation: Tensor, action: Tensor, change: Tensor) -> Tensor:
        """Mean square [...] of the forecasts' errors."""
        return (self.predict(theta, observation, action) - change).square().mean(-1)

    def _split(self, theta: Tensor) -> tuple[Tensor, ...]:
        """Context, each layer's weight and bias, log standard deviation, predicting head: flat, and all at once, for
        every cut of its own costs a gradient of its own.
        """
        layers = [size for inputs, outputs in self.layers for size in (inputs * outputs, outputs)]
        spread = 0 if self.discrete else self.action
        return torch.split(theta, [self.context, *layers, spread, self.size - self._body])

    def _features(self, parts: tuple[Tensor, ...], observation: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Inputs of the last layer [rows, width], and that layer's weight and bias."""
        layers = [
            (parts[2 * index + 1].reshape(outputs, inputs), parts[2 * index + 2])
            for index, (inputs, outputs) in enumerate(self.layers)
        ]
        features, activation = observation.reshape(-1, self.observation), ACTIVATIONS[self.activation]
        if self.context:
            features = torch.cat([features, parts[0].expand(features.shape[0], self.context)], -1)
        for weight, bias in layers[:-1]:
            features = activation(torch.addmm(bias, features, weight.T))
        return features, layers[-1]


@dataclass(frozen=True)
class Symmetric(MLP):
    """An MLP that answers a mirror image of what it sees with the image of its answer: the mean of what it says here,
    and the image of what it says there. So whatever is learned on one side is known on the other (see Abdolhosseini et
    al. 2019, "On learning symmetric locomotion").

    sees, does: the images of an observation, and of an action.
    """

    sees: Mirror = field(kw_only=True)
    does: Mirror = field(kw_only=True)

    def __call__(self, theta: Tensor, observation: Tensor) -> tuple[Tensor, Tensor]:
        means, log_std = super().__call__(theta, torch.stack([observation, image(self.sees, observation)]))
        return symmetric(means, log_std, self.does)


def symmetric(means: Tensor, log_std: Tensor, does: Mirror) -> tuple[Tensor, Tensor]:
    """Mean [..., action] of answers [2, ..., action] to an observation and to its image, and of both sides' log_std."""
    here, there = means.unbind()
    return (here + image(does, there)) / 2, (log_std + image(does.unsigned, log_std)) / 2


def image(mirror: Mirror, values: Tensor) -> Tensor:
    """The images of vectors [..., n]."""
    return values[..., list(mirror.sources)] * torch.tensor(mirror.signs)


# An empty log_std says that `mean` holds logits and that actions are one-hot.


def draw(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """Actions [..., n]. noise [..., n]: standard normal, or for choices Gumbel's."""
    if log_std.numel():
        return mean + torch.exp(log_std) * noise
    return mode(mean + noise, log_std)


def mode(mean: Tensor, log_std: Tensor) -> Tensor:
    """The likeliest actions [..., n]."""
    if log_std.numel():
        return mean
    return torch.nn.functional.one_hot(mean.argmax(-1), mean.shape[-1]).to(mean.dtype)


def log_probability(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Log density [...] of action [..., n] under the Gaussian, up to a constant, or log probability of choices.

    Summed over the elements.
    """
    if not log_std.numel():
        return (torch.log_softmax(mean, -1) * action).sum(-1)
    deviation = (action - mean) * torch.exp(-log_std)
    return -(0.5 * deviation.square() + log_std).sum(-1)


def divergence(mean: Tensor, log_std: Tensor, old_mean: Tensor, old_log_std: Tensor) -> Tensor:
    """KL(old || new) [...] between diagonal Gaussians, means [..., n], or between choices, logits [..., n]."""
    if not log_std.numel():
        old, new = torch.log_softmax(old_mean, -1), torch.log_softmax(mean, -1)
        return (old.exp() * (old - new)).sum(-1)
    variance, old_variance = torch.exp(2 * log_std), torch.exp(2 * old_log_std)
    terms = log_std - old_log_std + (old_variance + (mean - old_mean).square()) / (2 * variance) - 0.5
    return terms.sum(-1)


def entropy(mean: Tensor, log_std: Tensor) -> Tensor:
    """Entropy [...] [nat], for Gaussians up to a constant."""
    if log_std.numel():
        return log_std.sum(-1).expand(mean.shape[:-1])
    logp = torch.log_softmax(mean, -1)
    return -(logp.exp() * logp).sum(-1)
