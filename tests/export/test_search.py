"""Search on functions whose best point is known, and what it may and may not try."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from export.device.search import Search, candidates, choose

CLIMB = Search("climb", sigma=0.1, rate=0.0, tries=10, episodes=1, rounds=3)
ESTIMATE = Search("estimate", sigma=0.1, rate=0.05, tries=40, episodes=1, rounds=3)
BEST = np.array([0.5, -1.0, 2.0], np.float32)

THETAS = arrays(np.float32, st.integers(1, 6), elements=st.floats(allow_nan=False, allow_infinity=False, width=32))
SEARCHES = st.builds(
    Search,
    kind=st.sampled_from(["climb", "estimate"]),
    sigma=st.floats(1e-6, 1e3),
    rate=st.floats(1e-3, 1e3),
    tries=st.integers(1, 20),
    episodes=st.just(1),
    rounds=st.just(1),
)


def value(theta):
    """The greatest, 0, at BEST."""
    return -float(np.square(theta - BEST).sum())


def searched(search, rounds, theta=None, seed=0):
    """Values of theta after each round."""
    rng, theta = np.random.default_rng(seed), np.zeros(3, np.float32) if theta is None else theta
    found = [value(theta)]
    for _ in range(rounds):
        tried = candidates(search, theta, rng)
        theta, _ = choose(search, theta, value(theta), tried, [value(one) for one in tried])
        found.append(value(theta))
    return found


@given(search=SEARCHES, theta=THETAS, seed=st.integers(0, 9))
def test_candidates_are_finite_repeatable_and_as_many_as_said(search, theta, seed):
    tried, again = (candidates(search, theta, np.random.default_rng(seed)) for _ in range(2))
    assert tried.shape == (search.size, theta.size)
    assert tried.dtype == np.float32
    assert np.isfinite(tried).all()
    assert tried.tobytes() == again.tobytes()


def test_candidates_spread_by_sigma_and_differ_by_seed():
    wide, theta = dataclasses.replace(CLIMB, sigma=0.3, tries=5000), np.arange(4, dtype=np.float32)
    tried = candidates(wide, theta, np.random.default_rng(0))
    np.testing.assert_allclose(tried.mean(0), theta, atol=0.02)
    np.testing.assert_allclose(tried.std(0), 0.3, rtol=0.05)
    assert not np.array_equal(tried, candidates(wide, theta, np.random.default_rng(1)))


@given(seed=st.integers(0, 99), size=st.integers(1, 30))
def test_a_pair_shares_everything_but_the_sign(seed, size):
    theta = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    tried = candidates(ESTIMATE, theta, np.random.default_rng(seed))
    plus, minus = tried[0::2], tried[1::2]
    np.testing.assert_allclose(plus - theta, theta - minus, atol=1e-6)
    assert not np.array_equal(plus, minus)
    # Its noise is that of a climb with the same seed: nothing else was drawn.
    climbing = dataclasses.replace(CLIMB, tries=ESTIMATE.tries)
    np.testing.assert_array_equal(plus, candidates(climbing, theta, np.random.default_rng(seed)))


def test_climbing_never_goes_down_and_arrives():
    found = searched(CLIMB, 200)
    assert found == sorted(found)
    assert found[0] == value(np.zeros(3))
    assert found[-1] > -0.01


def test_an_estimate_follows_the_gradient_and_arrives():
    theta = np.zeros(3, np.float32)
    many = dataclasses.replace(ESTIMATE, tries=5000)
    tried = candidates(many, theta, np.random.default_rng(0))
    moved, unknown = choose(many, theta, None, tried, [value(one) for one in tried])
    # The pairs' differences are exact on a quadratic, so the mean over e of e e' g is g, the gradient 2 BEST.
    np.testing.assert_allclose(moved, many.rate * 2 * BEST, atol=0.02)
    assert unknown is None
    assert searched(ESTIMATE, 100)[-1] > -0.05


def test_an_estimate_is_the_sum_over_pairs():
    search = Search("estimate", sigma=0.5, rate=0.2, tries=2, episodes=1, rounds=1)
    theta = np.array([1.0, 2.0], np.float32)
    e = np.array([[1.0, -1.0], [0.5, 2.0]], np.float32)
    tried = np.stack([theta + 0.5 * e, theta - 0.5 * e], 1).reshape(4, 2).astype(np.float32)
    moved, _ = choose(search, theta, 3.0, tried, [5.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(moved, theta + 0.2 / (2 * 2 * 0.5) * (4.0 * e[0] - 1.0 * e[1]), rtol=1e-6)


def test_climbing_stays_where_nothing_is_better():
    tried = np.arange(10, dtype=np.float32)[:, None] + np.ones(3, np.float32)
    theta, values = np.zeros(3, np.float32), [0.0, 2.0, 5.0, 5.0, *[1.0] * 6]
    for own, chosen in ((6.0, theta), (5.0, theta), (4.9, tried[2]), (None, tried[2])):
        moved, kept = choose(CLIMB, theta, own, tried, values)
        np.testing.assert_array_equal(moved, chosen)
        assert kept == (own if chosen is theta else 5.0)
        moved[:] = 9  # a copy
    assert not theta.any()
    assert tried[2, 0] == 3.0


@given(search=SEARCHES, theta=THETAS, data=st.data())
@settings(max_examples=200)
def test_equal_returns_move_nothing_and_no_returns_move_to_what_is_not_finite(search, theta, data):
    tried = candidates(search, theta, np.random.default_rng(0))
    moved, _ = choose(search, theta, 1.0, tried, [1.0] * search.size)
    np.testing.assert_array_equal(moved, theta)
    values = data.draw(arrays(np.float64, search.size, elements=st.floats(-1e300, 1e300)))
    try:
        moved, kept = choose(search, theta, 1.0, tried, values)
    except ValueError as error:
        assert "leaves the range of float32" in str(error)  # noqa: PT017
        return
    assert np.isfinite(moved).all()
    if search.kind == "climb":
        assert kept == max([1.0, *values])


@pytest.mark.parametrize("search", [CLIMB, ESTIMATE])
def test_what_cannot_be_chosen_from_is_refused(search):
    theta = np.zeros(3, np.float32)
    tried = candidates(search, theta, np.random.default_rng(0))
    fine = [0.0] * search.size
    for own, values, message in (
        (0.0, [*fine[1:], float("nan")], "returns are .*nan.*expected finite ones; search needs a measured reward"),
        (0.0, [*fine[1:], float("-inf")], "expected finite ones"),
        (float("nan"), fine, "nan for theta"),
        (0.0, fine[1:], "give one value for each"),
    ):
        with pytest.raises(ValueError, match=message):
            choose(search, theta, own, tried, values)
    with pytest.raises(ValueError, match="candidates"):
        choose(search, theta, 0.0, tried[1:], fine)
    for bad in (np.full(3, np.nan, np.float32), np.zeros((1, 3), np.float32)):
        with pytest.raises(ValueError, match="expected a finite vector"):
            candidates(search, bad, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "magic"}, "search kind is 'magic', expected one of"),
        ({"sigma": 0.0}, "sigma 0.0"),
        ({"sigma": float("nan")}, "sigma nan"),
        ({"sigma": 1e9}, "sigma 1000000000.0"),
        ({"rate": -0.1}, "rate -0.1"),
        ({"rate": float("inf")}, "rate inf"),
        ({"kind": "estimate"}, "rate 0, expected more"),
        ({"tries": 0}, "tries 0, expected 1 to"),
        ({"episodes": 0}, "episodes 0, expected 1 to"),
        ({"rounds": 10**9}, "rounds 1000000000, expected 1 to"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CLIMB, **changes)
