"""SNAIL: temporal convolutions and attention over a trial, streamed through registers of fixed size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from math import sqrt

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from metarl.memory import Outputs, Pieces, Remembering, Table, pieces

ATTENTIONS = 3  # with a block of convolutions between each two


@dataclass(frozen=True)
class SNAIL(Remembering):
    """Simple neural attentive learner (Mishra et al. 2018, arXiv 1707.03141).

    An embedding, then attention and convolutions in turn: attention, convolutions, attention, convolutions,
    attention. Each appends its output to its input. Convolutions are ceil(log2 length) dense layers of kernel 2 and
    dilations 1, 2, 4, ..., tanh times sigmoid, `filters` wide: they see `length` steps. Nothing sees what comes later.

    length: steps of the longest trial. Beyond it the oldest drop out: attention spans the last `length`.
    embedding, keys, values: widths.

    The memory holds the last keys and values of each attention and, for a convolution of dilation d, what the last d
    inputs contribute to the outputs d steps later. All are registers, oldest first, that move by one a step.
    """

    length: int
    filters: int = 16
    embedding: int = 32
    keys: int = 32
    values: int = 32

    @property
    def dilations(self) -> list[int]:
        return [2**power for power in range((self.length - 1).bit_length())]

    @property
    def body(self) -> Table:
        table: Table = {"embedding": (self.embedding, self.inputs), "embedding_bias": (self.embedding,)}
        attends, layers, taps = 2 * self.keys + self.values, len(self.dilations), 4 * self.filters
        for block, width in enumerate(self._widths):
            table |= {f"attention{block}": (attends, width), f"attention{block}_bias": (attends,)}
            if block == ATTENTIONS - 1:
                break
            # What all layers take from the block's input; then what each takes from the layers before it. The rows
            # are, for each layer, tanh and sigmoid of the tap that is now, and the same of the one that was.
            table |= {f"block{block}": (layers * taps, width + self.values)}
            table |= {f"block{block}_bias": (layers * taps // 2,)}
            table |= {f"layer{block}_{index}": (taps, index * self.filters) for index in range(1, layers)}
        return {name: shape for name, shape in table.items() if 0 not in shape}

    @property
    def _widths(self) -> list[int]:
        """Inputs of every attention."""
        grows = self.values + len(self.dilations) * self.filters
        return list(accumulate([grows] * (ATTENTIONS - 1), initial=self.embedding))

    @property
    def state(self) -> Table:
        table: Table = {"count": (1,)}
        for block in range(ATTENTIONS):
            table |= {f"keys{block}": (self.length, self.keys), f"values{block}": (self.length, self.values)}
            if block < ATTENTIONS - 1:
                table |= {
                    f"layer{block}_{index}": (dilation, 2 * self.filters)
                    for index, dilation in enumerate(self.dilations)
                }
        return table

    @property
    def features(self) -> int:
        return self._widths[-1] + self.values

    @property
    def recalled(self) -> int:
        return self.features

    def perceive(self, weights: Pieces, given: Tensor) -> Tensor:
        return torch.relu(torch.addmm(weights["embedding_bias"], given, weights["embedding"].T))

    def advance(self, weights: Pieces, state: Pieces, perceived: Tensor) -> tuple[Tensor, Tensor, Pieces]:
        count = (state["count"] + 1).clamp(max=self.length)
        lived = torch.arange(self.length) >= self.length - count
        new: Pieces = {}

        def attend(block: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            new[f"keys{block}"], new[f"values{block}"] = key, value
            # What is new apart from what is old: putting them together would copy the registers twice a step.
            old = torch.bmm(state[f"keys{block}"][:, 1:], query.unsqueeze(-1)).squeeze(-1)
            score = torch.cat([old, (query * key).sum(-1, keepdim=True)], -1) / sqrt(self.keys)
            weight = torch.softmax(torch.where(lived, score, -torch.inf), -1)
            read = torch.bmm(weight[:, :-1].unsqueeze(1), state[f"values{block}"][:, 1:]).squeeze(1)
            return read + weight[:, -1:] * value

        def delay(block: int, index: int, later: Tensor) -> Tensor:
            new[f"layer{block}_{index}"] = later
            return state[f"layer{block}_{index}"][:, 0]

        features = self._through(weights, perceived, attend, delay)
        following = {"count": count}
        for name in list(self.state)[1:]:
            following |= {name: state[name][:, 1:], f"{name} new": new[name]}
        return features, features, following

    def sequence(self, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
        weights = pieces("theta", theta, self.weights)
        trials, time, _ = observation.shape
        recent = None
        if time > self.length:
            recent = torch.ones(time, time, dtype=torch.bool).tril().triu(1 - self.length)

        def attend(block: int, *rows: Tensor) -> Tensor:
            query, key, value = (part.reshape(trials, 1, time, -1) for part in rows)
            read = scaled_dot_product_attention(query, key, value, attn_mask=recent, is_causal=recent is None)
            return read.flatten(0, 2)

        def delay(block: int, index: int, later: Tensor) -> Tensor:
            shift = min(self.dilations[index], time)
            return pad(later.reshape(trials, time, -1)[:, : time - shift], (0, 0, shift, 0)).flatten(0, 1)

        given = torch.cat([observation, feedback], -1).reshape(-1, self.inputs)
        features = self._through(weights, self.perceive(weights, given), attend, delay).reshape(trials, time, -1)
        return self._outputs(weights, features, features)

    def _through(
        self, weights: Pieces, x: Tensor, attend: Callable[..., Tensor], delay: Callable[..., Tensor]
    ) -> Tensor:
        """Features [rows, features] of perceived x [rows, embedding].

        attend(block, query, key, value) answers what is read [rows, values], delay(block, index, later) what a layer's
        argument `later` was a dilation ago.
        """
        for block in range(ATTENTIONS):
            rows = torch.addmm(weights[f"attention{block}_bias"], x, weights[f"attention{block}"].T)
            x = torch.cat([x, attend(block, *torch.split(rows, [self.keys, self.keys, self.values], -1))], -1)
            if block == ATTENTIONS - 1 or not self.dilations:
                continue
            bias = pad(weights[f"block{block}_bias"].reshape(-1, 2 * self.filters), (0, 2 * self.filters)).flatten()
            drives = torch.addmm(bias, x, weights[f"block{block}"].T).chunk(len(self.dilations), -1)
            layers: list[Tensor] = []
            for index, drive in enumerate(drives):
                if layers:
                    drive = torch.addmm(drive, torch.cat(layers, -1), weights[f"layer{block}_{index}"].T)
                now, later = drive.chunk(2, -1)
                value, gate = (now + delay(block, index, later)).chunk(2, -1)
                layers.append(torch.tanh(value) * torch.sigmoid(gate))
            x = torch.cat([x, *layers], -1)
        return x
