"""A learner's own functions as ONNX graphs: the ones that training calls, traced."""

from __future__ import annotations

import torch

from export.device.adapter import OUTPUTS
from export.graphs import export_graph
from metarl.learners.learner import Learner
from metarl.networks import GaussianMLP


def act_graph(network: GaussianMLP) -> bytes:
    """(theta [P], observation [size]) -> (mean, log_std [action])."""
    example = {"theta": torch.zeros(network.size), "observation": torch.zeros(network.observation)}
    return export_graph(network, example, ("mean", "log_std"))


def adapt_graph(learner: Learner) -> bytes:
    """(theta [P], step, the objective's fields [episode, time, ...]) -> the adapter's OUTPUTS, of any length."""
    network = learner.network
    sizes = {"observation": (network.observation,), "action": (network.action,)}
    example = {"theta": learner.theta.detach(), "step": torch.tensor(0)}
    for name in learner.objective.fields:
        example[name] = torch.zeros(3, 5, *sizes.get(name, ()))
    axes = {name: {0: "episode", 1: "time"} for name in learner.objective.fields}
    return export_graph(learner.adapt, example, OUTPUTS, axes)
