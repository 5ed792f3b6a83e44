"""Learning over whole trials: what a memory is told, advantages across episodes, and a bandit that is remembered."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from metarl.episodes import Episodes
from metarl.files import write_atomic
from metarl.gru import GRUMemory
from metarl.learners.learner import ACTOR
from metarl.learners.memory import MemoryLearner, advantages, unrolled
from metarl.learners.registry import make_learner
from metarl.networks import MLP
from metarl.objectives import Reward
from metarl.problem import Problem
from metarl.sampling.batch import BatchSampler
from metarl.sampling.worker import draw_tasks


def trials(seed: int, lengths: list[list[int]], time: int) -> Episodes:
    """Trials [task, episode] of these lengths, padded with zeros as the samplers do."""
    rng = np.random.default_rng(seed)
    mask = (np.arange(time) < np.array(lengths)[..., None]).astype(np.float32)
    shape = mask.shape
    fields = {
        name: rng.standard_normal((*shape, *size)).astype(np.float32) * mask.reshape(*shape, *[1] * len(size))
        for name, size in {"observation": (3,), "action": (2,), "reward": (), "error": ()}.items()
    }
    return Episodes(**fields, mask=mask)


def test_a_trial_is_one_sequence_without_holes():
    lived = trials(0, [[3, 1, 2], [2, 4, 4]], 4)
    found = unrolled(lived)
    assert found["mask"].tolist() == [[1] * 6 + [0] * 4, [1] * 10]
    assert found["done"][0].tolist() == [0, 0, 1, 1, 0, 1, 0, 0, 0, 0]
    assert found["done"][1].tolist() == [0, 1, 0, 0, 0, 1, 0, 0, 0, 1]
    for name in ("observation", "action", "reward"):
        field = getattr(lived, name)
        expected = np.concatenate([field[0, 0, :3], field[0, 1, :1], field[0, 2, :2]])
        np.testing.assert_array_equal(found[name][0, :6], expected)
        assert not found[name][0, 6:].any()


def test_the_feedback_is_of_the_step_before_and_none_where_a_trial_starts():
    lived = trials(1, [[3, 1, 2], [2, 4, 4]], 4)
    found = unrolled(lived)
    assert found["feedback"].shape == (2, 10, 4)
    assert not found["feedback"][:, 0].any()
    np.testing.assert_array_equal(found["feedback"][:, 1:, :2], found["action"][:, :-1])
    np.testing.assert_array_equal(found["feedback"][:, 1:, 2], found["reward"][:, :-1])
    np.testing.assert_array_equal(found["feedback"][0, 1:7, 3], [0, 0, 1, 1, 0, 1])
    # The last step of an episode is told to the first one of the next: that is what is to be learned from.
    np.testing.assert_array_equal(found["feedback"][0, 3], [*lived.action[0, 0, 2], lived.reward[0, 0, 2], 1])


@given(st.lists(st.lists(st.integers(1, 4), min_size=3, max_size=3), min_size=1, max_size=4), st.integers(0, 99))
def test_nothing_lived_is_lost_and_nothing_invented(lengths: list[list[int]], seed: int):
    lived = trials(seed, lengths, 4)
    found = unrolled(lived)
    assert found["mask"].shape[1] == max(map(sum, lengths))
    for task, counts in enumerate(lengths):
        steps = [(e, t) for e, count in enumerate(counts) for t in range(count)]
        expected = np.stack([lived.observation[task, e, t] for e, t in steps])
        np.testing.assert_array_equal(found["observation"][task, : len(steps)], expected)
        assert found["mask"][task].sum() == len(steps)
        assert found["done"][task].sum() == len(counts)


def test_advantages_by_hand():
    """Two episodes of two steps and one step of padding: worth runs from one into the next, not past the end."""
    reward = torch.tensor([[1.0, 2.0, 3.0, 4.0, 77.0]])
    value = torch.tensor([[0.5, 1.0, 1.5, 2.0, 99.0]])
    mask = torch.tensor([[1.0, 1, 1, 1, 0]])
    found, returns = advantages(reward, value, mask, discount=0.5, gae_lambda=0.5)
    errors = [1 + 0.5 * 1 - 0.5, 2 + 0.5 * 1.5 - 1, 3 + 0.5 * 2 - 1.5, 4 - 2]
    last = errors[3]
    third = errors[2] + 0.25 * last
    second = errors[1] + 0.25 * third
    first = errors[0] + 0.25 * second
    torch.testing.assert_close(found, torch.tensor([[first, second, third, last, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[first + 0.5, second + 1, third + 1.5, last + 2, 0.0]]))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_advantages_are_what_a_slow_loop_finds(lengths: list[int], discount: float, lam: float, seed: int):
    generator = torch.Generator().manual_seed(seed)
    reward, value = (torch.randn(len(lengths), 6, generator=generator) for _ in range(2))
    mask = (torch.arange(6) < torch.tensor(lengths)[:, None]).float()
    found, returns = advantages(reward, value, mask, discount, lam)
    for row, length in enumerate(lengths):
        rewards, values = reward[row].tolist(), [*value[row, :length].tolist(), 0.0]
        for step in range(length):
            expected = sum(
                (discount * lam) ** (later - step) * (rewards[later] + discount * values[later + 1] - values[later])
                for later in range(step, length)
            )
            assert found[row, step].item() == pytest.approx(expected, abs=1e-4)
            assert returns[row, step].item() == pytest.approx(expected + values[step], abs=1e-4)
        assert not found[row, length:].any()
        assert not returns[row, length:].any()


BANDIT = Problem.of("metarl/Bandit-v0", {"arms": 2})


def bandit(tiny, **changes: Any) -> tuple[MemoryLearner, BatchSampler]:
    settings = {"env": BANDIT.env, "options": dict(BANDIT.options), "tasks": 60, "episodes": 10, "hidden": (16,)}
    config = tiny("reward", "rl2", **{**settings, **changes})
    learner = make_learner(config, BANDIT)
    assert isinstance(learner, MemoryLearner)
    return learner, BatchSampler(BANDIT.classic, {ACTOR: learner.network})


def lived(learner: MemoryLearner, sampler: BatchSampler, iteration: int) -> list[Episodes]:
    key = (learner.config.seed, iteration)
    return learner.gather(sampler, draw_tasks(BANDIT.space, "train", key, learner.config.tasks), key)


def test_a_bandit_is_remembered(tiny):
    """Two arms of payoffs in U(0, 1): who forgets gets 0.5 of every pull, and who knows 2/3."""
    learner, sampler = bandit(tiny, learning_rate=1e-2, passes=4, batches=2, iterations=60, divergence=0.1)
    for iteration in range(60):
        (batch,) = lived(learner, sampler, iteration)
        figures = learner.update([batch], iteration / 60)
    assert figures["return_of_trial"] > 0
    tasks = draw_tasks(BANDIT.space, "train", (1, 0), 400)
    (after,) = learner.gather(sampler, tasks, (1, 0))
    pulls = after.reward.sum(-1).mean(0)
    assert pulls[0] < 0.55
    assert pulls[-4:].mean() > 0.59
    # It is what it remembers: one pull alone is worth no more than a guess.
    alone = MemoryLearner(learner.network, Reward(), replace(learner.config, episodes=1))
    alone.load({name: value.clone() for name, value in learner.state().items()})
    (single,) = alone.gather(sampler, tasks, (1, 1))
    assert single.reward.mean() < 0.56


def test_the_first_pass_starts_from_the_policy_that_sampled(tiny):
    """Ratios are 1 at first, so that the bound on the divergence holds from there on."""
    learner, sampler = bandit(tiny, passes=1, batches=1, learning_rate=1e-3)
    figures = learner.update(lived(learner, sampler, 0), 0.0)
    assert figures["divergence"] == pytest.approx(0.0, abs=1e-6)
    assert figures["passes"] == 1


def test_passes_end_when_the_policy_has_moved_too_far(tiny):
    passes = {}
    for bound in (1e-6, 1e9):
        learner, sampler = bandit(tiny, passes=6, batches=2, learning_rate=3e-2, divergence=bound)
        passes[bound] = learner.update(lived(learner, sampler, 0), 0.0)["passes"]
    assert passes == {1e-6: 1, 1e9: 6}


def test_padding_changes_no_outer_step(tiny):
    learner, other = (
        MemoryLearner(GRUMemory(3, 2, discrete=False, hidden=6), Reward(), tiny("reward", "rl2", episodes=3))
        for _ in range(2)
    )
    short = trials(0, [[3, 1, 2], [2, 4, 3], [1, 1, 1]], 4)
    longer = short.map(lambda field: np.pad(field, [(0, 0), (0, 0), (0, 3), *[(0, 0)] * (field.ndim - 3)]))
    assert learner.update([short], 0.0) == other.update([longer], 0.0)
    assert torch.equal(learner.theta, other.theta)


def test_a_memory_that_is_asked_learns_to_tell(tiny):
    learner, sampler = bandit(tiny, learning_rate=1e-2, passes=4, batches=2, iterations=30, divergence=0.1, recall=1.0)
    told = []
    for iteration in range(30):
        told.append(learner.update(lived(learner, sampler, iteration), iteration / 30)["recall_loss"])
    # Payoffs in U(0, 1) explain a third of the variance of what is drawn by them; the rest is noise.
    assert told[0] > 0.9
    assert 0.5 < np.mean(told[-3:]) < 0.8


def test_being_asked_shapes_the_memory(tiny):
    """Adam's first step is as long in every parameter: what counts is the gradient's sign."""
    signs = []
    for recall in (0.0, 30.0):
        learner, sampler = bandit(tiny, passes=1, batches=1, recall=recall)
        before = learner.theta.detach().clone()
        figures = learner.update(lived(learner, sampler, 0), 0.0)
        assert ("recall_loss" in figures) == (recall > 0)
        signs.append(torch.sign(learner.theta.detach() - before))
    assert (signs[0] != signs[1]).float().mean() > 0.1


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_rewards_of_any_size_or_none_at_all_are_told_in_their_own_unit(tiny, offset: float):
    """So that the decoder neither drowns what else is learned, nor has to crawl to the mean first."""
    learner, sampler = bandit(tiny, recall=1.0, passes=1, batches=1)
    (batch,) = lived(learner, sampler, 0)
    figures = learner.update([replace(batch, reward=batch.reward + np.float32(offset))], 0.0)
    assert figures["recall_loss"] == pytest.approx(1, abs=0.15)
    (batch,) = lived(learner, sampler, 1)
    constant = learner.update([replace(batch, reward=np.full_like(batch.reward, offset))], 0.5)
    assert constant["recall_loss"] < 0.1


@pytest.mark.parametrize("recall", [0.0, 1.0])
def test_a_loaded_state_goes_on_with_the_same_bits(tiny, recall: float):
    (learner, sampler), (other, _) = bandit(tiny, recall=recall), bandit(tiny, seed=1)
    other = MemoryLearner(other.network, Reward(), learner.config)
    for iteration in range(2):
        learner.update(lived(learner, sampler, iteration), iteration / 4)
    state = {name: value.clone() for name, value in learner.state().items()}
    other.load(state)
    for iteration in range(2, 4):
        batches = lived(learner, sampler, iteration)
        assert learner.update(batches, iteration / 4) == other.update(batches, iteration / 4)
    assert torch.equal(learner.theta, other.theta)
    assert state["size"] != 1  # of returns: it travels, too


def test_what_is_not_finite_changes_nothing(tiny):
    learner, sampler = bandit(tiny)
    learner.update(lived(learner, sampler, 0), 0.0)
    before = {name: value.clone() for name, value in learner.state().items()}
    (batch,) = lived(learner, sampler, 1)
    with pytest.raises(FloatingPointError, match="outer loss is"):
        learner.update([replace(batch, reward=np.full_like(batch.reward, np.nan))], 0.1)
    assert all(torch.equal(learner.state()[name], value) for name, value in before.items())


def test_a_memory_may_begin_on_top_of_a_policy(tiny, tmp_path):
    """It acts nearly as the policy did, spread included, and yet what happened makes a difference."""
    env = "metarl/PointNavigation-v0"
    problem = Problem.of(env)
    plain = MLP(problem.observation, problem.action, (7,))
    start = plain.initial(torch.Generator().manual_seed(3))
    write_atomic(tmp_path / "theta.safetensors", save({"theta": start}))
    learner = make_learner(tiny("reward", "rl2", env=env, hidden=(5, 7), start=str(tmp_path)), problem)
    observation, feedback = torch.randn(4, 6, 2), torch.randn(4, 6, 4)
    found = learner.network.sequence(learner.theta, observation, feedback)
    mean, log_std = plain(start, observation)
    torch.testing.assert_close(found.mean, mean, atol=0.1, rtol=0)
    torch.testing.assert_close(found.log_std, log_std)
    other = learner.network.sequence(learner.theta, observation, feedback + 1)
    assert not torch.equal(other.mean[:, -1], found.mean[:, -1])
    with pytest.raises(ValueError, match=f"start has {plain.size} parameters, expected"):
        make_learner(tiny("reward", "rl2", env=env, hidden=(5, 8), start=str(tmp_path)), problem)
