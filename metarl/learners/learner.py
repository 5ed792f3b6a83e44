"""What trainer, evaluator and exporter ask of a learner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from envs.tasks import Task
from export.device.plan import Plan
from export.device.search import Search
from metarl.adaptation import Step
from metarl.config import Config
from metarl.episodes import Episodes
from metarl.informed import Plain
from metarl.memory import Memory
from metarl.networks import MLP
from metarl.objectives import Objective
from metarl.residual import Residual
from metarl.sampling.serial import Sampler

ACTOR = "learner"  # under which samplers know a learner's policy


class Learner(Protocol):
    """An initialization theta [P] of `network`. How it adapts, the protocols below say."""

    config: Config

    @property
    def objective(self) -> Objective: ...

    @property
    def network(self) -> Plain | Memory: ...

    @property
    def theta(self) -> Tensor: ...

    def gather(self, sampler: Sampler, tasks: Sequence[Task], key: tuple[int, int]) -> list[Episodes]:
        """What an outer step learns from, with fields [task, episode, ...].

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


@runtime_checkable
class ByGradient(Learner, Protocol):
    """Adapts by gradient steps of its objective, of the sizes step_sizes [K, A]: on theta's first A entries."""

    @property
    def network(self) -> Plain: ...

    @property
    def step_sizes(self) -> Tensor: ...

    def adapt(self, theta: Tensor, step: Tensor, *fields: Tensor) -> Step:
        """Inner step number `step` (int64 scalar) from theta [P] on the objective's fields, in order."""


@runtime_checkable
class Online(ByGradient, Protocol):
    """Adapts while it acts, as `plan` says; its `adapt` takes the step sizes from theta."""

    plan: Plan


@runtime_checkable
class BySearch(Learner, Protocol):
    """Adapts by trying perturbed parameters."""

    search: Search

    @property
    def network(self) -> MLP: ...


@runtime_checkable
class ByMemory(Learner, Protocol):
    """Adapts by remembering the attempts of a trial, `config.episodes` of them in training."""

    @property
    def network(self) -> Memory: ...

    remembers: bool


def initial(network: MLP | Memory, config: Config, start: Tensor | None) -> Tensor:
    """The theta [P] that training begins with: random, or the policy `start` with zeros for what it lacks.

    Raises ValueError for a policy that does not fit.
    """
    theta = network.initial(torch.Generator().manual_seed(config.seed))
    return theta if start is None else begin_with(network, theta, start)


def begin_with(network: MLP | Memory, theta: Tensor, start: Tensor, seen: int | None = None) -> Tensor:
    """theta [P] with a plain policy's parameters in their places; a context is zero at first, so both act alike.

    seen: of the observation, what the plain policy saw: its first elements. The others are ignored at first.
    """
    inner = network.plain if isinstance(network, Residual) else network
    assert isinstance(inner, MLP), "make_network puts what remembers on top of a plain policy"
    plain = MLP(seen or inner.observation, inner.action, inner.hidden, inner.discrete, activation=inner.activation)
    if start.shape != (plain.size,):
        raise ValueError(f"start has {start.numel()} parameters, expected {plain.size} for hidden {inner.hidden}")
    if isinstance(network, Residual):
        return network.begin(theta, start)
    network = inner
    (inputs, outputs), (known, _) = network.layers[0], plain.layers[0]
    first = network.context + inputs * outputs
    weight = theta[network.context : first].reshape(outputs, inputs).clone()
    if seen:
        weight[:, known:] = 0
    weight[:, :known] = start[: known * outputs].reshape(outputs, known)
    body = torch.cat([theta[: network.context], weight.flatten(), start[known * outputs :]])
    return torch.cat([body, theta[len(body) :]])
