"""The exact gradient of a loss after inner steps, through those steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import starmap
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from metarl.objectives import Batch

Loss = Callable[[Tensor, Batch], Tensor]

# Elements of a query batch up to which tasks are worth putting under one vmap: below, calling operators is what costs;
# above, one task's matrices fill the cache and batched products are the slower ones. Measured with 64-64 networks.
GROUP = 131_072


class MetaGradient(NamedTuple):
    """The outer loss, mean over tasks, and its gradients in theta [P] and in step_sizes [K, A]."""

    loss: Tensor
    theta: Tensor
    step_sizes: Tensor


def meta_gradient(
    inner: Loss,
    outer: Loss,
    theta: Tensor,
    step_sizes: Tensor,
    supports: Sequence[Batch],
    query: Batch,
    first_order: bool = False,
    group: int | None = None,
    along: Sequence[Batch] = (),
) -> MetaGradient:
    """d mean over tasks of outer(theta_K, query) / d (theta, step_sizes), with
    theta_{k+1} = theta_k - step_sizes[k] * grad inner(theta_k, supports[k]) (Finn et al. 2017; Li et al. 2017).

    inner, outer: one task's scalar loss at theta [P] on its batch, pure and of torch operators that vmap knows.
    step_sizes [K, A]: where A < P, only the first A elements of theta are adapted, each task its own, and the others
    are shared (Zintgraf et al. 2019, "CAVIA"). supports: one batch per step, every field [task, ...]; query: likewise.
    first_order takes the inner gradients for constants (FOMAML). group: how many tasks go under one vmap, by default
    as many as are small enough together. along: batches for theta_1 ... theta_{K-1}, like query; the outer loss is then
    the mean over them and the query's, so that each step must pay (Antoniou et al. 2019, "MAML++").

    Every inner step is an autograd graph of its own, which ends at theta_k; from the outer gradient v at theta_K they
    are walked back, v <- v - H_k (step_sizes[k] * v), where the product with the Hessian H_k is a second backward pass
    through that step's graph. Only the graphs of the groups at work exist: memory is K times that of one task's step.
    With torch.get_num_threads() >= 2 groups run on so many threads. Each computes with one thread of torch's and
    groups are summed in their order: the result does not depend, to the bit, on how many threads there are.

    Raises ValueError if shapes do not fit each other.
    """
    tasks = _tasks(theta, step_sizes, supports, [*along, query])
    if group is None:
        elements = sum(field.numel() for field in query.values()) // tasks
        group = max(1, GROUP // max(elements, 1))
    theta, step_sizes = theta.detach(), step_sizes.detach()

    def one(start: int, stop: int) -> MetaGradient:
        parts = [{name: field[start:stop] for name, field in batch.items()} for batch in (*supports, *along, query)]
        with torch.enable_grad():
            return _walk(
                _each(inner, stop - start), _each(outer, stop - start),
                theta.repeat(stop - start, 1), step_sizes, parts[: len(supports)], parts[len(supports) :], first_order,
            )  # fmt: skip

    spans = [(start, min(start + group, tasks)) for start in range(0, tasks, group)]
    with _single_threaded() as threads:
        if min(threads, len(spans)) == 1:
            found = list(starmap(one, spans))
        else:
            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(one, *zip(*spans, strict=True)))
    return MetaGradient(*(torch.stack(values).sum(0) / tasks for values in zip(*found, strict=True)))


def _tasks(theta: Tensor, step_sizes: Tensor, supports: Sequence[Batch], queries: Sequence[Batch]) -> int:
    """The number of tasks, once everything fits."""
    if theta.ndim != 1 or step_sizes.ndim != 2 or step_sizes.shape[1] > len(theta):
        raise ValueError(
            f"theta has shape {list(theta.shape)} and step_sizes {list(step_sizes.shape)}, expected [P] and [K, A] "
            "with A <= P: one step size per step and adapted parameter"
        )
    if len(supports) != len(step_sizes):
        raise ValueError(
            f"{len(supports)} supports for {len(step_sizes)} rows of step_sizes: give one of each per step"
        )
    if len(queries) not in (1, len(supports)):
        raise ValueError(
            f"along has {len(queries) - 1} batches, expected none or {len(supports) - 1}: one between steps"
        )
    found = {len(field) for batch in (*supports, *queries) for field in batch.values()}
    if len(found) != 1 or 0 in found:
        raise ValueError(
            f"fields of supports and query have first axes of lengths {sorted(found)}, expected one: tasks"
        )
    return found.pop()


def _each(loss: Loss, tasks: int) -> Loss:
    """loss of one task, as a function of thetas [task, P] and fields [task, ...] that returns the sum of losses."""
    if tasks > 1:
        return lambda thetas, batch: vmap(loss)(thetas, batch).sum()
    return lambda thetas, batch: loss(thetas.squeeze(0), {name: field.squeeze(0) for name, field in batch.items()})


def _walk(
    inner: Loss,
    outer: Loss,
    thetas: Tensor,
    step_sizes: Tensor,
    supports: Sequence[Batch],
    queries: Sequence[Batch],
    first_order: bool,
) -> MetaGradient:
    """Forward over the steps and back, for thetas [task, P] and losses that are sums over these tasks.

    queries: for the last thetas, or for those after every step.
    """
    count, between = step_sizes.shape[1], dict(enumerate(queries[:-1], 1))
    losses: list[Tensor] = []
    adapted, rest = (part.contiguous().requires_grad_() for part in thetas.tensor_split([count], 1))

    def at(adapted: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What a loss takes, and what it is differentiated by."""
        return (torch.cat((adapted, rest), 1), (adapted, rest)) if rest.numel() else (adapted, (adapted,))

    def judged(query: Batch) -> tuple[Tensor, ...]:
        whole, leaves = at(adapted)
        loss = outer(whole, query) / len(queries)
        losses.append(loss.detach())
        return torch.autograd.grad(loss, leaves)

    steps: list[tuple[tuple[Tensor, ...], Tensor]] = []
    pulls: dict[int, tuple[Tensor, ...]] = {}
    for index, (sizes, support) in enumerate(zip(step_sizes, supports, strict=True)):
        if index in between:
            pulls[index] = judged(between[index])
        whole, leaves = at(adapted)
        (gradient,) = torch.autograd.grad(inner(whole, support), adapted, create_graph=not first_order)
        steps.append((leaves, gradient))
        adapted = (adapted.detach() - sizes * gradient.detach()).requires_grad_()
    back = judged(queries[-1])
    by_size = torch.empty_like(step_sizes)
    for index in reversed(range(len(steps))):
        leaves, gradient = steps.pop()
        by_size[index] = -(back[0] * gradient.detach()).sum(0)
        if gradient.requires_grad:  # it does not where the loss is linear
            moved = -step_sizes[index] * back[0]
            products = torch.autograd.grad(gradient, leaves, moved, allow_unused=True, materialize_grads=True)
            back = tuple(a + b for a, b in zip(back, products, strict=True))
        if index in pulls:
            back = tuple(a + b for a, b in zip(back, pulls[index], strict=True))
    return MetaGradient(torch.stack(losses).sum(0), torch.cat(back, 1).sum(0), by_size)


@contextmanager
def _single_threaded() -> Iterator[int]:
    """Operators that start meanwhile use one thread; yields how many they were given before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
