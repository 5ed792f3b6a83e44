"""What an environment costs beyond the physics in it, what a reset costs, and the same beside panda-gym."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import gymnasium
import numpy as np

from envs import world
from envs.arm import Reach
from envs.robot_env import RobotEnv, make
from metarl.benchmarks.machine import clocked, in_turn, ratio
from metarl.console import Show
from robots.arms import PANDA

# Every call that makes the simulation go; what is left of a step is ours.
ACTUATION = (
    "setJointMotorControl2", "setJointMotorControlArray", "applyExternalForce", "stepSimulation",
)  # fmt: skip
STEPS, REPEATS, RESETS = 200, 9, 60


def bench_sim(ids: list[str], show: Show) -> dict[str, float]:
    """Dotted names to figures; ratios are medians over REPEATS turns."""
    found: dict[str, float] = {}
    for index, name in enumerate(ids):
        show(index, name)
        env = make(name)
        found |= {f"{key}.{name}": value for key, value in _one(env).items()}
        env.close()
    show(len(ids), "panda-gym")
    return found | _beside_panda_gym()


def _one(env: RobotEnv) -> dict[str, float]:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.3, 0.3, (STEPS, env.interface.action_size)).astype(np.float32)
    # The nominal world, asked to do something that nobody falls over: an episode that lasts.
    start: dict[str, Any] = {"seed": 0, "options": {"task": env.task_space.nominal}}

    def steps() -> None:
        for action in actions:
            env.step(action)

    env.reset(**start)
    with _recorded() as calls:
        steps()
    ended = env.world.read()

    def whole() -> float:
        env.reset(**start)
        return clocked(steps)

    def physics() -> float:
        env.reset(**start)
        return clocked(lambda: _replay(calls))

    whole(), physics()
    again = env.world.read()
    assert np.array_equal(ended.joints, again.joints), "the replay went through other states than the steps"
    step, bare = in_turn(REPEATS, whole, physics)
    resets = [clocked(partial(env.reset, seed=seed)) for seed in range(RESETS)]
    return {
        "sim.step_over_physics": ratio(step, bare),
        "sim.overhead_us": 1e6 * median(a - b for a, b in zip(step, bare, strict=True)) / STEPS,
        "sim.step_us": 1e6 * median(step) / STEPS,
        "sim.reset_ms": 1e3 * median(resets),
    }


@contextmanager
def _recorded() -> Iterator[list[tuple[Any, Any, Any]]]:
    """Calls of ACTUATION made meanwhile: function, arguments, keywords."""
    engine, calls = world.pybullet, []
    kept = {name: getattr(engine, name) for name in ACTUATION}

    def spy(function: Any) -> Any:
        def called(*args: Any, **keywords: Any) -> Any:
            calls.append((function, args, keywords))
            return function(*args, **keywords)

        return called

    for name, function in kept.items():
        setattr(engine, name, spy(function))
    try:
        yield calls
    finally:
        for name, function in kept.items():
            setattr(engine, name, function)


def _replay(calls: list[tuple[Any, Any, Any]]) -> None:
    for function, args, keywords in calls:
        function(*args, **keywords)


def _beside_panda_gym() -> dict[str, float]:
    """Our PandaReach against PandaReachJointsDense-v3; nothing where panda-gym is not installed."""
    try:
        import panda_gym  # noqa: F401 (registers its environments)
    except ModuleNotFoundError:
        return {}
    theirs = gymnasium.make("PandaReachJointsDense-v3")
    ours = make("metarl/PandaReach-v0")
    # Their physics rate and substeps: 500 Hz, 20.
    same = RobotEnv(Reach(replace(PANDA, control_hz=25, physics_hz=500)))
    rng = np.random.default_rng(0)

    def episodes(env: gymnasium.Env[Any, Any]) -> float:
        size = env.action_space.shape[0]  # type: ignore[index]
        actions = rng.uniform(-1, 1, (STEPS, size)).astype(np.float32)

        def steps() -> None:
            for index, action in enumerate(actions):
                if index % 40 == 0:
                    env.reset(seed=index)
                env.step(action)

        return clocked(steps)

    their, our, equal = in_turn(REPEATS, *(partial(episodes, env) for env in (theirs, ours, same)))
    for env in (ours, same, theirs):
        env.close()
    # Their control step is 1/25 s.
    return {
        "sim.steps_over_panda_gym_same_physics": ratio(their, equal),
        "sim.realtime_over_panda_gym": ratio(their, our) * 25 / PANDA.control_hz,
    }
