"""Delay against a queue worked off physics step by physics step; zero offset and strength."""

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robots import actuation
from robots.arms import PANDA


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


def test_a_zero_offset_moves_the_arm_and_not_the_reading():
    command, zero = PANDA.nominal, np.linspace(-0.05, 0.05, 7)
    target, _ = actuation.position_target(PANDA, command, zero, 1.0)
    np.testing.assert_array_equal(target + zero, command)


def test_strength_scales_the_rated_torque():
    _, rated = actuation.position_target(PANDA, PANDA.nominal, np.zeros(7), 1.0)
    np.testing.assert_array_equal(rated, PANDA.effort)
    _, weak = actuation.position_target(PANDA, PANDA.nominal, np.zeros(7), 0.5)
    np.testing.assert_array_equal(weak, 0.5 * PANDA.effort)
    share = np.array([1, 1, 0, 1, 1, 1, 1])
    assert actuation.position_target(PANDA, PANDA.nominal, np.zeros(7), share)[1][2] == 0
