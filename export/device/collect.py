"""Episodes from a guarded robot, exploration noise, and the batch that the adapt graph reads. Knows no algorithm."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.device.adapter import Field
from export.device.device import Device
from export.device.driver import REWARD, NotMeasuredError
from export.device.guard import Guard
from export.device.loop import Loop
from export.device.manifest import Collect
from export.device.policy import Vector

FASTEST = 1.25  # of the largest action: a hand may lead the robot a little faster


@dataclass(frozen=True)
class Episode:
    """observation float32[time, observation], action float32[time, n] as the policy drew it, reward float32[time]
    (NaN: not measured), altered bool[time]: where the guard let something else through.

    skipped: control steps missed because the loop was late. ended: why the episode is shorter than it was to be.
    """

    observation: NDArray[np.float32]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    altered: NDArray[np.bool_] = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    skipped: int = 0
    ended: str = ""

    @property
    def trips(self) -> int:
        """How often the guard stepped in."""
        return int(np.count_nonzero(np.diff(self.altered.astype(np.int8), prepend=0) == 1))


class Explorer:
    """Time-correlated noise float32[size], in standard deviations: e' = c e + sqrt(1 - c^2) w, cut at ±cap.

    Every single draw is distributed as if c were 0 (but for the cut), and motors are spared the shaking of white noise.
    """

    def __init__(self, size: int, plan: Collect, rng: np.random.Generator) -> None:
        self._size, self._plan, self._rng = size, plan, rng
        self._state: NDArray[np.float64] | None = None

    def __call__(self) -> Vector:
        fresh, keep = self._rng.standard_normal(self._size), self._plan.correlation
        self._state = fresh if self._state is None else keep * self._state + np.sqrt(1 - keep**2) * fresh
        return np.clip(self._state, -self._plan.cap, self._plan.cap).astype(np.float32)


def attempt(
    loop: Loop,
    steps: int,
    noise: Explorer | None = None,
    previous: Episode | None = None,
) -> Episode:
    """One attempt of `steps` control steps, acting by the mean, or exploring.

    It ends early where the guard lets the robot go limp. previous: for a policy with memory, the attempt before it in
    the trial; without one a trial begins. Raises ValueError if nothing could be observed at all; with memory also if
    the driver measures no reward, which is found before anything moves, or one that is not finite.
    """
    device, guard = loop.device, loop.guard
    heard: Vector | None = None
    if device.manifest.memory:
        if previous is None:
            require_reward(guard)
            device.begin_trial()
            heard = np.zeros(device.interface.action_size + 2, np.float32)
        else:
            heard = feedback(previous.action[-1], previous.reward[-1], ended=True)
    guard.begin_attempt()
    loop.begin()
    observations, actions, rewards, altered = [], [], [], []
    skipped, ended = loop.timing.skipped, ""
    last = np.zeros(device.interface.action_size, np.float32)
    for _ in range(steps):
        tick = loop.tick(noise, heard)
        if tick.observation is not None:
            last = last if tick.sampled is None else tick.sampled
            observations.append(tick.observation)
            actions.append(last)
            rewards.append(tick.reward)
            altered.append(tick.altered)
        if heard is not None:
            heard = feedback(last, tick.reward, ended=False)
        if tick.state == "relax":
            ended = f"the guard let the robot go limp: {', '.join(tick.limits)} {guard.fault}".strip()
            break
    if not observations:
        raise ValueError(
            f"not one of {steps} control steps could be observed (the guard says {', '.join(tick.limits)}; "
            f"{guard.fault or 'the driver answers'}), expected sound readings; check the sensors"
        )
    return Episode(
        np.stack(observations),
        np.stack(actions),
        np.array(rewards, np.float32),
        np.array(altered),
        loop.timing.skipped - skipped,
        ended,
    )


def feedback(action: Vector, reward: float, ended: bool) -> Vector:
    """What a policy with memory hears of the step before, float32[n + 2]: (action, reward, 1 if it ended its attempt).

    action float32[n]: as the policy gave it, not clipped. Where a trial starts, feedback is zeros instead. Raises
    ValueError for a reward that is not finite.
    """
    if not np.isfinite(reward):
        raise ValueError(
            f"the reward of the step before is {reward}, expected a finite one: the policy adapts by what it gets; "
            "check what measures the reward"
        )
    return np.append(action, (reward, ended)).astype(np.float32)


def require_reward(guard: Guard) -> None:
    """Raises ValueError, before anything moves, if the driver measures no reward."""
    if REWARD not in guard.spec.fields:
        raise ValueError(
            f"the driver measures no reward (its fields are {sorted(guard.spec.fields)}), but this policy adapts by "
            "it; use a driver that measures one, or a policy that adapts by guided motions"
        )


def guided(device: Device, guard: Guard) -> Episode:
    """One motion led by hand, with the actions that would have led there.

    Raises ValueError as `observe` does and for a motion that no action could follow, and NotMeasuredError where nobody
    can lead the robot.
    """
    if not guard.spec.guided:
        raise NotMeasuredError(
            f"nobody can lead this {guard.spec.robot} by hand, but the policy adapts by guided motions; use a driver "
            "that records them, or a policy that learns by reward"
        )
    samples = guard.guided()
    readings = np.asarray(samples.get("joint_position"), np.float64)
    if readings.ndim != 2 or len(readings) < 2 or readings.shape[1] != len(device.interface.joints):
        raise ValueError(
            f"the guided motion has readings of shape {list(readings.shape)}, expected [time + 1, "
            f"{len(device.interface.joints)}] with at least 2 samples; lead the arm again"
        )
    observation = device.interface.observe(samples)[:-1]
    action = device.interface.label(readings)
    fastest = float(np.abs(device.interface.motion(readings)).max())
    if not fastest <= FASTEST:
        raise ValueError(
            f"the guided motion goes {fastest:.3g} times as fast as any action, expected at most {FASTEST}: nothing "
            "can be learned from what the policy cannot do; lead the arm more slowly"
        )
    unmeasured, none = np.full(len(action), np.nan, np.float32), np.zeros(len(action), bool)
    return Episode(observation, action, unmeasured, none)


def batch(episodes: Sequence[Episode], fields: Sequence[Field]) -> dict[str, NDArray[np.float32]]:
    """The arrays [episode, time, ...] that `fields` name, padded with zeros; mask is 1 where an episode lasts.

    It is 0, too, where the guard let something else through than the policy had drawn, for such a step says nothing of
    the policy; and where a reward that is read was not finite. Objectives then leave out that step's likelihood and
    reward, and forecasts from and to it. Raises ValueError for a field that no episode holds, a reward that was never
    measured, without episodes, or without a single step that counts.
    """
    if not episodes:
        raise ValueError("there are 0 episodes, expected at least 1; collect before adapting")
    longest = max(len(episode.action) for episode in episodes)
    names = [field.name for field in fields]
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for episode in episodes:
        counts = np.ones(len(episode.action), bool)
        counts[: len(episode.altered)] &= ~episode.altered
        if "reward" in names:
            if np.isnan(episode.reward).all():
                raise ValueError(
                    "'reward' was not measured in an episode, but the adapt graph reads it; use a driver that measures "
                    "it, or a policy with another objective"
                )
            counts &= np.isfinite(episode.reward)
        parts = {
            "observation": episode.observation,
            "action": episode.action,
            "reward": np.where(counts, episode.reward, 0),
            "mask": counts,
        }
        for name in names:
            if name not in parts:
                raise ValueError(f"the adapt graph reads {name!r}, expected one of {sorted(parts)}; update the device")
            value = np.asarray(parts[name], np.float32)
            rows[name].append(np.pad(value, [(0, longest - len(value))] + [(0, 0)] * (value.ndim - 1)))
    made = {name: np.stack(values) for name, values in rows.items()}
    if "mask" in made and not made["mask"].any():
        raise ValueError(
            f"not one step of {len(episodes)} episodes counts, expected some that the policy decided and that were "
            "measured; look at the limits that the guard names"
        )
    return made
