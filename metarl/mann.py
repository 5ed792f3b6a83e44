"""A memory-augmented policy: slots that are read by content and written where they were least used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metarl.memory import Outputs, Shapes, gru, gru_cell, heads, join, outputs, random, size_of, split

FORGET = 0.95  # of usage


@dataclass(frozen=True)
class MANN:
    """MANN's least recently used access (Santoro et al. 2016) beside a gated recurrent unit. Methods as in Memory.

    A step first writes, to a mixture of the slot least used and what the step before read, and then reads: so what is
    told one step late can already be used. What is written and the key that is looked for are different vectors, as
    in a neural Turing machine; in the paper they are one.
    """

    observation: int
    action: int
    discrete: bool
    hidden: int = 64
    slots: int = 16
    width: int = 32

    @cached_property
    def _shapes(self) -> Shapes:
        inputs = self.observation + self.action + 2 + self.width
        access = 2 * self.width + 2  # key, written vector, gate, sharpness
        return {
            **gru(self.hidden, inputs),
            "access_weight": (access, self.hidden),
            "access_bias": (access,),
            **heads(self.hidden + self.width, self.action, self.discrete),
        }

    @cached_property
    def _kept(self) -> Shapes:
        """What the memory holds."""
        return {
            "state": (self.hidden,),
            "slots": (self.slots, self.width),
            "usage": (self.slots,),
            "reading": (self.slots,),  # the weights with which the step before read
            "read": (self.width,),
        }

    @property
    def size(self) -> int:
        return size_of(self._shapes)

    @property
    def memory(self) -> int:
        return size_of(self._kept)

    def initial(self, generator: torch.Generator, std: float = 0.4) -> Tensor:
        return random(self._shapes, generator, std)

    def step(self, theta: Tensor, memory: Tensor, observation: Tensor, feedback: Tensor) -> tuple[Outputs, Tensor]:
        parts, kept = split(theta, self._shapes), split(memory, self._kept)
        features, kept = self._step(parts, kept, self._project(parts, observation, feedback))
        return outputs(parts, features), join(kept, self._kept)

    def sequence(self, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
        parts = split(theta, self._shapes)
        kept = split(observation.new_zeros(len(observation), self.memory), self._kept)
        features = []
        for projected in self._project(parts, observation, feedback).unbind(1):
            seen, kept = self._step(parts, kept, projected)
            features.append(seen)
        return outputs(parts, torch.stack(features, 1))

    def _project(self, parts: dict[str, Tensor], observation: Tensor, feedback: Tensor) -> Tensor:
        """What does not depend on the memory, for all steps at once."""
        known = parts["gru_input"][:, : -self.width]
        return torch.cat([observation, feedback], -1) @ known.T + parts["gru_input_bias"]

    def _step(
        self, parts: dict[str, Tensor], kept: dict[str, Tensor], projected: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features [..., hidden + width], and what is kept after the step."""
        recalled = projected + kept["read"] @ parts["gru_input"][:, -self.width :].T
        state = gru_cell(parts, recalled, kept["state"])
        access = state @ parts["access_weight"].T + parts["access_bias"]
        key, written, gate, sharpness = torch.split(access, [self.width, self.width, 1, 1], -1)
        slots, writing = write(kept["slots"], kept["usage"], kept["reading"], torch.tanh(written), torch.sigmoid(gate))
        reading = address(slots, key, 1 + torch.nn.functional.softplus(sharpness + 2))
        read = (reading[..., None] * slots).sum(-2)
        usage = FORGET * kept["usage"] + reading + writing
        following = {"state": state, "slots": slots, "usage": usage, "reading": reading, "read": read}
        return torch.cat([state, read], -1), following


def write(slots: Tensor, usage: Tensor, reading: Tensor, written: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    """slots [..., n, width] with `written` [..., width] added, and the weights [..., n] with which it was.

    gate [..., 1]: the share that goes where the step before read (weights `reading` [..., n]); the rest to the slot
    least used by `usage` [..., n], which is emptied first.
    """
    least = (torch.arange(usage.shape[-1]) == usage.argmin(-1, keepdim=True)).to(usage.dtype)
    writing = gate * reading + (1 - gate) * least
    return slots * (1 - least)[..., None] + writing[..., None] * written[..., None, :], writing


def address(slots: Tensor, key: Tensor, sharpness: Tensor) -> Tensor:
    """Weights [..., n] over slots [..., n, width] by how much each resembles `key` [..., width], by the cosine.

    sharpness [..., 1] scales the cosines. Empty slots resemble nothing: theirs is 0.
    """
    product = (slots * key[..., None, :]).sum(-1)
    # Under one root, with a floor: the gradient stays finite where a slot or a key is empty.
    lengths = (slots.square().sum(-1) * key.square().sum(-1, keepdim=True) + 1e-6).sqrt()
    return torch.softmax(sharpness * product / lengths, -1)
