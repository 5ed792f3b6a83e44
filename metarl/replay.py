"""Guided motions are simulated once and learned from in several passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from envs.tasks import Task
from metarl.config import Config
from metarl.episodes import Episodes

Gathered = tuple[list[Task], list[Episodes]]  # tasks, and the inner steps' batches of them, then the query


def replayed(gather: Callable[[int], Gathered], config: Config) -> Callable[[int], Gathered]:
    """What an iteration learns from, where the first pass alone gathers anything: `config.fresh` iterations.

    From the second pass on, tasks meet in other batches, and other motions of theirs are adapted to. All that follows
    from the iteration's number, so that a run that was interrupted gathers again what it needs, and goes on alike.
    """
    if config.fresh == config.iterations:
        return gather
    fresh, kept = config.fresh, cache(gather)

    @cache
    def pool() -> tuple[list[Task], Episodes]:
        """All tasks, and all motions of each."""
        found = [kept(iteration) for iteration in range(fresh)]
        motions = [Episodes.join([batches[0], batches[-1]], axis=1) for _, batches in found]
        return [task for tasks, _ in found for task in tasks], Episodes.join(motions)

    def again(iteration: int) -> Gathered:
        turn, place = divmod(iteration, fresh)
        if not turn:
            return kept(iteration)
        tasks, motions = pool()
        met = np.random.default_rng([config.seed, turn]).permutation(len(tasks))
        rows = met[place * config.tasks :][: config.tasks]
        every = np.tile(np.arange(motions.mask.shape[1]), (len(rows), 1))
        order = np.random.default_rng([config.seed, turn, place]).permuted(every, axis=1)
        drawn = motions.map(lambda field: field[rows[:, None], order])
        support = drawn.map(lambda field: field[:, : config.episodes])
        query = drawn.map(lambda field: field[:, config.episodes :])
        return [tasks[row] for row in rows], [support] * config.inner_steps + [query]

    return again
