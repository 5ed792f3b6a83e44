"""Right and left: what vectors become in a mirror that stands along a robot's x and z. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from robots.spec import Array, Leg, RobotSpec

PLACE = (1.0, -1.0, 1.0)  # signs of what has a direction: places, velocities, gravity
TURN = (-1.0, 1.0, -1.0)  # and of what has an axis: rates and angles of turning
# How far an image may be off, as a share of its length, or an angle [rad]: bodies are not built to the micrometre.
CLOSE = 0.1


@dataclass(frozen=True)
class Mirror:
    """The image of a vector [n]: element i is signs[i] times element sources[i]. The image's image is the vector."""

    sources: tuple[int, ...]
    signs: tuple[float, ...]

    @classmethod
    def of(cls, signs: Sequence[float]) -> Mirror:
        """Every element stays where it is."""
        return cls(tuple(range(len(signs))), tuple(signs))

    @classmethod
    def join(cls, parts: Iterable[Mirror]) -> Mirror:
        """Of vectors end to end."""
        sources: tuple[int, ...] = ()
        signs: tuple[float, ...] = ()
        for part in parts:
            sources += tuple(len(sources) + source for source in part.sources)
            signs += part.signs
        return cls(sources, signs)

    @property
    def unsigned(self) -> Mirror:
        """Of what has a size for each element and no direction."""
        return Mirror(self.sources, (1.0,) * len(self.signs))

    def __call__(self, values: Array) -> Array:
        """The images of vectors [..., n], in their own type."""
        sources, signs = self._arrays
        image: Array = values[..., sources] * signs.astype(values.dtype)
        return image

    @cached_property
    def _arrays(self) -> tuple[Array, Array]:
        return np.array(self.sources, dtype=int), np.array(self.signs)


def twins(spec: RobotSpec) -> tuple[int, ...] | None:
    """For each leg the one whose foot is its own's image, or None for a robot that has no legs, or one without."""
    feet = np.array([leg.foot for leg in spec.legs]).reshape(-1, 3)
    apart = np.linalg.norm(feet[:, None] - feet * PLACE, axis=-1)
    if not len(feet) or (apart.min(1) > CLOSE * np.linalg.norm(feet, axis=1)).any():
        return None
    return tuple(apart.argmin(1).tolist())


def joints(spec: RobotSpec) -> Mirror | None:
    """The image of a vector of joints, or None for a robot that is not its own.

    Of two joints of twin legs, each is the other's image if it turns as much when its foot moves to the image's side.
    """
    legs = twins(spec)
    if legs is None or sum(len(leg.joints) for leg in spec.legs) != len(spec.joints):
        return None
    sources, signs = [0] * len(spec.joints), [0.0] * len(spec.joints)
    for leg, twin in zip(spec.legs, legs, strict=True):
        for joint, gain in zip(leg.joints, leg.gain, strict=True):
            found = _image(gain, spec.legs[twin])
            if found is None or abs(spec.nominal[joint] - found[1] * spec.nominal[found[0]]) > CLOSE:
                return None
            sources[joint], signs[joint] = found
    return Mirror(tuple(sources), tuple(signs))


def _image(gain: Sequence[float], twin: Leg) -> tuple[int, float] | None:
    """The twin's joint, and its sign, that turns as a joint of this gain does."""
    for joint, other in zip(twin.joints, twin.gain, strict=True):
        for sign in (1.0, -1.0):
            if np.linalg.norm(np.subtract(gain, sign * np.multiply(other, PLACE))) < CLOSE * np.linalg.norm(gain):
                return joint, sign
    return None
