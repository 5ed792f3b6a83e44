"""Golden vectors: what the graphs answered on the exporting machine, replayed on this one. No files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from export.device.adapter import Adapter
from export.device.policy import Policy, RecurrentPolicy, Vector

Arrays = Mapping[str, NDArray[np.float32]]

ACT = 1e-5  # largest difference of an action's mean and log_std, and of memory, relative to 1 + its size
ADAPT = 1e-4  # largest difference of theta's displacement, of loss and of gradient norm, relative to their size


def act(policy: Policy, theta: Vector, observations: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """mean and log_std float32[vectors, action] for observations float32[vectors, observation]."""
    answers = [policy(theta, observation) for observation in observations]
    return {"mean": np.stack([mean for mean, _ in answers]), "log_std": np.stack([log_std for _, log_std in answers])}


def stream(
    policy: RecurrentPolicy, theta: Vector, observations: NDArray[np.float32], feedbacks: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """mean and log_std float32[steps, action] over a trial's first steps, in order, and memory_next float32[memory].

    The last is the memory after all of them. observations float32[steps, observation]; feedbacks float32[steps,
    action + 2]. Raises ValueError for sequences of different lengths, or that are not of a trial's start.
    """
    if feedbacks.ndim != 2 or len(feedbacks) != len(observations) or feedbacks[:1].any():
        raise ValueError(
            f"golden feedback has shape {list(feedbacks.shape)} beside observations {list(observations.shape)} and "
            f"starts with {feedbacks[:1].tolist()}, expected one for each, and zeros where a trial starts"
        )
    memory = np.zeros(policy.memory_size, np.float32)
    means, log_stds = [], []
    for observation, feedback in zip(observations, feedbacks, strict=True):
        mean, log_std, memory = policy(theta, memory, observation, feedback)
        means.append(mean)
        log_stds.append(log_std)
    return {"mean": np.stack(means), "log_std": np.stack(log_stds), "memory_next": memory}


def adapt(adapter: Adapter, theta: Vector, batch: Arrays, steps: int) -> dict[str, NDArray[np.float32]]:
    """theta_next float32[parameters] after `steps` steps on one batch; loss and gradient_norm float32[steps].

    Raises ValueError if a step is not finite.
    """
    losses, norms = [], []
    for step in range(steps):
        taken = adapter.step(theta, step, batch)
        if not taken.finite:
            raise ValueError(
                f"golden step {step} gives loss {taken.loss}, gradient norm {taken.gradient_norm} or theta that are "
                "not finite, expected finite ones; choose another batch or smaller step sizes"
            )
        theta = taken.theta
        losses.append(taken.loss)
        norms.append(taken.gradient_norm)
    figures = {"loss": np.array(losses, np.float32), "gradient_norm": np.array(norms, np.float32)}
    return {"theta_next": theta, **figures}


def check_act(found: Arrays, expected: Arrays) -> None:
    """Raises ValueError if actions, or the memory after them, differ by more than ACT."""
    for name, value in found.items():
        _check(name, _difference(value, expected[name], 1 + np.abs(expected[name])), ACT)


def check_adapt(found: Arrays, expected: Arrays, theta: Vector) -> None:
    """Raises ValueError if the steps from `theta` differ by more than ADAPT.

    A displacement so small that float32 rounds it away next to theta counts as large as what it can resolve.
    """
    _check("theta_next", relative(found["theta_next"], expected["theta_next"], theta), ADAPT)
    for name in ("loss", "gradient_norm"):
        _check(name, _difference(found[name], expected[name], 1e-3 + np.abs(expected[name])), ADAPT)


def relative(found: Vector, expected: Vector, theta: Vector) -> float:
    """|found - expected| / |expected - theta|, the latter at least what float32 resolves next to theta."""
    resolved = np.finfo(np.float32).eps / ADAPT * np.linalg.norm(theta)
    displacement = np.linalg.norm(expected.astype(np.float64) - theta)
    difference = np.linalg.norm(found.astype(np.float64) - expected)
    return float(difference / max(displacement, resolved, np.finfo(np.float32).tiny))


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32], size: NDArray[np.floating]) -> float:
    if found.shape != expected.shape:
        raise ValueError(f"has shape {list(found.shape)}, expected {list(expected.shape)}")
    return float(np.max(np.abs(found - expected) / size))


def _check(name: str, error: float, limit: float) -> None:
    if not error <= limit:
        raise ValueError(f"{name} differs by {error:.1e}, expected at most {limit:.0e}")
