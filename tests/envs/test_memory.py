"""Resets go on for days: they load nothing and keep nothing."""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pybullet
import pytest

from envs.robot_env import make
from envs.terrain import KINDS


def resident() -> float:
    """Memory of this process [MB]."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def growth(work: Callable[[], object]) -> float:
    """Memory that `work` keeps each time [MB]: the least of four times, for what else lives here grows now and then."""
    sizes = [resident()]
    for _ in range(4):
        work()
        sizes.append(resident())
    return min(np.diff(sizes))


@pytest.mark.parametrize(("env_id", "options"), [("metarl/A1Walk-v0", {"ground": KINDS}), ("metarl/PandaReach-v0", {})])
def test_resets_load_nothing_and_pile_up_nothing(env_id: str, options: dict, monkeypatch: pytest.MonkeyPatch):
    env, loaded = make(env_id, **options), []
    real = pybullet.loadURDF
    monkeypatch.setattr(pybullet, "loadURDF", lambda *args, **more: loaded.append(args) or real(*args, **more))

    def episodes(count: int) -> None:
        tasks: set[Any] = set()
        for _ in range(count):
            env.reset()
            env.step(env.action_space.sample())
            tasks.add(tuple(env.task.values.items()))
        assert len(tasks) == count

    env.reset(seed=0)
    episodes(200)
    assert growth(lambda: episodes(500)) < 1
    assert not loaded
    make(env_id).close()
    assert loaded  # so that the count above means something
    env.close()


def test_a_step_keeps_nothing():
    env = make("metarl/A1Walk-v0")
    env.reset(seed=0)
    for _ in range(200):
        env.step(np.zeros(15))
    assert growth(lambda: [env.step(np.zeros(15)) for _ in range(750)]) < 0.2
    env.close()
