"""The outer step on hand-made episodes: it learns, keeps its bounds, fails cleanly and goes on from a checkpoint."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import vmap

from envs.arm import Seek
from metarl.episodes import Episodes
from metarl.learners.maml import MAML
from metarl.learners.registry import make_learner
from metarl.networks import MLP, divergence
from metarl.objectives import OBJECTIVES, tensors
from robots.arms import PANDA

NETWORK = MLP(3, 2, (8,))


def make(tiny, objective: str, **changes) -> MAML:
    return MAML(NETWORK, OBJECTIVES[objective], tiny(objective, **changes))


def shifted(make_episodes, seed: int) -> list[Episodes]:
    """Tasks [4] whose demonstrated action is the observation's start plus the task's own offset."""
    rng = np.random.default_rng(seed)
    offset = rng.uniform(-1, 1, (4, 1, 1, 2)).astype(np.float32)
    both = make_episodes(seed, 4, 6, 5)
    both = replace(both, action=0.5 * both.observation[..., :2] + offset)
    support, query = (both.map(lambda a: a[:, :3]), both.map(lambda a: a[:, 3:]))
    return [support, support, query]


def sampled(make_episodes, learner: MAML, seed: int = 0, scales: Sequence[float] = (1, 1, 1)) -> list[Episodes]:
    """Batches [4 tasks] of actions that the learner's own policy draws, with a reward for the first element.

    scales: of the observations in each batch.
    """
    generator = torch.Generator().manual_seed(seed)
    thetas, batches = learner.theta.detach().expand(4, -1), []
    for step in range(learner.config.inner_steps + 1):
        batch = make_episodes(seed + step, 4, 6, 5)
        batch = replace(batch, observation=batch.observation * np.float32(scales[step]))
        mean, log_std = vmap(learner.network)(thetas, torch.from_numpy(batch.observation))
        noise = torch.randn(mean.shape, generator=generator) * log_std.exp()[:, None, None]
        batch = replace(batch, action=(mean + noise).numpy())
        batches.append(replace(batch, reward=-np.abs(batch.action[..., 0] - 1)))
        if step < learner.config.inner_steps:
            fields = [tensors(batches[-1])[name] for name in learner.objective.fields]
            thetas = vmap(lambda t, *f, s=step: learner.adapt(t, torch.tensor(s), *f).theta)(thetas, *fields)
    return batches


def adapted(learner: MAML, supports: list[Episodes]) -> Tensor:
    thetas = learner.theta.detach().expand(len(supports[0].mask), -1)
    for step, support in enumerate(supports):
        fields = [tensors(support)[name] for name in learner.objective.fields]
        thetas = vmap(lambda t, *f, s=step: learner.adapt(t, torch.tensor(s), *f).theta)(thetas, *fields)
    return thetas


@pytest.mark.parametrize("first_order", [False, True])
def test_demonstration_learns_to_adapt(tiny, make_episodes, first_order: bool):
    learner = make(tiny, "demonstration", inner_steps=2, learning_rate=1e-2, first_order=first_order)
    held_out = shifted(make_episodes, 999)

    def after() -> float:
        query = tensors(held_out[-1])
        losses = vmap(lambda theta, batch: learner.objective.loss(NETWORK, theta, batch))
        return losses(adapted(learner, held_out[:-1]), query).mean().item()

    start, sizes = after(), learner.step_sizes.detach().clone()
    for iteration in range(150):
        figures = learner.update(shifted(make_episodes, iteration), 0.0)
    assert figures["loss_after"] < 0.5 * figures["loss_before"]
    assert after() < 0.3 * start
    assert not torch.equal(learner.step_sizes, sizes)


@pytest.mark.parametrize("scales", [(1, 1, 1), (5, 1, 0.2)])  # the second moves most before adaptation
@pytest.mark.parametrize("rate", [1e-3, 1e-2, 1.0])
def test_an_outer_step_by_reward_moves_the_policy_within_bounds(
    tiny, make_episodes, rate: float, scales: tuple[float, ...]
):
    learner = make(tiny, "reward", inner_steps=2, passes=10, learning_rate=rate, step_size_rate=rate)
    *supports, query = batches = sampled(make_episodes, learner, scales=scales)

    def policies() -> list[tuple[Tensor, Tensor]]:
        """Before adaptation at the first observations, after it at the query's."""
        start = learner.theta.detach().clone().expand(4, -1)
        pairs = ((start, supports[0]), (adapted(learner, supports), query))
        return [vmap(NETWORK)(thetas, torch.from_numpy(batch.observation)) for thetas, batch in pairs]

    old = policies()
    figures = learner.update(batches, 0.0)
    moved = [
        divergence(mean, log_std[:, None, None], old_mean, old_std[:, None, None]).mean().item()
        for (mean, log_std), (old_mean, old_std) in zip(policies(), old, strict=True)
    ]
    assert 0 <= max(moved) <= learner.config.divergence * 1.0001
    assert figures["divergence"] == pytest.approx(max(moved), rel=1e-3, abs=1e-6)
    if rate < 1:
        assert max(moved) > 0


def test_reward_learns(tiny, make_episodes):
    learner = make(tiny, "reward", passes=5, learning_rate=5e-3)
    figures = [learner.update(sampled(make_episodes, learner, 10 * iteration), 0.0) for iteration in range(40)]
    first, last = (np.mean([entry["return_after"] for entry in part]) for part in (figures[:5], figures[-5:]))
    assert last > 0.7 * first  # returns are negative


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("objective", "field"), [("demonstration", "action"), ("reward", "reward")])
def test_what_is_not_finite_changes_nothing(tiny, make_episodes, objective: str, field: str, value: float):
    learner = make(tiny, objective, inner_steps=1)
    batches = [make_episodes(seed, 2, 3, 4) for seed in range(2)]
    learner.update(batches, 0.0)
    before = {name: tensor.clone() for name, tensor in learner.state().items()}
    for index in range(2):
        spoilt = list(batches)
        spoilt[index] = replace(batches[index], **{field: np.full_like(getattr(batches[index], field), value)})
        with pytest.raises(FloatingPointError, match="outer loss is"):
            learner.update(spoilt, 0.0)
    after = learner.state()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_loaded_state_goes_on_with_the_same_bits(tiny, make_episodes, objective: str):
    batches = [make_episodes(seed, 2, 3, 4) for seed in range(2)]
    learner, other = (make(tiny, objective, inner_steps=1, seed=seed) for seed in (0, 1))
    for part in range(3):
        learner.update(batches, part / 6)
    other.update(batches, 0.0)
    other.load({name: tensor.clone() for name, tensor in learner.state().items()})
    for part in range(3, 6):
        assert learner.update(batches, part / 6) == other.update(batches, part / 6)
    found = other.state()
    assert found.keys() == learner.state().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in learner.state().items())


def test_a_state_of_another_size_is_refused(tiny):
    learner, other = make(tiny, "reward"), MAML(MLP(3, 2, (9,)), OBJECTIVES["reward"], tiny("reward"))
    for state in (other.state(), {"theta": learner.theta.detach()}):
        with pytest.raises(ValueError, match=r"checkpoint holds (theta|step_sizes) of shape"):
            learner.load(state)


@pytest.mark.parametrize(("field", "value"), [("learner", "mammal"), ("objective", "applause")])
def test_unknown_names_are_refused(tiny, field: str, value: str):
    config = replace(tiny("reward"), **{field: value})
    with pytest.raises(ValueError, match=f"{field} '{value}' is unknown, expected one of"):
        make_learner(config, Seek(PANDA).interface)
