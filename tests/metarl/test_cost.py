"""The cost model, on cases that can be counted by hand."""

import numpy as np
import pytest

from metarl.benchmarks.cost import Costs, Plan, iteration

PLAN = Plan(tasks=6, episodes=2, query=3, inner_steps=1)
FREE = Costs((1.0,), message=0, byte=0, adapt=0, update=0, episode_bytes=0)


def seconds(costs: Costs, cores: int, plan: Plan = PLAN, slow: float = 0.0) -> float:
    return iteration(costs, plan, cores, np.random.default_rng(0), slow)


def test_episodes_are_shared_among_cores_but_a_trial_is_not():
    assert seconds(FREE, 1) == 6 * (2 + 3)
    assert seconds(FREE, 2) == 3 * (2 + 3)
    assert seconds(FREE, 4) == 2 * (2 + 3)  # two of four wait in the second turn
    assert seconds(FREE, 6) == seconds(FREE, 1000) == 2 + 3


def test_the_trainers_own_work_does_not_shrink():
    costs = Costs((0.0,), message=0, byte=0, adapt=0.1, update=0.2, episode_bytes=0, fixed=3)
    assert seconds(costs, 1) == seconds(costs, 1000) == pytest.approx(12 * 0.1 + 30 * 0.2 + 3)


def test_the_trainer_serves_one_worker_at_a_time():
    costs = Costs((0.0,), message=0.5, byte=0.25, adapt=0, update=0, episode_bytes=2)
    assert seconds(costs, 1000) == pytest.approx(6 * (0.5 + 0.5 * 2) + 6 * (0.5 + 0.5 * 3))


def test_a_round_waits_for_its_slowest():
    assert seconds(FREE, 6, slow=1.0) == 2 * (2 + 3)
    spread = Costs((0.5, 1.5), message=0, byte=0, adapt=0, update=0, episode_bytes=0)
    assert seconds(spread, 6) > seconds(FREE, 6)
