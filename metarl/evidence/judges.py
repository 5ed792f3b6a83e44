"""How a trained run is judged for a table: on tasks that it never saw, all figures as plain values."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import torch

from metarl.checkpoint import Run
from metarl.episodes import Episodes
from metarl.evaluation import ATTEMPTS, EVALUATION, Evaluator, load_learner
from metarl.learners.learner import ACTOR
from metarl.sampling.opening import open_sampler
from metarl.sampling.worker import Trial, draw_tasks
from metarl.statistics import interval

SEED = 1  # of the tasks that are judged on: the same for every cell
CHUNK = 1000  # trials at once


def adapted(run: Run, tasks: int, steps: int, episodes: int, workers: int = 0) -> dict[str, Any]:
    """Return, success and error after 0 ... steps adaptation steps on held-out tasks: per row, and each task's own."""
    torch.set_num_threads(1)
    learner, problem, _ = load_learner(run)
    with closing(open_sampler(problem, {ACTOR: learner.network}, workers)) as sampler:
        evaluator = Evaluator(learner, problem, sampler)
        where = draw_tasks(problem.space, "heldout", (SEED, EVALUATION), tasks), (SEED, EVALUATION)
        rows, _ = evaluator.adapted(where, steps, episodes)
    scores = {"return": [row.score.returns for row in rows], "success": [row.score.success for row in rows]}
    scores["error"] = [row.score.error for row in rows]
    return {
        "tasks": tasks,
        "rows": [{**row.to_dict(), "gap_closed": None} for row in rows],
        "values": {name: [_short(value) for value in values] for name, values in scores.items()},
    }


def remembered(run: Run, trials: int) -> dict[str, Any]:
    """Reward of whole held-out trials by a memory learner that draws its actions, as the papers judge it.

    Also the mean reward and error of each step (one episode a trial) or each episode of it.
    """
    torch.set_num_threads(1)
    learner, problem, _ = load_learner(run)
    theta = learner.theta.detach().numpy()
    tasks = draw_tasks(problem.space, "heldout", (SEED, EVALUATION), trials)
    made = [
        Trial(task, (SEED, EVALUATION, index, ATTEMPTS), run.config.episodes, "explore", ACTOR, theta)
        for index, task in enumerate(tasks)
    ]
    lived: list[Episodes] = []
    with closing(open_sampler(problem, {ACTOR: learner.network}, 0)) as sampler:
        for start in range(0, trials, CHUNK):
            lived += sampler.sample(made[start : start + CHUNK])
    reward, error, mask = (np.stack([getattr(one, name) for one in lived]) for name in ("reward", "error", "mask"))
    total = reward.sum((1, 2))
    single = run.config.episodes == 1
    return {
        "trials": trials,
        "reward": interval(total),
        "success": float((error[:, -1, -1] <= problem.measure.tolerance).mean()),
        "reward_by": "step" if single else "episode",
        "reward_curve": _short(reward[:, 0].mean(0) if single else reward.sum(2).mean(0)),
        "error_curve": _short(error[:, 0].mean(0) if single else error[:, :, -1].mean(0)),
        "length_curve": _short(mask.sum(2).mean(0)),
        "parameters": learner.network.size,
    }


def _short(values: Any) -> list[float]:
    return [float(f"{value:.5g}") for value in np.ravel(values)]
