"""What a body may be asked to do and may plausibly report: plain numbers for a guard. numpy only, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, pi

from robots.spec import PD, RobotSpec

FALLEN = pi / 3  # [rad] of tilt, beyond which a walker no longer walks
POWER = 120.0  # [W/kg] of a walker's own mass; a trot of A1 takes 10 on average and 85 for a moment
ZEROS = 0.5  # [rad] by which readings may lie beyond the limits: encoders' zeros are off, soft limits are overrun
NOISE = 0.1  # [rad] by which two readings of a resting joint may differ
FASTER = 2.0  # times its rated velocity: targets lead, and joints are pushed; PandaPickPlace's targets reach 1.84


@dataclass(frozen=True)
class Limits:
    """One robot's, on by default wherever it is driven.

    nominal [rad]: the pose to retreat to. lower, upper [rad]: of joint targets. rate [rad/s]: the most that each target
    may move. velocity [rad/s]: the most that readings may. reading_lower, reading_upper [rad]: of plausible readings.
    effort [N m]. age [s]: of the newest sample, and the most by which the robot's clock may run ahead. deadman [s]:
    without a sound command. frozen [s]: of readings that do not change by one bit while targets do, 0 where encoders
    are too coarse to tell. tilt [rad]: from upright by `gravity`, None for what cannot fall. power [W]: mechanical, of
    PD drives of this stiffness [N m/rad] and damping [N m s/rad]; None where the drives are not known. Raises
    ValueError for numbers that limit nothing, or lengths that differ.
    """

    nominal: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    rate: tuple[float, ...]
    velocity: tuple[float, ...]
    reading_lower: tuple[float, ...]
    reading_upper: tuple[float, ...]
    effort: tuple[float, ...]
    age: float
    deadman: float
    frozen: float
    tilt: float | None = None
    power: float | None = None
    stiffness: float = 0.0
    damping: float = 0.0

    def __post_init__(self) -> None:
        count = len(self.lower)
        vectors = {
            name: getattr(self, name)
            for name in ("nominal", "lower", "upper", "rate", "velocity", "reading_lower", "reading_upper", "effort")
        }
        for name, values in vectors.items():
            if len(values) != count or not all(-inf < value < inf for value in values):
                raise ValueError(f"limits: {name} is {values}, expected {count} finite numbers, one for each joint")
        for low, high in (("lower", "upper"), ("reading_lower", "reading_upper")):
            if any(a > b for a, b in zip(vectors[low], vectors[high], strict=True)):
                raise ValueError(f"limits: {low} {vectors[low]} lies above {high} {vectors[high]}; exchange them")
        for name in ("rate", "velocity", "effort"):
            if not all(value > 0 for value in vectors[name]):
                raise ValueError(f"limits: {name} is {vectors[name]}, expected positive numbers")
        for name in ("age", "deadman"):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(f"limits: {name} is {getattr(self, name)} s, expected a positive time")
        for name in ("tilt", "power"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise ValueError(f"limits: {name} is {value}, expected a positive number or none")
        if not all(0 <= value < inf for value in (self.frozen, self.stiffness, self.damping)):
            raise ValueError("limits: frozen, stiffness and damping must be finite, and 0 or more")

    @classmethod
    def of(cls, spec: RobotSpec) -> Limits:
        """The limits that follow from a robot's constants."""
        lower, upper = tuple(spec.lower.tolist()), tuple(spec.upper.tolist())
        velocity = tuple(FASTER * value for value in spec.velocity.tolist())
        period = 1 / spec.control_hz
        return cls(
            nominal=spec.nominal_pose,
            lower=lower,
            upper=upper,
            rate=velocity,
            velocity=velocity,
            reading_lower=tuple(value - ZEROS for value in lower),
            reading_upper=tuple(value + ZEROS for value in upper),
            effort=tuple(spec.effort.tolist()),
            age=max(3 * period, 0.1),
            deadman=max(5 * period, 0.2),
            frozen=max(10 * period, 0.5),
            tilt=FALLEN if spec.floating else None,
            power=POWER * spec.mass if isinstance(spec.drive, PD) and spec.mass else None,
            stiffness=spec.drive.stiffness if isinstance(spec.drive, PD) else 0.0,
            damping=spec.drive.damping if isinstance(spec.drive, PD) else 0.0,
        )
