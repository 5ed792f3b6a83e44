"""Reptile: the whole mean displacement of tasks that take Adam's steps side by side."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from export.device.adapter import Adapter
from metarl.episodes import Episodes
from metarl.graphs import adapt_graph
from metarl.learners.reptile import Reptile
from metarl.networks import MLP
from metarl.objectives import Demonstration, tensors

NETWORK = MLP(3, 2, (8,))


def make(tiny, **changes: Any) -> Reptile:
    settings = {"learning_rate": 0.3, "step_size": 1e-2, "inner_steps": 3, **changes}
    return Reptile(NETWORK, Demonstration(), tiny("demonstration", "reptile", **settings))


def motions(make_episodes, seed: int, tasks: int = 4) -> list[Episodes]:
    """Four batches, three to step on and the last, each of random motions of its own."""
    return [make_episodes(10 * seed + index, tasks, 2, 5) for index in range(4)]


def loss_of(theta: Tensor, batch: Episodes, task: int) -> Tensor:
    return Demonstration().loss(NETWORK, theta, {name: value[task] for name, value in tensors(batch).items()})


def by_hand(learner: Reptile, batches: list[Episodes], moment: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
    """theta after one outer step, in plain loops; the moment and its count go in and come out."""
    start = learner.theta.detach()
    thetas = [start.clone() for _ in batches[0].mask]
    for batch in batches:
        found = []
        for task, theta in enumerate(thetas):
            at = theta.clone().requires_grad_()
            found.append(torch.autograd.grad(loss_of(at, batch, task), at)[0])
        moment, count = 0.999 * moment + 0.001 * torch.stack(found).square().mean(0), count + 1
        size = learner.config.step_size / ((moment / (1 - 0.999**count)).sqrt() + 1e-8)
        thetas = [theta - size * gradient for theta, gradient in zip(thetas, found, strict=True)]
    displacement = torch.stack([theta - start for theta in thetas]).mean(0)
    return start + learner.config.learning_rate * displacement, moment, count


def test_theta_goes_a_share_of_the_whole_mean_displacement(tiny, make_episodes):
    learner, moment, count = make(tiny), torch.zeros(NETWORK.size), 0
    for iteration in range(3):  # the moment outlives tasks and iterations
        batches = motions(make_episodes, iteration)
        expected, moment, count = by_hand(learner, batches, moment, count)
        before = learner.theta.clone()
        learner.update(batches, 0.0)
        torch.testing.assert_close(learner.theta, expected, rtol=1e-4, atol=1e-6)
        assert (learner.theta - before).norm() > 1e-3
    assert count == 12


def test_one_task_alone_takes_the_steps_of_torchs_adam_without_momentum(tiny, make_episodes):
    learner = make(tiny, learning_rate=1.0)
    theta = learner.theta.clone().requires_grad_()
    adam = torch.optim.Adam([theta], lr=learner.config.step_size, betas=(0.0, 0.999))
    for iteration in range(3):
        batches = motions(make_episodes, iteration, tasks=1)
        for batch in batches:
            adam.zero_grad()
            loss_of(theta, batch, 0).backward()
            adam.step()
        learner.update(batches, 0.0)
        torch.testing.assert_close(learner.theta, theta.detach(), rtol=1e-4, atol=2e-6)


def test_epsilon_falls_by_a_cosine_to_a_fiftieth(tiny, make_episodes):
    moved = []
    for progress in (0.0, 0.5, 1.0):
        learner = make(tiny)
        start = learner.theta.clone()
        learner.update(motions(make_episodes, 0), progress)
        moved.append((learner.theta - start).norm().item())
    assert moved[1] == pytest.approx(0.51 * moved[0], rel=1e-3)
    assert moved[2] == pytest.approx(0.02 * moved[0], rel=1e-2)


def test_the_exported_step_is_the_one_that_training_takes_with_its_moment(tiny, make_episodes):
    """After a long training a step hardly changes the moment, so that a plain step of fixed sizes is what it takes."""
    learner = make(tiny, learning_rate=1e-3, step_size=1e-3)
    for iteration in range(60):
        learner.update(motions(make_episodes, iteration % 5), 0.0)
    batch = motions(make_episodes, 0, tasks=1)[0]
    theta = learner.theta
    fields = [tensors(batch)[name][0] for name in learner.objective.fields]
    assert learner.step_sizes.shape == (1, NETWORK.size)
    for step in (0, 7):
        taken = learner.adapt(theta, torch.tensor(step), *fields)
        slope = torch.func.grad(lambda at: loss_of(at, batch, 0))(theta)
        torch.testing.assert_close(taken.theta, theta - learner.step_sizes[0] * slope)
        assert taken.finite
    trained, sizes = theta.clone().requires_grad_(), learner.step_sizes[0]
    adam = torch.optim.Adam([trained], lr=1e-3, betas=(0.0, 0.999))
    state = learner.state()
    adam.state[trained] = {
        "step": state["count"].clone(), "exp_avg": torch.zeros_like(theta), "exp_avg_sq": state["moment"].clone()
    }  # fmt: skip
    loss_of(trained, batch, 0).backward()
    adam.step()
    torch.testing.assert_close(taken.theta, trained.detach(), rtol=0, atol=2e-5)
    assert sizes.max() > 1.5 * sizes.min()  # a size per parameter, not one for all
    assert (taken.theta - theta).abs().max() > 2e-4


def test_before_training_a_step_is_a_plain_one(tiny):
    assert torch.equal(make(tiny).step_sizes, torch.full((1, NETWORK.size), 1e-2))


def test_it_learns_to_be_near_what_tasks_need(tiny, make_episodes):
    """Tasks demand an offset each; from where Reptile ends, four steps leave less error than from where it began."""
    rng = np.random.default_rng(0)

    def batches(seed: int) -> list[Episodes]:
        offset = 1 + 0.3 * rng.standard_normal((4, 1, 1, 2)).astype(np.float32)
        return [replace(b, action=np.broadcast_to(offset, b.action.shape)) for b in motions(make_episodes, seed)]

    learner = make(tiny)
    first = learner.update(batches(0), 0.0)
    for iteration in range(1, 60):
        last = learner.update(batches(iteration), 0.0)
    assert last["loss_after"] < 0.3 * first["loss_after"]
    assert last["loss_after"] < last["loss_before"]


def test_a_loaded_state_goes_on_with_the_same_bits(tiny, make_episodes):
    learner, other = make(tiny), make(tiny, seed=1)
    for iteration in range(2):
        learner.update(motions(make_episodes, iteration), 0.1)
    other.load({name: value.clone() for name, value in learner.state().items()})
    for iteration in range(2, 4):
        batches = motions(make_episodes, iteration)
        assert learner.update(batches, 0.2) == other.update(batches, 0.2)
    found = other.state()
    assert all(torch.equal(found[name], value) for name, value in learner.state().items())
    fresh = make(tiny)  # the second moment matters: without it the steps differ
    fresh.load({**learner.state(), "moment": torch.zeros(NETWORK.size), "count": torch.zeros(())})
    batches = motions(make_episodes, 9)
    for one in (learner, fresh):
        one.update(batches, 0.2)
    assert not torch.allclose(fresh.theta, learner.theta)


def test_a_state_of_another_size_is_refused(tiny):
    with pytest.raises(ValueError, match="checkpoint holds moment of shape"):
        make(tiny).load({**make(tiny).state(), "moment": torch.zeros(3)})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_changes_nothing(tiny, make_episodes, value: float):
    learner = make(tiny)
    learner.update(motions(make_episodes, 0), 0.0)
    before = {name: tensor.clone() for name, tensor in learner.state().items()}
    spoilt = motions(make_episodes, 1)
    spoilt[1] = replace(spoilt[1], action=np.full_like(spoilt[1].action, value))
    with pytest.raises(FloatingPointError, match="mean displacement is not finite"):
        learner.update(spoilt, 0.0)
    assert all(torch.equal(learner.state()[name], tensor) for name, tensor in before.items())


def test_the_graph_takes_the_trained_step_where_a_parameter_never_had_a_gradient(tiny, make_episodes):
    """By demonstration the log standard deviation has none, and its step size is next to infinite."""
    # So large that the exporter does not fold its constants.
    learner = Reptile(MLP(3, 2, (128, 128)), Demonstration(), tiny("demonstration", "reptile"))
    learner.update(motions(make_episodes, 0), 0.0)
    assert learner.state()["moment"].min() == 0
    batch = motions(make_episodes, 0, tasks=1)[0]
    fields = {name: getattr(batch, name)[0] for name in learner.objective.fields}
    taken = Adapter(adapt_graph(learner)).step(learner.theta.numpy(), 0, fields)
    wanted = learner.adapt(learner.theta, torch.tensor(0), *(torch.from_numpy(value) for value in fields.values()))
    assert taken.finite
    np.testing.assert_allclose(taken.theta, wanted.theta.numpy(), rtol=0, atol=1e-5)
