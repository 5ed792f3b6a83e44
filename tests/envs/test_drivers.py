"""The simulated robot behind the device's protocol: the environment's own worlds, told by commands."""

import numpy as np
import pytest

from envs.drivers import SimulatedDriver
from envs.robot_env import make
from export.device.driver import NotMeasuredError, connect, require


@pytest.mark.parametrize("env_id", ["metarl/PandaReach-v0", "metarl/A1Walk-v0"])
def test_commands_do_what_actions_do(env_id: str):
    driver = SimulatedDriver(env_id, seed=3)
    table, sample = driver.env.interface, driver.read()
    require(driver.spec, table)
    actions = np.random.default_rng(0).uniform(-1, 1, (5, table.action_size))
    command, rewards, readings = table.start(sample.values), [], [sample.values["joint_position"]]
    for step, action in enumerate(actions):
        command = table.command(action, command, driver.read().values)
        applied = driver.write(command)
        np.testing.assert_array_equal(applied.target, command.target)
        sample = driver.read()
        assert sample.time == pytest.approx((step + 1) / table.control_hz)
        rewards.append(sample.reward)
        readings.append(sample.values["joint_position"])
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


@pytest.mark.parametrize("engine", ["pybullet", "mujoco"])
@pytest.mark.parametrize("env_id", ["metarl/PandaReach-v0", "metarl/A1Walk-v0"])
def test_holding_stays_and_relaxing_goes_limp(env_id: str, engine: str):
    driver = SimulatedDriver(env_id, seed=1, engine=engine)
    weight = driver.env.state.joints
    for _ in range(20):
        driver.hold()
    held = driver.env.state.joints
    assert np.abs(held - weight).max() < 0.35  # it bears its own weight
    for _ in range(40):
        driver.relax()
    fallen = driver.env.state
    assert np.abs(fallen.joints - held).max() > 0.5
    assert not fallen.torques.any()
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
