"""Episodes from a driver, and the batch that the adapt graph reads. Knows no algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.device.adapter import Field
from export.device.device import Device
from export.device.driver import Driver, NotMeasuredError
from export.device.pace import Pace
from export.device.policy import Vector


@dataclass(frozen=True)
class Episode:
    """observation float32[time, observation], action float32[time, n], reward float32[time] (NaN: not measured).

    skipped: control steps missed because the loop was late.
    """

    observation: NDArray[np.float32]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    skipped: int = 0


def attempt(
    device: Device,
    driver: Driver,
    steps: int,
    rng: np.random.Generator | None = None,
    previous: Episode | None = None,
) -> Episode:
    """One attempt of `steps` control steps, acting by the mean, or exploring with `rng`.

    previous: for a policy with memory, the attempt before it in the trial; without one a trial begins. Raises
    ValueError if a reading or an action is not finite or of the wrong shape; with memory also if the driver measures
    no reward, which is found before anything moves, or one that is not finite.
    """
    interface = device.interface
    heard: Vector | None = None
    if device.manifest.memory:
        if previous is None:
            require_reward(driver)
            device.begin_trial()
            heard = np.zeros(interface.action_size + 2, np.float32)
        else:
            heard = feedback(previous.action[-1], previous.reward[-1], ended=True)
    driver.begin_attempt()
    sample = driver.read()
    command = interface.start(sample)
    observations, actions, rewards = [], [], []
    pace = Pace(interface.control_hz)
    for _ in range(steps):
        observation = interface.observe(sample, command)
        action = device.act(observation, heard) if rng is None else device.sample(observation, rng, heard)
        command = interface.command(action, command, sample)
        driver.write(command)
        if driver.realtime:
            pace.wait()
        sample = driver.read()
        observations.append(observation)
        actions.append(action)
        rewards.append(_reward(driver))
        if heard is not None:
            heard = feedback(action, rewards[-1], ended=False)
    return Episode(np.stack(observations), np.stack(actions), np.array(rewards, np.float32), pace.skipped)


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


def require_reward(driver: Driver) -> None:
    """Raises ValueError, before anything moves, if the driver measures no reward."""
    driver.read()
    try:
        driver.reward()
    except NotMeasuredError as error:
        raise ValueError(
            f"the driver measures no reward ({error}), but this policy adapts by it; use a driver that measures one, "
            "or a policy that adapts by guided motions"
        ) from error


def guided(device: Device, driver: Driver) -> Episode:
    """One motion led by hand, with the actions that would have led there. Raises ValueError as `observe` does."""
    samples = driver.guided()
    readings = np.asarray(samples.get("joint_position"), np.float64)
    if readings.ndim != 2 or len(readings) < 2 or readings.shape[1] != len(device.interface.joints):
        raise ValueError(
            f"the guided motion has readings of shape {list(readings.shape)}, expected [time + 1, "
            f"{len(device.interface.joints)}] with at least 2 samples; lead the arm again"
        )
    observation = device.interface.observe(samples)[:-1]
    action = device.interface.label(readings)
    return Episode(observation, action, np.full(len(action), np.nan, np.float32))


def batch(episodes: Sequence[Episode], fields: Sequence[Field]) -> dict[str, NDArray[np.float32]]:
    """The arrays [episode, time, ...] that `fields` name, padded with zeros; mask is 1 where an episode lasts.

    Raises ValueError for a field that no episode holds, or without episodes.
    """
    if not episodes:
        raise ValueError("there are 0 episodes, expected at least 1; collect before adapting")
    longest = max(len(episode.action) for episode in episodes)
    made: dict[str, NDArray[np.float32]] = {}
    for name in (field.name for field in fields):
        rows = []
        for episode in episodes:
            parts = {
                "observation": episode.observation,
                "action": episode.action,
                "reward": episode.reward,
                "mask": np.ones(len(episode.action), np.float32),
            }
            if name not in parts:
                raise ValueError(f"the adapt graph reads {name!r}, expected one of {sorted(parts)}; update the device")
            value = parts[name]
            if np.isnan(value).any():
                raise ValueError(
                    f"{name!r} was not measured in an episode, but the adapt graph reads it; use a driver that "
                    "measures it, or a policy with another objective"
                )
            rows.append(np.pad(value, [(0, longest - len(value))] + [(0, 0)] * (value.ndim - 1)))
        made[name] = np.stack(rows)
    return made


def _reward(driver: Driver) -> float:
    try:
        return driver.reward()
    except NotMeasuredError:
        return float("nan")
