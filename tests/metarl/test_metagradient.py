"""The meta-gradient against finite differences, against autograd through every step, and against itself."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.metagradient import Loss, MetaGradient, meta_gradient
from metarl.networks import MLP, log_probability
from metarl.objectives import Batch, Demonstration, Reward

NETWORK = MLP(3, 2, (4,))
TASKS = 3
THETA = NETWORK.initial(torch.Generator().manual_seed(3), std=0.9).double()
THETA[:-2] *= 2


def ratio_to_data(theta: Tensor, batch: Batch) -> Tensor:
    """Reward's loss with the old log-probabilities given: the surrogate whose differences can be taken."""
    logp = log_probability(*NETWORK(theta, batch["observation"]), batch["action"])
    weight = Reward().advantage(batch["reward"], batch["mask"]) * batch["mask"]
    return -(torch.exp(logp - batch["old"]) * weight).sum() / batch["mask"].sum()


LOSSES: dict[str, Loss] = {
    "demonstration": lambda theta, batch: Demonstration().loss(NETWORK, theta, batch),
    "reward": lambda theta, batch: Reward().loss(NETWORK, theta, batch),
    "data": ratio_to_data,
}
SMOOTH = ["demonstration", "data"]  # those in which nothing is detached


@pytest.fixture(scope="module")
def problem(make_batch: Callable[..., Batch]) -> Callable[..., tuple[Any, ...]]:
    def make(steps: int, adapted: int = NETWORK.size) -> tuple[Tensor, Tensor, list[Batch], Batch]:
        def stacked(seed: int) -> Batch:
            tasks = [dict(make_batch(10 * seed + task)) for task in range(TASKS)]
            for task in tasks:
                logp = log_probability(*NETWORK(THETA, task["observation"]), task["action"])
                task["old"] = logp + 0.1 * torch.sin(torch.arange(15.0).double()).reshape(3, 5)
            return {name: torch.stack([task[name] for task in tasks]) for name in tasks[0]}

        generator = torch.Generator().manual_seed(steps)
        sizes = 0.05 + 0.1 * torch.rand(steps, adapted, generator=generator, dtype=torch.float64)
        return THETA, sizes, [stacked(seed) for seed in range(steps)], stacked(99)

    return make


def through_every_step(
    loss: Loss, theta: Tensor, sizes: Tensor, supports: list[Batch], query: Batch, create_graph: bool = True
) -> Tensor:
    """The mean outer loss, as plain autograd code task by task."""
    total, adapted = torch.zeros((), dtype=theta.dtype), sizes.shape[1]
    for task in range(TASKS):
        moved = theta
        for size, support in zip(sizes, supports, strict=True):
            at = moved if moved.requires_grad else moved.detach().requires_grad_()
            value = loss(at, {name: field[task] for name, field in support.items()})
            (gradient,) = torch.autograd.grad(value, at, create_graph=create_graph)
            step = torch.cat((size * gradient[:adapted], torch.zeros(len(theta) - adapted, dtype=theta.dtype)))
            moved = moved - step
        total = total + loss(moved, {name: field[task] for name, field in query.items()})
    return total / TASKS


def differences(value: Callable[[Tensor], Tensor], at: Tensor, epsilon: float = 1e-5) -> Tensor:
    found = torch.empty_like(at)
    for index in range(at.numel()):
        nudge = torch.zeros_like(at)
        nudge.view(-1)[index] = epsilon
        found.view(-1)[index] = (value(at + nudge) - value(at - nudge)).detach() / (2 * epsilon)
    return found


def plain(loss: Loss, theta: Tensor, sizes: Tensor, supports: list[Batch], query: Batch, **how: Any) -> MetaGradient:
    theta, sizes = theta.clone().requires_grad_(), sizes.clone().requires_grad_()
    value = through_every_step(loss, theta, sizes, supports, query, **how)
    return MetaGradient(value.detach(), *torch.autograd.grad(value, (theta, sizes)))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("group", [1, 2, TASKS])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", SMOOTH)
