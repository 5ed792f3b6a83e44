"""What the gradient learners share: how a task's batches come about, and all tasks' inner steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import vmap

from envs.tasks import Task
from metarl.adaptation import inner_step
from metarl.episodes import Episodes
from metarl.learners.learner import ACTOR, ByGradient
from metarl.objectives import Batch, tensors
from metarl.sampling.serial import Sampler
from metarl.sampling.worker import Trial


def gather(learner: ByGradient, sampler: Sampler, tasks: Sequence[Task], key: tuple[int, int]) -> list[Episodes]:
    """Each inner step's batch, then the query, fields [task, episode, time, ...].

    Guided motions serve every inner step; attempts are made anew before each, by the theta that the step before left.
    """
    count, config = len(tasks), learner.config
    if learner.objective.gather == "guided":
        both = config.episodes + config.query
        trials = [Trial(task, (*key, index, 0), both, "guided") for index, task in enumerate(tasks)]
        motions = Episodes.stack(sampler.sample(trials))
        support = motions.map(lambda array: array[:, : config.episodes])
        query = motions.map(lambda array: array[:, config.episodes :])
        return [support] * config.inner_steps + [query]
    thetas, batches = learner.theta.detach().expand(count, -1), []
    for step in range(config.inner_steps + 1):
        episodes = config.query if step == config.inner_steps else config.episodes
        trials = [
            Trial(task, (*key, index, step), episodes, "explore", ACTOR, thetas[index].numpy())
            for index, task in enumerate(tasks)
        ]
        batches.append(Episodes.stack(sampler.sample(trials)))
        if step < config.inner_steps:
            thetas = inner_steps(learner, thetas, [tensors(batches[-1])], start=step)
    return batches


def inner_steps(learner: ByGradient, thetas: Tensor, supports: Sequence[Batch], start: int = 0) -> Tensor:
    """thetas [task, P] after one inner step on each support in turn. No gradient goes through."""
    sizes = learner.step_sizes.detach()
    with torch.no_grad():
        for index, support in enumerate(supports, start):
            step = torch.tensor(index)

            def one(theta: Tensor, batch: Batch, step: Tensor = step) -> Tensor:
                return inner_step(learner.network, learner.objective, theta, sizes, step, batch).theta

            thetas = vmap(one)(thetas, {name: support[name] for name in learner.objective.fields})
    return thetas


def shared(batches: Sequence[Episodes]) -> list[dict[str, Tensor]]:
    """As tensors; a batch that serves more than once stays one object."""
    made = {id(batch): tensors(batch) for batch in batches}
    return [made[id(batch)] for batch in batches]
