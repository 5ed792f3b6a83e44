"""Policies that remember, as pure functions of one flat theta and one flat memory: what they share, and RL2's GRU.

MANN and SNAIL have files of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from math import log, prod, sqrt
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metarl.networks import LOG_STD

Table = dict[str, tuple[int, ...]]  # the named pieces of a flat vector, in order
Pieces = dict[str, Tensor]


class Outputs(NamedTuple):
    mean: Tensor  # [..., action]; logits for choices
    log_std: Tensor  # [action]; empty for choices
    value: Tensor  # [...], the forecast return


class Memory(Protocol):
    """A policy and value with a memory that is zeros [M] at a trial's start and lasts over the trial's episodes.

    One step reads observation [..., observation] and feedback [..., action + 2]: the previous action and reward, and
    whether the step before ended its episode. At a trial's start feedback is zeros.
    """

    def __hash__(self) -> int:
        """It is a frozen value."""

    @property
    def observation(self) -> int: ...

    @property
    def action(self) -> int: ...

    @property
    def discrete(self) -> bool: ...

    @property
    def size(self) -> int:
        """P, the length of theta."""

    @property
    def memory(self) -> int:
        """M, the length of the memory."""

    def initial(self, generator: torch.Generator, std: float = 0.4) -> Tensor:
        """A random theta [P] that acts near rest, with this standard deviation."""

    def step(self, theta: Tensor, memory: Tensor, observation: Tensor, feedback: Tensor) -> tuple[Outputs, Tensor]:
        """Outputs and the next memory [..., M], for theta [P] and memory [..., M]; the leading axes may be none."""

    def sequence(self, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
        """What `step` answers over whole trials [trial, time, ...], each from zero memory."""


def length(table: Table) -> int:
    return sum(prod(shape) for shape in table.values())


def pieces(name: str, flat: Tensor, table: Table) -> Pieces:
    """`flat` [..., length] cut by `table`: views [..., *shape]. Raises ValueError for another length."""
    if flat.shape[-1] != length(table):
        raise ValueError(
            f"{name} has {flat.shape[-1]} entries, expected {length(table)}; is it of a network of other sizes?"
        )
    parts = torch.split(flat, [prod(shape) for shape in table.values()], -1)
    return {
        key: part.reshape(*flat.shape[:-1], *shape) for part, (key, shape) in zip(parts, table.items(), strict=True)
    }


@dataclass(frozen=True)
class Remembering(ABC):
    """What memory networks share: the cutting of flat vectors, the heads, and `sequence` as a loop over `advance`.

    theta [P] holds the pieces of `body`, the weight [action + 1, features] and bias of the heads (mean or logits,
    then value), and the log standard deviation [action] (not for choices). Raises ValueError for a size below 1.
    """

    observation: int
    action: int
    discrete: bool

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and value < 1:
                raise ValueError(f"{field.name} is {value}, expected at least 1; give a {type(self).__name__} its size")

    @property
    @abstractmethod
    def body(self) -> Table:
        """The parameters before the heads; the last axis of a matrix is its input's."""

    @property
    @abstractmethod
    def state(self) -> Table:
        """The pieces of the memory."""

    @property
    @abstractmethod
    def features(self) -> int:
        """Inputs of the heads."""

    @abstractmethod
    def perceive(self, weights: Pieces, given: Tensor) -> Tensor:
        """What of a step's work on given [rows, inputs] needs no memory, for many steps at once."""

    @abstractmethod
    def advance(self, weights: Pieces, state: Pieces, perceived: Tensor) -> tuple[Tensor, Pieces]:
        """Features [rows, features] of one step, and the state after it."""

    @property
    def inputs(self) -> int:
        """Width of what a step is given: observation and feedback."""
        return self.observation + self.action + 2

    @property
    def weights(self) -> Table:
        spread: Table = {} if self.discrete else {"log_std": (self.action,)}
        return {**self.body, "head": (self.action + 1, self.features), "head_bias": (self.action + 1,), **spread}

    @property
    def size(self) -> int:
        return length(self.weights)

    @property
    def memory(self) -> int:
        return length(self.state)

    def initial(self, generator: torch.Generator, std: float = 0.4) -> Tensor:
        """A random theta [P]: variance 1/in, the head of the mean a tenth of that spread, biases zero."""
        parts = {
            name: torch.randn(shape, generator=generator) / sqrt(shape[-1]) if len(shape) > 1 else torch.zeros(shape)
            for name, shape in self.weights.items()
        }
        parts["head"][: self.action] *= 0.1
        if not self.discrete:
            parts["log_std"] = torch.full((self.action,), log(std))
        return torch.cat([part.flatten() for part in parts.values()])

    def step(self, theta: Tensor, memory: Tensor, observation: Tensor, feedback: Tensor) -> tuple[Outputs, Tensor]:
        weights = pieces("theta", theta, self.weights)
        given = torch.cat([observation, feedback], -1).reshape(-1, self.inputs)
        state = pieces("memory", memory.reshape(-1, memory.shape[-1]), self.state)
        features, state = self.advance(weights, state, self.perceive(weights, given))
        following = torch.cat([piece.flatten(1) for piece in state.values()], -1).reshape(memory.shape)
        return self._outputs(weights, features.reshape(*observation.shape[:-1], self.features)), following

    def sequence(self, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
        weights = pieces("theta", theta, self.weights)
        trials, time, _ = observation.shape
        given = torch.cat([observation, feedback], -1).transpose(0, 1).reshape(-1, self.inputs)
        perceived = self.perceive(weights, given).reshape(time, trials, -1)
        state = pieces("memory", theta.new_zeros(trials, self.memory), self.state)
        rows = []
        for now in perceived.unbind(0):
            features, state = self.advance(weights, state, now)
            rows.append(features)
        return self._outputs(weights, torch.stack(rows, 1))

    def _outputs(self, weights: Pieces, features: Tensor) -> Outputs:
        """From features [..., features]."""
        rows = torch.addmm(weights["head_bias"], features.reshape(-1, self.features), weights["head"].T)
        answer = rows.reshape(*features.shape[:-1], self.action + 1)
        log_std = features.new_zeros(0) if self.discrete else weights["log_std"].clamp(*LOG_STD)
        return Outputs(answer[..., : self.action], log_std, answer[..., self.action])


def gru_table(inputs: int, hidden: int) -> Table:
    """Parameters of a GRU cell. Rows of `input`: reset gate, update gate, candidate; `gates` are the first two."""
    return {
        "input": (3 * hidden, inputs),
        "input_bias": (3 * hidden,),
        "gates": (2 * hidden, hidden),
        "candidate": (hidden, hidden),
        "candidate_bias": (hidden,),
    }


def gru(weights: Pieces, drive: Tensor, hidden: Tensor) -> Tensor:
    """The next hidden [rows, hidden] (Cho et al. 2014); drive [rows, 3 hidden] is what the input contributes.

    The reset gate acts after the recurrent matrix, which has a bias of its own for the candidate.
    """
    width = hidden.shape[-1]
    to_gates, to_candidate = torch.split(drive, [2 * width, width], -1)
    reset, update = torch.sigmoid(torch.addmm(to_gates, hidden, weights["gates"].T)).chunk(2, -1)
    recalled = torch.addmm(weights["candidate_bias"], hidden, weights["candidate"].T)
    return torch.lerp(torch.tanh(to_candidate + reset * recalled), hidden, update)


@dataclass(frozen=True)
class GRUMemory(Remembering):
    """RL2 (Duan et al. 2016, arXiv 1611.02779): a GRU and linear heads on its hidden state, which is the memory."""

    hidden: int = 64

    @property
    def body(self) -> Table:
        return gru_table(self.inputs, self.hidden)

    @property
    def state(self) -> Table:
        return {"hidden": (self.hidden,)}

    @property
    def features(self) -> int:
        return self.hidden

    def perceive(self, weights: Pieces, given: Tensor) -> Tensor:
        return torch.addmm(weights["input_bias"], given, weights["input"].T)

    def advance(self, weights: Pieces, state: Pieces, perceived: Tensor) -> tuple[Tensor, Pieces]:
        hidden = gru(weights, perceived, state["hidden"])
        return hidden, {"hidden": hidden}
