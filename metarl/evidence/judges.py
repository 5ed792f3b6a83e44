"""How a trained run is judged for a table: on tasks that it never saw, all figures as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from envs.deployment import Deployment, World, worlds
from envs.tasks import Task
from metarl.baselines import DOMAIN_RANDOMIZATION
from metarl.belief import Prior, knowing
from metarl.checkpoint import Run, load_theta
from metarl.config import default
from metarl.episodes import Episodes, Float
from metarl.evaluation import ATTEMPTS, EVALUATION, FINE_TUNING, TUNING, Evaluator, FineTuning, load_learner
from metarl.graphs import act_graph
from metarl.informed import Informed
from metarl.learners.es_maml import ESMAML
from metarl.learners.learner import ACTOR, ByGradient, BySearch
from metarl.learners.maml import MAML
from metarl.networks import MLP
from metarl.objectives import Reward
from metarl.problem import Problem
from metarl.sampling.opening import actor_of, open_sampler
from metarl.sampling.processes import make_sampler
from metarl.sampling.serial import Sampler
from metarl.sampling.worker import Actor, Trial, draw_tasks
from metarl.sb3 import Settings, load_settings, network
from metarl.scores import Row
from metarl.statistics import interval

Verdict = dict[str, Any]
Trained = TypeVar("Trained")  # what a pilot is opened from
SEED = 1  # of the tasks that are judged on: the same for every cell
BEFORE = 2**31  # beyond any iteration, in the keys of what is learned from before an attempt
ZERO = ", zero steps"  # said of who could have adapted
TOLD = ", told"  # and of who is told the truth instead
ROUNDS = 3  # of gradient steps or search, before an attempt
TRIES = 5  # attempts before a gradient step
CANDIDATES = 7  # that a round of climbing tries, beside what is best so far
TUNED = 10  # training tasks by which sizes are chosen
CLIMBING = (0.003, 0.01, 0.03, 0.1)  # sizes of its perturbations, to choose from on training tasks
CHUNK = 1000  # trials at once


def adapted(run: Run, workers: int, *, tasks: int, steps: int, episodes: int) -> Verdict:
    """Return, success and error after 0 ... steps adaptation steps on held-out tasks: per row, and each task's own."""
    torch.set_num_threads(1)
    learner, problem, _ = load_learner(run)
    with closing(open_sampler(problem, {ACTOR: learner.network}, workers)) as sampler:
        evaluator = Evaluator(learner, problem, sampler)
        where = draw_tasks(problem.space, "heldout", (SEED, EVALUATION), tasks), (SEED, EVALUATION)
        rows, _ = evaluator.adapted(where, steps, episodes)
    return _rows(rows, tasks)


def remembered(run: Run, workers: int, *, trials: int) -> Verdict:
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
    with closing(open_sampler(problem, {ACTOR: learner.network}, workers)) as sampler:
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


def _line(values: Any) -> str:
    """On one line: a file of a thousand lines of numbers is no use to a reader."""
    return " ".join(f"{value:.5g}" for value in np.ravel(values))


def _short(values: Any) -> list[float]:
    return [float(f"{value:.5g}") for value in np.ravel(values)]


def rival(folder: Path, workers: int, *, tasks: int, episodes: int, steps: int = 0, tries: int = 5) -> Verdict:
    """A policy by PPO, judged as `adapted` judges a learner. steps: of fine-tuning by reward, on `tries` attempts each.

    Fine-tuning takes plain gradient steps of the size that does best on training tasks.
    """
    torch.set_num_threads(1)
    settings, problem, network, actor, theta = _learned(folder)
    where = draw_tasks(problem.space, "heldout", (SEED, EVALUATION), tasks), (SEED, EVALUATION)
    config = replace(
        default("fomaml", "reward"), hidden=tuple(settings.hidden), episodes=tries, discount=settings.gamma
    )
    learner = MAML(network, Reward(settings.gamma), config, torch.from_numpy(theta))
    with closing(make_sampler(settings.env, {DOMAIN_RANDOMIZATION: actor}, workers, problem.options)) as sampler:
        evaluator = Evaluator(learner, problem, sampler)
        score = evaluator.attempts(where, episodes, DOMAIN_RANDOMIZATION, np.tile(theta, (tasks, 1)))
        found, size = [evaluator.row(score, 0, 0)], None
        if steps:
            tuning = FineTuning(evaluator, torch.from_numpy(theta))
            size = tuning.tuned("finetune", steps)
            found += tuning.rows("finetune", size, steps, where, episodes)
    return {**_rows(found, tasks), "step_size": size}


