"""The gradient step on the device: checks a batch and runs the `adapt` graph. numpy and onnxruntime only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.device.policy import Vector, refuse, session

OUTPUTS = ("theta_next", "loss", "gradient_norm", "finite")


@dataclass(frozen=True)
class Field:
    """One array of a batch, float32. axes: a name where the size is the batch's own, a number where it is fixed."""

    name: str
    axes: tuple[str | int, ...]


@dataclass(frozen=True)
class Step:
    """What one step made of theta float32[P]: loss and gradient_norm are those at the old theta.

    finite: whether theta and both figures are; if not, theta must not be used.
    """

    theta: Vector
    loss: float
    gradient_norm: float
    finite: bool


class Adapter:
    """The `adapt` graph. `fields` is what it reads from a batch, `parameters` the length of theta.

    Raises ValueError for another graph.
    """

    def __init__(self, graph: bytes) -> None:
        self._session = session(graph)
        inputs = self._session.get_inputs()
        names = [entry.name for entry in inputs]
        outputs = [entry.name for entry in self._session.get_outputs()]
        if names[:2] != ["theta", "step"] or tuple(outputs) != OUTPUTS:
            raise ValueError(
                f"the graph has inputs {names} and outputs {outputs}, expected theta, step, then the batch's fields, "
                f"and {list(OUTPUTS)}; is it an adapt graph?"
            )
        self.parameters: int = inputs[0].shape[0]
        self.fields = tuple(Field(entry.name, tuple(entry.shape)) for entry in inputs[2:])

    def step(self, theta: Vector, step: int, batch: Mapping[str, NDArray[Any]]) -> Step:
        """One gradient step from theta float32[parameters] on `batch`, an array for each of `fields`.

        step counts from 0 and selects the step size; beyond the last one, the last serves. Raises ValueError for
        a field that is missing, unknown, empty, of another shape or type, or not finite, and for such a theta.
        """
        if step < 0:
            raise ValueError(f"step is {step}, expected 0 or more; count adaptation steps from 0")
        refuse("theta", theta, (self.parameters,))
        self._check(batch)
        feed = {"theta": theta, "step": np.array(step, np.int64), **batch}
        following, loss, norm, finite = self._session.run(OUTPUTS, feed)
        good = bool(finite) and bool(np.isfinite(following).all() and np.isfinite(loss) and np.isfinite(norm))
        return Step(following, float(loss), float(norm), good)

    def _check(self, batch: Mapping[str, NDArray[Any]]) -> None:
        names = [field.name for field in self.fields]
        if sorted(batch) != sorted(names):
            raise ValueError(f"batch has the fields {sorted(batch)}, expected exactly {names}")
        sizes: dict[str, int] = {}
        for field in self.fields:
            value = np.asarray(batch[field.name])
            if value.ndim == len(field.axes) and value.size:
                for axis, size in zip(field.axes, value.shape, strict=True):
                    if isinstance(axis, str):
                        sizes.setdefault(axis, size)
            expected = tuple(sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in field.axes)
            if value.shape != expected or not value.size:
                raise ValueError(
                    f"batch field {field.name!r} has shape {list(value.shape)}, expected {list(expected)} with "
                    f"at least one of each of {list(field.axes)}; pad episodes to one length and mask what is padding"
                )
            refuse(f"batch field {field.name!r}", value, value.shape)
