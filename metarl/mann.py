"""MANN: a controller that reads and writes an external memory by content and by least recent use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from metarl.gru import Recurrent, gru
from metarl.memory import Pieces, Table

FAINT = 1e-4  # added to a row's squared length: an empty row resembles nothing, with a finite slope
FULL = 1e4  # more than any usage
SHARP = 10.0  # about the strength at the start: from 1.7, where all slots are read alike, binding was not learned


@dataclass(frozen=True)
class MANN(Recurrent):
    """Memory-augmented network with least recently used access (Santoro et al. 2016, arXiv 1605.06065).

    Each of `reads` heads has a key and a note [width] from a GRU controller. In this order, a step
    1. empties the least used slots, as many as there are heads,
    2. adds each note with weight gate * (this head's read weight of the step before) + (1 - gate) * (its least used
       slot): what is learned now joins what was recalled last, or takes a fresh place,
    3. reads by the softmax of strength * cosine similarity, key against slots,
    4. lets usage fade by `decay` and adds the weights of this step's reading and writing.
    Read vectors go to the last layer beside the hidden state, and to the controller at the next step. Unlike the paper,
    there are layers around it (see Recurrent), the controller is a GRU, similarity has a learned strength, head i takes
    the i-th least used slot instead of all, and a note is written rather than the key, as in a neural Turing machine
    (Graves et al. 2014): what a step has to say of the one before is not what it asks for now.
    """

    slots: int = 16
    width: int = 24
    reads: int = 1
    decay: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reads > self.slots:
            raise ValueError(f"reads is {self.reads}, expected at most slots, {self.slots}; give MANN more slots")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay is {self.decay}, expected 0 to below 1: usage has to fade; try 0.95")

    @property
    def core(self) -> Table:
        access = self.reads * (2 * self.width + 2)
        return {
            "read": (3 * self.hidden, self.reads * self.width),
            "access": (access, self.hidden),
            "access_bias": (access,),
        }

    @property
    def kept(self) -> Table:
        return {
            "hidden": (self.hidden,),
            "read": (self.reads, self.width),
            "weight": (self.reads, self.slots),
            "usage": (self.slots,),
            "slots": (self.slots, self.width),
        }

    @property
    def recalled(self) -> int:
        return self.hidden + self.reads * self.width

    def recur(self, weights: Pieces, state: Pieces, drive: Tensor) -> tuple[Tensor, Pieces]:
        drive = torch.addmm(drive, state["read"].flatten(1), weights["read"].T)
        hidden = gru(weights, drive, state["hidden"])
        access = torch.addmm(weights["access_bias"], hidden, weights["access"].T)
        vectors, knobs = torch.split(access, [2 * self.reads * self.width, 2 * self.reads], -1)
        key, note = torch.tanh(vectors).reshape(-1, 2, self.reads, self.width).unbind(1)
        gate, strength = knobs.chunk(2, -1)
        gate, strength = torch.sigmoid(gate).unsqueeze(-1), 1 + softplus(SHARP + strength).unsqueeze(-1)
        least = self._least(state["usage"])
        write = torch.lerp(least, state["weight"], gate)
        slots = state["slots"] * (1 - least.sum(1)).unsqueeze(-1)
        for head in range(self.reads):  # products and sums: torch.bmm of such small matrices takes thrice the time
            slots = torch.addcmul(slots, write[:, head].unsqueeze(-1), note[:, head].unsqueeze(1))
        weight = torch.softmax(strength * similarity(key, slots), -1)
        read = torch.stack([(part.unsqueeze(-1) * slots).sum(1) for part in weight.unbind(1)], 1)
        # Only the choice of a slot depends on usage, and that has no slope.
        usage = self.decay * state["usage"] + (weight + write).detach().sum(1)
        following = {"hidden": hidden, "read": read, "weight": weight, "usage": usage, "slots": slots}
        return torch.cat([hidden, read.flatten(1)], -1), following

    def _least(self, usage: Tensor) -> Tensor:
        """[rows, reads, slots], in each head's row a one at its slot: the least used ones in order, of equals the
        first."""
        picked: list[Tensor] = []
        for _ in range(self.reads):
            slot = usage.argmin(-1, keepdim=True)
            picked.append((torch.arange(self.slots) == slot).to(usage.dtype))
            usage = usage + FULL * picked[-1]
        return torch.stack(picked, 1)


def similarity(key: Tensor, slots: Tensor) -> Tensor:
    """Cosine [rows, reads, slots] between key [rows, reads, width] and slots [rows, slots, width]; 0 for empty ones."""
    alike = torch.stack([(slots * part.unsqueeze(1)).sum(-1) for part in key.unbind(1)], 1)
    return alike * torch.rsqrt(
        (slots.square().sum(-1) + FAINT).unsqueeze(1) * (key.square().sum(-1, keepdim=True) + FAINT)
    )
