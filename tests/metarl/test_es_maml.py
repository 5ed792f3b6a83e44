"""ES-MAML: fair antithetic pairs, the gradient that they estimate, and searches that get somewhere."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from envs.tasks import Parameter, Task, TaskSpace
from export.device.search import Search
from metarl.episodes import Episodes
from metarl.learners.es_maml import ESMAML, search_round
from metarl.learners.learner import ACTOR
from metarl.networks import MLP
from metarl.objectives import Reward
from metarl.problem import Problem
from metarl.sampling.batch import BatchSampler
from metarl.sampling.worker import Trial, draw_tasks

NETWORK = MLP(1, 1, ())
SPACE = TaskSpace((Parameter("goal", "", 0.0, -1.0, 1.0, "set", NETWORK.size),))
KEY = (0, 3)


class Bowl:
    """A sampler whose returns are a quadratic in theta around each task's goal, with noise of the trial's own key.

    It keeps the trials that it was given.
    """

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.trials: list[Trial] = []

    def sample(self, trials: Sequence[Trial]) -> list[Episodes]:
        self.trials += trials
        return [self._episodes(trial) for trial in trials]

    def close(self) -> None:
        pass

    def _episodes(self, trial: Trial) -> Episodes:
        blank = np.zeros((trial.episodes, 1), np.float32)
        rng = np.random.default_rng(trial.key)
        value = -np.square(trial.theta - trial.task["goal"]).sum() + self.noise * rng.standard_normal(blank.shape)
        return Episodes(blank[..., None], blank[..., None], value.astype(np.float32), blank + 1, blank)


def make(tiny, seed: int = 0, **changes: Any) -> ESMAML:
    config = tiny("reward", "es_maml", seed=seed, **changes)
    return ESMAML(NETWORK, Reward(), config)


def tasks(count: int, seed: int = 0) -> list[Task]:
    return draw_tasks(SPACE, "train", (seed, 0), count)


@pytest.mark.parametrize("climb", [False, True])
def test_both_sides_of_a_pair_share_task_key_and_perturbations(tiny, climb: bool):
    learner, sampler = make(tiny, climb=climb, inner_steps=1, tries=2, step_size=0.1), Bowl()
    learner.gather(sampler, tasks(3), KEY)
    theta, each = learner.theta.detach().numpy(), 3 if climb else 4
    tried, judged = sampler.trials[: 2 * 3 * each], sampler.trials[2 * 3 * each :]
    assert len(judged) == 6
    assert {trial.mode for trial in sampler.trials} == {"mean"}
    for index in range(3):
        plus, minus = (tried[each * at : each * (at + 1)] for at in (index, index + 3))
        for one, other in zip(plus, minus, strict=True):
            assert (one.task, one.key, one.episodes) == (other.task, other.key, other.episodes)
        mean = [np.mean([one.theta for one in side], 0) if not climb else side[0].theta for side in (plus, minus)]
        np.testing.assert_allclose(mean[0] + mean[1], 2 * theta, atol=1e-5)  # theta + sigma e and theta - sigma e
        assert np.abs(mean[0] - mean[1]).max() > 1e-3
        moves = [np.stack([one.theta for one in side]) - at for side, at in zip((plus, minus), mean, strict=True)]
        np.testing.assert_allclose(moves[0], moves[1], atol=1e-5)
        assert (judged[index].task, judged[index].key) == (judged[index + 3].task, judged[index + 3].key)
        assert judged[index].key != plus[0].key  # what is judged was not searched on
    # Each task searches by perturbations of its own.
    offsets = [tried[each * at + each - 1].theta - tried[each * at + each - 2].theta for at in range(3)]
    assert min(np.abs(offsets[0] - offsets[1]).max(), np.abs(offsets[0] - offsets[2]).max()) > 1e-2
    directions = {tuple(np.round(tried[each * index].theta - theta, 6)) for index in range(6)}
    assert len(directions) == 6
    for other in ((0, 4), (1, 3)):
        again = Bowl()
        learner.gather(again, tasks(3), other)
        assert not np.allclose(again.trials[0].theta, sampler.trials[0].theta)


def test_swapping_the_sides_negates_the_gradient(tiny):
    learner = make(tiny)
    batches = learner.gather(Bowl(0.1), tasks(4), KEY)
    start = learner.theta.detach().clone()
    figures = learner.update(batches, 0.0)
    gradient = learner.theta.grad.clone()
    assert gradient.norm().item() == pytest.approx(min(1.0, figures["gradient_norm"]), rel=1e-4)  # clipped
    other = make(tiny)
    other.gather(Bowl(0.1), tasks(4), KEY)
    swapped = batches[-1].map(lambda field: np.concatenate([field[4:], field[:4]]))
    other.update([*batches[:-1], swapped], 0.0)
    assert torch.equal(other.theta.grad, -gradient)
    assert gradient.norm() > 0
    torch.testing.assert_close(other.theta.detach() - start, start - learner.theta.detach())


def test_the_gradient_points_where_returns_rise(tiny):
    """Without adaptation to speak of, the gradient of a quadratic is known: theta less the mean goal."""
    learner = make(tiny, step_size=1e-6, sigma=0.05)
    some = tasks(400)
    found = learner.gather(Bowl(), some, KEY)
    learner.update(found, 0.0)
    wanted = learner.theta.grad  # of the step that was taken, hence at the old theta
    start = make(tiny).theta.detach()
    expected = start - torch.tensor(np.mean([task["goal"] for task in some], 0), dtype=torch.float32)
    cosine = torch.nn.functional.cosine_similarity(wanted, expected, 0)
    assert cosine > 0.9


@pytest.mark.parametrize("climb", [False, True])
def test_a_round_of_search_improves_and_is_the_devices(tiny, climb: bool):
    search = Search("climb" if climb else "estimate", sigma=0.1, rate=0.05, tries=5, episodes=2, rounds=3)
    some, sampler = tasks(20), Bowl()
    thetas = start = np.full((20, NETWORK.size), 0.8, np.float32)
    keys = [(0, 0, index) for index in range(20)]

    def returns(thetas: np.ndarray) -> np.ndarray:
        return -np.square(thetas - np.stack([task["goal"] for task in some])).sum(1)

    for turn in range(6):
        before = thetas
        thetas, lived = search_round(search, sampler, some, keys, thetas, turn)
        assert lived.mask.shape == (20, 2 * (6 if climb else 10), 1)
        if climb:
            assert (returns(thetas) >= returns(before)).all()
    assert (returns(thetas) - returns(start)).mean() > 0.5
    again = start
    for turn in range(6):
        again, _ = search_round(search, Bowl(), some, keys, again, turn)
    np.testing.assert_array_equal(again, thetas)
    alone, _ = search_round(search, Bowl(), some[3:4], keys[3:4], start[3:4], 0)
    together, _ = search_round(search, Bowl(), some, keys, start, 0)
    np.testing.assert_array_equal(alone[0], together[3])  # company does not matter


def test_it_learns_where_to_search_from(tiny):
    """Goals around 0.5: the mean return after one round rises."""
    space = TaskSpace((Parameter("goal", "", 0.5, 0.4, 0.6, "set", NETWORK.size),))
    learner = make(tiny, learning_rate=0.1, step_size=0.01)
    figures = []
    for iteration in range(40):
        some = draw_tasks(space, "train", (0, iteration), 10)
        figures.append(learner.update(learner.gather(Bowl(), some, (0, iteration)), 0.0)["return_after"])
    assert np.mean(figures[-5:]) > 0.3 * figures[0]  # returns are negative
    assert figures[0] < -0.5


def test_it_learns_to_go_to_a_corner(tiny):
    """Real worlds: navigation of eight steps in which all goals lie in one quadrant."""
    config = tiny("reward", "es_maml", env="metarl/PointNavigation-v0", options={"horizon": 8}, learning_rate=0.05)
    problem = Problem.of(config.env, config.options)
    learner = ESMAML(MLP(2, 2, (4,)), Reward(), replace(config, tries=2, climb=True))
    sampler = BatchSampler(problem.classic, {ACTOR: learner.network})
    rng, figures = np.random.default_rng(0), []
    for iteration in range(25):
        some = [Task({"goal": tuple(rng.uniform(0.2, 0.5, 2).tolist())}) for _ in range(10)]
        figures.append(learner.update(learner.gather(sampler, some, (0, iteration)), 0.0)["return_after"])
    assert np.mean(figures[-3:]) > np.mean(figures[:3]) + 0.5


def test_a_loaded_state_goes_on_with_the_same_bits(tiny):
    learner, other = make(tiny), make(tiny, seed=1)
    for iteration in range(3):
        learner.update(learner.gather(Bowl(), tasks(3), (0, iteration)), 0.1)
    other.load({name: value.clone() for name, value in learner.state().items()})
    for iteration in range(3, 5):
        figures = [one.update(one.gather(Bowl(), tasks(3), (0, iteration)), 0.3) for one in (learner, other)]
        assert figures[0] == figures[1]
    assert torch.equal(learner.theta, other.theta)


def test_returns_that_are_not_finite_change_nothing(tiny):
    learner = make(tiny)
    learner.update(learner.gather(Bowl(), tasks(3), KEY), 0.0)
    before = {name: value.clone() for name, value in learner.state().items()}
    batches = learner.gather(Bowl(), tasks(3), KEY)
    batches[-1] = replace(batches[-1], reward=np.full_like(batches[-1].reward, np.nan))
    with pytest.raises(FloatingPointError, match="outer loss is"):
        learner.update(batches, 0.0)
    assert all(torch.equal(learner.state()[name], value) for name, value in before.items())


def test_returns_that_are_not_finite_stop_the_training(tiny):
    with pytest.raises(FloatingPointError, match="returns of candidates are"):
        make(tiny).gather(Bowl(noise=np.inf), tasks(2), KEY)
