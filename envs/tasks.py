"""What may differ from world to world: Parameter, Task, TaskSpace. Pure; no engine, no environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from robots.spec import Array

SPLITS = ("train", "heldout", "extrapolation")
Split = Literal["train", "heldout", "extrapolation"]


@dataclass(frozen=True)
class Parameter:
    """One named unknown of a world, with `size` elements of the same range.

    nominal, low, high: in `unit`. apply: how a value acts on the robot's stored nominal. bounds: what is
    physically possible, for ranges widened by extrapolation. Raises ValueError for an empty or unordered range.
    """

    name: str
    unit: str
    nominal: float
    low: float
    high: float
    apply: Literal["scale", "add", "set"]
    size: int = 1
    bounds: tuple[float, float] = (-np.inf, np.inf)

    def __post_init__(self) -> None:
        if not self.bounds[0] <= self.low < self.high <= self.bounds[1]:
            raise ValueError(
                f"parameter {self.name!r}: range [{self.low}, {self.high}] must be ordered and lie in the "
                f"bounds {self.bounds}"
            )

    def range(self, split: Split) -> tuple[float, float]:
        """The interval that tasks of `split` come from; extrapolation is half as wide again, within bounds."""
        if split != "extrapolation":
            return self.low, self.high
        margin = (self.high - self.low) / 4
        return max(self.low - margin, self.bounds[0]), min(self.high + margin, self.bounds[1])


@dataclass(frozen=True)
class Task:
    """One world out of p(T): for each parameter's name its values, in the parameter's unit. A plain value."""

    values: Mapping[str, tuple[float, ...]]

    def __getitem__(self, name: str) -> Array:
        return np.array(self.values[name])

    def to_dict(self) -> dict[str, list[float]]:
        return {name: list(values) for name, values in self.values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Task:
        """Reverses `to_dict`. Raises ValueError for anything but lists of numbers under names."""

        def numbers(entry: Any) -> tuple[float, ...]:
            if not isinstance(entry, (list, tuple)) or any(isinstance(value, (str, bool)) for value in entry):
                raise TypeError
            return tuple(float(value) for value in entry)

        try:
            return cls({name: numbers(entry) for name, entry in values.items()})
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"task is {values!r}, expected a list of numbers under each parameter's name") from error


@dataclass(frozen=True)
class TaskSpace:
    """An ordered list of parameters; `sample` draws tasks from one of the SPLITS."""

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        names = [parameter.name for parameter in self.parameters]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"parameters {twice} occur more than once; give each its own name")

    @property
    def size(self) -> int:
        """Length of `encode`."""
        return sum(parameter.size for parameter in self.parameters)

    @cached_property
    def nominal(self) -> Task:
        return Task({p.name: (p.nominal,) * p.size for p in self.parameters})

    def sample(self, rng: np.random.Generator, split: Split = "train") -> Task:
        """A task, uniform in the split's ranges. The same generator state gives other draws in another split.

        Extrapolation tasks have at least one value outside the training ranges. Raises ValueError for an unknown
        split, or if no parameter's bounds leave room to extrapolate.
        """
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, expected one of {SPLITS}")
        if split == "extrapolation" and all(p.range(split) == (p.low, p.high) for p in self.parameters):
            raise ValueError("there is nothing to extrapolate to: every parameter's range already fills its bounds")
        rng = np.random.default_rng([int(rng.integers(2**63)), SPLITS.index(split)])
        while True:
            values = {p.name: rng.uniform(*p.range(split), size=p.size) for p in self.parameters}
            task = Task({name: tuple(value.tolist()) for name, value in values.items()})
            if split != "extrapolation" or np.abs(self.encode(task)).max() > 1:
                return task

    def encode(self, task: Task) -> Array:
        """The privileged vector [size]: every value mapped so that the training range is [-1, 1]."""
        parts = [(task[p.name] - p.low) / (p.high - p.low) * 2 - 1 for p in self.parameters]
        return np.concatenate(parts)

    def check(self, task: Task) -> None:
        """Raises ValueError naming the first parameter that is unknown, missing, of the wrong size or out of range."""
        names = [p.name for p in self.parameters]
        if set(task.values) != set(names):
            raise ValueError(f"task has the parameters {sorted(task.values)}, expected {sorted(names)}")
        for parameter in self.parameters:
            values = task[parameter.name]
            low, high = parameter.range("extrapolation")
            if values.shape != (parameter.size,):
                raise ValueError(
                    f"task parameter {parameter.name!r} has {values.size} values, expected {parameter.size}"
                )
            if not ((values >= low) & (values <= high)).all():
                raise ValueError(
                    f"task parameter {parameter.name!r} is {values.tolist()} {parameter.unit}, expected values in "
                    f"[{low:.6g}, {high:.6g}]; for a wider world give the environment a wider Parameter"
                )
