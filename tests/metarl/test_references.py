"""The baselines of published tables give what was published."""

from __future__ import annotations

import numpy as np
import pytest

from envs.classic import TabularMDP
from metarl.benchmarks.references import psrl, random_mdp, thompson, ucb1


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("pulls", "arms", "published"), [(10, 5, 6.7), (10, 10, 6.7), (100, 5, 78.0)])
def test_ucb1_gets_what_was_published(pulls: int, arms: int, published: float):
    total = ucb1(arms, pulls, 10_000, rng())
    assert total.shape == (10_000,)
    # Published to a tenth, from 1,000 trials: their standard error is theirs, ours is a third of it.
    assert total.mean() == pytest.approx(published, abs=0.05 + 3 * total.std() / 1000**0.5)
    assert total.mean() > ucb1(arms, pulls, 10_000, rng(), c=1.0).mean()


def test_thompson_sampling_learns_but_explores_too_long_for_short_trials():
    total = thompson(5, 100, 5000, rng())
    assert 74 < total.mean() < 76
    assert 50 * 1.3 < total.mean() < ucb1(5, 100, 5000, rng()).mean()


def test_random_play_gets_what_was_published():
    total = random_mdp(10, 3000, rng())
    assert total.mean() == pytest.approx(100.1, abs=4 * total.std() / 3000**0.5)


def test_psrl_learns_a_third_more():
    total = psrl(10, 1000, rng())
    assert 132 < total.mean() < 140


def test_psrl_comes_to_play_best():
    """Of one state, the best of five means of N(1, 1) is worth 1 + 1.163."""
    job = TabularMDP(states=2, actions=5, horizon=10)
    rate = (psrl(60, 300, rng(), job).mean() - psrl(30, 300, rng(), job).mean()) / 300
    assert rate > random_mdp(1, 300, rng(), job).mean() / 10 + 1


def test_no_trials_give_nothing():
    assert random_mdp(2, 0, rng()).shape == (0,)
