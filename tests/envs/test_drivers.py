"""The simulated robot behind the device's protocol: the environment's own worlds, told by commands."""

import numpy as np
import pytest

from envs.drivers import SimulatedDriver
from envs.robot_env import make
from export.device.driver import NotMeasuredError, connect


@pytest.mark.parametrize("env_id", ["metarl/PandaReach-v0", "metarl/A1Walk-v0"])
def test_commands_do_what_actions_do(env_id: str):
    driver = SimulatedDriver(env_id, seed=3)
    table, sample = driver.env.interface, driver.read()
    actions = np.random.default_rng(0).uniform(-1, 1, (5, table.action_size))
    command, rewards, readings = table.start(sample), [], [sample["joint_position"]]
    for action in actions:
        command = table.command(action, command, driver.read())
        driver.write(command)
        rewards.append(driver.reward())
        readings.append(driver.read()["joint_position"])
    other = make(env_id)
    rng = np.random.default_rng(3)
    task = other.task_space.sample(rng, "heldout")
    assert task == driver.world
    other.reset(seed=int(rng.integers(2**63)), options={"task": task})
    np.testing.assert_array_equal(other.sample["joint_position"], readings[0])
    for action, reward, reading in zip(actions, rewards, readings[1:], strict=True):
        assert other.step(action)[1] == reward
        np.testing.assert_array_equal(other.sample["joint_position"], reading)
    driver.close()
    other.close()


def test_a_guided_motion_holds_what_the_interface_names():
    driver = connect("pybullet", seed="1")
    assert isinstance(driver, SimulatedDriver)
    assert driver.env.interface.observe(driver.guided()).shape == (25, 10)
    driver.close()
    driver.close()


def test_where_nobody_can_show_the_way_guided_motions_are_not_measured():
    driver = SimulatedDriver("metarl/PandaSeek-v0")
    with pytest.raises(NotMeasuredError, match="Seek has no guided motions"):
        driver.guided()
    driver.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "test"}, r"split is 'test', expected one of \('train', 'heldout'"),
        ({"seed": "x"}, "seed is 'x', expected a whole number"),
        ({"seed": -1}, "seed is -1, expected a whole number"),
        ({"env": "metarl/Nothing-v0"}, "'metarl/Nothing-v0' is unknown"),
        ({"engine": "ode"}, "engine is 'ode'"),
    ],
)
def test_bad_options_are_refused(options: dict, says: str):
    with pytest.raises(ValueError, match=says):
        SimulatedDriver(**options)
