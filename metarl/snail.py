"""SNAIL: temporal convolutions and attention over a trial, streamed through registers of fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from metarl.memory import Outputs, Pieces, Remembering, Table, pieces

ATTENTIONS = 3  # with a block of convolutions between each two


@dataclass(frozen=True)
class SNAIL(Remembering):
    """Simple neural attentive learner (Mishra et al. 2018, arXiv 1707.03141).

    An embedding, then attention and convolutions in turn: attention, convolutions, attention, convolutions,
    attention. Each appends its output to its input. Convolutions are ceil(log2 length) dense blocks of kernel 2 and
    dilations 1, 2, 4, ..., tanh times sigmoid, `filters` wide: they see `length` steps. Nothing sees what comes later.

    length: steps of the longest trial. Beyond it the oldest steps drop out: attention spans the last `length`.
    embedding, keys, values: widths.

    The memory holds the last keys and values of each attention, and for each convolution its oldest tap, computed when
    the input was there: for a dilation d the last d of them. All are registers that move by one a step, oldest first.
    """

    length: int
    filters: int = 32
    embedding: int = 32
    keys: int = 32
    values: int = 32

    @property
    def dilations(self) -> list[int]:
        return [2**power for power in range((self.length - 1).bit_length())]

    @property
    def body(self) -> Table:
        table: Table = {"embedding": (self.embedding, self.inputs), "embedding_bias": (self.embedding,)}
        width, attends = self.embedding, 2 * self.keys + self.values
        for layer in range(ATTENTIONS):
            table |= {f"attention{layer}": (attends, width), f"attention{layer}_bias": (attends,)}
            width += self.values
            if layer == ATTENTIONS - 1:
                break
            for dilation in self.dilations:
                name = f"convolution{layer}_{dilation}"
                # Rows: tanh and sigmoid of the tap that is now, the same of the one that was.
                table |= {name: (4 * self.filters, width), f"{name}_bias": (2 * self.filters,)}
                width += self.filters
        return table

    @property
    def state(self) -> Table:
        table: Table = {"count": (1,)}
        for layer in range(ATTENTIONS):
            table |= {f"keys{layer}": (self.length, self.keys), f"values{layer}": (self.length, self.values)}
            if layer < ATTENTIONS - 1:
                table |= {f"convolution{layer}_{dilation}": (dilation, 2 * self.filters) for dilation in self.dilations}
        return table

    @property
    def features(self) -> int:
        convolutions = (ATTENTIONS - 1) * len(self.dilations)
        return self.embedding + ATTENTIONS * self.values + convolutions * self.filters

    def perceive(self, weights: Pieces, given: Tensor) -> Tensor:
        return torch.relu(torch.addmm(weights["embedding_bias"], given, weights["embedding"].T))

    def advance(self, weights: Pieces, state: Pieces, perceived: Tensor) -> tuple[Tensor, Pieces]:
        count = (state["count"] + 1).clamp(max=self.length)
        following, lived = {"count": count}, torch.arange(self.length) >= self.length - count
        x = perceived
        for layer in range(ATTENTIONS):
            query, key, value = self._attend(weights, layer, x)
            keys, values = _push(state[f"keys{layer}"], key), _push(state[f"values{layer}"], value)
            following |= {f"keys{layer}": keys, f"values{layer}": values}
            score = torch.bmm(keys, query.unsqueeze(-1)).squeeze(-1) / sqrt(self.keys)
            attention = torch.softmax(torch.where(lived, score, -torch.inf), -1)
            x = torch.cat([x, torch.bmm(attention.unsqueeze(1), values).squeeze(1)], -1)
            if layer == ATTENTIONS - 1:
                break
            for dilation in self.dilations:
                name = f"convolution{layer}_{dilation}"
                now, later = (x @ weights[name].T).chunk(2, -1)
                following[name] = _push(state[name], later)
                x = torch.cat([x, _gated(now + state[name][:, 0] + weights[f"{name}_bias"])], -1)
        return x, following

    def sequence(self, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
        weights = pieces("theta", theta, self.weights)
        trials, time, _ = observation.shape
        x = self.perceive(weights, torch.cat([observation, feedback], -1).reshape(-1, self.inputs))
        recent = None
        if time > self.length:
            recent = torch.ones(time, time, dtype=torch.bool).tril().triu(1 - self.length)
        for layer in range(ATTENTIONS):
            query, key, value = (part.reshape(trials, 1, time, -1) for part in self._attend(weights, layer, x))
            read = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=recent, is_causal=recent is None
            )
            x = torch.cat([x, read.reshape(trials * time, -1)], -1)
            if layer == ATTENTIONS - 1:
                break
            for dilation in self.dilations:
                name = f"convolution{layer}_{dilation}"
                now, later = (x @ weights[name].T).reshape(trials, time, -1).chunk(2, -1)
                before = torch.nn.functional.pad(later[:, :-dilation], (0, 0, min(dilation, time), 0))
                gated = _gated(now + before + weights[f"{name}_bias"])
                x = torch.cat([x, gated.reshape(trials * time, -1)], -1)
        return self._outputs(weights, x.reshape(trials, time, -1))

    def _attend(self, weights: Pieces, layer: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value [rows, ...]."""
        rows = torch.addmm(weights[f"attention{layer}_bias"], x, weights[f"attention{layer}"].T)
        query, key, value = torch.split(rows, [self.keys, self.keys, self.values], -1)
        return query, key, value


def _gated(x: Tensor) -> Tensor:
    """[..., n] from [..., 2 n]."""
    value, gate = x.chunk(2, -1)
    return torch.tanh(value) * torch.sigmoid(gate)


def _push(register: Tensor, new: Tensor) -> Tensor:
    """The register [rows, time, n] a step later: without its oldest entry, with `new` [rows, n]."""
    return torch.cat([register[:, 1:], new.unsqueeze(1)], 1)
