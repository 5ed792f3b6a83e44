"""What an iteration costs by its parts, and what that comes to on more cores: a simulation, checked on one and two."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from multiprocessing import Pipe
from statistics import median
from threading import Thread
from typing import Any

import numpy as np
import torch

from envs.tasks import Task
from metarl.benchmarks.machine import clocked
from metarl.config import default
from metarl.console import Show
from metarl.episodes import Episodes, Float
from metarl.learners.inner import inner_steps
from metarl.learners.learner import ACTOR, ByGradient
from metarl.learners.registry import make_learner
from metarl.objectives import tensors
from metarl.problem import Problem
from metarl.sampling.opening import open_sampler
from metarl.sampling.ray_cluster import Cluster, connect, import_ray
from metarl.sampling.worker import Trial, draw_tasks
from robots.spec import Array

CORES = (1, 2, 16, 128, 1000)
TURNS = 6
MORE = 10  # times the episodes, to see what the outer step costs for each
REPEATS = 100
PARAMETERS = 10_000  # of a policy of 64-64
SMALL: dict[str, Any] = {"env": "metarl/A1Walk-v0", "options": {"horizon": 200}, "hidden": (64, 64), "inner_steps": 1}
SMALL |= {"tasks": 8, "episodes": 2, "query": 2, "passes": 5}


@dataclass(frozen=True)
class Costs:
    """Seconds. episode: of each that was measured, simulating and acting; from these the simulation draws.

    message: of the trainer, for each trial that it hands out and takes back, whatever its size; byte: the same for each
    byte of its episodes. adapt, update: of the trainer, for each episode that an inner, or the outer, step learns from;
    fixed: the same of the outer step, however few they are.
    """

    episode: tuple[float, ...]
    message: float
    byte: float
    adapt: float
    update: float
    episode_bytes: float
    fixed: float = 0.0


@dataclass(frozen=True)
class Plan:
    """An iteration by reward: rounds of trials, one trial per task in each, and adaptation between them."""

    tasks: int
    episodes: int
    query: int
    inner_steps: int

    @property
    def rounds(self) -> tuple[int, ...]:
        """Episodes of each trial, round by round."""
        return (self.episodes,) * self.inner_steps + (self.query,)


def iteration(costs: Costs, plan: Plan, cores: int, rng: np.random.Generator, slow: float = 0.0) -> float:
    """Seconds of one iteration with a worker on each of `cores`; the trainer serves one worker at a time.

    slow: share of the cores that take twice as long. A trial is not divided, so beyond one core a task, more wait.
    """
    speed = np.where(rng.random(cores) < slow, 2.0, 1.0)
    adapted = plan.tasks * plan.inner_steps * plan.episodes
    spent = costs.fixed + adapted * costs.adapt + (adapted + plan.tasks * plan.query) * costs.update
    for count in plan.rounds:
        lengths = rng.choice(costs.episode, (plan.tasks, count)).sum(1)
        spent += _round(lengths, speed, costs.message + costs.byte * costs.episode_bytes * count)
    return float(spent)


def _round(lengths: Array, speed: Array, serve: float) -> float:
    """Until every trial is back: workers ask as they become free, and each answer takes the trainer `serve` seconds."""
    free = list(range(len(speed)))
    busy: list[tuple[float, int]] = []  # when each worker at work will be done
    trainer = 0.0
    for length in lengths:
        if free:
            worker = free.pop()
        else:
            at, worker = heapq.heappop(busy)
            trainer = max(trainer, at) + serve  # its episodes are taken first
        heapq.heappush(busy, (trainer + length * speed[worker], worker))
    while busy:
        trainer = max(trainer, heapq.heappop(busy)[0]) + serve
    return trainer


def bench_cost(show: Show) -> dict[str, float]:
    """The parts of an iteration on A1 by reward, whole ones on one and two processes, and what was predicted for those.

    All are measured in turn, so that what else the machine does meets them alike.
    """
    torch.set_num_threads(1)
    config = replace(default("metasgd", "reward"), **SMALL)
    problem = Problem.of(config.env, config.options)
    learner = make_learner(config, problem)
    assert isinstance(learner, ByGradient)
    plan = Plan(config.tasks, config.episodes, config.query, config.inner_steps)
    theta = learner.theta.detach().numpy().copy()
    untrained = {name: value.clone() for name, value in learner.state().items()}
    network = {ACTOR: learner.network}

    def alone(turn: int) -> tuple[list[Task], list[Trial]]:
        """The tasks of a turn's iteration, and an episode of each."""
        tasks = draw_tasks(problem.space, "train", (0, turn), config.tasks)
        return tasks, [Trial(task, (0, turn, i, 0), 1, "explore", ACTOR, theta) for i, task in enumerate(tasks)]

    found: dict[str, list[float]] = {}
    episodes: list[float] = []

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)

    with (
        closing(open_sampler(problem, network, 0)) as here,
        closing(open_sampler(problem, network, 1)) as one,
        closing(open_sampler(problem, network, 2)) as two,
    ):
        for sampler in (here, one, two):
            sampler.sample(alone(0)[1] * 2)  # worlds are loaded
        for turn in range(TURNS):
            tasks, singles = alone(turn)
            episodes += [clocked(partial(here.sample, [trial])) for trial in singles]
            for name, sampler in (("1", one), ("2", two)):
                start = time.perf_counter()
                batches = learner.gather(sampler, tasks, (0, turn))
                note(f"gather {name}", time.perf_counter() - start)
                supports = [tensors(batch) for batch in batches[:-1]]
                thetas = learner.theta.detach().expand(config.tasks, -1)
                note("adapt", clocked(partial(inner_steps, learner, thetas, supports)) / config.inner_steps)
                note("update", clocked(partial(learner.update, batches, 0.0)))
                learner.load(untrained)  # another policy would fall later or sooner
            many = [batch.map(lambda field: np.concatenate([field] * MORE, 1)) for batch in batches]
            note("update many", clocked(partial(learner.update, many, 0.0)))
            learner.load(untrained)
            note("one", clocked(partial(one.sample, singles)))
            note("two", clocked(partial(two.sample, singles * 2)))
            show(turn + 1, f"an episode {1e3 * median(episodes):.0f} ms")
        (sample,) = here.sample(singles[:1])
    message, byte = _line(_by_pipe, sample)
    adapted = config.tasks * config.episodes
    learned = adapted * config.inner_steps + config.tasks * config.query
    few, more = median(found["update"]), median(found["update many"])
    update = max(0.0, more - few) / ((MORE - 1) * learned)
    adapt, fixed = median(found["adapt"]) / adapted, max(0.0, few - update * learned)
    costs = Costs(tuple(episodes), message, byte, adapt, update, _size(sample), fixed)
    result = {
        "cost.episode_s": float(np.mean(episodes)),
        "cost.episode_p99_over_mean": float(np.quantile(episodes, 0.99) / np.mean(episodes)),
        "cost.episode_bytes": costs.episode_bytes,
        "cost.update_s_per_episode": costs.update,
        "cost.update_s_fixed": costs.fixed,
        "cost.adapt_s_per_episode": costs.adapt,
        "cost.message_s": costs.message,
        "cost.byte_s": costs.byte,
    }
    # Two at once share the machine with each other and with all else on it, so an episode takes longer.
    busy = sum(found["two"]) / sum(found["one"])
    result["cost.episode_two_at_once_over_one"] = busy
    rng = np.random.default_rng(0)
    for cores in (1, 2):
        updates = found["update"][cores - 1 :: 2]
        measured = [sum(both) for both in zip(found[f"gather {cores}"], updates, strict=True)]
        mine = costs if cores == 1 else replace(costs, episode=tuple(busy * one for one in episodes))
        predicted = float(np.mean([iteration(mine, plan, cores, rng) for _ in range(200)]))
        result[f"cost.measured_s.{cores}"] = float(np.mean(measured))
        result[f"cost.predicted_s.{cores}"] = predicted
        result[f"cost.predicted_over_measured.{cores}"] = predicted / float(np.mean(measured))
    if find_spec("ray"):
        message, byte = _line(_by_ray, sample)
        costs = replace(costs, message=message, byte=byte)
        result |= {"cost.ray_message_s": message, "cost.ray_byte_s": byte}
    for count in (20, 1000):
        large = Plan(count, 20, 20, 2)
        for share in (0.0, 0.05):
            for cores in CORES if not share else CORES[2:]:
                seconds = float(np.mean([iteration(costs, large, cores, rng, share) for _ in range(10)]))
                result[f"cost.iteration_s.{count}_tasks.{share:g}_slow.{cores}"] = seconds
    return result