Before = Callable[[Sampler, Sequence[Task], int], Sequence[Float]]  # sampler, tasks, key -> a theta for each


class Pilot(NamedTuple):
    """Who is judged in a deployment: actors by what is said of them, ACTOR for who gathers experience; theta [P] for
    all of them. before: how some of them adapt to each task before its attempt, and again when it has changed, while
    the attempt stands still. size: of their steps, if it was chosen for them."""

    problem: Problem
    actors: Mapping[str, Actor]
    theta: Float
    before: Mapping[str, Before] = MappingProxyType({})
    size: float | None = None


def ppo_pilot(folder: Path) -> Pilot:
    _, problem, _, actor, theta = _learned(folder)
    return Pilot(problem, {"": actor}, theta)


def online_pilot(run: Run) -> Pilot:
    """A learner that adapts while it acts, the same that does not, and the same that is told what to believe."""
    learner, problem, _ = load_learner(run)
    actor = actor_of(learner)
    assert isinstance(actor, Actor)
    assert isinstance(learner.network, Informed)
    network, theta, prior = learner.network, learner.theta.detach(), Prior.of(problem.space)

    def told(sampler: Sampler, tasks: Sequence[Task], key: int) -> Sequence[Float]:
        beliefs = [knowing(prior.truth(problem.space, task)) for task in tasks]
        return [network.believing(theta, torch.from_numpy(belief)).numpy() for belief in beliefs]

    still = Actor(actor.graph)
    return Pilot(problem, {"": actor, ZERO: still, TOLD: still}, theta.numpy(), {TOLD: told})


def adapted_pilot(run: Run) -> Pilot:
    """A learner that adapts before an attempt, from guided motions or from attempts, and the same that does not."""
    learner, problem, _ = load_learner(run)
    assert isinstance(learner, ByGradient)
    return _adapting(learner, problem)


def finetuned_pilot(folder: Path, seconds: float) -> Pilot:
    """A policy by PPO that takes plain gradient steps on the reward of attempts made before the one that counts.

    seconds: of an attempt.
    """
    settings, problem, network, _, theta = _learned(folder)
    base = replace(default("fomaml", "reward"), hidden=network.hidden, discount=settings.gamma, inner_steps=ROUNDS)

    def tuned(size: float) -> ByGradient:
        config = replace(base, episodes=TRIES, step_size=size)
        return MAML(network, Reward(settings.gamma), config, torch.from_numpy(theta))

    return _best(tuned, FINE_TUNING["finetune"], problem, seconds)


def climbing_pilot(folder: Path, seconds: float) -> Pilot:
    """A policy by PPO that tries perturbed parameters before the attempt that counts, and keeps the best. seconds: see
    `finetuned_pilot`."""
    settings, problem, network, _, theta = _learned(folder)
    base = replace(default("es_maml", "reward"), hidden=network.hidden, inner_steps=ROUNDS, climb=True)

    def searching(sigma: float) -> BySearch:
        config = replace(base, tries=CANDIDATES, sigma=sigma)
        return ESMAML(network, Reward(settings.gamma), config, torch.from_numpy(theta))

    return _best(searching, CLIMBING, problem, seconds)


def _adapting(learner: ByGradient | BySearch, problem: Problem, size: float | None = None) -> Pilot:
    actor = Actor(act_graph(learner.network))

    def before(sampler: Sampler, tasks: Sequence[Task], key: int) -> Sequence[Float]:
        return list(Evaluator(learner, problem, sampler).taught((tasks, (SEED, BEFORE + key))))

    actors = dict.fromkeys(("", ZERO, ACTOR), actor)
    return Pilot(problem, actors, learner.theta.detach().numpy(), {"": before}, size)


