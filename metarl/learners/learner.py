"""What trainer, evaluator and exporter ask of a learner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from envs.tasks import Task
from metarl.adaptation import Step
from metarl.episodes import Episodes
from metarl.networks import GaussianMLP
from metarl.objectives import Objective
from metarl.sampling.serial import Sampler

ACTOR = "learner"  # under which samplers know a learner's policy


class Learner(Protocol):
    """An initialization theta [P] of `network`, and step sizes [K, P] for `adapt`."""

    network: GaussianMLP
    objective: Objective
    theta: Tensor
    step_sizes: Tensor

    def adapt(self, theta: Tensor, step: Tensor, *fields: Tensor) -> Step:
        """Inner step number `step` (int64 scalar) on the objective's fields, in order: the graph of `adapt.onnx`."""

    def gather(self, sampler: Sampler, tasks: Sequence[Task], key: tuple[int, int]) -> list[Episodes]:
        """What an outer step learns from: each inner step's batch, then the query, with fields [task, episode, ...].

        key: run seed and iteration, the start of every trial's key.
        """

    def update(self, batches: Sequence[Episodes], progress: float) -> dict[str, float]:
        """One outer step; progress in [0, 1) of the whole training. Returns figures for the log, among them
        `return_before` and `return_after` adaptation, or `loss_before` and `loss_after`.

        Raises FloatingPointError if anything is not finite; the parameters are finite even then.
        """

    def state(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs; `load` reverses it."""

    def load(self, state: dict[str, Tensor]) -> None:
        """Raises ValueError for the state of a learner of another size."""
