"""What an action in [-1, 1] asks of the joints: increments, targets, a modulated gait, motions of the tool. numpy only.

Each kind is a frozen value of plain numbers that an exported policy's manifest holds, so that simulation and device
turn actions into commands by the same few lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import cos, pi, sin
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from robots import kinematics
from robots.gait import Gait
from robots.spec import Array, Chain, JointSpec


class Command(NamedTuple):
    """What the drives are told at one control step, and what the next command must know of it.

    target [n]: joint positions (rad, encoder frame). action [size]: as limited to [-1, 1]. grip: 0 open or off, 1
    closed or on; None where nobody asks. phase: of a gait, in cycles.
    """

    target: Array
    action: Array
    grip: float | None = None
    phase: float = 0.0

    def memory(self) -> dict[str, Array]:
        """What a policy may be shown of its own past: `last_action` [size], `gait_phase` [2] (sine and cosine)."""
        angle = 2 * pi * self.phase
        return {"last_action": self.action, "gait_phase": np.array((sin(angle), cos(angle)))}


class Action(Protocol):
    """How actions become commands. lower, upper: of every joint command [rad, encoder frame]."""

    @property
    def size(self) -> int: ...
    @property
    def lower(self) -> tuple[float, ...]: ...
    @property
    def upper(self) -> tuple[float, ...]: ...

    def start(self, reading: Array) -> Command:
        """Before the first action: the joints stay where the encoders [n] (rad) have them."""

    def command(self, action: Array, previous: Command, sample: Mapping[str, Array]) -> Command:
        """The command for an action [size] in [-1, 1], given the one before and the sensor sample."""


def _limits(kind: str, lower: tuple[float, ...], upper: tuple[float, ...], **scales: Sequence[float]) -> None:
    """Raises ValueError unless limits are finite, in order and of one length, and scales positive and finite."""
    for name, values in scales.items():
        if not all(0 < value < np.inf for value in values):
            raise ValueError(f"action {kind!r}: {name} is {tuple(values)}, expected positive finite values")
    limits = (*lower, *upper)
    if len(lower) != len(upper) or not np.isfinite(limits).all() or any(a > b for a, b in zip(lower, upper)):  # noqa: B905
        raise ValueError(
            f"action {kind!r}: lower {lower} and upper {upper} must be finite and in order, joint by joint"
        )


def _length(kind: str, count: int, **named: Sequence[Any]) -> None:
    for name, values in named.items():
        if len(values) != count:
            raise ValueError(
                f"action {kind!r}: {name} has {len(values)} values, expected one for each of {count} joints"
            )


def _clip(values: Array, low: Array | float, high: Array | float) -> Array:
    clipped: Array = np.minimum(np.maximum(values, low), high)
    return clipped


@dataclass(frozen=True)
class JointIncrement:
    """The joint command moves by `scale * action` [rad] in a control step.

    lead [rad]: how far the command may run ahead of the reading, so that a blocked arm does not wind it up.
    """

    scale: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    lead: float

    def __post_init__(self) -> None:
        _limits("joint_increment", self.lower, self.upper, scale=self.scale, lead=(self.lead,))
        _length("joint_increment", len(self.lower), scale=self.scale)

    @property
    def size(self) -> int:
        return len(self.scale)

    @cached_property
    def arrays(self) -> tuple[Array, Array, Array]:
        return np.array(self.scale), np.array(self.lower), np.array(self.upper)

    def start(self, reading: Array) -> Command:
        return Command(reading, np.zeros(self.size))

    def command(self, action: Array, previous: Command, sample: Mapping[str, Array]) -> Command:
        scale, lower, upper = self.arrays
        reading = sample["joint_position"]
        target = _clip(previous.target + scale * action, reading - self.lead, reading + self.lead)
        return Command(_clip(target, lower, upper), action)

    def label(self, readings: Array) -> NDArray[np.float32]:
        """Actions float32[time, n] that a guided motion stands for, from its readings [time + 1, n] (rad).

        What moved between consecutive readings, as an action can say it: nothing but encoders is needed, and the
        same rule labels motions in simulation and on the device.
        """
        return np.clip(self.motion(readings), -1.0, 1.0).astype(np.float32)

    def motion(self, readings: Array) -> Array:
        """What moved between consecutive readings [time + 1, n] (rad), [time, n] in units of the action."""
        return np.asarray(np.diff(readings, axis=-2) / self.arrays[0])


@dataclass(frozen=True)
class JointTarget:
    """Joint targets around a pose: `nominal + scale * action` [rad]."""

    nominal: tuple[float, ...]
    scale: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        _limits("joint_target", self.lower, self.upper, scale=self.scale)
        _length("joint_target", len(self.lower), scale=self.scale, nominal=self.nominal)

    @property
    def size(self) -> int:
        return len(self.scale)

    @cached_property
    def _arrays(self) -> tuple[Array, ...]:
        return tuple(np.array(values) for values in (self.nominal, self.scale, self.lower, self.upper))

    def start(self, reading: Array) -> Command:
        return Command(reading, np.zeros(self.size))

    def command(self, action: Array, previous: Command, sample: Mapping[str, Array]) -> Command:
        nominal, scale, lower, upper = self._arrays
        return Command(_clip(nominal + scale * action, lower, upper), action)


@dataclass(frozen=True)
class GaitResidual:
    """A gait that follows the velocity command, and joint residuals on it; the policy modulates the gait as well.

    The last three elements of an action set frequency [Hz], lift of the feet [m] and the stance's share of a cycle,
    each over (low, high); the others turn the joints by `scale * action` [rad]. Reads `velocity_command` [3].
    """

    nominal: tuple[float, ...]
    scale: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    gait: Gait
    control_hz: int
    frequency: tuple[float, float]
    lift: tuple[float, float]
    stance: tuple[float, float]

    def __post_init__(self) -> None:
        _limits("gait", self.lower, self.upper, scale=self.scale, frequency=self.frequency, stance=self.stance)
        _limits("gait", *zip(self.frequency, self.lift, self.stance, strict=True), control_hz=(self.control_hz,))
        _length("gait", len(self.lower), scale=self.scale, nominal=self.nominal, gain=self.gait.gain)
        legs = len(self.gait.feet)
        if len(self.gait.phases) != legs or any(len(row) != 3 * legs for row in self.gait.gain):
            raise ValueError(
                f"action 'gait': phases and gain do not fit {legs} feet, expected {legs} and rows of {3 * legs}"
            )
        if len(self.gait.load) != legs or any(len(place) != 3 for place in (*self.gait.feet, *self.gait.load)):
            raise ValueError(
                f"action 'gait': feet {self.gait.feet} and load {self.gait.load} differ, expected x, y, z of each foot"
            )
        if not max(self.stance) < 1:
            raise ValueError(f"action 'gait': stance is {self.stance}, expected shares of a cycle below 1")

    @property
    def size(self) -> int:
        return len(self.scale) + 3

    @cached_property
    def _arrays(self) -> tuple[Array, ...]:
        return tuple(np.array(values) for values in (self.nominal, self.scale, self.lower, self.upper))

    def start(self, reading: Array) -> Command:
        return Command(reading, np.zeros(self.size))

    def command(self, action: Array, previous: Command, sample: Mapping[str, Array]) -> Command:
        nominal, scale, lower, upper = self._arrays
        *_, a, b, c = action.tolist()
        frequency, lift, stance = (
            low + (high - low) * (value + 1) / 2
            for value, (low, high) in zip((a, b, c), (self.frequency, self.lift, self.stance), strict=True)
        )
        phase = (previous.phase + frequency / self.control_hz) % 1.0
        velocity = np.asarray(sample["velocity_command"]).tolist()
        if velocity == [0.0, 0.0, 0.0]:
            lift = 0.0  # nobody asks it to walk: it stands
        steps = self.gait.steps(phase, velocity, frequency, lift, stance)
        target = nominal + self.gait.offsets(steps) + scale * action[:-3]
        return Command(_clip(target, lower, upper), action, None, phase)


@dataclass(frozen=True)
class ToolIncrement:
    """The tool moves by `scale * action` [m] along x, y, z in a control step, and keeps pointing straight down.

    By kinematics from the encoders' zeros: an offset of theirs moves the tool unnoticed. low, high: the box that the
    tool is kept in [m, base frame]. grip: whether one more element closes the gripper (above 0.5), opens it (below
    -0.5), or leaves it: noise on a threshold would drop what is held. The command's action then says 1 or -1.
    lead [rad]: as for joint increments; step [rad]: the most that a joint's command moves at once.
    """

    joints: tuple[JointSpec, ...]
    tool: tuple[float, float, float]
    scale: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    lead: float
    step: float
    grip: bool = False

    def __post_init__(self) -> None:
        _limits("tool_increment", self.lower, self.upper, scale=(self.scale,), lead=(self.lead,), step=(self.step,))
        _limits("tool_increment", self.low, self.high)
        _length("tool_increment", len(self.lower), joints=self.joints)

    @property
    def size(self) -> int:
        return 4 if self.grip else 3

    @cached_property
    def _arrays(self) -> tuple[Array, ...]:
        return tuple(np.array(values) for values in (self.low, self.high, self.lower, self.upper))

    @cached_property
    def _chain(self) -> Chain:
        return Chain(self.joints, self.tool)

    def start(self, reading: Array) -> Command:
        return Command(reading, np.zeros(self.size), 0.0 if self.grip else None)

    def command(self, action: Array, previous: Command, sample: Mapping[str, Array]) -> Command:
        low, high, lower, upper = self._arrays
        moved = kinematics.hold_down(self._chain, previous.target, self.scale * action[:3], low, high)
        target = previous.target + _clip(moved, -self.step, self.step)
        reading = sample["joint_position"]
        target = _clip(_clip(target, reading - self.lead, reading + self.lead), lower, upper)
        if not self.grip:
            return Command(target, action)
        grip = float(action[3] > 0) if abs(action[3]) > 0.5 else previous.grip or 0.0
        done = action.copy()
        done[3] = 2 * grip - 1
        return Command(target, done, grip)


KINDS: dict[str, type[Any]] = {
    "joint_increment": JointIncrement,
    "joint_target": JointTarget,
    "gait": GaitResidual,
    "tool_increment": ToolIncrement,
}


def to_dict(action: Action) -> dict[str, Any]:
    """Plain, JSON-ready values; `from_dict` reverses it."""
    kind = next(name for name, type_ in KINDS.items() if isinstance(action, type_))
    return {"kind": kind, **asdict(action)}  # type: ignore[call-overload]


def from_dict(values: Mapping[str, Any]) -> Action:
    """Raises ValueError for an unknown kind or values that do not fit, TypeError for unknown or missing keys."""
    fields = {name: _tuples(value) for name, value in values.items()}
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"action kind is {kind!r}, expected one of {sorted(KINDS)}")
    if kind == "gait":
        fields["gait"] = Gait.from_dict(values["gait"])
    if kind == "tool_increment":
        fields["joints"] = tuple(
            JointSpec(**{name: _tuples(value) for name, value in joint.items()}) for joint in values["joints"]
        )
    made: Action = KINDS[kind](**fields)
    return made


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list | tuple) else value