def _best(
    make: Callable[[float], ByGradient | BySearch], sizes: Sequence[float], problem: Problem, seconds: float
) -> Pilot:
    """Who adapts by the one of these sizes that ends with the highest return on training tasks."""
    key = (SEED, TUNING)
    where = draw_tasks(problem.space, "train", key, TUNED), key
    learners = {size: make(size) for size in sizes}
    actor = Actor(act_graph(learners[sizes[0]].network))
    options = {**problem.options, "horizon": round(seconds / problem.seconds)}
    with closing(make_sampler(problem.env, {ACTOR: actor}, 0, options)) as sampler:

        def end(size: float) -> float:
            evaluator = Evaluator(learners[size], problem, sampler)
            return float(evaluator.attempts(where, 2, ACTOR, evaluator.taught(where)).returns.mean())

        best = max(sizes, key=end)
    return _adapting(learners[best], problem, best)


def deployed(
    pilot: Callable[[Trained], Pilot],
    trained: Trained,
    workers: int,
    *,
    deployment: Deployment,
    tasks: int,
    draws: Mapping[str, tuple[str, int]],
    saying: Sequence[str] = ("",),
) -> Verdict:
    """One attempt in each world of every row: returns, errors at the end, falls, and what each second brought.

    draws: by name, the engine and which draw of the rows. saying: which of the pilot's actors.
    """
    torch.set_num_threads(1)
    problem, actors, theta, before, size = pilot(trained)
    hz = round(1 / problem.seconds)
    horizon = round(deployment.seconds * hz)
    values: dict[str, dict[str, dict[str, str]]] = {}
    for name, (engine, draw) in draws.items():
        options = {**problem.options, **deployment.options, "horizon": horizon, "engine": engine}
        rows = worlds(deployment, problem.space, tasks, draw)
        with closing(make_sampler(problem.env, actors, workers, options)) as sampler:
            for said in saying:
                values[f"{name}{said}"] = {}
                for index, (row, those) in enumerate(rows.items()):
                    thetas: Sequence[Float] = [theta] * tasks
                    later: Sequence[Float | None] = [None] * tasks
                    if said in before:
                        thetas = before[said](sampler, [task for task, _ in those], index)
                        if changed := [then[1] for _, then in those if then]:
                            later = before[said](sampler, changed, index + len(rows))
                    trials = [
                        replace(attempt(deployment, row, number, world, said, own), after=after)
                        for number, (world, own, after) in enumerate(zip(those, thetas, later, strict=True))
                    ]
                    values[f"{name}{said}"][row] = _figures(sampler.sample(trials), horizon, hz)
    return {"values": values} | ({} if size is None else {"size": size})


def attempt(deployment: Deployment, row: str, number: int, world: World, said: str, theta: Float) -> Trial:
    """How the row's world of this number is met, by everyone alike."""
    task, then = world
    key = (SEED, EVALUATION, list(deployment.rows).index(row), number)
    return Trial(task, key, 1, "mean", said, theta, then=then)


def _figures(lived: Sequence[Episodes], horizon: int, hz: int) -> dict[str, str]:
    reward = np.stack([one.reward[0] for one in lived])
    return {
        "return": _line(reward.sum(1)),
        "error": _line([one.error[0, -1] for one in lived]),
        "fell": _line([one.mask.sum() < horizon for one in lived]),
        "seconds": _line(reward.reshape(len(lived), -1, hz).sum(2).mean(0)),
    }


def _learned(folder: Path) -> tuple[Settings, Problem, MLP, Actor, Float]:
    """What a folder's policy was trained with and for, its network, who acts by it, and its theta [P]."""
    settings = load_settings(folder)
    problem = Problem.of(settings.env, settings.options)
    policy = network(settings, problem)
    history = settings.window if settings.sees == "past" else 0
    actor = Actor(act_graph(policy), settings.sees == "task", history)
    return settings, problem, policy, actor, load_theta(folder)


def _rows(rows: Sequence[Row], tasks: int) -> Verdict:
    """Every row's figures, and each task's own, a line for a row."""
    scores = {
        "return": [row.score.returns for row in rows],
        "success": [row.score.success for row in rows],
        "error": [row.score.error for row in rows],
    }
    return {
        "tasks": tasks,
        "rows": [{**row.to_dict(), "gap_closed": None} for row in rows],
        "values": {name: [_line(value) for value in values] for name, values in scores.items()},
    }
