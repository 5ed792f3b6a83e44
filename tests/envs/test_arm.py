"""Reach and Seek: what is seen, what a guided motion holds and what it must not."""

from collections.abc import Callable

import numpy as np
import pytest

from envs.arm import CENTER, HALF, seen
from envs.rewards import gap
from envs.robot_env import RobotEnv, make
from envs.tasks import Task
from robots import kinematics
from robots.arms import PANDA

Changed = Callable[..., Task]
TARGET = np.add(CENTER, [0.1, -0.1, 0.05])


def test_a_camera_in_its_place_sees_the_target():
    np.testing.assert_allclose(seen(TARGET, 0.0, np.zeros(3)), TARGET)


def test_a_camera_turned_by_a_quarter_and_shifted():
    np.testing.assert_allclose(
        seen(np.add(CENTER, [0.1, 0, 0.2]), np.pi / 2, np.zeros(3)), np.add(CENTER, [0, -0.1, 0.2])
    )
    np.testing.assert_allclose(seen(TARGET, 0.0, np.array([0.1, 0.2, 0.3])), np.add(TARGET, [0.1, 0.2, 0.3]))


def test_a_gap_is_the_distance():
    assert gap(np.array([0.0, 3.0, 0.0]), np.array([4.0, 0.0, 0.0])) == 5
    assert gap(TARGET, TARGET) == 0


def test_reach_observes_encoders_and_camera(env: RobotEnv, changed: Changed):
    task = changed(env, camera_yaw=0.4, camera_shift=(0.1, -0.1, 0.05))
    observation, _ = env.reset(seed=0, options={"task": task, "goal": TARGET})
    reading = env.interface.field("joint_position", observation)
    target = env.interface.field("camera_target", observation)
    np.testing.assert_allclose(reading, env.state.joints, atol=0.006)
    np.testing.assert_allclose(target, seen(TARGET, 0.4, np.array([0.1, -0.1, 0.05])), atol=0.006)


def test_reach_draws_targets_in_the_workspace(env: RobotEnv):
    drawn = np.array([env.job.goal(env.task, np.random.default_rng(seed)) for seed in range(100)])
    assert (np.abs(drawn - CENTER) <= HALF).all()
    assert (np.ptp(drawn, axis=0) > HALF).all()


def test_seek_sees_time_and_not_the_target():
    env = make("metarl/PandaSeek-v0")
    nominal = env.task_space.nominal
    moved = Task({**nominal.values, "target_x": (0.6,)})
    episodes = []
    for task in (nominal, moved):
        observation, info = env.reset(seed=0, options={"task": task})
        observations, rewards = [observation], [-info["error"]]
        for _ in range(env.job.horizon):
            observation, reward, _, _, info = env.step(np.full(7, 0.1))
            observations.append(observation)
            rewards.append(reward)
            assert reward == pytest.approx(-info["error"], abs=0.06)  # 1 cm of noise
        episodes.append((np.array(observations), np.array(rewards)))
    (first, rewards), (second, others) = episodes
    np.testing.assert_array_equal(first, second)
    assert (rewards != others).all()
    times = env.interface.field("time", first)[:, 0]
    np.testing.assert_allclose(times, np.arange(env.job.horizon + 1) / 20, atol=1e-6)
    env.close()


def test_seek_has_nobody_to_guide_it():
    env = make("metarl/PandaSeek-v0")
    assert not env.job.guided
    with pytest.raises(ValueError, match="no guided motions"):
        env.job.guide(env.task_space.nominal, TARGET, np.random.default_rng(0))
    env.close()


def guided(env: RobotEnv, task: Task, seed: int = 0) -> dict[str, np.ndarray]:
    env.reset(seed=seed, options={"task": task, "goal": TARGET})
    return env.guided(env.job.guide(task, TARGET, np.random.default_rng(seed)))


def test_a_hand_leads_to_the_target_within_limits_and_speed(env: RobotEnv):
    targets = CENTER + HALF * np.random.default_rng(0).uniform(-1, 1, (50, 3))
    paths = env.job.guide(env.task_space.nominal, targets, np.random.default_rng(1))
    assert paths.shape == (50, 25, 7)
    ends, _ = kinematics.forward(PANDA, paths[:, -1])
    assert np.linalg.norm(ends - targets, axis=-1).max() < 0.002
    assert np.abs(np.diff(paths, axis=1)).max() <= 0.1 + 1e-9
    assert ((paths >= PANDA.lower) & (paths <= PANDA.upper)).all()


def test_a_guided_motion_is_sensor_samples(env: RobotEnv):
    sample = guided(env, env.task_space.nominal)
    assert set(sample) == {term.name for term in env.interface.observation}
    assert env.interface.observe(sample).shape == (25, env.interface.observation_size)
    assert env.interface.label(sample["joint_position"]).shape == (24, 7)


def test_a_guided_motion_reads_what_the_encoders_read(env: RobotEnv, changed: Changed):
    for zero in (0.0, 0.05):
        task = changed(env, joint_zero=zero)
        path = env.job.guide(task, TARGET, np.random.default_rng(0))
        np.testing.assert_allclose(guided(env, task)["joint_position"], path + zero, atol=0.006)


def test_a_guided_motion_does_not_leak_the_calibration(env: RobotEnv, changed: Changed):
    """Tasks that differ in the camera alone give the same joints and labels: only the camera's field may tell."""
    straight = guided(env, env.task_space.nominal)
    askew = guided(env, changed(env, camera_yaw=0.7, camera_shift=(0.1, -0.1, 0.1)))
    np.testing.assert_array_equal(askew["joint_position"], straight["joint_position"])
    labels = [env.interface.label(sample["joint_position"]) for sample in (straight, askew)]
    np.testing.assert_array_equal(labels[0], labels[1])
    assert np.abs(askew["camera_target"] - straight["camera_target"]).min() > 0.01


def test_where_motions_begin_and_how_the_arm_is_held_do_not_tell_the_joint_zeros(env: RobotEnv, changed: Changed):
    """Encoders begin at the same readings whatever the zeros, and no common posture waits at the end."""
    zeros = np.linspace(-0.05, 0.05, 7)
    tasks = env.task_space.nominal, changed(env, joint_zero=tuple(zeros.tolist()))
    first, second = (guided(env, task)["joint_position"][0] for task in tasks)
    np.testing.assert_allclose(first, second, atol=1e-12)
    starts = [env.interface.field("joint_position", env.reset(seed=3, options={"task": task})[0]) for task in tasks]
    np.testing.assert_allclose(starts[0], starts[1], atol=1e-6)
    rng = np.random.default_rng(0)
    ends = env.job.guide(tasks[0], np.tile(TARGET, (200, 1)), rng)[:, -1]
    assert ends.std(axis=0).min() > 0.5 * env.task_space.parameters[2].high


def test_an_episode_does_not_depend_on_a_motion_before_it(env: RobotEnv, roll: Callable[..., np.ndarray]):
    nominal = env.task_space.nominal
    before = roll(env, nominal)
    guided(env, nominal)
    np.testing.assert_array_equal(roll(env, nominal), before)
