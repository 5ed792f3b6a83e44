"""Scores: what counts of attempts, means that outliers do not move, intervals that cover, shares of a known gap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from metarl.episodes import Episodes
from metarl.scores import Row, Score, gap_closed
from metarl.statistics import interquartile, interval


def score(*errors: float) -> Score:
    values = np.array(errors, np.float32)
    return Score(-values[None], (values < 0.1).astype(np.float32)[None], values[None])


def test_intervals_cover_the_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    found = [interval(rng.normal(3.0, 2.0, 40).astype(np.float32)) for _ in range(200)]
    assert 0.88 <= np.mean([entry["low"] <= 3.0 <= entry["high"] for entry in found]) <= 0.99
    assert all(entry["low"] < entry["mean"] < entry["high"] for entry in found)


def test_intervals_over_several_seeds_hold_what_seeds_differ_by():
    rng = np.random.default_rng(0)
    drawn = [rng.normal(3.0, 1.0, (8, 1)) + rng.normal(0.0, 0.5, (8, 30)) for _ in range(200)]
    found = [interval(values) for values in drawn]
    assert 0.85 <= np.mean([entry["low"] <= 3.0 <= entry["high"] for entry in found]) <= 0.99
    one = rng.normal(0.0, 1.0, 30)
    assert interval(one) == interval(one[None])
    assert interval(np.stack([one] * 3)) == pytest.approx(interval(one)), "seeds that agree add nothing"


@pytest.mark.parametrize("values", [[0.0], [1.0] * 20, [-0.25, -0.25]])
def test_values_without_spread_have_an_interval_without_width(values: list[float]):
    assert interval(np.array(values, np.float32)) == dict.fromkeys(("mean", "low", "high"), values[0])


def test_a_score_is_taken_at_the_end_of_episodes():
    error = np.array([[0.5, 0.02], [0.01, 0.04]], np.float32)
    blank = np.zeros_like(error)
    episodes = Episodes(blank[..., None], blank[..., None], -error, blank + 1, error)
    found = Score.of([episodes, episodes], tolerance=0.03, falls=True)
    np.testing.assert_allclose(found.error, [[0.03, 0.03]])
    np.testing.assert_allclose(found.success, [[0.5, 0.5]])
    np.testing.assert_allclose(found.returns, [[-0.285, -0.285]])


def test_who_fell_has_not_succeeded_but_who_arrived_has():
    error, blank = np.array([[0.01, 0.01], [0.01, 0.01]], np.float32), np.zeros((2, 2), np.float32)
    lived = np.array([[1, 1], [1, 0]], np.float32)
    episodes = [Episodes(blank[..., None], blank[..., None], blank, lived, error)]
    found = Score.of(episodes, tolerance=0.03, falls=True)
    np.testing.assert_allclose(found.success, [[0.5]])
    np.testing.assert_allclose(found.error, [[0.01]])
    np.testing.assert_allclose(Score.of(episodes, tolerance=0.03, falls=False).success, [[1.0]])


def test_the_gap_closed_is_a_share_of_mean_errors():
    without, oracle = score(0.2, 0.4, 0.3), score(0.1, 0.1, 0.1)
    assert gap_closed(without, score(0.15, 0.2, 0.175), oracle)["mean"] == pytest.approx(0.625)
    for now, share in ((without, 0.0), (oracle, 1.0), (score(0.15, 0.25, 0.2), 0.5), (score(0.3, 0.7, 0.5), -1.0)):
        assert gap_closed(without, now, oracle) == pytest.approx(
            dict.fromkeys(("mean", "low", "high"), share), abs=1e-5
        )
    spread = gap_closed(without, score(0.1, 0.4, 0.2), oracle)
    assert spread["low"] < spread["mean"] < spread["high"]


def test_a_gap_that_the_tasks_do_not_show_has_no_share():
    rng = np.random.default_rng(0)
    without, oracle = (score(*rng.uniform(0.1, 0.3, 30)) for _ in range(2))
    assert gap_closed(without, score(*rng.uniform(0.1, 0.3, 30)), oracle) is None
    assert gap_closed(score(0.2, 0.2), score(0.1, 0.1), score(0.2, 0.2)) is None


def test_the_interquartile_mean_is_of_the_middle_half():
    assert interquartile(np.array([0.0, 1.0, 2.0, 99.0]))["mean"] == 1.5
    assert interquartile(np.array([[-50.0, 4.0], [1.0, 2.0], [3.0, 5.0], [60.0, 70.0]]))["mean"] == 3.5
    rng = np.random.default_rng(0)
    steady = rng.normal(3.0, 1.0, (5, 20))
    wild = steady.copy()
    wild[np.arange(5), np.arange(5)] = -1e4  # few, and of no seed or task more than of another
    assert interquartile(steady)["mean"] == pytest.approx(trim_mean(steady.ravel(), 0.25))
    assert interquartile(wild)["mean"] == pytest.approx(3.0, abs=0.5)
    assert interval(wild)["mean"] < -100
    found = interquartile(wild)
    assert 2 < found["low"] < found["mean"] < found["high"] < 4


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=30))
def test_the_interquartile_mean_is_scipys_and_within_its_interval(values: list[float]):
    found = interquartile(np.array(values, np.float32))
    assert found["mean"] == pytest.approx(trim_mean(np.array(values), 0.25), rel=1e-9, abs=1e-9)
    assert found["low"] - 1e-9 <= found["mean"] <= found["high"] + 1e-9


def test_seeds_are_joined_as_rows():
    joined = Score.join([score(0.2, 0.05), score(0.4, 0.3)])
    np.testing.assert_allclose(joined.error, [[0.2, 0.05], [0.4, 0.3]])
    np.testing.assert_allclose(joined.success, [[0, 1], [0, 0]])
    np.testing.assert_allclose(joined.returns, -joined.error)
    values = joined.to_dict()
    assert values["success"]["mean"] == 0.25
    assert values["error"]["mean"] == pytest.approx(0.2375)
    assert values["error"]["iqm"]["mean"] == pytest.approx(0.25)


def test_the_gap_is_paired_over_tasks_of_all_seeds():
    """A gap much smaller than what tasks differ by: only pairs can show it."""
    errors = np.linspace(0.1, 2.0, 20)
    seeds = (errors, errors[::-1])
    without, oracle = (Score.join([score(*(one + shift)) for one in seeds]) for shift in (0.02, 0.0))
    now = Score.join([score(*(one + shift)) for one, shift in zip(seeds, (0.0, 0.02), strict=True)])
    assert gap_closed(without, now, oracle)["mean"] == pytest.approx(0.5, abs=1e-3)
    crossed = Score.join([score(*(one)) for one in seeds[::-1]])
    assert gap_closed(without, now, crossed) is None


def test_a_row_says_what_was_spent_and_has_a_share_only_between_two_others():
    row = Row(2, 10, 40.0, score(0.1, 0.3))
    plain = row.to_dict()
    assert (plain["steps"], plain["episodes"], plain["seconds"], plain["gap_closed"]) == (2, 10, 40.0, None)
    assert row.to_dict(score(0.2, 0.6), score(0.0, 0.0))["gap_closed"]["mean"] == pytest.approx(0.5)
