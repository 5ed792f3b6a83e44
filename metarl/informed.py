"""A policy that acts on what it believes of its task, and a context from which the belief is read.

Inner steps move the context alone, by the error of forecasts made with it; what the policy does follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, prod

import torch
from torch import Tensor

from metarl.belief import CERTAIN
from metarl.memory import Pieces, Table, length, pieces
from metarl.networks import MLP

UNSURE = 1e-6  # of a belief as certain as can be, or as little


@dataclass(frozen=True)
class Informed:
    """theta [P] holds the context [context], then what the inner steps leave alone: their own step sizes (of no use if
    `pooled`), the reader of beliefs, the predictor, and the policy, which is told the belief [2 * code] after the
    observation (`metarl.belief`, `told`).

    What is felt is forecast twice: how it changes over a step, from all that is seen and done; and what it is at all,
    from the rest of the observation, for a sensor that is off shows little in changes. Forecasts are linear in the
    context (as in Harrison et al. 2018, "ALPaCA"), so their square error has one minimum, which a few steps come near,
    and their features are computed once for all steps.

    code: Z, length of the encoded task. felt: elements of the observation that the robot's own sensors bring. steps: K.
    width: of the reader's and the predictor's layers. rank: of how the context weighs features. pooled: the context is
    not moved by gradients but inferred at once, from the mean of an encoding of each step that was lived (from history
    as in Kumar et al. 2021, "RMA"; the mean as in Rakelly et al. 2019, "PEARL").
    """

    policy: MLP
    code: int
    felt: tuple[int, ...]
    context: int = 64
    steps: int = 3
    width: int = 128
    rank: int = 128
    pooled: bool = False

    @property
    def observation(self) -> int:
        return self.policy.observation - 2 * self.code

    @property
    def action(self) -> int:
        return self.policy.action

    @property
    def discrete(self) -> bool:
        return self.policy.discrete

    @property
    def adapted(self) -> int:
        """A, how many of theta's first entries the inner steps move."""
        return self.context

    @property
    def size(self) -> int:
        """P, the length of theta."""
        return length(self.table)

    @property
    def table(self) -> Table:
        width, seen, felt = self.width, self.observation + self.action, len(self.felt)
        encoder: Table = {
            "encode": (width, seen + felt),
            "encode_bias": (width,),
            "encode_more": (width, width),
            "encode_more_bias": (width,),
            "pool": (self.context, width),
            "pool_bias": (self.context,),
        }
        return {
            "context": (self.context,),
            "log_step_sizes": (self.steps, self.context),
            "read": (width, self.context),
            "read_bias": (width,),
            "believe": (2 * self.code, width),
            "believe_bias": (2 * self.code,),
            "unit": (self.code,),
            "scale": (2 * felt,),
            "log_weight": (2 * felt,),
            "see": (width, seen),
            "see_bias": (width,),
            "predict": (width, width),
            "predict_bias": (width,),
            "change": (felt, width),
            "change_bias": (felt,),
            "expect": (width, self.observation - felt),
            "expect_bias": (width,),
            "level": (felt, width),
            "level_bias": (felt,),
            "meet": (self.rank, 2 * width),
            "know": (self.rank, self.context),
            "mix": (2 * felt, self.rank),
            **(encoder if self.pooled else {}),
            "policy": (self.policy.size,),
        }

    @property
    def own(self) -> int:
        """Length of theta before the policy's."""
        return self.size - self.policy.size

    def place(self, name: str) -> slice:
        """Where a piece of the table lies in theta."""
        names = list(self.table)
        start = length({key: self.table[key] for key in names[: names.index(name)]})
        return slice(start, start + prod(self.table[name]))

    def initial(self, generator: torch.Generator, step_size: float) -> Tensor:
        """A random theta but for the policy's [own]: it believes nothing, and forecasts nothing."""
        parts = {
            name: torch.randn(shape, generator=generator) / shape[-1] ** 0.5 if len(shape) > 1 else torch.zeros(shape)
            for name, shape in self.table.items()
            if name != "policy"
        }
        parts["log_step_sizes"] = torch.full((self.steps, self.context), log(step_size))
        parts["believe"] *= 0.1
        parts["believe_bias"][self.code :] = -3.0
        parts["change"] *= 0.1
        parts["level"] *= 0.1
        parts["scale"] += 1
        return torch.cat([part.flatten() for part in parts.values()])

    def pieces(self, theta: Tensor) -> Pieces:
        return pieces("theta", theta, self.table)

    def __call__(self, theta: Tensor, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [..., action] at observation [..., observation], and log standard deviation [action]."""
        parts = self.pieces(theta)
        told = self.told(parts, torch.cat(self.belief(parts, parts["context"])))
        return self.policy(parts["policy"], torch.cat([observation, told.expand(*observation.shape[:-1], -1)], -1))

    def belief(self, parts: Pieces, context: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and certainty, each [..., code], at context [..., context]."""
        features = torch.tanh(context @ parts["read"].T + parts["read_bias"])
        mean, certainty = torch.split(features @ parts["believe"].T + parts["believe_bias"], self.code, -1)
        return mean, CERTAIN * torch.sigmoid(certainty)

    def told(self, parts: Pieces, belief: Tensor) -> Tensor:
        """A belief [..., 2 * code] as the policy sees it: in the code's own units, as an oracle would see the truth.

        Certainties rise and fall together, and a policy is pulled along such inputs as many times as fast as there are
        of them: they count as one.
        """
        mean, certainty = torch.split(belief, self.code, -1)
        return torch.cat([mean * parts["unit"], certainty * parts["unit"] / self.code**0.5], -1)

    def believing(self, theta: Tensor, belief: Tensor) -> Tensor:
        """theta [P] of who believes the given [2 * code], whatever its context."""
        mean, certainty = torch.split(belief, self.code)
        moved = theta.clone()
        moved[self.place("believe")] = 0
        moved[self.place("believe_bias")] = torch.cat([mean, torch.logit(certainty / CERTAIN, UNSURE)])
        return moved

    def step_sizes(self, parts: Pieces) -> Tensor:
        """[K, context]"""
        return parts["log_step_sizes"].exp()

    def surprise(self, theta: Tensor, observation: Tensor, action: Tensor, change: Tensor) -> Tensor:
        """How wrong forecasts are [episode, time]: mean over their squared errors, weighted.

        It has a gradient in the context alone: an inner step moves nothing else, and a graph would compute the rest.
        """
        parts = self.pieces(theta)
        fixed = {name: part.detach() for name, part in parts.items()}
        error = self.errors(fixed, parts["context"], *self.features(fixed, observation, action, change))
        weighed = error * fixed["log_weight"].exp()
        return (weighed * weighed).mean(-1)  # not a power, which ONNX Runtime takes its time for

    def features(self, parts: Pieces, observation: Tensor, action: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """Errors [episode, time, 2 felt] of forecasts that no context helps, in units of `scale`: of the change over a
        step and of what is felt; and the features [episode, time, rank] that a context weighs."""
        rest = [element for element in range(self.observation) if element not in self.felt]
        lived = torch.relu(torch.cat([observation, action], -1) @ parts["see"].T + parts["see_bias"])
        lived = torch.relu(lived @ parts["predict"].T + parts["predict_bias"])
        told = torch.relu(observation[..., rest] @ parts["expect"].T + parts["expect_bias"])
        changes = lived @ parts["change"].T + parts["change_bias"]
        levels = told @ parts["level"].T + parts["level_bias"]
        truth = torch.cat([change, observation[..., list(self.felt)]], -1) / parts["scale"]
        return torch.cat([changes, levels], -1) - truth, torch.cat([lived, told], -1) @ parts["meet"].T

    def errors(self, parts: Pieces, context: Tensor, error: Tensor, features: Tensor) -> Tensor:
        """What `features` found, with the help of a context: [context], or one an episode."""
        return error + (features * (context @ parts["know"].T)[..., None, :]) @ parts["mix"].T

    def pool(self, parts: Pieces, observation: Tensor, action: Tensor, change: Tensor, lived: Tensor) -> Tensor:
        """The context [episode, context] of what was lived [episode, time]."""
        given = torch.cat([observation, action, change / parts["scale"][: len(self.felt)]], -1)
        features = torch.relu(given @ parts["encode"].T + parts["encode_bias"])
        features = torch.relu(features @ parts["encode_more"].T + parts["encode_more_bias"])
        pooled = (features * lived[..., None]).sum(-2) / lived.sum(-1, keepdim=True).clamp(min=1)
        return pooled @ parts["pool"].T + parts["pool_bias"]


Plain = MLP | Informed  # networks without a memory
