"""The cost model's simulation: limits that must hold whatever trials take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metarl.benchmarks.cost import Costs, expected, makespan

TRIALS = st.lists(st.floats(0.01, 10), min_size=1, max_size=30)


def test_one_worker_does_one_after_the_other():
    assert makespan([1, 2, 3], [1.0], 0.1, 0.2) == pytest.approx(6 + 3 * 0.3)
    assert makespan([1, 2, 3], [0.5], 0.0, 0.0) == pytest.approx(12)


def test_whoever_is_free_gets_the_next():
    assert makespan([3, 1, 1, 1], [1.0, 1.0], 0.0, 0.0) == pytest.approx(3)
    assert makespan([1, 1, 1], [1.0, 0.25], 0.0, 0.0) == pytest.approx(4)  # the straggler took one of the first two


def test_the_trainer_does_one_thing_at_a_time():
    assert makespan([1, 1], [1.0, 1.0], 0.5, 0.25) == pytest.approx(2.25)  # out at 0.5 and 1.0, back at 1.75 and 2.25
    assert makespan([0.001] * 100, [1.0] * 100, 0.1, 0.1) == pytest.approx(20, rel=0.01)


@given(TRIALS, st.integers(1, 40), st.floats(0, 0.1), st.floats(0, 0.1))
def test_it_is_never_less_than_it_can_be_nor_more_than_it_must(trials, cores, send, receive):
    found = makespan(trials, [1.0] * cores, send, receive)
    ahead = len(trials) * (send + receive)
    assert found >= max(max(trials) + send + receive, sum(trials) / cores, ahead) - 1e-9
    assert found <= sum(trials) / cores + max(trials) + ahead + 1e-9  # Graham's bound, and the trainer's own work
    assert makespan(trials, [0.5] * cores, send, receive) >= found - 1e-9


def test_more_workers_help_until_tasks_or_the_trainer_bind():
    costs = Costs(np.array([1.0]), 1e-4, 1e-4, 1000, 1000, 0.0, 0.01, 3)
    seconds = {cores: expected(costs, 10, cores) for cores in (1, 2, 10, 1000)}
    assert seconds[1] / seconds[2] == pytest.approx(2, rel=0.02)
    assert seconds[1000] == pytest.approx(seconds[10], rel=0.01)  # ten tasks, ten workers
    assert expected(costs, 10, 10, slow=1.0) == pytest.approx(2 * seconds[10], rel=0.05)
    assert expected(costs.over(1e4), 10, 10) > 3 * 10 * 0.2  # of 100 ms for each trial out, and as much back
