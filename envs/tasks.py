"""What may differ from world to world: Parameter, Choice, Task, TaskSpace. Pure; no engine, no environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

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

    @property
    def nominal_values(self) -> tuple[float, ...]:
        return (self.nominal,) * self.size

    @property
    def code(self) -> int:
        """Length of `encode`."""
        return self.size

    def range(self, split: Split) -> tuple[float, float]:
        """The interval that tasks of `split` come from; extrapolation is half as wide again, within bounds."""
        if split != "extrapolation":
            return self.low, self.high
        margin = (self.high - self.low) / 4
        return max(self.low - margin, self.bounds[0]), min(self.high + margin, self.bounds[1])

    def sample(self, rng: np.random.Generator, split: Split) -> tuple[float, ...]:
        return tuple(rng.uniform(*self.range(split), size=self.size).tolist())

    def encode(self, values: Array) -> Array:
        """Mapped so that the training range is [-1, 1]."""
        code: Array = (values - self.low) / (self.high - self.low) * 2 - 1
        return code

    def check(self, values: Array) -> None:
        """Raises ValueError unless there are `size` values within what tasks may hold."""
        low, high = self.range("extrapolation")
        low, high = min(low, self.nominal), max(high, self.nominal)
        if values.shape != (self.size,):
            raise ValueError(f"task parameter {self.name!r} has {values.size} values, expected {self.size}")
        if not ((values >= low) & (values <= high)).all():
            raise ValueError(
                f"task parameter {self.name!r} is {values.tolist()} {self.unit}, expected values in "
                f"[{low:.6g}, {high:.6g}]; for a wider world give the environment a wider Parameter"
            )


@dataclass(frozen=True)
class Choice:
    """One of a few named things; a task holds its index in `options`.

    heldout: options that training never sees, and the other splits see alone (empty: every split sees all).
    nominal: the option of the nominal world, the first unless given. features: what an oracle is told of each
    option, in [-1, 1]; without them, which one it is (one-hot).
    """

    name: str
    options: tuple[str, ...]
    heldout: tuple[str, ...] = ()
    nominal: str = ""
    features: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.options or len(set(self.options)) < len(self.options):
            raise ValueError(f"choice {self.name!r} has the options {self.options}, expected different ones")
        for what, named in (("heldout", self.heldout), ("nominal", (self.nominal,) if self.nominal else ())):
            if unknown := sorted(set(named) - set(self.options)):
                raise ValueError(f"choice {self.name!r}: {what} {unknown} is not among its options {self.options}")
        if set(self.heldout) == set(self.options):
            raise ValueError(f"choice {self.name!r}: all options are held out, expected at least one to train on")
        if self.features and (set(self.features) != set(self.options) or len({*map(len, self.features.values())}) > 1):
            raise ValueError(f"choice {self.name!r} needs features of each of {self.options}, equally many")

    @property
    def nominal_values(self) -> tuple[float, ...]:
        return (float(self.options.index(self.nominal)) if self.nominal else 0.0,)

    @property
    def code(self) -> int:
        return int(self._codes.shape[1])

    @cached_property
    def _codes(self) -> Array:
        if self.features:
            return np.array([self.features[option] for option in self.options], dtype=np.float64)
        return 2 * np.eye(len(self.options)) - 1

    @cached_property
    def _drawn(self) -> Mapping[str, list[int]]:
        held = [self.options.index(option) for option in self.heldout]
        rest = [index for index in range(len(self.options)) if index not in held]
        return {split: rest if split == "train" else held or rest for split in SPLITS}

    def sample(self, rng: np.random.Generator, split: Split) -> tuple[float, ...]:
        drawn = self._drawn[split]
        return (float(drawn[rng.integers(len(drawn))]),)

    def encode(self, values: Array) -> Array:
        code: Array = self._codes[int(values[0])]
        return code

    def check(self, values: Array) -> None:
        """Raises ValueError unless there is one index of an option."""
        if values.shape != (1,) or values[0] not in range(len(self.options)):
            raise ValueError(
                f"task choice {self.name!r} is {values.tolist()}, expected one index below {len(self.options)} into "
                f"{self.options}"
            )


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
    """An ordered list of parameters and choices; `sample` draws tasks from one of the SPLITS."""

    parameters: tuple[Parameter | Choice, ...]

    def __post_init__(self) -> None:
        names = [parameter.name for parameter in self.parameters]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"parameters {twice} occur more than once; give each its own name")

    @property
    def size(self) -> int:
        """Length of `encode`."""
        return sum(parameter.code for parameter in self.parameters)

    @cached_property
    def nominal(self) -> Task:
        return Task({p.name: p.nominal_values for p in self.parameters})

    def sample(self, rng: np.random.Generator, split: Split = "train") -> Task:
        """A task, uniform in the split's ranges. The same generator state gives other draws in another split.

        Extrapolation tasks have at least one value outside the training ranges. Raises ValueError for an unknown
        split, or if no parameter's bounds leave room to extrapolate.
        """
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, expected one of {SPLITS}")
        ranges = [p for p in self.parameters if isinstance(p, Parameter)]
        if split == "extrapolation" and all(p.range(split) == (p.low, p.high) for p in ranges):
            raise ValueError("there is nothing to extrapolate to: every parameter's range already fills its bounds")
        rng = np.random.default_rng([int(rng.integers(2**63)), SPLITS.index(split)])
        while True:
            task = Task({p.name: p.sample(rng, split) for p in self.parameters})
            if split != "extrapolation" or any(np.abs(p.encode(task[p.name])).max() > 1 for p in ranges):
                return task

    def encode(self, task: Task) -> Array:
        """The privileged vector [size]: parameters with the training range at [-1, 1], choices by their features."""
        return np.concatenate([np.zeros(0), *(p.encode(task[p.name]) for p in self.parameters)])

    def check(self, task: Task) -> None:
        """Raises ValueError naming the first parameter that is unknown, missing, of the wrong size or out of range."""
        names = [p.name for p in self.parameters]
        if set(task.values) != set(names):
            raise ValueError(f"task has the parameters {sorted(task.values)}, expected {sorted(names)}")
        for parameter in self.parameters:
            parameter.check(task[parameter.name])


class Measure(NamedTuple):
    """How far an attempt is from what was asked: the name of that error, its unit, and what counts as success."""

    name: str
    unit: str
    tolerance: float
