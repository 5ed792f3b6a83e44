"""A simulated two-joint robot whose camera is turned by 40 degrees, and its broken relatives."""

from __future__ import annotations

import numpy as np

from export.device.driver import NotMeasuredError
from robots.actions import Command


class Toy:
    """Its joints are where they are commanded. fault: "nan" breaks the encoder, "blind" measures no reward, "lapse"
    measures one that is not finite in the fourth step. still: every attempt starts alike and has the same target.
    """

    def __init__(self, seed: int = 0, fault: str = "", realtime: bool = False, still: bool = False) -> None:
        self.rng, self.fault, self.realtime = np.random.default_rng(seed), fault, realtime
        self.joints = self.target = np.zeros(2)
        self.still = still
        self.commands: list[np.ndarray] = []
        self.closed = False

    def read(self) -> dict[str, np.ndarray]:
        joints = self.joints * (np.nan if self.fault == "nan" else 1.0)
        c, s = np.cos(0.7), np.sin(0.7)
        return {"joint_position": joints, "target": np.array([[c, -s], [s, c]]) @ self.target}

    def write(self, command: Command) -> None:
        self.commands.append(command.target)
        self.joints = command.target

    def reward(self) -> float:
        if self.fault == "blind":
            raise NotMeasuredError("no reward is measured here")
        if self.fault == "lapse" and len(self.commands) == 4:
            return float("nan")
        return -float(np.linalg.norm(self.joints - self.target))

    def begin_attempt(self) -> None:
        if self.still:
            self.joints, self.target = np.zeros(2), np.array([0.4, -0.3])
            return
        self.joints, self.target = self.rng.normal(0, 0.1, 2), self.rng.uniform(-0.5, 0.5, 2)

    def guided(self) -> dict[str, np.ndarray]:
        self.begin_attempt()
        samples = []
        for _ in range(11):
            samples.append(self.read())
            self.joints = self.joints + np.clip(self.target - self.joints, -0.08, 0.08)
        return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}

    def close(self) -> None:
        self.closed = True
