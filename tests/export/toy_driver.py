"""A simulated two-joint robot whose camera is turned by 40 degrees, and its broken relatives."""

from __future__ import annotations

import time

import numpy as np

from export.device.driver import Applied, Sample, Spec
from export.device.slots import Bounds
from robots.actions import Command, JointIncrement
from robots.interface import Interface, ObservationTerm
from robots.limits import Limits

LIMITS = Limits(
    nominal=(0.0, 0.0),
    lower=(-1.0, -1.0),
    upper=(1.0, 1.0),
    rate=(6.0, 6.0),
    velocity=(10.0, 10.0),
    reading_lower=(-1.5, -1.5),
    reading_upper=(1.5, 1.5),
    effort=(1.0, 1.0),
    age=0.1,
    deadman=0.2,
    frozen=0.5,
)
BOUNDS = Bounds(norm=20.0, action=4.0, rms=4.0, probation=2, patience=2)
TABLE = Interface(
    robot="toy",
    joints=("a", "b"),
    control_hz=50,
    observation=(
        ObservationTerm("joint_position", "rad", "encoder", (0.0, 0.0), (0.5, 0.5)),
        ObservationTerm("target", "rad", "camera", (0.0, 0.0), (0.5, 0.5)),
    ),
    action=JointIncrement((0.1, 0.1), (-1.0, -1.0), (1.0, 1.0), lead=0.3),
)


class Toy:
    """Its joints are where they are commanded. fault: "nan" breaks the encoder, "blind" measures no reward, "lapse"
    measures one that is not finite in the step `at`. still: every attempt starts alike and has the same target.
    """

    def __init__(
        self, seed: int = 0, fault: str = "", realtime: bool = False, still: bool = False, at: int = 4
    ) -> None:
        self.rng, self.fault, self.at = np.random.default_rng(seed), fault, at
        fields = {"joint_position": 2, "target": 2} | ({} if fault == "blind" else {"reward": 1})
        self.spec = Spec("toy", ("a", "b"), 50, fields, realtime, restarts=True, guided=True)
        self.joints = self.target = np.zeros(2)
        self.still = still
        self.commands: list[np.ndarray] = []
        self.calls: list[str] = []
        self.steps = 0
        self.closed = False

    def values(self) -> dict[str, np.ndarray]:
        joints = self.joints * (np.nan if self.fault == "nan" else 1.0)
        c, s = np.cos(0.7), np.sin(0.7)
        return {"joint_position": joints, "target": np.array([[c, -s], [s, c]]) @ self.target}

    def read(self) -> Sample:
        reward = -float(np.linalg.norm(self.joints - self.target))
        if self.fault == "lapse" and len(self.commands) == self.at:
            reward = float("nan")
        values = self.values() | ({} if self.fault == "blind" else {"reward": np.array([reward])})
        return Sample(values, time.monotonic() if self.spec.realtime else self.steps / 50)

    def write(self, command: Command) -> Applied:
        self.calls.append("write")
        self.commands.append(command.target)
        self.joints = command.target
        self.steps += 1
        return Applied(command.target, command.grip)

    def hold(self) -> None:
        self.calls.append("hold")
        self.steps += 1

    def relax(self) -> None:
        self.calls.append("relax")
        self.steps += 1

    def begin_attempt(self) -> None:
        if self.still:
            self.joints, self.target = np.zeros(2), np.array([0.4, -0.3])
            return
        self.joints, self.target = self.rng.normal(0, 0.1, 2), self.rng.uniform(-0.5, 0.5, 2)

    def guided(self) -> dict[str, np.ndarray]:
        self.begin_attempt()
        samples = []
        for _ in range(11):
            samples.append(self.values())
            self.joints = self.joints + np.clip(self.target - self.joints, -0.08, 0.08)
        return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}

    def close(self) -> None:
        self.closed = True
