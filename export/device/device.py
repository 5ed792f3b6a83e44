"""Device: a loaded bundle and the parameters in force. Decides on actions; never touches a robot."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.device import golden
from export.device.adapter import Step
from export.device.bundle import Bundle, load
from export.device.policy import Policy, RecurrentPolicy, Vector, refuse


def digest(theta: Vector) -> str:
    """A short name for parameters."""
    return hashlib.sha256(theta.tobytes()).hexdigest()[:12]


INSTEAD = {  # of gradient steps, by the way in which a policy adapts
    "memory": "it adapts by what it remembers: hand it feedback, as export.device.run does",
    "search": "it adapts by trying out parameters, as export.device.run does",
    None: "run it with 0 steps, or export a policy that adapts",
}


class Device:
    """A policy that can adapt. `base` are the bundle's parameters (read-only), `theta` those in force, `digest` a short
    name for them; `bundle` the hash of what was loaded. `adapter` takes gradient steps, None where there are none.

    Assigning `theta` copies it, begins a new trial (what was remembered is of the parameters before), and raises
    ValueError for one of the wrong length, type or not finite.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.manifest, self.bundle, self._probes = bundle.manifest, bundle.digest, bundle.probes
        self.interface = bundle.manifest.interface
        self.base = bundle.theta
        self._policy, self.adapter = bundle.policy, bundle.adapter
        self.restore()

    @classmethod
    def load(cls, path: str | Path, trust: str | Path | None = None) -> Device:
        """The bundle at `path`, or `zoo:NAME`, verified; trust: PEM file of the public key that must have signed it.

        Raises BundleError, a ValueError, for one that must not be used.
        """
        return cls(load(path, trust))

    @property
    def theta(self) -> Vector:
        """Parameters in force float32[P]; read-only, assign to change them."""
        view = self._theta.view()
        view.flags.writeable = False
        return view

    @theta.setter
    def theta(self, value: Vector) -> None:
        refuse("theta", value, self.base.shape)
        self._use(value.copy())
        self.begin_trial()

    @property
    def memory(self) -> Vector:
        """What is remembered of the trial, float32[memory size]; read-only, and empty for a policy without memory."""
        view = self._memory.view()
        view.flags.writeable = False
        return view

    def begin_trial(self) -> None:
        """Forget: memory is zeros, as where a trial starts; the next feedback is zeros, too. Loading does this."""
        size = self.manifest.memory.size if self.manifest.memory else 0
        self._memory = np.zeros(size, np.float32)

    def act(self, observation: Vector, feedback: Vector | None = None) -> Vector:
        """The mean action float32[n] for an observation float32[observation_size], as `Interface.observe` makes it.

        feedback float32[n + 2]: for a policy with memory, and for no other; `collect.feedback` makes it. Such a
        policy remembers the call, so call it once in each control step. Raises ValueError, and remembers nothing,
        for an observation or feedback of another shape, type, or not finite.
        """
        return self._decide(observation, feedback)[0]

    def sample(self, observation: Vector, noise: Vector, feedback: Vector | None = None) -> Vector:
        """An exploring action float32[n]: mean + exp(log_std) * noise float32[n], not clipped. Else as `act`."""
        mean, log_std = self._decide(observation, feedback)
        return np.asarray(mean + np.exp(log_std) * noise, np.float32)

    def adapt(self, batch: Mapping[str, NDArray[Any]], step: int) -> Step:
        """Take adaptation step `step` (from 0) on a batch. theta changes only if the step is finite.

        Raises ValueError for a batch that does not fit, or if the bundle holds no adapt graph.
        """
        if self.adapter is None:
            raise ValueError(
                f"the bundle's learner {self.manifest.learner!r} has no gradient step, expected an adapt graph; "
                f"{INSTEAD[self.manifest.adapts]}"
            )
        taken = self.adapter.step(self._theta, step, batch)
        if taken.finite:
            self._use(taken.theta)
        return taken

    def probe(self, theta: Vector, recent: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Mean actions float32[probes, n] that `theta` would choose at the bundle's typical observations and at
        `recent` ones, float32[more, observation].
        """
        assert isinstance(self._policy, Policy), "policies with memory have no parameters to compare"
        probes = self._probes if recent is None else np.concatenate([self._probes, recent])
        return golden.act(self._policy, theta, probes)["mean"]

    def restore(self) -> None:
        """Go back to the initial parameters, bit for bit, and begin a new trial."""
        self._use(self.base.copy())
        self.begin_trial()

    def _use(self, theta: Vector) -> None:
        """Put parameters in force: cut and packed now, so that a control step need not."""
        self._theta, self.digest = theta, digest(theta)
        self._answer: Callable[..., tuple[Vector, ...]] = self._policy.fixed(theta)

    def _decide(self, observation: Vector, feedback: Vector | None) -> tuple[Vector, Vector]:
        refuse("observation", observation, (self.interface.observation_size,))
        policy = self._policy
        if (feedback is not None) != isinstance(policy, RecurrentPolicy):
            raise ValueError(
                f"feedback is {'missing' if feedback is None else 'given'}, expected it for policies with memory and "
                f"for no others; this one has {'one' if feedback is None else 'none'}"
            )
        if not isinstance(policy, RecurrentPolicy):
            mean, log_std = self._answer(observation)
            return mean, log_std
        assert feedback is not None
        refuse("feedback", feedback, (policy.feedback_size,))
        mean, log_std, following = self._answer(self._memory, observation, feedback)
        refuse("memory_next", following, self._memory.shape)
        self._memory = following
        return mean, log_std
