"""The papers' own little worlds: what each row does, and that rows do not know of each other."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.classic import (
    JOBS,
    Bandit,
    Binding,
    Classic,
    Maze,
    Outcome,
    PointNavigation,
    RotatedPoint,
    Sinusoid,
    TabularMDP,
    stacked,
)
from envs.tasks import Task

ROWS = 50


@pytest.fixture(params=sorted(JOBS))
def job(request: pytest.FixtureRequest) -> Classic:
    made: Classic = JOBS[request.param]()
    return made


def drawn(job: Classic, rng: np.random.Generator, rows: int = ROWS, split: Any = "train") -> np.ndarray:
    return stacked(job.space, [job.space.sample(rng, split) for _ in range(rows)])


def acting(job: Classic, rng: np.random.Generator, rows: int = ROWS) -> np.ndarray:
    if job.discrete:
        return np.eye(job.action_size, dtype=np.float32)[rng.integers(job.action_size, size=rows)]
    return rng.uniform(-job.action_limit, job.action_limit, (rows, job.action_size)).astype(np.float32)


def none(rows: int = ROWS) -> np.ndarray:
    return np.empty((rows, 0))


def hot(index: Any, size: int) -> np.ndarray:
    return np.eye(size, dtype=np.float32)[np.asarray(index)]


def roll(job: Classic, values: np.ndarray, actions: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, list[Outcome]]:
    """The first observation and the outcomes of actions [steps, rows, a] with draws [steps + 1, rows, d]."""
    state, first = job.start(values, draws[0])
    outcomes = []
    for action, draw in zip(actions, draws[1:], strict=True):
        state, outcome = job.step(state, action, draw)
        outcomes.append(outcome)
    return first, outcomes


@pytest.mark.parametrize("split", ["train", "heldout", "extrapolation"])
def test_every_family_keeps_to_its_shapes_and_limits(job: Classic, split: str):
    rng = np.random.default_rng(0)
    if split == "extrapolation" and not isinstance(job, PointNavigation | Sinusoid):
        with pytest.raises(ValueError, match="nothing to extrapolate"):
            job.space.sample(rng, "extrapolation")
        return
    actions = np.stack([acting(job, rng) for _ in range(job.horizon)])
    first, outcomes = roll(job, drawn(job, rng, split=split), actions, rng.random((job.horizon + 1, ROWS, job.draws)))
    for seen in (first, *(outcome.observation for outcome in outcomes)):
        assert seen.shape == (ROWS, job.observation_size)
        assert seen.dtype == np.float32
        assert (np.abs(seen) <= job.observation_limit).all()
    for outcome in outcomes:
        assert outcome.reward.shape == outcome.ended.shape == outcome.error.shape == (ROWS,)
        assert (outcome.reward.dtype, outcome.ended.dtype, outcome.error.dtype) == (np.float32, bool, np.float32)
        assert np.isfinite(outcome.reward).all()
        assert (outcome.error >= 0).all()


def test_a_row_does_not_depend_on_its_company(job: Classic):
    rng = np.random.default_rng(1)
    steps = min(job.horizon, 12)
    values, draws = drawn(job, rng), rng.random((steps + 1, ROWS, job.draws))
    actions = np.stack([acting(job, rng) for _ in range(steps)])
    together = roll(job, values, actions, draws)
    for row in (0, 17, ROWS - 1):
        one = slice(row, row + 1)
        alone = roll(job, values[one], actions[:, one], draws[:, one])
        assert np.array_equal(alone[0], together[0][one])
        for mine, ours in zip(alone[1], together[1], strict=True):
            assert all(np.array_equal(a, b[one]) for a, b in zip(mine, ours, strict=True))


def test_a_step_changes_no_state_that_was_given(job: Classic):
    rng = np.random.default_rng(2)
    values, action, draw = drawn(job, rng), acting(job, rng), rng.random((ROWS, job.draws))
    state, _ = job.start(values, draw)
    first = job.step(state, action, draw)[1]
    assert all(np.array_equal(a, b) for a, b in zip(first, job.step(state, action, draw)[1], strict=True))


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_quantiles_and_draws_at_the_edge_are_finite(edge: float):
    for job in (TabularMDP(), Binding(), Maze(), Bandit()):
        values = np.full((2, len(stacked(job.space, [job.space.nominal])[0])), edge)
        job.space.check(Task.from_dict({p.name: [edge] * len(p.nominal_values) for p in job.space.parameters}))
        state, _ = job.start(values, np.zeros((2, job.draws)))
        for draw in (0.0, 1 - 2.0**-53):
            state, outcome = job.step(state, hot([0, 1], job.action_size), np.full((2, job.draws), draw))
            assert np.isfinite(outcome.reward).all()


def test_wrong_widths_are_refused(job: Classic):
    rng = np.random.default_rng(3)
    values = drawn(job, rng)
    with pytest.raises(ValueError, match=r"values has the shape .*, expected \[rows, "):
        job.start(values[:, 1:], none())
    state, _ = job.start(values, rng.random((ROWS, job.draws)))
    with pytest.raises(ValueError, match=r"action has the shape .*, expected \[rows, "):
        job.step(state, np.zeros((ROWS, job.action_size + 1)), rng.random((ROWS, job.draws)))
    if not job.guided:
        with pytest.raises(ValueError, match=f"{type(job).__name__} has no demonstrations"):
            job.demonstrate(values, rng.random((ROWS, job.draws)))


@pytest.mark.parametrize(
    ("kind", "asked", "message"),
    [
        (Bandit, {"arms": 1}, "arms is 1, expected a whole number from 2 up"),
        (TabularMDP, {"states": 2.5}, "states is 2.5"),
        (PointNavigation, {"speed": 0.0}, "speed is 0.0"),
        (RotatedPoint, {"horizon": 0}, "horizon is 0"),
        (Binding, {"keys": 5, "size": 2}, "keys is 5, expected at most 4: 2 bits"),
        (Binding, {"size": 33}, r"size is 33, expected a finite number in \[1, 32\]"),
        (Maze, {"loops": 1.5}, r"loops is 1.5, expected a finite number in \[0, 1\]"),
    ],
)
def test_wrong_options_are_refused(kind: type[Any], asked: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        kind(**asked)


def test_tasks_are_stacked_in_the_order_of_the_space():
    space = Sinusoid().space
    tasks = [Task({"phase": (2.0,), "amplitude": (1.0,)}), Task({"amplitude": (3.0,), "phase": (0.5,)})]
    assert stacked(space, tasks).tolist() == [[1, 2], [3, 0.5]]
    assert stacked(space, []).shape == (0, 2)
    with pytest.raises(ValueError, match="lacks the parameter 'phase'"):
        stacked(space, [Task({"amplitude": (1.0,)})])
    with pytest.raises(ValueError, match="hold 3 values, expected 2 each"):
        stacked(space, [Task({"amplitude": (1.0, 2.0), "phase": (0.5,)})])


def test_an_arm_pays_as_often_as_it_should():
    job, rows = Bandit(3), 20_000
    values = np.tile([0.1, 0.7, 0.4], (rows, 1))
    state, _ = job.start(values, none(rows))
    for arm, regret in enumerate((0.6, 0.0, 0.3)):
        _, outcome = job.step(state, hot([arm] * rows, 3), np.random.default_rng(arm).random((rows, 1)))
        assert outcome.reward.mean() == pytest.approx(values[0, arm], abs=0.015)
        assert outcome.error == pytest.approx(regret)
        assert outcome.ended.all()


def test_transitions_are_drawn_from_a_flat_dirichlet():
    states = 4
    job, rng, rows = TabularMDP(states, 2), np.random.default_rng(0), 40_000
    values = rng.random((rows, job.width))
    state, first = job.start(values, none(rows))
    assert (first.argmax(1) == 0).all()  # every episode begins there
    action = hot(rng.integers(2, size=rows), 2)
    once = job.step(state, action, rng.random((rows, 2)))[1].observation.argmax(1)
    again = job.step(state, action, rng.random((rows, 2)))[1].observation.argmax(1)
    assert np.bincount(once, minlength=states) / rows == pytest.approx(np.full(states, 1 / states), abs=0.015)
    # Of a flat Dirichlet over n outcomes, two draws agree with probability 2 / (n + 1).
    assert (once == again).mean() == pytest.approx(2 / (states + 1), abs=0.015)


def test_rewards_are_normal_around_normal_means():
    job, rng, rows = TabularMDP(3, 2), np.random.default_rng(1), 40_000
    state, _ = job.start(rng.random((rows, job.width)), none(rows))
    rewards = [job.step(state, hot([1] * rows, 2), rng.random((rows, 2)))[1].reward for _ in range(2)]
    assert rewards[0].mean() == pytest.approx(1, abs=0.04)
    assert rewards[0].var() == pytest.approx(2, abs=0.08)  # of the mean and of the noise
    assert np.cov(*rewards)[0, 1] == pytest.approx(1, abs=0.06)  # of the mean, which stays


def test_the_gap_is_to_the_best_action_of_the_state():
    job = TabularMDP(2, 2)
    task = job.space.nominal.to_dict()
    task["mean"] = [0.5, 0.8413447460685429, 0.5, 0.5]  # 0 or 1 standard deviation above
    state, _ = job.start(stacked(job.space, [Task.from_dict(task)]), none(1))
    assert job.step(state, hot([0], 2), np.full((1, 2), 0.5))[1].error == pytest.approx([1.0])
    _, outcome = job.step(state, hot([1], 2), np.full((1, 2), 0.5))
    assert (outcome.error[0], outcome.reward[0]) == pytest.approx((0.0, 2.0), abs=1e-6)


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
@settings(max_examples=50, deadline=None)
def test_whoever_goes_straight_to_the_goal_is_there_in_time(x: float, y: float):
    job, goal = PointNavigation(), np.array([[x, y]])
    state, seen = job.start(goal, none(1))
    total, least = 0.0, max(1, int(np.ceil(10 * np.abs(goal).max() - 1e-6)))  # a tenth a step and axis
    for _ in range(least):
        state, outcome = job.step(state, (goal - seen) / job.speed, none(1))
        seen = outcome.observation
        assert outcome.reward == -outcome.error == pytest.approx(-np.hypot(*(seen - goal)[0]), abs=1e-6)
        total += float(outcome.reward[0])
        if outcome.ended[0]:
            break
    assert outcome.ended[0]
    assert outcome.error[0] <= job.measure.tolerance
    assert total >= -0.5 * 5 * 2**0.5


def test_navigation_ends_only_close_in_both_axes_and_clips_its_speed():
    job = PointNavigation()
    state, _ = job.start(np.array([[0.109, 0.0], [0.109, 0.011], [0.1, 0.0]]), none(3))
    _, outcome = job.step(state, np.array([[7.0, 0.0], [7.0, 0.0], [0.5, 0.0]]), none(3))
    assert outcome.observation == pytest.approx(np.array([[0.1, 0], [0.1, 0], [0.05, 0]]))
    assert outcome.ended.tolist() == [True, False, False]


@given(st.floats(-np.pi, np.pi))
@settings(max_examples=50, deadline=None)
def test_whoever_knows_the_rotation_is_there_in_two_steps(angle: float):
    job = RotatedPoint()
    state, seen = job.start(np.array([[angle]]), none(1))
    for _ in range(2):  # the second because of the clipped corner: no direction is longer than 1 in both axes
        x, y = (np.array([1.0, 0.0]) - seen)[0]
        back = [[np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x]]
        state, outcome = job.step(state, np.array(back), none(1))
        seen = outcome.observation
    assert outcome.error == pytest.approx([0], abs=1e-6)
    assert not outcome.ended  # the episode lasts its ten steps


def test_a_quarter_turn_is_to_the_left_and_the_square_is_the_end():
    job = RotatedPoint()
    state, _ = job.start(np.array([[np.pi / 2]]), none(1))
    for y in (1, 2, 2):
        state, outcome = job.step(state, np.array([[5.0, 0.0]]), none(1))
        assert outcome.observation == pytest.approx(np.array([[0, y]]), abs=1e-6)
        assert outcome.reward == pytest.approx([-np.hypot(1, y)])


@given(st.floats(0.1, 5), st.floats(0, np.pi), st.floats(0, 1, exclude_max=True))
@settings(max_examples=50, deadline=None)
def test_what_is_demonstrated_is_right(amplitude: float, phase: float, u: float):
    job, values, draws = Sinusoid(), np.array([[amplitude, phase]]), np.array([[u]])
    x, y = job.demonstrate(values, draws)
    assert x.shape == y.shape == (1, 1, 1)
    assert y.item() == pytest.approx(amplitude * np.sin(10 * u - 5 - phase), abs=1e-5)
    state, seen = job.start(values, draws)
    assert np.array_equal(seen, x[:, 0])
    assert job.step(state, y[:, 0], draws)[1].error == pytest.approx([0], abs=1e-9)
    _, outcome = job.step(state, y[:, 0] + 3, draws)  # nothing is clipped
    assert outcome.reward == -outcome.error == pytest.approx([-9], rel=1e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(8, 8), (16, 4), (4, 2), (1, 1), (5, 30)]))
@settings(max_examples=30, deadline=None)
def test_the_keys_of_a_task_differ(seed: int, shape: tuple[int, int]):
    keys, size = shape
    job = Binding(keys=keys, size=size)
    quantiles = np.random.default_rng(seed).random((20, 2 * keys)).round(1)  # many alike
    state, _ = job.start(quantiles, np.zeros((20, 1)))
    assert set(np.unique(state.keys)) <= {-1, 1}
    for row in state.keys:
        assert len(np.unique(row, axis=0)) == keys


def test_every_key_is_as_likely_at_every_place():
    job = Binding(keys=3, size=2)
    state, _ = job.start(np.random.default_rng(0).random((24_000, 6)), np.zeros((24_000, 1)))
    codes = ((state.keys + 1) / 2) @ [1, 2]
    triples, counts = np.unique(codes, axis=0, return_counts=True)
    assert len(triples) == 24
    assert counts / 24_000 == pytest.approx(np.full(24, 1 / 24), abs=0.005)


def test_a_perfect_memory_errs_on_first_sight_only():
    job, rng = Binding(), np.random.default_rng(0)
    values = drawn(job, rng, 1000)
    state, seen = job.start(values, rng.random((1000, 1)))
    assert not seen[:, job.size :].any()
    known: list[dict[tuple[float, ...], int]] = [{} for _ in values]
    total = fresh = 0.0
    for _ in range(job.horizon):
        keys = [tuple(row) for row in seen[:, : job.size].tolist()]
        new = np.array([key not in memory for key, memory in zip(keys, known, strict=True)])
        guess = [memory.get(key, 0) for key, memory in zip(keys, known, strict=True)]
        state, outcome = job.step(state, hot(guess, job.values), rng.random((1000, 1)))
        assert outcome.reward[~new].all()
        assert np.array_equal(outcome.error, 1 - outcome.reward)
        seen = outcome.observation
        answers = seen[:, job.size :]
        assert (answers.sum(1) == 1).all()
        for key, memory, answer in zip(keys, known, answers.argmax(1).tolist(), strict=True):
            assert memory.setdefault(key, answer) == answer
        total, fresh = total + outcome.reward.mean(), fresh + new.mean()
    assert total == pytest.approx(job.horizon - (1 - 1 / job.values) * fresh, abs=0.15)
    assert fresh > 7.5


def searched(doors: np.ndarray, size: int, goal: int) -> list[float]:
    """Steps to the goal from every cell, by a search of one maze."""
    left = [np.inf] * size**2
    left[goal], ahead = 0, deque([goal])
    while ahead:
        cell = ahead.popleft()
        for way, step in enumerate((-size, 1, size, -1)):
            if doors[cell, way] and left[cell + step] == np.inf:
                left[cell + step] = left[cell] + 1
                ahead.append(cell + step)
    return left


@given(st.integers(2, 7), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_maze_is_connected_closed_and_measured(size: int, loops: float, seed: int):
    job = Maze(size=size, loops=loops)
    state, _ = job.start(drawn(job, np.random.default_rng(seed), 5), none(5))
    grid = state.doors.reshape(5, size, size, 4)
    assert np.array_equal(grid[:, 1:, :, 0], grid[:, :-1, :, 2])  # a door has two sides
    assert np.array_equal(grid[:, :, 1:, 3], grid[:, :, :-1, 1])
    for border in (grid[:, 0, :, 0], grid[:, -1, :, 2], grid[:, :, 0, 3], grid[:, :, -1, 1]):
        assert not border.any()
    counts = state.doors.sum((1, 2)) / 2
    assert (counts >= size**2 - 1).all()
    if loops in (0, 1):
        assert (counts == (size**2 - 1 if loops == 0 else 2 * size * (size - 1))).all()
    for doors, left, place in zip(state.doors, state.left, state.place, strict=True):
        goal = int(np.flatnonzero(left == 0).item())
        assert left.tolist() == searched(doors, size, goal)
        assert place != goal


def test_the_shortest_way_out_of_a_maze():
    job, rng = Maze(), np.random.default_rng(0)
    state, seen = job.start(drawn(job, rng, 200), none(200))
    rows = np.arange(200)
    left = state.left[rows, state.place]
    paid, ended = np.zeros(200), np.zeros(200, bool)
    for _ in range(int(left.max())):
        assert np.array_equal(seen, 1 - state.doors[rows, state.place])
        near = np.where(seen == 0, state.left[rows[:, None], (state.place[:, None] + [-5, 1, 5, -1]) % 25], np.inf)
        state, outcome = job.step(state, hot(near.argmin(1), 4), none(200))
        paid, seen = paid + np.where(ended, 0, outcome.reward), outcome.observation
        assert np.array_equal(outcome.error == 0, outcome.ended)
        ended |= outcome.ended
    assert ended.all()
    assert paid == pytest.approx(1 - job.step_cost * left)


def test_a_wall_costs_and_stops():
    job, rng = Maze(), np.random.default_rng(1)
    state, seen = job.start(drawn(job, rng), none())
    wall = hot(seen.argmax(1), 4)
    bumps = seen.any(1)
    moved, outcome = job.step(state, wall, none())
    assert bumps.any()
    assert np.array_equal(moved.place[bumps], state.place[bumps])
    assert outcome.reward[bumps] == pytest.approx(-job.step_cost - job.bump_cost)


def test_mazes_differ_between_tasks_and_not_between_episodes():
    job, rng = Maze(), np.random.default_rng(2)
    values = drawn(job, rng)
    first, again = job.start(values, none())[0], job.start(values, none())[0]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(np.unique(first.doors.reshape(ROWS, -1), axis=0)) == ROWS
    assert len(np.unique(first.place)) > 10
