"""Between command and joint: PD torques, delay against a queue worked off physics step by physics step, wiring."""

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robots import actuation
from robots.spec import PD

DRIVE = PD(stiffness=80, damping=2)
EFFORT, FASTEST = [20.0, 30.0, 10.0], [5.0, 10.0, 20.0]


def vector(low: float, high: float, size: int = 3) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, (size,), elements=st.floats(low, high))


def torques(target: np.ndarray, angle: np.ndarray, speed: np.ndarray) -> np.ndarray:
    states = [(a, s, "whatever follows") for a, s in zip(angle.tolist(), speed.tolist(), strict=True)]
    return np.array(actuation.torques(DRIVE, target.tolist(), EFFORT, FASTEST, states))  # type: ignore[arg-type]


@given(vector(-2, 2), vector(-2, 2), vector(-30, 30))
def test_torques_are_pd_within_what_the_motors_can(target: np.ndarray, angle: np.ndarray, speed: np.ndarray):
    found = torques(target, angle, speed)
    wanted = np.clip(80 * (target - angle) - 2 * speed, np.negative(EFFORT), EFFORT)
    speeding = (np.abs(speed) > FASTEST) & (wanted * speed > 0)
    np.testing.assert_allclose(found, np.where(speeding, 0.0, wanted), atol=1e-9)


def test_torques_by_hand():
    rest, off = np.zeros(3), np.array([0.1, 0.5, -0.5])
    np.testing.assert_allclose(torques(off, rest, rest), [8, 30, -10])  # 40 N m are cut at the rated 30 and 10
    np.testing.assert_allclose(torques(rest, rest, np.array([4.0, -4.0, 2.0])), [-8, 8, -4])


def test_a_motor_beyond_its_speed_only_brakes():
    fast = np.array([5.1, -10.1, 19.9])
    np.testing.assert_array_equal(torques(np.full(3, 2.0) * np.sign(fast), np.zeros(3), fast), [0, 0, 10])
    np.testing.assert_array_equal(torques(np.full(3, -2.0) * np.sign(fast), np.zeros(3), fast), [-20, 30, -10])


def test_a_dead_motor_gives_nothing():
    states = [(0.0, 1.0)]
    assert actuation.torques(DRIVE, [1.0], [0.0], [5.0], states) == [0.0]


@given(substeps=st.integers(1, 12), delay=st.integers(0, 60), steps=st.integers(1, 12))
def test_delayed_is_a_queue(substeps: int, delay: int, steps: int):
    """Command k, issued at physics step k * substeps, holds from `delay` physics steps later."""
    start = np.array([-1.0])
    commands = deque([start], maxlen=delay // substeps + 2)
    issued: list[tuple[int, float]] = []
    for step in range(steps):
        commands.appendleft(np.array([float(step)]))
        issued.append((step * substeps, float(step)))
        held, replacing, wait = actuation.delayed(commands, delay, substeps)
        assert 0 <= wait < substeps
        for tick in range(substeps):
            now = step * substeps + tick
            arrived = [command for time, command in issued if time + delay <= now]
            expected = arrived[-1] if arrived else -1.0
            assert (held if tick < wait else replacing) == expected


def test_without_delay_the_newest_command_holds_at_once():
    newest, older = np.array([1.0]), np.array([0.0])
    assert actuation.delayed([newest, older], 0, 10)[1:] == (newest, 0)


PAIRS = st.one_of(st.none(), st.integers(0, 2).map(lambda first: (first, first + 1)))
JOINTS = st.one_of(st.none(), st.integers(0, 3))


@given(vector(-3, 3, 4), vector(-1, 1, 4), PAIRS, JOINTS)
def test_whoever_commands_a_reading_stays(
    reading: np.ndarray, nominal: np.ndarray, pair: tuple[int, int] | None, mirrored: int | None
):
    joints = actuation.wired(reading, pair, mirrored, nominal)
    np.testing.assert_allclose(actuation.unwired(joints, pair, mirrored, nominal), reading, atol=1e-12)


def test_wiring_by_hand():
    values, nominal = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 1.5])
    for way in (actuation.wired, actuation.unwired):
        assert way(values, None, None, nominal) is values
        np.testing.assert_array_equal(way(values, (1, 2), None, nominal), [1, 3, 2])
        np.testing.assert_array_equal(way(values, None, 0, nominal), [0, 2, 3])
        np.testing.assert_array_equal(way(nominal, None, 0, nominal), nominal)
        np.testing.assert_array_equal(way(np.stack([values, nominal]), (1, 2), 0, nominal), [[0, 3, 2], [0.5, 1.5, 1]])
    # Joint 1 turns the other way and hangs on joint 2's cable.
    np.testing.assert_array_equal(actuation.wired(values, (1, 2), 1, nominal), [1, -1, 2])
    np.testing.assert_array_equal(actuation.unwired(values, (1, 2), 1, nominal), [1, 3, 0])
    np.testing.assert_array_equal(values, [1, 2, 3])
