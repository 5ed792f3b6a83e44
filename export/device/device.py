"""Device: a loaded bundle and the parameters in force. Decides on actions; never touches a robot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.device.adapter import Step
from export.device.bundle import Bundle, load
from export.device.policy import Vector, refuse


class Device:
    """A policy that can adapt. `base` are the bundle's parameters (read-only), `theta` those in force.

    Assigning `theta` copies it, and raises ValueError for one of the wrong length, type or not finite.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest
        self.interface = bundle.manifest.interface
        self.base = bundle.theta
        self._policy, self._adapter = bundle.policy, bundle.adapter
        self._theta = self.base.copy()

    @classmethod
    def load(cls, path: str | Path) -> Device:
        """The bundle at `path`, verified. Raises BundleError, a ValueError, for one that must not be used."""
        return cls(load(path))

    @property
    def theta(self) -> Vector:
        """Parameters in force float32[P]; read-only, assign to change them."""
        view = self._theta.view()
        view.flags.writeable = False
        return view

    @theta.setter
    def theta(self, value: Vector) -> None:
        refuse("theta", value, self.base.shape)
        self._theta = value.copy()

    def act(self, observation: Vector) -> Vector:
        """The mean action float32[n] for an observation float32[observation_size], as `Interface.observe` makes it.

        Raises ValueError for an observation of another shape, type, or not finite.
        """
        return self._decide(observation)[0]

    def sample(self, observation: NDArray[Any], rng: np.random.Generator) -> Vector:
        """An exploring action float32[n]: mean + exp(log_std) * standard normal, not clipped. Raises as `act` does."""
        mean, log_std = self._decide(observation)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        return np.asarray(mean + np.exp(log_std) * noise, np.float32)

    def adapt(self, batch: Mapping[str, NDArray[Any]], step: int) -> Step:
        """Take adaptation step `step` (from 0) on a batch. theta changes only if the step is finite.

        Raises ValueError for a batch that does not fit, or if the bundle holds no adapt graph.
        """
        if self._adapter is None:
            raise ValueError(
                f"the bundle's learner {self.manifest.learner!r} has no gradient step, expected an adapt graph; "
                "run it with 0 steps, or export a policy that adapts"
            )
        taken = self._adapter.step(self._theta, step, batch)
        if taken.finite:
            self._theta = taken.theta
        return taken

    def restore(self) -> None:
        """Go back to the initial parameters, bit for bit."""
        self._theta = self.base.copy()

    def _decide(self, observation: Vector) -> tuple[Vector, Vector]:
        refuse("observation", observation, (self.interface.observation_size,))
        return self._policy(self._theta, observation)
