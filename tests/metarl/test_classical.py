"""The classical answers on data whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.arm import CENTER, HALF, Reach, Seek, seen
from envs.legged import Walk
from envs.manipulation import JOBS
from metarl.classical import answers, best_visited, register, trilaterate
from metarl.episodes import Episodes
from robots import kinematics
from robots.arms import PANDA
from robots.legged import A1

REACH, SEEK = Reach(PANDA), Seek(PANDA)


def places(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return CENTER + HALF * rng.uniform(-1, 1, (*shape, 3))


def episodes(interface, fields: dict[str, np.ndarray], reward: np.ndarray) -> Episodes:
    observation = interface.observe(fields)
    shape = reward.shape
    return Episodes(
        observation, np.zeros((*shape, 7), np.float32), reward.astype(np.float32), np.ones(shape), np.zeros(shape)
    )


def motions(targets: np.ndarray, reported: np.ndarray) -> Episodes:
    """Guided motions that end at the targets while the camera reports them elsewhere."""
    ends = kinematics.solve(PANDA, targets, iterations=60)
    path = np.stack([np.broadcast_to(PANDA.nominal, ends.shape), ends], axis=1)
    camera = np.broadcast_to(reported[:, None], (len(targets), 2, 3))
    return episodes(REACH.interface, {"joint_position": path, "camera_target": camera}, np.zeros((len(targets), 2)))


@given(st.floats(-1, 1), st.tuples(*[st.floats(-0.15, 0.15)] * 3))
def test_registration_undoes_a_rigid_motion(yaw: float, shift: tuple[float, float, float]):
    targets, others = places(np.random.default_rng(0), 2, 5)
    matrix, moved = register(
        PANDA, REACH.interface, motions(targets, np.array([seen(t, yaw, np.array(shift)) for t in targets]))
    )
    np.testing.assert_allclose(np.linalg.det(matrix), 1)
    for target in others:
        np.testing.assert_allclose(matrix @ seen(target, yaw, np.array(shift)) + moved, target, atol=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 2])
def test_registration_of_few_motions_fits_those(count: int):
    targets = places(np.random.default_rng(1), count)
    reported = np.array([seen(target, 0.4, np.array([0.1, 0.0, -0.1])) for target in targets])
    matrix, moved = register(PANDA, REACH.interface, motions(targets, reported))
    np.testing.assert_allclose(np.linalg.det(matrix), 1)
    np.testing.assert_allclose(reported @ matrix.T + moved, targets, atol=1e-4)


@pytest.fixture(scope="module")
def attempts() -> tuple[np.ndarray, np.ndarray, Episodes]:
    """A target, where the arm was [episode, time, 3], and what it saw and measured there with 1 cm of noise."""
    rng = np.random.default_rng(2)
    target, angles = places(rng), PANDA.nominal + rng.normal(0, 0.15, (4, 20, 7))
    felt, _ = kinematics.forward(PANDA, angles)
    fields = {"joint_position": angles, "time": np.broadcast_to(np.arange(20)[:, None] / 20, (4, 20, 1))}
    after = np.concatenate([felt[:, 1:], felt[:, -1:]], axis=1)  # a reward is measured after its step
    reward = -np.linalg.norm(after - target, axis=-1) + rng.normal(0, 0.01, (4, 20))
    return target, felt, episodes(SEEK.interface, fields, reward)


def test_trilateration_finds_the_target_in_noise(attempts: tuple[np.ndarray, np.ndarray, Episodes]):
    target, _, lived = attempts
    matrix, point = trilaterate(PANDA, SEEK.interface, lived)
    assert not matrix.any()
    np.testing.assert_allclose(point, target, atol=0.02)


def test_the_best_visited_place_is_where_the_best_reward_was_measured(
    attempts: tuple[np.ndarray, np.ndarray, Episodes],
):
    _, felt, lived = attempts
    reward = lived.reward.copy()
    reward[2, 7] = 0.5
    reward[:, -1] = 1.0  # measured after the last observation: nobody knows where
    _, point = best_visited(PANDA, SEEK.interface, replace(lived, reward=reward))
    np.testing.assert_allclose(point, felt[2, 8], atol=1e-5)


def test_what_was_not_lived_is_not_visited(attempts: tuple[np.ndarray, np.ndarray, Episodes]):
    target, felt, lived = attempts
    observation, reward, mask = lived.observation.copy(), lived.reward.copy(), lived.mask.copy()
    for values in (observation, reward, mask):
        values[:, 12:] = 0  # as padded: a reward of zero would be the best
    ended = replace(lived, observation=observation, reward=reward, mask=mask)
    _, point = trilaterate(PANDA, SEEK.interface, ended)
    np.testing.assert_allclose(point, target, atol=0.03)
    _, point = best_visited(PANDA, SEEK.interface, ended)
    best = np.unravel_index(lived.reward[:, :11].argmax(), (len(lived.reward), 11))
    np.testing.assert_allclose(point, felt[best[0], best[1] + 1], atol=1e-5)


def test_answers_are_given_where_they_apply():
    assert set(answers(REACH, guided=True)) == {"registration"}
    assert set(answers(SEEK, guided=False)) == {"trilateration", "best_visited"}
    assert answers(SEEK, guided=True) == {}  # no camera
    assert answers(REACH, guided=False) == {}  # another target in every attempt
    for job in (Walk(A1), *(job(PANDA) for job in JOBS.values())):
        assert answers(job, guided=False) == answers(job, guided=True) == {}
