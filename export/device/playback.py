"""A recording as a driver: its sensors say again what they said. Nothing moves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from export.device import recorder
from export.device.driver import Applied, NotMeasuredError, Sample, Spec
from export.device.manifest import Manifest
from robots.actions import Command
from robots.spec import Array


class Playback:
    """path: what `--log` wrote. written: targets that it was told, beside `recorded`, those of then.

    Behind the end, readings are not valid. Raises ValueError for a file that is no recording, or an empty one.
    """

    def __init__(self, path: str | Path) -> None:
        about, messages = recorder.read(Path(path))
        interface = Manifest.from_json(about["manifest"].encode()).interface
        ticks = [message for topic, message in messages if topic == "tick"]
        if not ticks:
            raise ValueError(f"{path} holds no control step, expected a recording of a robot that moved")
        self._samples = [
            Sample(
                {name: np.array(values, np.float64) for name, values in tick["values"].items()},
                tick["sample_time"],
                tick["valid"],
            )
            for tick in ticks
        ]
        self.recorded = [tick["target"] for tick in ticks]
        self.written: list[Array] = []
        sizes = {name: len(value) for name, value in self._samples[0].values.items()}
        self.spec = Spec(interface.robot, interface.joints, interface.control_hz, sizes, realtime=False)
        self._at = 0

    def read(self) -> Sample:
        sample = self._samples[min(self._at, len(self._samples) - 1)]
        return sample if self._at < len(self._samples) else sample._replace(valid=False)

    def write(self, command: Command) -> Applied:
        self.written.append(command.target)
        self._at += 1
        return Applied(command.target, command.grip)

    def hold(self) -> None:
        self._at += 1

    def relax(self) -> None:
        self._at += 1

    def begin_attempt(self) -> None:
        """It goes on where it is."""

    def guided(self) -> Mapping[str, Array]:
        raise NotMeasuredError("a recording cannot be led by hand")

    def close(self) -> None:
        pass
