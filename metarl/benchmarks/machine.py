"""What a measurement was made on, and how two things are timed in turn."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

PACKAGES = (
    "numpy", "pybullet", "mujoco", "torch", "onnxruntime", "gymnasium", "stable-baselines3", "panda-gym", "learn2learn",
    "ray",
)  # fmt: skip


def machine() -> dict[str, str]:
    """Processor, cores and versions."""
    found = {"processor": _processor(), "cores": str(os.cpu_count()), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def in_turn(repeats: int, *timed: Callable[[], float]) -> list[list[float]]:
    """Seconds that each function says it took, `repeats` times in turn, so that noise meets all of them alike."""
    found: list[list[float]] = [[] for _ in timed]
    for _ in range(repeats):
        for seconds, function in zip(found, timed, strict=True):
            seconds.append(function())
    return found


def ratio(above: list[float], below: list[float]) -> float:
    """The median of the ratios of what was measured in the same turn."""
    return median(a / b for a, b in zip(above, below, strict=True))


def clocked(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
