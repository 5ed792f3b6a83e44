"""The outer step on hand-made episodes: it learns, keeps its bounds, fails cleanly and goes on from a checkpoint."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from torch.func import vmap

from metarl.config import APPLIES
from metarl.episodes import Episodes
from metarl.files import write_atomic
from metarl.learners.maml import MAML, RULES
from metarl.learners.registry import make_learner
from metarl.networks import MLP, divergence
from metarl.objectives import Demonstration, Prediction, Reward, tensors
from metarl.problem import Problem

NETWORK = MLP(3, 2, (8,))
OBJECTIVES = {"demonstration": Demonstration(), "reward": Reward(), "prediction": Prediction((0, 2))}


def make(tiny, objective: str, learner: str = "metasgd", **changes) -> MAML:
    config = tiny(objective, learner, **changes)
    context, predicts = 4 * (learner == "cavia"), 2 * (objective == "prediction")
    return MAML(MLP(3, 2, (8,), context=context, predicts=predicts), OBJECTIVES[objective], config)


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


@pytest.mark.parametrize("name", ["maml", "fomaml", "metasgd", "cavia"])
def test_demonstration_learns_to_adapt(tiny, make_episodes, name: str):
    learner = make(tiny, "demonstration", name, inner_steps=2, learning_rate=1e-2, step_size=0.1)
    held_out = shifted(make_episodes, 999)

    def after() -> float:
        query = tensors(held_out[-1])
        losses = vmap(lambda theta, batch: learner.objective.loss(learner.network, theta, batch))
        return losses(adapted(learner, held_out[:-1]), query).mean().item()

    start, sizes = after(), learner.step_sizes.detach().clone()
    for iteration in range(150):
        figures = learner.update(shifted(make_episodes, iteration), 0.0)
    assert figures["loss_after"] < 0.5 * figures["loss_before"]
    assert after() < 0.3 * start
    assert torch.equal(learner.step_sizes, sizes) == (name != "metasgd")


@pytest.mark.parametrize("name", ["metasgd", "cavia"])
@pytest.mark.parametrize("scales", [(1, 1, 1), (5, 1, 0.2)])  # the second moves most before adaptation
@pytest.mark.parametrize("rate", [1e-3, 1e-2, 1.0])
def test_an_outer_step_by_reward_moves_the_policy_within_bounds(
    tiny, make_episodes, rate: float, scales: tuple[float, ...], name: str
):
    learner = make(tiny, "reward", name, inner_steps=2, passes=10, learning_rate=rate, step_size_rate=rate)
    *supports, query = batches = sampled(make_episodes, learner, scales=scales)

    def policies() -> list[tuple[Tensor, Tensor]]:
        """Before adaptation at the first observations, after it at the query's."""
        start = learner.theta.detach().clone().expand(4, -1)
        pairs = ((start, supports[0]), (adapted(learner, supports), query))
        return [vmap(learner.network)(thetas, torch.from_numpy(batch.observation)) for thetas, batch in pairs]

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


@pytest.mark.parametrize("name", RULES)
def test_reward_learns(tiny, make_episodes, name: str):
    learner = make(tiny, "reward", name, passes=5, learning_rate=5e-3)
    figures = [learner.update(sampled(make_episodes, learner, 10 * iteration), 0.0) for iteration in range(40)]
    first, last = (np.mean([entry["return_after"] for entry in part]) for part in (figures[:5], figures[-5:]))
    assert last > 0.7 * first  # returns are negative


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("objective", "field"), [("demonstration", "action"), ("reward", "reward"), ("prediction", "observation")]
)
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


@pytest.mark.parametrize(("name", "objective"), [(name, objective) for name in RULES for objective in APPLIES[name]])
def test_a_loaded_state_goes_on_with_the_same_bits(tiny, make_episodes, objective: str, name: str):
    batches = [make_episodes(seed, 2, 3, 4) for seed in range(2)]
    learner, other = (make(tiny, objective, name, inner_steps=1, seed=seed) for seed in (0, 1))
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


