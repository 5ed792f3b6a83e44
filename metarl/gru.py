"""RL2's memory, a GRU, and the layers around what recurs that it shares with MANN."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.memory import Outputs, Pieces, Remembering, Table, pieces


def gru_table(hidden: int) -> Table:
    """Parameters of a GRU cell. Rows of `input`: reset gate, update gate, candidate; `gates` are the first two."""
    return {
        "input": (3 * hidden, hidden),
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
    recurrent = torch.addmm(weights["candidate_bias"], hidden, weights["candidate"].T)
    return torch.lerp(torch.tanh(to_candidate + reset * recurrent), hidden, update)


@dataclass(frozen=True)
class Recurrent(Remembering):
    """What GRUMemory and MANN share: something that recurs, between two ReLU layers of the same width.

    The first also gets the previous observation, beside the action and the reward it led to; the memory keeps its
    contribution. The second joins what is recalled to what the first made of the present. What is to be learned from
    a step is what went together in it, and what it is good for depends on where one is.
    """

    hidden: int = 64

    @property
    @abstractmethod
    def core(self) -> Table:
        """The parameters of what recurs, beside those of a GRU cell."""

    @property
    @abstractmethod
    def kept(self) -> Table:
        """The pieces of its memory."""

    @abstractmethod
    def recur(self, weights: Pieces, state: Pieces, drive: Tensor) -> tuple[Tensor, Pieces]:
        """What is recalled [rows, recalled] in a step, and the state after it; drive [rows, 3 hidden] is the GRU's."""

    @property
    def body(self) -> Table:
        width = self.hidden
        return {
            "before": (width, self.observation),
            "embed": (width, self.inputs),
            "embed_bias": (width,),
            **gru_table(width),
            **self.core,
            "skip": (width, width),
            "skip_bias": (width,),
            "read_out": (width, self.recalled),
        }

    @property
    def state(self) -> Table:
        return {"before": (self.hidden,), **self.kept}

    @property
    def features(self) -> int:
        return self.hidden

    def perceive(self, weights: Pieces, given: Tensor) -> Tensor:
        # What the first layer gets of this step now, and what it gets of this observation a step later.
        now = torch.addmm(weights["embed_bias"], given, weights["embed"].T)
        return torch.cat([now, given[:, : self.observation] @ weights["before"].T], -1)

    def advance(self, weights: Pieces, state: Pieces, perceived: Tensor) -> tuple[Tensor, Tensor, Pieces]:
        now, later = perceived.chunk(2, -1)
        drive, ahead = self._inwards(weights, now + state["before"])
        recalled, state = self.recur(weights, state, drive)
        return self._outwards(weights, ahead, recalled), recalled, {"before": later, **state}

    def sequence(self, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
        weights = pieces("theta", theta, self.weights)
        trials, time, _ = observation.shape
        given = torch.cat([observation, feedback], -1).transpose(0, 1).reshape(-1, self.inputs)
        now, later = self.perceive(weights, given).chunk(2, -1)
        before = torch.cat([torch.zeros_like(later[:trials]), later[:-trials]])
        drive, ahead = self._inwards(weights, now + before)
        state = pieces("memory", theta.new_zeros(trials, self.memory), self.state)
        rows = []
        for step in drive.reshape(time, trials, -1).unbind(0):
            recalled, state = self.recur(weights, state, step)
            rows.append(recalled)
        features = self._outwards(weights, ahead, torch.cat(rows)).reshape(time, trials, -1)
        return self._outputs(weights, features.transpose(0, 1), torch.stack(rows, 1))

    def _inwards(self, weights: Pieces, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """What an embedding [rows, hidden], before its relu, drives: the GRU, and the last layer past it."""
        embedded = torch.relu(embedded)
        drive = torch.addmm(weights["input_bias"], embedded, weights["input"].T)
        return drive, torch.addmm(weights["skip_bias"], embedded, weights["skip"].T)

    def _outwards(self, weights: Pieces, ahead: Tensor, recalled: Tensor) -> Tensor:
        return torch.relu(torch.addmm(ahead, recalled, weights["read_out"].T))


@dataclass(frozen=True)
class GRUMemory(Recurrent):
    """RL2 (Duan et al. 2016, arXiv 1611.02779): a GRU. Unlike there, between layers of its own (see Recurrent)."""

    @property
    def core(self) -> Table:
        return {}

    @property
    def kept(self) -> Table:
        return {"hidden": (self.hidden,)}

    @property
    def recalled(self) -> int:
        return self.hidden

    def recur(self, weights: Pieces, state: Pieces, drive: Tensor) -> tuple[Tensor, Pieces]:
        hidden = gru(weights, drive, state["hidden"])
        return hidden, {"hidden": hidden}
