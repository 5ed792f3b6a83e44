"""Policies that remember, as pure functions of one flat theta and one flat memory: what they share.

The networks have files of their own: gru.py, mann.py, snail.py.
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
    recalled: Tensor  # [..., R], what the step got from memory; for SNAIL all that its heads see


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

    @property
    def recalled(self) -> int:
        """R, how much a step gets from memory."""

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
    """What memory networks share: the cutting of flat vectors, the heads, and `step` by way of `advance`.

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

    @property
    @abstractmethod
    def recalled(self) -> int:
        """As in Memory."""

    @abstractmethod
    def perceive(self, weights: Pieces, given: Tensor) -> Tensor:
        """What of a step's work on given [rows, inputs] needs no memory, for many steps at once."""

    @abstractmethod
    def advance(self, weights: Pieces, state: Pieces, perceived: Tensor) -> tuple[Tensor, Tensor, Pieces]:
        """Features [rows, features] of one step, what it recalled [rows, recalled], and the state after it."""

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
        features, recalled, state = self.advance(weights, state, self.perceive(weights, given))
        following = torch.cat([piece.flatten(1) for piece in state.values()], -1).reshape(memory.shape)
        leading = observation.shape[:-1]
        features, recalled = features.reshape(*leading, self.features), recalled.reshape(*leading, self.recalled)
        return self._outputs(weights, features, recalled), following

    @abstractmethod
    def sequence(self, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
        """As in Memory."""

    def _outputs(self, weights: Pieces, features: Tensor, recalled: Tensor) -> Outputs:
        """Of features [..., features], and what was recalled."""
        rows = torch.addmm(weights["head_bias"], features.reshape(-1, self.features), weights["head"].T)
        answer = rows.reshape(*features.shape[:-1], self.action + 1)
        log_std = features.new_zeros(0) if self.discrete else weights["log_std"].clamp(*LOG_STD)
        return Outputs(answer[..., : self.action], log_std, answer[..., self.action], recalled)