def test_an_initial_step_size_decays_from_step_to_step(tiny):
    for name, width in (("maml", NETWORK.size), ("metasgd", NETWORK.size), ("cavia", 4)):
        learner = make(tiny, "reward", name, inner_steps=3, step_size=0.4, step_decay=0.5)
        expected = torch.tensor([[0.4], [0.2], [0.1], [0.05]])[: 3 if name == "metasgd" else 4].expand(-1, width)
        torch.testing.assert_close(learner.step_sizes.detach(), expected)


@pytest.mark.parametrize("name", [name for name in RULES if "demonstration" in APPLIES[name]])
def test_the_outer_step_is_taken_on_the_gradient_through_all_inner_steps(tiny, make_episodes, name: str):
    """Differentiated here through plain autograd, two steps deep, and taken by an Adam of the same settings."""
    rates = {"learning_rate": 1e-3, "step_size_rate": 1e-2}
    learner = make(tiny, "demonstration", name, inner_steps=2, step_decay=0.7, **rates)
    *supports, query = [tensors(batch) for batch in shifted(make_episodes, 5)]
    theta, sizes = learner.theta.detach().clone().requires_grad_(), learner.step_sizes.detach().clone().requires_grad_()
    width, losses = sizes.shape[1], []
    for task in range(4):
        here, loss = (
            theta,
            lambda at, data, row=task: learner.objective.loss(
                learner.network, at, {field: value[row] for field, value in data.items()}
            ),
        )
        for step, support in enumerate(supports):
            (gradient,) = torch.autograd.grad(loss(here, support), here, create_graph=not RULES[name].first_order)
            here = torch.cat([here[:width] - sizes[step] * gradient[:width], here[width:]])
        losses.append(loss(here, query))
    outer = torch.stack(losses).mean()
    leaves = {"theta": (theta, 1e-3)} | ({"step_sizes": (sizes, 1e-2)} if RULES[name].learned else {})
    grads = torch.autograd.grad(outer, [leaf for leaf, _ in leaves.values()])
    for (leaf, _), grad in zip(leaves.values(), grads, strict=True):
        leaf.grad = grad
    norm = torch.nn.utils.clip_grad_norm_([leaf for leaf, _ in leaves.values()], 1.0)
    torch.optim.Adam([{"params": [leaf], "lr": rate} for leaf, rate in leaves.values()]).step()
    figures = learner.update(shifted(make_episodes, 5), 0.0)
    assert figures["loss_after"] == pytest.approx(outer.item(), rel=1e-5)
    assert figures["gradient_norm"] == pytest.approx(norm.item(), rel=1e-4)
    torch.testing.assert_close(learner.theta.detach(), theta.detach(), atol=2e-5, rtol=0)
    torch.testing.assert_close(learner.step_sizes.detach(), sizes.detach(), atol=2e-4, rtol=0)


@pytest.mark.parametrize("objective", ["reward", "prediction"])
def test_only_the_clipped_rule_stops_at_ratios_that_leave_the_clip(tiny, make_episodes, objective: str):
    """In the first pass every ratio is 1; with a clip that no ratio reaches, both rules agree to the bit."""
    common = {"inner_steps": 1, "learning_rate": 2e-2, "divergence": 1e9}

    def after(name: str, passes: int, clip: float) -> Tensor:
        learner = make(tiny, objective, name, passes=passes, clip=clip, **common)
        learner.update(sampled(make_episodes, learner), 0.0)
        return learner.theta.detach()

    once, often = after("maml", 1, 0.05), after("maml", 5, 0.05)
    assert torch.equal(once, after("promp", 1, 0.05))
    assert torch.equal(often, after("promp", 5, 1e6))
    assert (often - after("promp", 5, 0.05)).abs().max() > 1e-4
    assert torch.equal(often, after("maml", 5, 1e6))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_cavia_adapts_the_context_alone_and_learns_everything(tiny, make_episodes, objective: str):
    learner = make(tiny, objective, "cavia", inner_steps=2, learning_rate=1e-2)
    batches = sampled(make_episodes, learner) if objective == "reward" else shifted(make_episodes, 0)
    start = learner.theta.detach().clone()
    with torch.no_grad():  # what is adapted must matter, even in the first iteration
        learner.theta[4:] += 0.1 * torch.randn(start[4:].shape, generator=torch.Generator().manual_seed(0))
    start = learner.theta.detach().clone()
    fields = [tensors(batches[0])[name][0] for name in learner.objective.fields]
    step = learner.adapt(start, torch.tensor(0), *fields)
    assert step.finite
    assert torch.equal(step.theta[4:], start[4:])
    assert (step.theta[:4] != start[:4]).all()
    learner.update(batches, 0.0)
    moved = learner.theta.detach() != start
    assert moved[:4].any()
    assert moved[4:].float().mean() > 0.5


