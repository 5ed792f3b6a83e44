"""Motion of which it is known what task it was lived in, kept to be learned from. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.symmetry import Symmetry
from metarl.episodes import Episodes, Float

Whole = NDArray[np.int64]


class Windows(NamedTuple):
    """Stretches of motion [window, time, ...], padded with zeros; mask 1 where lived; truth [window, code] of the last
    step that was."""

    observation: Float
    action: Float
    mask: Float
    truth: Float

    def mirrored(self, symmetry: Symmetry, which: NDArray[np.bool_]) -> Windows:
        """Some [window] of them as in a mirror."""
        images = {"observation": symmetry.observation, "action": symmetry.action, "truth": symmetry.code}
        turned = {}
        for name, image in images.items():
            values = getattr(self, name)
            turned[name] = np.where(which.reshape(-1, *[1] * (values.ndim - 1)), image(values), values)
        return self._replace(**turned)


@dataclass(frozen=True)
class Experience:
    """Episodes end to end: observation and action [step, ...]; each one's length [episode], and the truth about its
    task [episode, 2, code] (`metarl.belief`), at first and from control step `changed` [episode] on."""

    observation: Float
    action: Float
    length: Whole
    truth: Float
    changed: Whole

    @classmethod
    def of(cls, lived: Episodes, truth: Float, changed: Whole) -> Experience:
        """Of episodes [task, 1, time, ...]."""
        mask = lived.mask > 0
        return cls(lived.observation[mask], lived.action[mask], mask.sum((1, 2)), truth, changed)

    @classmethod
    def join(cls, parts: Sequence[Experience]) -> Experience:
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def fields(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def drawn(
        self, rng: np.random.Generator, count: int, longest: int, ahead: int, least: int = 20
    ) -> tuple[Windows, Windows]:
        """Windows of any age from the start of an episode on, and for each the `ahead` steps that came next.

        They are as long as the robot had lived, from `least` steps to the `longest`.
        """
        (long,) = np.nonzero(self.length > least)
        rows = rng.choice(long, count)
        ends = rng.integers(least, self.length[rows], endpoint=True)
        # What comes next begins with the window's last step: at an episode's end there is no other.
        return self.cut(rows, np.maximum(0, ends - longest), ends, longest), self.cut(rows, ends - 1, None, ahead)

    def cut(self, rows: Whole, starts: Whole, ends: Whole | None, length: int) -> Windows:
        """`length` steps of episodes from `starts` on, lived until before `ends`, or until they ended."""
        time = starts[:, None] + np.arange(length)
        lived = time < (self.length[rows] if ends is None else ends)[:, None]
        at = np.minimum(self._starts[rows, None] + time, len(self.observation) - 1)
        mask = (lived & (time < self.length[rows, None])).astype(np.float32)
        observation, action = (field[at] * mask[..., None] for field in (self.observation, self.action))
        last = starts + mask.sum(1).astype(int) - 1
        return Windows(observation, action, mask, self.truth[rows, (last >= self.changed[rows]).astype(int)])

    @cached_property
    def _starts(self) -> Whole:
        """Where each episode begins."""
        starts: Whole = np.cumsum(self.length) - self.length
        return starts
