"""The inner step: what it does to theta, and its derivatives against finite differences.

For `reward` the trusted side differentiates the importance-weighted policy gradient
G(theta; behaviour) = -sum(advantage * p(theta) / p(behaviour) * grad log p(theta)) / steps, in which the behaviour
is each step's own theta of the unperturbed path, held still: actions were drawn once, by a policy that does not
move when theta is nudged. That is the second derivative that sampled data has; differences of the plain policy
gradient would miss the part that comes from the ratio.
"""

import pytest
import torch
from torch import Tensor

from metarl.adaptation import inner_step
from metarl.metagradient import meta_gradient
from metarl.networks import MLP, log_probability
from metarl.objectives import Batch, Demonstration, Prediction, Reward

NETWORKS = {"demonstration": MLP(2, 2, (3,)), "reward": MLP(2, 2, (3,)), "prediction": MLP(2, 2, (3,), predicts=2)}
OBJECTIVES = {"demonstration": Demonstration(), "reward": Reward(), "prediction": Prediction((0, 1))}
NETWORK = NETWORKS["demonstration"]
BATCHES = [(seed, lengths) for seed, lengths in enumerate([(4, 2, 3), (3, 3, 3), (2, 4, 4), (3, 4, 2)])]


def theta_and_sizes(steps: int, network: MLP = NETWORK) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    theta = torch.randn(network.size, generator=generator, dtype=torch.float64) * 0.5
    theta[NETWORK.size - 2 : NETWORK.size] = torch.tensor([-0.6, -0.3])  # within the bounds for good
    sizes = 0.01 + 0.04 * torch.rand(steps, network.size, generator=generator, dtype=torch.float64)
    return theta, sizes


def adapted_loss(name: str, theta: Tensor, sizes: Tensor, data: list[Batch]) -> Tensor:
    """The query's loss after a step on each support batch, by the code under test."""
    *supports, query = data
    for step, batch in enumerate(supports):
        theta = inner_step(NETWORKS[name], OBJECTIVES[name], theta, sizes, torch.tensor(step), batch).theta
    return OBJECTIVES[name].loss(NETWORKS[name], theta, query)


def surrogate(name: str, theta: Tensor, behaviour: Tensor, batch: Batch) -> Tensor:
    """The objective at theta on data of another, fixed theta: no gradient is stopped in here."""
    if name != "reward":
        return OBJECTIVES[name].loss(NETWORKS[name], theta, batch)
    new, old = (log_probability(*NETWORK(t, batch["observation"]), batch["action"]) for t in (theta, behaviour))
    weight = Reward().advantage(batch["reward"], batch["mask"]) * batch["mask"]
    return -(torch.exp(new - old) * weight).sum() / batch["mask"].sum()


def follow(name: str, theta: Tensor, sizes: Tensor, data: list[Batch], path: list[Tensor]) -> list[Tensor]:
    """theta before each batch of data; `path` holds the behaviours, or is empty for theta's own."""
    thetas = [theta]
    for index, batch in enumerate(data[:-1]):
        at = thetas[-1].detach().requires_grad_()
        behaviour = path[index] if path else at.detach()
        (gradient,) = torch.autograd.grad(surrogate(name, at, behaviour, batch), at)
        thetas.append(thetas[-1] - sizes[index] * gradient)
    return thetas


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_meta_gradients_agree_with_finite_differences(make_batch, name: str, steps: int):
    data = [make_batch(seed, lengths, observation=2) for seed, lengths in BATCHES[: steps + 1]]
    theta, sizes = theta_and_sizes(steps, NETWORKS[name])
    path = follow(name, theta, sizes, data, [])

    def trusted(values: Tensor) -> float:
        start, rows = values[: len(theta)], values[len(theta) :].reshape(steps, -1)
        end = follow(name, start, rows, data, path)[-1]
        return surrogate(name, end, path[-1], data[-1]).item()

    meta = torch.cat([theta, sizes.flatten()]).requires_grad_()
    start, rows = meta[: len(theta)], meta[len(theta) :].reshape(steps, -1)
    (found,) = torch.autograd.grad(adapted_loss(name, start, rows, data), meta)
    at, small = meta.detach(), 1e-6
    nudges = small * torch.eye(len(at), dtype=at.dtype)
    slopes = [(trusted(at + nudge) - trusted(at - nudge)) / 2 / small for nudge in nudges]
    torch.testing.assert_close(found, torch.tensor(slopes, dtype=at.dtype), rtol=1e-5, atol=1e-8)
    acts = 10 if name == "prediction" else 2  # the layer that acts; demonstrations do not touch the spread alone
    assert (found != 0).sum() >= len(found) - (steps + 1) * acts


