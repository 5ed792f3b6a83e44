"""The body's sensors: which fields, in whose frame, how noisy, and what is wrong with them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from envs import sensors
from envs.faults import Faults, body_faults
from envs.frames import turned
from envs.sensors import NOISE
from envs.state import Motion, State
from envs.tasks import Task
from robots.arms import PANDA
from robots.legged import A1
from robots.spec import RobotSpec

NAMES = ("angular_velocity", "gravity", "joint_position", "joint_velocity")
TILT = (0.3, -0.2, 1.0)
ANGULAR = (0.5, -1.0, 2.0)
STATE = State(
    A1.nominal + np.linspace(-0.1, 0.1, 12), np.linspace(-1, 1, 12), np.zeros(12), None,
    Motion((0, 0, 0.3), turned(*TILT), (0, 0, 0), ANGULAR), None,
)  # fmt: skip


def wrong(spec: RobotSpec = A1, **values: Any) -> Faults:
    """What a task with these values does; without noise, unless it says so."""
    return body_faults(Task({"noise": (0.0,), **values}), spec)


def felt(faults: Faults, seed: int = 0, state: State = STATE) -> dict[str, np.ndarray]:
    return sensors.body(NAMES, A1, state, faults, np.random.default_rng(seed))


def test_only_the_bodys_own_fields_among_the_names_in_their_order():
    names = ("joint_velocity", "camera_target", "gravity")
    found = sensors.body(names, A1, STATE, wrong(), np.random.default_rng(0))
    assert list(found) == ["joint_velocity", "gravity"]
    assert {name: value.shape for name, value in felt(wrong()).items()} == {
        "angular_velocity": (3,), "gravity": (3,), "joint_position": (12,), "joint_velocity": (12,)
    }  # fmt: skip


def test_without_faults_or_noise_they_tell_the_truth_in_the_bases_frame():
    found, turn = felt(wrong()), Rotation.from_euler("xyz", TILT)
    np.testing.assert_array_equal(found["joint_position"], STATE.joints)
    np.testing.assert_array_equal(found["joint_velocity"], STATE.speeds)
    np.testing.assert_allclose(found["gravity"], turn.inv().apply((0, 0, -1)), atol=1e-12)
    np.testing.assert_allclose(found["angular_velocity"], turn.inv().apply(ANGULAR), atol=1e-12)


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_noise_is_gaussian_of_the_stated_size_and_new_each_time(times: float):
    faults, truth = wrong(noise=(times,)), felt(wrong())
    many = [felt(faults, seed) for seed in range(800)]
    for name in NAMES:
        noise = np.array([sample[name] - truth[name] for sample in many])
        assert noise.std() == pytest.approx(times * NOISE[name], rel=0.1)
        assert abs(noise.mean()) < 0.1 * times * NOISE[name]
        assert np.abs(np.corrcoef(noise.T) - np.eye(noise.shape[1])).max() < 0.15
    for name, value in felt(faults, 3).items():
        np.testing.assert_array_equal(value, many[3][name])


def test_a_zero_offset_is_added_to_the_encoders_alone():
    zero = np.linspace(-0.05, 0.05, 12)
    found, truth = felt(wrong(joint_zero=tuple(zero))), felt(wrong())
    np.testing.assert_allclose(found["joint_position"], truth["joint_position"] + zero)
    for name in ("joint_velocity", "gravity", "angular_velocity"):
        np.testing.assert_array_equal(found[name], truth[name])


def test_a_biased_gyro_turns_all_the_time():
    found, truth = felt(wrong(gyro_bias=(0.1, -0.2, 0.3))), felt(wrong())
    np.testing.assert_allclose(found["angular_velocity"], truth["angular_velocity"] + (0.1, -0.2, 0.3))
    np.testing.assert_array_equal(found["gravity"], truth["gravity"])


def test_a_crooked_imu_reports_in_its_own_frame():
    mount = (0.2, -0.1, 0.15)
    found, truth, turn = felt(wrong(imu_mount=mount)), felt(wrong()), Rotation.from_euler("xyz", mount)
    for name in ("gravity", "angular_velocity"):
        np.testing.assert_allclose(found[name], turn.inv().apply(truth[name]), atol=1e-12)


def test_exchanged_cables_exchange_readings():
    found, truth = felt(wrong(exchanged=(2.0,))), felt(wrong())  # the second pair: joints 1 and 2
    order = [0, 2, 1, *range(3, 12)]
    for name in ("joint_position", "joint_velocity"):
        np.testing.assert_array_equal(found[name], truth[name][order])


def test_a_reversed_joint_reads_mirrored_about_its_nominal_angle():
    found, truth = felt(wrong(reversed=(5.0,))), felt(wrong())
    other = np.arange(12) != 4
    np.testing.assert_array_equal(found["joint_position"][other], truth["joint_position"][other])
    assert found["joint_position"][4] - A1.nominal[4] == pytest.approx(A1.nominal[4] - truth["joint_position"][4])
    np.testing.assert_array_equal(found["joint_velocity"], np.where(other, 1, -1) * truth["joint_velocity"])


def test_a_whole_motion_is_felt_as_its_moments_are():
    path = PANDA.nominal + np.linspace(-0.2, 0.2, 5)[:, None] * np.ones(7)
    faults = wrong(PANDA, exchanged=(1.0,), reversed=(2.0,), joint_zero=(0.01,) * 7)
    blank = State(path, path, path, np.zeros(3), None, None)
    whole = sensors.body(["joint_position"], PANDA, blank, faults, np.random.default_rng(0))["joint_position"]
    for at, angles in zip(whole, path, strict=True):
        one = sensors.body(["joint_position"], PANDA, blank._replace(joints=angles), faults, np.random.default_rng(0))
        np.testing.assert_array_equal(one["joint_position"], at)


def test_a_bolted_robot_has_no_imu():
    with pytest.raises(AssertionError, match="free base"):
        felt(replace(wrong(), noise=1.0), state=STATE._replace(base=None))
