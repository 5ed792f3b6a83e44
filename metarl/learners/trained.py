"""Named parameters under one Adam: schedule, clipped steps, checkpoint. What every learner's outer step ends in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from metarl.checkpoint import load_optimizer, optimizer_state


class Trained:
    """Parameters by name, each with a learning rate of its own."""

    def __init__(self, parameters: Mapping[str, Tensor], rates: Mapping[str, float]) -> None:
        self.parameters = {name: value.requires_grad_() for name, value in parameters.items()}
        self._rates = [rates[name] for name in parameters]
        groups = [{"params": [self.parameters[name]], "lr": rates[name]} for name in parameters]
        self._optimizer = torch.optim.Adam(groups)

    def schedule(self, progress: float) -> None:
        """Set the rates: from their full size at progress 0 by a cosine to a fiftieth at 1."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * cosine(progress)

    def pace(self, rate: float) -> None:
        """Set one rate for all."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def step(self, loss: float, gradients: Mapping[str, Tensor]) -> float:
        """One step against gradients, clipped to a norm of 1 in all; returns the norm that they had.

        Raises FloatingPointError, with the parameters untouched, if loss or norm is not finite.
        """
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name].clone()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        if not np.isfinite(loss) or not torch.isfinite(norm):
            raise FloatingPointError(f"outer loss is {loss} and its gradient's norm {norm.item()}")
        self._optimizer.step()
        return norm.item()

    def copy(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def towards(self, saved: Mapping[str, Tensor], share: float) -> None:
        """Move a share of the way back to `saved`; at 1 restore it, bit for bit."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.lerp_(saved[name], share) if share < 1 else parameter.copy_(saved[name])

    def state(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs; `load` reverses it."""
        return self.copy() | optimizer_state(self._optimizer, "adam")

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Raises ValueError for parameters of other shapes."""
        for name, parameter in self.parameters.items():
            check_shape(name, state, parameter)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state[name])
        load_optimizer(self._optimizer, state, "adam")


def check_shape(name: str, state: Mapping[str, Tensor], parameter: Tensor) -> None:
    """Raises ValueError unless a checkpoint holds `name` in the shape of `parameter`."""
    found = list(state[name].shape) if name in state else None
    if found != list(parameter.shape):
        raise ValueError(
            f"checkpoint holds {name} of shape {found}, expected {list(parameter.shape)}; was config.json or the "
            "environment changed after training, or is it of another version? Then train again"
        )


def cosine(progress: float) -> float:
    """From 1 at progress 0 to a fiftieth at 1."""
    return float(0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * progress)))