def _size(episodes: Episodes) -> float:
    return float(sum(field.nbytes for field in vars(episodes).values()))


def _line(seconds: Callable[[Episodes], float], sample: Episodes) -> tuple[float, float]:
    """Seconds of the trainer for a trial and for a byte: of answers of two sizes, the line through them."""
    ten = sample.map(lambda field: np.concatenate([field] * 10))
    small, large = seconds(sample), seconds(ten)
    byte = max(0.0, (large - small) / (_size(ten) - _size(sample)))
    return max(0.0, small - byte * _size(sample)), byte


def _by_pipe(answer: Episodes) -> float:
    """Seconds to take an answer from a process that has it ready, and to hand out a trial's parameters."""
    ours, theirs = Pipe()
    theta = np.zeros(PARAMETERS, np.float32)

    def serve() -> None:
        for _ in range(REPEATS):
            theirs.send(answer)
            theirs.recv()

    def take() -> None:
        ours.recv()
        ours.send(theta)

    with ours, theirs:
        thread = Thread(target=serve)
        thread.start()
        taken = [clocked(take) for _ in range(REPEATS)]
        thread.join()
    return median(taken)


class _Ready:
    """An actor that has its answer ready."""

    def __init__(self, answer: Episodes) -> None:
        self._answer = answer

    def run(self, theta: Float) -> Episodes:
        return self._answer


def _by_ray(answer: Episodes) -> float:
    """The same of two of Ray's actors, through the object store."""
    mine, ray = connect(Cluster()), import_ray()
    actors = [ray.remote(num_cpus=1)(_Ready).remote(answer) for _ in range(2)]
    theta = np.zeros(PARAMETERS, np.float32)

    def take() -> None:
        ray.get([actor.run.remote(ray.put(theta)) for actor in actors])

    take()
    seconds = median(clocked(take) for _ in range(REPEATS)) / len(actors)
    for actor in actors:
        ray.kill(actor)
    if mine:
        ray.shutdown()
    return seconds