@pytest.mark.parametrize("name", OBJECTIVES)
def test_first_order_takes_the_gradient_where_adaptation_ends(make_batch, name: str):
    data = [make_batch(seed, lengths, observation=2) for seed, lengths in BATCHES[:3]]
    theta, sizes = theta_and_sizes(2, NETWORKS[name])
    theta.requires_grad_()
    supports = [{field: value[None] for field, value in batch.items()} for batch in data]

    def loss(at: Tensor, batch: Batch) -> Tensor:
        return OBJECTIVES[name].loss(NETWORKS[name], at, batch)

    found = meta_gradient(loss, loss, theta, sizes, supports[:2], supports[2], first_order=True).theta
    (full,) = torch.autograd.grad(adapted_loss(name, theta, sizes, data), theta)
    end = follow(name, theta.detach(), sizes, data, [])[-1].requires_grad_()
    (expected,) = torch.autograd.grad(OBJECTIVES[name].loss(NETWORKS[name], end, data[-1]), end)
    torch.testing.assert_close(found, expected)
    assert (found - full).norm() > 0.01 * full.norm()


def test_each_step_has_its_row_and_beyond_them_the_last_one_serves(make_batch):
    batch, objective = make_batch(observation=2), Demonstration()
    theta, sizes = theta_and_sizes(3)
    gradient = torch.func.grad(lambda at: objective.loss(NETWORK, at, batch))(theta)
    for step, row in enumerate([0, 1, 2, 2, 2]):
        found = inner_step(NETWORK, objective, theta, sizes, torch.tensor(step), batch)
        torch.testing.assert_close(found.theta, theta - sizes[row] * gradient)
        torch.testing.assert_close(found.loss, objective.loss(NETWORK, theta, batch))
        torch.testing.assert_close(found.gradient_norm, gradient.norm())
        assert found.finite


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("name", "field"), [("demonstration", "action"), ("reward", "reward")])
def test_what_is_not_finite_is_told(make_batch, name: str, field: str, value: float):
    batch = make_batch(observation=2)
    batch[field][0, 0] = value
    theta, sizes = theta_and_sizes(1)
    step = inner_step(NETWORK, OBJECTIVES[name], theta, sizes, torch.tensor(0), batch)
    figures = (step.theta, step.loss, step.gradient_norm)
    assert not step.finite
    assert not all(torch.isfinite(figure).all() for figure in figures)


def test_a_gradient_too_long_to_measure_is_not_finite(make_batch):
    network, batch = MLP(2, 2, ()), {k: v.float() for k, v in make_batch(observation=2).items()}
    batch["observation"], batch["action"] = batch["observation"] * 1e10, batch["action"] * 1e10
    theta = torch.zeros(network.size)
    step = inner_step(network, Demonstration(), theta, torch.full((1, network.size), 0.1), torch.tensor(0), batch)
    assert torch.isfinite(step.theta).all()
    assert torch.isfinite(step.loss)
    assert not torch.isfinite(step.gradient_norm)
    assert not step.finite


def test_a_context_moves_alone(make_batch):
    """As in CAVIA: the context takes a step against its own gradient, and not a bit of the rest changes."""
    network, objective, batch = MLP(2, 2, (3,), context=4), Demonstration(), make_batch(observation=2)
    theta = torch.randn(network.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradient = torch.func.grad(lambda at: objective.loss(network, at, batch))(theta)
    step = inner_step(network, objective, theta, torch.full((1, 4), 0.3).double(), torch.tensor(0), batch)
    assert torch.equal(step.theta[4:], theta[4:])
    torch.testing.assert_close(step.theta[:4], theta[:4] - 0.3 * gradient[:4])
    torch.testing.assert_close(step.gradient_norm, gradient[:4].norm())
    assert gradient[4:].norm() > 0.1