@pytest.mark.parametrize(
    ("name", "step_size", "rate", "limit"),
    [("maml", 20.0, 3e-4, 1e-3), ("metasgd", 20.0, 3e-4, 1e-3), ("cavia", 100.0, 1e-3, 1e-4)],
)
def test_the_bound_is_on_policies_that_adapt_anew_with_the_new_parameters(
    tiny, make_episodes, name: str, step_size: float, rate: float, limit: float
):
    """Large inner steps carry a small outer one far: the KL before adaptation alone would let it pass."""
    found = {}
    for bound in (1e9, limit):
        learner = make(
            tiny, "reward", name, inner_steps=1, passes=1, learning_rate=rate, step_size=step_size, divergence=bound
        )
        batches = sampled(make_episodes, learner)
        query = torch.from_numpy(batches[-1].observation)
        start = torch.from_numpy(batches[0].observation)
        old, old_start = (
            vmap(learner.network)(adapted(learner, batches[:1]), query),
            learner.network(learner.theta, start),
        )
        learner.update(batches, 0.0)
        new, new_start = (
            vmap(learner.network)(adapted(learner, batches[:1]), query),
            learner.network(learner.theta, start),
        )
        spread = [one[1][:, None, None] for one in (new, old)]
        after = divergence(new[0], spread[0], old[0], spread[1]).mean().item()
        found[bound] = after, divergence(*new_start, *old_start).mean().item()
    assert found[1e9][1] < limit < found[1e9][0]
    assert 0 < found[limit][0] <= limit * 1.0001


@pytest.mark.parametrize("name", ["maml", "cavia"])
def test_training_may_begin_with_a_policy_that_can_walk_already(tiny, name: str, tmp_path: Path):
    config = tiny("reward", name, env="metarl/PointNavigation-v0", context=3)
    problem = Problem.of(config.env)
    plain = MLP(problem.observation, problem.action, config.hidden)
    start = plain.initial(torch.Generator().manual_seed(9))
    write_atomic(tmp_path / "theta.safetensors", save({"theta": start}))
    fresh, learner = (make_learner(replace(config, start=where), problem) for where in (None, str(tmp_path)))
    observation = torch.randn(20, 2)
    for found, expected in zip(learner.network(learner.theta, observation), plain(start, observation), strict=True):
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(fresh.network(fresh.theta, observation)[0], plain(start, observation)[0])
    with pytest.raises(ValueError, match="holds no learned policy"):
        make_learner(replace(config, start=str(tmp_path / "none")), problem)
    with pytest.raises(ValueError, match=f"start has {plain.size} parameters, expected"):
        make_learner(replace(config, start=str(tmp_path), hidden=(5,)), problem)


def test_guided_objectives_need_an_environment_that_guides(tiny):
    config = tiny("demonstration", env="metarl/PointNavigation-v0")
    with pytest.raises(ValueError, match="needs guided motions, which metarl/PointNavigation-v0 has not; use 'reward'"):
        make_learner(config, Problem.of(config.env))