def test_it_is_what_finite_differences_find(problem, name: str, steps: int, group: int):
    theta, sizes, supports, query = problem(steps)
    found = meta_gradient(LOSSES[name], LOSSES[name], theta, sizes, supports, query, group=group)

    def value(theta: Tensor, sizes: Tensor) -> Tensor:
        return through_every_step(LOSSES[name], theta, sizes, supports, query, create_graph=False)

    torch.testing.assert_close(found.loss, value(theta, sizes))
    by_theta = differences(lambda at: value(at, sizes), theta)
    torch.testing.assert_close(found.theta, by_theta, rtol=1e-6, atol=1e-8)
    by_size = differences(lambda at: value(theta, at), sizes)
    torch.testing.assert_close(found.step_sizes, by_size, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("group", [1, 2, TASKS])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_it_is_what_autograd_through_every_step_finds(problem, name: str, steps: int, group: int):
    data = problem(steps)
    found = meta_gradient(LOSSES[name], LOSSES[name], *data, group=group)
    torch.testing.assert_close(found, plain(LOSSES[name], *data), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("group", [1, TASKS])
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_not_adapted_has_its_mixed_derivatives(problem, name: str, group: int):
    data = problem(2, 5)
    found = meta_gradient(LOSSES[name], LOSSES[name], *data, group=group)
    assert found.step_sizes.shape == (2, 5)
    torch.testing.assert_close(found, plain(LOSSES[name], *data), rtol=1e-10, atol=1e-13)
    first = meta_gradient(LOSSES[name], LOSSES[name], *data, first_order=True, group=group)
    assert (first.theta[5:] - found.theta[5:]).norm() > 1e-3 * found.theta[5:].norm()


@pytest.mark.parametrize("adapted", [5, NETWORK.size])
@pytest.mark.parametrize("group", [1, TASKS])
@pytest.mark.parametrize("name", LOSSES)
def test_first_order_takes_inner_gradients_for_constants(problem, name: str, group: int, adapted: int):
    data = problem(2, adapted)
    found = meta_gradient(LOSSES[name], LOSSES[name], *data, first_order=True, group=group)
    torch.testing.assert_close(found, plain(LOSSES[name], *data, create_graph=False), rtol=1e-10, atol=1e-13)
    exact = meta_gradient(LOSSES[name], LOSSES[name], *data, group=group)
    assert (exact.theta - found.theta).norm() > 1e-3 * exact.theta.norm()


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("adapted", [5, NETWORK.size])
@pytest.mark.parametrize("group", [1, 2, TASKS])
@pytest.mark.parametrize("name", LOSSES)
def test_along_the_way_it_is_the_mean_over_shorter_ways(
    problem, name: str, group: int, adapted: int, first_order: bool
):
    theta, sizes, supports, query = problem(3, adapted)
    along = [supports[2], supports[0]]
    found = meta_gradient(
        LOSSES[name], LOSSES[name], theta, sizes, supports, query, first_order, group=group, along=along
    )
    ways = [
        plain(LOSSES[name], theta, sizes[:count], supports[:count], last, create_graph=not first_order)
        for count, last in enumerate([*along, query], 1)
    ]
    torch.testing.assert_close(found.loss, sum(way.loss for way in ways) / 3)
    torch.testing.assert_close(found.theta, sum(way.theta for way in ways) / 3, rtol=1e-10, atol=1e-13)
    by_size = torch.zeros_like(sizes)
    for count, way in enumerate(ways, 1):
        by_size[:count] += way.step_sizes / 3
    torch.testing.assert_close(found.step_sizes, by_size, rtol=1e-10, atol=1e-13)
    with pytest.raises(ValueError, match="along has 1 batches, expected none or 2"):
        meta_gradient(LOSSES[name], LOSSES[name], theta, sizes, supports, query, along=along[:1])


def test_inner_and_outer_losses_may_differ_and_batches_repeat(problem):
    theta, sizes, (support, *_), query = problem(3)
    losses = LOSSES["reward"], LOSSES["demonstration"]
    found = meta_gradient(*losses, theta, sizes, [support] * 3, query)
    assert not torch.allclose(found.theta, meta_gradient(*losses[::-1], theta, sizes, [support] * 3, query).theta)
    for group in (1, 2):
        again = meta_gradient(*losses, theta, sizes, [support] * 3, query, group=group)
        torch.testing.assert_close(again, found, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("group", [1, TASKS])
def test_a_linear_inner_loss_has_no_second_derivative(problem, group: int):
    data = problem(2)

    def linear(theta: Tensor, batch: Batch) -> Tensor:
        return theta.sum() * batch["reward"].mean()

    found = meta_gradient(linear, LOSSES["demonstration"], *data, group=group)
    first = meta_gradient(linear, LOSSES["demonstration"], *data, group=group, first_order=True)
    torch.testing.assert_close(found, first, rtol=0, atol=0)


def large(tasks: int = 5, steps: int = 2) -> tuple[MLP, tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(0)
    network = MLP(8, 3, (32, 32))

    def batch() -> Batch:
        sizes = {"observation": (8,), "action": (3,), "reward": ()}
        fields = {name: torch.randn(tasks, 10, 50, *size, generator=generator) for name, size in sizes.items()}
        return fields | {"mask": torch.ones(tasks, 10, 50)}

    theta, sizes = network.initial(generator), torch.full((steps, network.size), 0.1)
    return network, (theta, sizes, [batch() for _ in range(steps)], batch())


@pytest.mark.parametrize("name", ["demonstration", "reward"])
def test_the_ways_agree_in_float32(name: str):
    network, data = large()

    def loss(theta: Tensor, batch: Batch) -> Tensor:
        return {"demonstration": Demonstration(), "reward": Reward()}[name].loss(network, theta, batch)

    one, all_together = (meta_gradient(loss, loss, *data, group=group) for group in (1, 5))
    for a, b in zip(one, all_together, strict=True):
        assert (a - b).norm() <= 1e-6 * a.norm()


@pytest.mark.parametrize("group", [1, 2, None])
def test_the_number_of_threads_changes_no_bit(threads, group: int | None):
    network, data = large()

    def loss(theta: Tensor, batch: Batch) -> Tensor:
        return Reward().loss(network, theta, batch)

    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append(meta_gradient(loss, loss, *data, group=group))
        assert torch.get_num_threads() == count
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_nothing_given_is_changed_and_a_caller_without_gradients_gets_them(problem):
    theta, sizes, supports, query = problem(1)
    theta = theta.clone().requires_grad_()
    kept = [tensor.detach().clone() for tensor in (theta, sizes)]
    with torch.no_grad():
        found = meta_gradient(LOSSES["reward"], LOSSES["reward"], theta, sizes, supports, query)
    assert found.theta.norm() > 0
    assert theta.grad is None
    assert not any(value.requires_grad for value in found)
    assert all(torch.equal(a, b) for a, b in zip(kept, (theta, sizes), strict=True))


def test_what_does_not_fit_is_refused(problem):
    theta, sizes, supports, query = problem(2)
    loss = LOSSES["demonstration"]
    with pytest.raises(ValueError, match=r"step_sizes \[21\]"):
        meta_gradient(loss, loss, theta, torch.ones(21), supports, query)
    with pytest.raises(ValueError, match="A <= P"):
        meta_gradient(loss, loss, theta[:4], sizes, supports, query)
    with pytest.raises(ValueError, match="1 supports for 2"):
        meta_gradient(loss, loss, theta, sizes, supports[:1], query)
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        meta_gradient(loss, loss, theta, sizes, supports, {name: field[:2] for name, field in query.items()})
