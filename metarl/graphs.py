"""A learner's own functions as ONNX graphs: the ones that training calls, traced."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from export.device.adapter import OUTPUTS
from export.graphs import export_graph
from metarl.adaptation import Step
from metarl.informed import Plain
from metarl.learners.learner import ByGradient
from metarl.memory import Memory

Act = Callable[..., tuple[Tensor, ...]]


def act_function(network: Plain | Memory, theta: Tensor | None = None) -> Act:
    """What the act graph computes: (theta [A], observation) -> (mean, log_std), or with a memory
    (theta, memory [M], observation, feedback [action + 2]) -> (mean, log_std, memory after it [M]).

    theta [P]: fixes what lies beyond the adapted first A entries. Without it, all of theta is an input.
    """
    if isinstance(network, Plain):
        if theta is None or network.adapted == network.size:
            return network
        rest = theta.detach()[network.adapted :]
        return lambda own, observation: network(torch.cat([own, rest]), observation)

    def act(theta: Tensor, memory: Tensor, observation: Tensor, feedback: Tensor) -> tuple[Tensor, ...]:
        outputs, following = network.step(theta, memory, observation, feedback)
        return outputs.mean, outputs.log_std, following

    return act


def act_graph(network: Plain | Memory, theta: Tensor | None = None) -> bytes:
    """`act_function` as a graph."""
    return _free_graph(network) if theta is None else _act_graph(network, theta)


@lru_cache(maxsize=64)
def _free_graph(network: Plain | Memory) -> bytes:
    """Of all of theta. It follows from the network alone, and tracing takes seconds."""
    return _act_graph(network, None)


def _act_graph(network: Plain | Memory, theta: Tensor | None) -> bytes:
    observation = torch.zeros(network.observation)
    act = act_function(network, theta)
    if isinstance(network, Plain):
        size = network.size if theta is None else network.adapted
        return export_graph(act, {"theta": torch.zeros(size), "observation": observation}, ("mean", "log_std"))
    example = {
        "theta": torch.zeros(network.size),
        "memory": torch.zeros(network.memory),
        "observation": observation,
        "feedback": torch.zeros(network.action + 2),
    }
    return export_graph(act, example, ("mean", "log_std", "memory_next"))


def adapt_function(learner: ByGradient, whole: bool = False) -> Callable[..., Step]:
    """What the adapt graph computes: (theta [A], step, the objective's fields) -> Step of theta's first A entries; or
    of the `whole` theta [P], whose other entries are then an input too.
    """
    adapted, theta = learner.network.adapted, learner.theta.detach()
    if whole or adapted == learner.network.size:
        return learner.adapt

    def adapt(own: Tensor, step: Tensor, *fields: Tensor) -> Step:
        taken = learner.adapt(torch.cat([own, theta[adapted:]]), step, *fields)
        return taken._replace(theta=taken.theta[:adapted])

    return adapt


def adapt_graph(learner: ByGradient, whole: bool = False) -> bytes:
    """`adapt_function` as a graph, for fields [episode, time, ...] of any length; outputs are the adapter's OUTPUTS."""
    network = learner.network
    sizes = {"observation": (network.observation,), "action": (network.action,)}
    size = network.size if whole else network.adapted
    example = {"theta": learner.theta.detach()[:size], "step": torch.tensor(0)}
    for name in learner.objective.fields:
        example[name] = torch.zeros(3, 5, *sizes.get(name, ()))
    axes = {name: {0: "episode", 1: "time"} for name in learner.objective.fields}
    return export_graph(adapt_function(learner, whole), example, OUTPUTS, axes)
