"""torch against ONNX Runtime: the same act and adapt, at sizes that were not traced. Knows no learner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.device import golden
from export.device.adapter import Adapter
from export.device.policy import Policy, RecurrentPolicy, Vector, open_policy

Batch = Mapping[str, NDArray[np.float32]]
Batches = Callable[[int, int, int], Batch]

ACT_LIMIT = golden.ACT
ADAPT_LIMIT = golden.ADAPT
SIZES = ((1, 1), (1, 7), (3, 1), (2, 2), (5, 9), (16, 16), (32, 3), (64, 64), (3, 100), (20, 40))


class VerificationError(ValueError):
    """torch and ONNX Runtime disagree; the message holds the figures."""


@dataclass(frozen=True)
class Report:
    """The worst found. act: largest difference of mean and log_std (and of memory), relative to 1 + size. first,
    chained: relative error of theta's displacement after one step and after `steps`, nan without an adapt graph.
    cases: batches compared."""

    act: float
    first: float
    chained: float
    steps: int
    cases: int


def random_batches(adapter: Adapter) -> Batches:
    """Batches by (seed, episodes, steps): unit normal, but actions in [-1, 1] and masks of ragged episodes."""

    def batch(seed: int, episodes: int, steps: int) -> Batch:
        rng = np.random.default_rng([seed, episodes, steps])
        sizes = {"episode": episodes, "time": steps}
        made = {}
        for field in adapter.fields:
            shape = [sizes[axis] if isinstance(axis, str) else axis for axis in field.axes]
            value = rng.standard_normal(shape, dtype=np.float32)
            if field.name == "action":
                value = np.clip(value, -1, 1)
            elif field.name == "mask":
                value = (np.arange(steps) < rng.integers(1, steps + 1, size=(episodes, 1))).astype(np.float32)
            made[field.name] = value
        return made

    return batch


def verify(
    theta: Vector,
    act: Callable[..., Any],
    act_graph: bytes,
    adapt: Callable[..., Any] | None = None,
    adapt_graph: bytes | None = None,
    *,
    steps: int = 3,
    stream: int = 50,
    seeds: Sequence[int] = (0, 1, 2),
    sizes: Sequence[tuple[int, int]] = SIZES,
    batches: Batches | None = None,
) -> Report:
    """Compare the torch functions with their graphs, from theta float32[P].

    act: (theta, observation) -> (mean, log_std); for a graph with memory, (theta, memory, observation, feedback) ->
    (mean, log_std, memory_next). stream: control steps of each trial that such a policy is followed through, both
    sides with their own memory; at least as many as it will live, if it counts them.

    steps: of each chain, every one taken from that side's own theta; a further step is taken far beyond the last
    step size. sizes: (episodes, time steps) of the batches, to which layer widths should belong. batches: makes
    one from (seed, episodes, steps); by default `random_batches`. Raises VerificationError if mean or log_std
    differ by more than ACT_LIMIT (relative to 1 + their size), theta's displacement by more than ADAPT_LIMIT of
    itself, or if one side calls a step finite and the other does not.
    """
    theta = np.ascontiguousarray(theta, np.float32)
    policy = open_policy(act_graph)
    if isinstance(policy, RecurrentPolicy):
        worst_act = _worst([_compare_stream(theta, act, policy, stream, seed) for seed in seeds])
    else:
        worst_act = _worst([_compare_act(theta, act, policy, seed) for seed in seeds])
    if not worst_act <= ACT_LIMIT:
        raise VerificationError(
            f"act differs by {worst_act:.2e} between torch and ONNX Runtime, expected at most {ACT_LIMIT:.0e}; is the "
            "graph traced from this very function?"
        )
    if adapt is None or adapt_graph is None:
        return Report(worst_act, float("nan"), float("nan"), 0, 0)
    adapter = Adapter(adapt_graph)
    batches = batches or random_batches(adapter)
    first, chained = 0.0, 0.0
    for seed in seeds:
        for episodes, length in sizes:
            batch = batches(seed, episodes, length)
            where = f"adapt with seed {seed}, {episodes} episodes of {length} steps"
            errors = _chain(theta, adapt, adapter, batch, list(range(steps)), where)
            beyond = _chain(theta, adapt, adapter, batch, [steps + 1000], where)
            first = _worst([first, errors[0], beyond[0]])
            chained = _worst([chained, errors[-1]])
            if not _worst([first, chained]) <= ADAPT_LIMIT:
                raise VerificationError(
                    f"{where}: relative errors of theta's displacement are {_show(errors)} after 1 to {steps} steps "
                    f"and {_show(beyond)} beyond the last step size, expected at most {ADAPT_LIMIT:.0e}; do shapes or "
                    "random numbers of the function depend on the traced example?"
                )
    return Report(worst_act, first, chained, steps, len(seeds) * len(sizes))


def _compare_act(theta: Vector, act: Callable[..., Any], policy: Policy, seed: int) -> float:
    """Largest difference relative to 1 + size, over 64 observations and thetas around `theta`."""
    rng = np.random.default_rng(seed)
    differences = []
    for index in range(64):
        observation = rng.standard_normal(policy.observation_size).astype(np.float32)
        moved = theta + np.float32(0.01 * (index > 0)) * rng.standard_normal(theta.shape).astype(np.float32)
        with torch.no_grad():
            wanted = act(torch.from_numpy(moved), torch.from_numpy(observation))
        differences += _differences(policy(moved, observation), wanted)
    return _worst(differences)


def _compare_stream(theta: Vector, act: Callable[..., Any], policy: RecurrentPolicy, length: int, seed: int) -> float:
    """The same over 4 trials of `length` steps, each side with the memory that it made; attempts end at random."""
    rng = np.random.default_rng(seed)
    differences = []
    for index in range(4):
        moved = theta + np.float32(0.01 * (index > 0)) * rng.standard_normal(theta.shape).astype(np.float32)
        ours, theirs = np.zeros(policy.memory_size, np.float32), torch.zeros(policy.memory_size)
        feedback = np.zeros(policy.feedback_size, np.float32)
        for _ in range(length):
            observation = rng.standard_normal(policy.observation_size).astype(np.float32)
            with torch.no_grad():
                wanted = act(torch.from_numpy(moved), theirs, torch.from_numpy(observation), torch.from_numpy(feedback))
            found = policy(moved, ours, observation, feedback)
            differences += _differences(found, wanted)
            ours, theirs = found[2], wanted[2]
            feedback = rng.standard_normal(policy.feedback_size).astype(np.float32)
            feedback[-1] = rng.random() < 0.1
    return _worst(differences)


def _differences(found: Sequence[Vector], wanted: Sequence[torch.Tensor]) -> list[float]:
    """Largest difference of each, relative to 1 + size. One-hot actions have an empty log_std."""
    pairs = [(ours, theirs.detach().numpy()) for ours, theirs in zip(found, wanted, strict=True)]
    return [float(np.max(np.abs(ours - theirs) / (1 + np.abs(theirs)), initial=0.0)) for ours, theirs in pairs]


def _chain(
    theta: Vector, adapt: Callable[..., Any], adapter: Adapter, batch: Batch, steps: Sequence[int], where: str
) -> list[float]:
    """Relative error of the displacement from `theta` after each of `steps`, taken one after another by both."""
    tensors = [torch.from_numpy(np.asarray(batch[field.name])) for field in adapter.fields]
    ours, theirs = theta, torch.from_numpy(theta)
    errors: list[float] = []
    for step in steps:
        taken = adapter.step(ours, step, batch)
        following, loss, norm, finite = adapt(theirs, torch.tensor(step), *tensors)
        if taken.finite != bool(finite):
            raise VerificationError(
                f"{where}: step {step} is finite for {'ONNX Runtime' if taken.finite else 'torch'} alone (loss "
                f"{taken.loss} and {float(loss)}, gradient norm {taken.gradient_norm} and {float(norm)})"
            )
        if not taken.finite:
            return errors or [0.0]
        ours, theirs = taken.theta, following.detach()
        errors.append(golden.relative(ours, theirs.numpy(), theta))
    return errors


def _worst(errors: Sequence[float]) -> float:
    """The greatest, or nan if any is: `max` would lose it."""
    return float(np.max(errors))


def _show(errors: Sequence[float]) -> str:
    return ", ".join(f"{error:.2e}" for error in errors)
