"""Policies that remember: pure functions of a flat theta and a flat memory. What all share, and RL2's GRU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log, prod, sqrt
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metarl.networks import LOG_STD

Shapes = Mapping[str, tuple[int, ...]]


class Outputs(NamedTuple):
    """Mean [..., action] and log standard deviation [action], as an MLP's; value [...] of what is still to come."""

    mean: Tensor
    log_std: Tensor
    value: Tensor


class Memory(Protocol):
    """A policy whose memory [..., M] is zero where a trial starts and lasts over its episodes.

    feedback [..., action + 2] is what the step before brought: its action, its reward, and 1 if it ended an episode;
    all zero where a trial starts.
    """

    @property
    def observation(self) -> int: ...
    @property
    def action(self) -> int: ...
    @property
    def discrete(self) -> bool: ...
    @property
    def size(self) -> int:
        """P, the length of theta."""
        ...

    @property
    def memory(self) -> int:
        """M, the length of the memory."""
        ...

    def initial(self, generator: torch.Generator, std: float = 0.4) -> Tensor:
        """A random theta [P] that starts near rest, with this standard deviation of actions."""

    def step(self, theta: Tensor, memory: Tensor, observation: Tensor, feedback: Tensor) -> tuple[Outputs, Tensor]:
        """Outputs and the memory after it, for inputs with the same leading axes or none."""

    def sequence(self, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
        """What `step` gives one after the other from a memory of zeros, for inputs [trial, step, ...]."""


def size_of(shapes: Shapes) -> int:
    return sum(prod(shape) for shape in shapes.values())


def split(flat: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """The pieces of flat [..., size] by name, each [..., *shape]."""
    pieces = torch.split(flat, [prod(shape) for shape in shapes.values()], -1)
    lead = flat.shape[:-1]
    return {name: piece.reshape(*lead, *shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def join(pieces: Mapping[str, Tensor], shapes: Shapes) -> Tensor:
    """Reverses `split`."""
    flat = [pieces[name].flatten(pieces[name].ndim - len(shape)) for name, shape in shapes.items()]
    return torch.cat(flat, -1)


def heads(features: int, action: int, discrete: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of what turns features into Outputs; the last of a theta."""
    shapes: dict[str, tuple[int, ...]] = {
        "mean_weight": (action, features),
        "mean_bias": (action,),
        "value_weight": (1, features),
        "value_bias": (1,),
    }
    return shapes if discrete else {**shapes, "log_std": (action,)}


def outputs(parts: Mapping[str, Tensor], features: Tensor) -> Outputs:
    """Outputs from features [..., n]."""
    mean = features @ parts["mean_weight"].T + parts["mean_bias"]
    value = (features @ parts["value_weight"].T + parts["value_bias"])[..., 0]
    log_std = parts["log_std"].clamp(*LOG_STD) if "log_std" in parts else parts["mean_bias"][:0]
    return Outputs(mean, log_std, value)


def random(shapes: Shapes, generator: torch.Generator, std: float) -> Tensor:
    """A theta of matrices [out, in] of variance 1/in, those of the mean a tenth of that spread, and zeros elsewhere."""
    made = []
    for name, shape in shapes.items():
        if name == "log_std":
            made.append(torch.full(shape, log(std)))
        elif len(shape) == 2:
            gain = (0.1 if name == "mean_weight" else 1.0) / sqrt(shape[1])
            made.append(gain * torch.randn(shape, generator=generator))
        else:
            made.append(torch.zeros(shape))
    return torch.cat([piece.flatten() for piece in made])


def gru(hidden: int, inputs: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a gated recurrent unit's parameters, in torch's order: reset, update, new."""
    return {
        "gru_input": (3 * hidden, inputs),
        "gru_hidden": (3 * hidden, hidden),
        "gru_input_bias": (3 * hidden,),
        "gru_hidden_bias": (3 * hidden,),
    }


def gru_cell(parts: Mapping[str, Tensor], projected: Tensor, state: Tensor) -> Tensor:
    """The state [..., hidden] after one step; projected [..., 3 hidden] is `gru_input @ input + gru_input_bias`."""
    recurrent = state @ parts["gru_hidden"].T + parts["gru_hidden_bias"]
    (reset, update, new), (past_reset, past_update, past) = projected.chunk(3, -1), recurrent.chunk(3, -1)
    update = torch.sigmoid(update + past_update)
    new = torch.tanh(new + torch.sigmoid(reset + past_reset) * past)
    return new + update * (state - new)


@dataclass(frozen=True)
class GRUMemory:
    """RL2 (Duan et al. 2016): a gated recurrent unit, whose state is the memory [hidden]. Methods as in Memory."""

    observation: int
    action: int
    discrete: bool
    hidden: int = 64

    @cached_property
    def _shapes(self) -> Shapes:
        inputs = self.observation + self.action + 2
        return {**gru(self.hidden, inputs), **heads(self.hidden, self.action, self.discrete)}

    @property
    def size(self) -> int:
        return size_of(self._shapes)

    @property
    def memory(self) -> int:
        return self.hidden

    def initial(self, generator: torch.Generator, std: float = 0.4) -> Tensor:
        return random(self._shapes, generator, std)

    def step(self, theta: Tensor, memory: Tensor, observation: Tensor, feedback: Tensor) -> tuple[Outputs, Tensor]:
        parts = split(theta, self._shapes)
        projected = torch.cat([observation, feedback], -1) @ parts["gru_input"].T + parts["gru_input_bias"]
        state = gru_cell(parts, projected, memory)
        return outputs(parts, state), state

    def sequence(self, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
        parts = split(theta, self._shapes)
        inputs = torch.cat([observation, feedback], -1)
        start = inputs.new_zeros(1, len(inputs), self.hidden)
        weights = [parts[name] for name in gru(self.hidden, 0)]
        # torch's own loop; its last arguments: biases, one layer, no dropout, not in training, one way, batch first.
        states, _ = torch.gru(inputs, start, weights, True, 1, 0.0, False, False, True)
        return outputs(parts, states)
