"""A policy that attends to all of its past: dense causal convolutions in time and causal attention in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil, log2, sqrt

import torch
from torch import Tensor

from metarl.memory import Outputs, Shapes, heads, join, outputs, random, size_of, split

Attend = Callable[[str, Tensor, Tensor], Tensor]
Before = Callable[[str, int, Tensor], Tensor]
BLOCKS = ("attend0", "convolve0", "attend1", "convolve1", "attend2")


@dataclass(frozen=True)
class SNAIL:
    """SNAIL (Mishra et al. 2018). Methods as in Memory.

    length: steps of a trial, T. filters: of each of the ceil(log2 T) dense blocks in a convolving one, of kernel 2 and
    dilations 1, 2, 4, ...; keys: length of attention's keys and of its values. The memory holds what each dense block
    will need from its past, in a ring of as many places as its dilation, and T keys and values for each attention.
    After T steps these rings forget the oldest.
    """

    observation: int
    action: int
    discrete: bool
    length: int
    filters: int = 16
    keys: int = 16

    @property
    def _dilations(self) -> list[int]:
        return [2**index for index in range(max(1, ceil(log2(self.length))))]

    @cached_property
    def _shapes(self) -> Shapes:
        width = 2 * self.filters
        shapes: dict[str, tuple[int, ...]] = {
            "embed_weight": (width, self.observation + self.action + 2),
            "embed_bias": (width,),
        }
        for block in BLOCKS:
            if block.startswith("attend"):
                shapes |= {f"{block}_weight": (3 * self.keys, width), f"{block}_bias": (3 * self.keys,)}
                width += self.keys
            else:
                for dilation in self._dilations:  # now and before, each for filter and gate
                    name = f"{block}_{dilation}"
                    shapes |= {f"{name}_weight": (4 * self.filters, width), f"{name}_bias": (2 * self.filters,)}
                    width += self.filters
        return {**shapes, **heads(width, self.action, self.discrete)}

    @cached_property
    def _kept(self) -> Shapes:
        """What the memory holds: the steps so far, and the rings."""
        rings: dict[str, tuple[int, ...]] = {"count": (1,)}
        for block in BLOCKS:
            if block.startswith("attend"):
                rings[block] = (self.length, 2 * self.keys)
            else:
                rings |= {f"{block}_{dilation}": (dilation, 2 * self.filters) for dilation in self._dilations}
        return rings

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
        count, following = kept["count"], {"count": kept["count"] + 1}

        def past(name: str, now: Tensor) -> tuple[Tensor, Tensor]:
            """A ring before and after `now` took the oldest place, [..., places, size] each."""
            ring = kept[name]
            places = torch.arange(ring.shape[-2])
            here = (places == torch.remainder(count, len(places)))[..., None]
            following[name] = torch.where(here, now[..., None, :], ring)
            return (ring * here).sum(-2), following[name]

        def attend(name: str, query: Tensor, pair: Tensor) -> Tensor:
            _, pairs = past(name, pair)
            keys, values = pairs.chunk(2, -1)
            scores = (keys * query[..., None, :]).sum(-1) / sqrt(self.keys)
            unknown = torch.arange(self.length) > count
            weights = torch.softmax(scores.masked_fill(unknown, float("-inf")), -1)
            return (weights[..., None] * values).sum(-2)

        def before(name: str, dilation: int, now: Tensor) -> Tensor:
            return past(name, now)[0]

        features = self._forward(parts, torch.cat([observation, feedback], -1), attend, before)
        return outputs(parts, features), join(following, self._kept)

    def sequence(self, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
        """Raises ValueError for more than `length` steps."""
        steps = observation.shape[1]
        if steps > self.length:
            raise ValueError(f"a trial has {steps} steps, expected at most {self.length}: make the network longer")
        parts = split(theta, self._shapes)
        ahead = torch.ones(steps, steps, dtype=torch.bool).triu(1)

        def attend(name: str, query: Tensor, pair: Tensor) -> Tensor:
            keys, values = pair.chunk(2, -1)
            scores = query @ keys.transpose(1, 2) / sqrt(self.keys)
            return torch.softmax(scores.masked_fill(ahead, float("-inf")), -1) @ values

        def before(name: str, dilation: int, now: Tensor) -> Tensor:
            return torch.nn.functional.pad(now, (0, 0, dilation, 0))[:, :steps]

        return outputs(parts, self._forward(parts, torch.cat([observation, feedback], -1), attend, before))

    def _forward(self, parts: dict[str, Tensor], inputs: Tensor, attend: Attend, before: Before) -> Tensor:
        """Features [..., width]. attend: reads for a query from all pairs of key and value so far. before: what was
        given to it under the same name so many steps ago, zeros where there was nothing.
        """
        features = torch.relu(inputs @ parts["embed_weight"].T + parts["embed_bias"])
        for block in BLOCKS:
            if block.startswith("attend"):
                made = features @ parts[f"{block}_weight"].T + parts[f"{block}_bias"]
                query, pair = made[..., : self.keys], made[..., self.keys :]
                features = torch.cat([features, attend(block, query, pair)], -1)
                continue
            for dilation in self._dilations:
                name = f"{block}_{dilation}"
                now, then = (features @ parts[f"{name}_weight"].T).chunk(2, -1)
                filtered, gate = (now + before(name, dilation, then) + parts[f"{name}_bias"]).chunk(2, -1)
                features = torch.cat([features, torch.tanh(filtered) * torch.sigmoid(gate)], -1)
        return features
