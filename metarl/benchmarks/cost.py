"""What an iteration of training costs, measured piece by piece, and what that makes on more cores, by a simulation."""

from __future__ import annotations

import heapq
import pickle
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np
import torch

from metarl.benchmarks.machine import clocked
from metarl.config import Config, default
from metarl.console import Show
from metarl.episodes import Episodes
from metarl.evidence.tables import table
from metarl.graphs import act_graph
from metarl.learners.learner import ACTOR, Learner
from metarl.learners.registry import make_learner
from metarl.problem import Problem
from metarl.sampling.processes import make_sampler
from metarl.sampling.serial import Sampler, SerialSampler
from metarl.sampling.worker import Actor, Trial, draw_tasks
from robots.spec import Array

CORES = (2, 16, 128, 1000)  # of workers, predicted
CHECKED = (1, 2)  # likewise, and measured here
TASKS = (10, 1000)  # of an iteration
EPISODES = 5  # of a trial
ITERATIONS, REPEATS, ECHOES = 2, 40, 200
SLOW, SHARE = 0.5, 0.02  # of the usual speed, and how many cores have it
WIRE = 125e6  # [byte/s], 1 Gbit/s between machines: assumed
STAGES = 2 + len(CHECKED)


@dataclass(frozen=True)
class Costs:
    """Seconds, of one core. trials: what workers took for each of some trials. send, receive: of the trainer for one
    trial and its episodes (both grow with `out` and `back`, their bytes). between: of the trainer for each task after a
    round; update: for each task of an iteration. rounds: batches of an iteration, one after the other.
    """

    trials: Array
    send: float
    receive: float
    out: int
    back: int
    between: float
    update: float
    rounds: int

    def over(self, wire: float) -> Costs:
        """The same where workers are on other machines, behind `wire` [byte/s] of the trainer's own."""
        return replace(self, send=self.send + self.out / wire, receive=self.receive + self.back / wire)


def makespan(seconds: Sequence[float], speeds: Sequence[float], send: float, receive: float) -> float:
    """When the last of some trials [s] is back, if whoever is free gets the next one.

    The trainer does one thing at a time: it hands out and takes back, the first come first. speeds: of the workers.
    """
    now, working, left = 0.0, list[tuple[float, float]](), list(reversed(seconds))

    def hand_out(speed: float) -> None:
        nonlocal now
        now += send
        heapq.heappush(working, (now + left.pop() / speed, speed))

    for speed in speeds[: len(seconds)]:
        hand_out(speed)
    while working:
        ready, speed = heapq.heappop(working)
        now = max(now, ready) + receive
        if left:
            hand_out(speed)
    return now


def iteration(costs: Costs, tasks: int, cores: int, slow: float, rng: np.random.Generator) -> float:
    """Seconds of one iteration with `cores` workers, a share `slow` of them at the speed SLOW."""
    speeds = np.where(rng.random(cores) < slow, SLOW, 1.0).tolist()
    rounds = [
        makespan(rng.choice(costs.trials, tasks).tolist(), speeds, costs.send, costs.receive)
        for _ in range(costs.rounds)
    ]
    return sum(rounds) + tasks * (costs.rounds * costs.between + costs.update)


def expected(costs: Costs, tasks: int, cores: int, slow: float = 0.0) -> float:
    """The same, mean over REPEATS draws."""
    return float(np.mean([iteration(costs, tasks, cores, slow, np.random.default_rng(i)) for i in range(REPEATS)]))


class Clocked:
    """A sampler that notes what each trial took [s]."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler, self.trials = sampler, list[float]()

    def sample(self, trials: Sequence[Trial]) -> list[Episodes]:
        made: list[Episodes] = []
        for trial in trials:
            start = time.perf_counter()
            made += self._sampler.sample([trial])
            self.trials.append(time.perf_counter() - start)
        self.last = trials[-1], made[-1]
        return made

    def close(self) -> None:
        self._sampler.close()


def settings(env: str) -> Config:
    """Of the run whose iterations are measured: those of docs/robots.md."""
    return replace(default("metasgd", "reward"), env=env, tasks=TASKS[0], episodes=EPISODES, query=EPISODES)


def bench_cost(env: str, show: Show) -> dict[str, float]:
    """Pieces, measured and predicted iterations [s], predictions over measurements, and predicted speed-ups."""
    torch.set_num_threads(1)
    problem, config = Problem.of(env), settings(env)
    learner = make_learner(config, problem)
    actors = {ACTOR: Actor(act_graph(learner.network))}
    costs = _measure(env, actors, learner, problem)
    show(1, f"a trial {costs.trials.mean():.2f} s, an update {config.tasks * costs.update:.2f} s")
    found = {
        "cost.trial_s": float(costs.trials.mean()),
        "cost.trial_s_spread": float(costs.trials.std()),
        "cost.episode_s": float(costs.trials.mean()) / config.episodes,
        "cost.bytes_out": float(costs.out),
        "cost.bytes_back": float(costs.back),
        "cost.send_s": costs.send,
        "cost.receive_s": costs.receive,
        "cost.ns_per_byte": 1e9 * (costs.send + costs.receive) / (costs.out + costs.back),
        "cost.between_s_per_task": costs.between,
        "cost.update_s_per_task": costs.update,
    }
    for number, cores in enumerate(CHECKED, 2):
        with closing(make_sampler(env, actors, cores)) as sampler:
            once = partial(_iteration, learner, sampler, problem)
            once(ITERATIONS)  # worlds are loaded
            measured = float(np.mean([clocked(partial(once, at)) for at in range(ITERATIONS)]))
        predicted = expected(costs, config.tasks, cores)
        found |= {f"cost.measured_s_{cores}": measured, f"cost.predicted_s_{cores}": predicted}
        found[f"cost.predicted_over_measured_{cores}"] = predicted / measured
        show(number, f"{cores} workers: measured {measured:.2f} s, predicted {predicted:.2f} s")
    for tasks in TASKS:
        alone = expected(costs, tasks, 1)
        for cores in CORES:
            far = costs.over(WIRE) if cores > CORES[0] else costs
            for name, slow in (("", 0.0), ("_stragglers", SHARE)):
                found[f"cost.speedup_{tasks}tasks_{cores}cores{name}"] = alone / expected(far, tasks, cores, slow)
    show(STAGES)
    return found


def _iteration(learner: Learner, sampler: Sampler, problem: Problem, at: int) -> None:
    tasks = draw_tasks(problem.space, "train", (0, at), learner.config.tasks)
    learner.update(learner.gather(sampler, tasks, (0, at)), 0.0)


def _measure(env: str, actors: Mapping[str, Actor], learner: Learner, problem: Problem) -> Costs:
    config, gathered, updated = learner.config, 0.0, 0.0
    with closing(Clocked(SerialSampler(env, actors))) as sampler:
        sampler.sample([_trial(learner, problem)])  # its world is loaded
        sampler.trials.clear()
        for at in range(ITERATIONS):
            tasks = draw_tasks(problem.space, "train", (0, at), config.tasks)
            start = time.perf_counter()
            batches = learner.gather(sampler, tasks, (0, at))
            gathered += time.perf_counter() - start
            updated += clocked(partial(learner.update, batches, 0.0))
        trial, episodes = sampler.last
    send, receive = _messages(trial, episodes)
    return Costs(
        trials=np.array(sampler.trials),
        send=send,
        receive=receive,
        out=len(pickle.dumps(trial)),
        back=len(pickle.dumps(episodes)),
        between=max(0.0, gathered - sum(sampler.trials)) / (ITERATIONS * config.tasks * len(batches)),
        update=updated / (ITERATIONS * config.tasks),
        rounds=len(batches),
    )


def _trial(learner: Learner, problem: Problem) -> Trial:
    (task,) = draw_tasks(problem.space, "train", (0, 0), 1)
    return Trial(task, (0, 0, 0, 0), 1, "explore", ACTOR, learner.theta.detach().numpy())


def _messages(trial: Trial, episodes: Episodes) -> tuple[float, float]:
    """Seconds of this process to send a trial through a pipe, and to receive its episodes."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    other = context.Process(target=_answer, args=(theirs, episodes), daemon=True)
    other.start()
    sends, receives = list[float](), list[float]()
    for _ in range(ECHOES):
        sends.append(clocked(partial(ours.send, trial)))
        while not ours.poll(10.0):  # what the other side takes is not this side's work
            pass
        receives.append(clocked(ours.recv))
    other.kill()
    return median(sends), median(receives)


def _answer(connection: Connection, episodes: Episodes) -> None:
    while True:
        connection.recv()
        connection.send(episodes)


def markdown(found: Mapping[str, Any], env: str) -> str:
    """The page, from figures that `bench_cost` found."""
    of = {name.removeprefix("cost."): value for name, value in found.items() if name.startswith("cost.")}
    pieces = [
        ["an episode", f"{1e3 * of['episode_s']:.1f} ms of a worker"],
        [
            f"a trial ({EPISODES} episodes in one world)",
            f"{of['trial_s']:.2f} s of a worker, ± {of['trial_s_spread']:.2f}",
        ],
        ["a trial out", f"{of['bytes_out'] / 1e3:.0f} kB, {1e3 * of['send_s']:.2f} ms of the trainer"],
        ["its episodes back", f"{of['bytes_back'] / 1e3:.0f} kB, {1e3 * of['receive_s']:.2f} ms of the trainer"],
        ["a byte moved", f"{of['ns_per_byte']:.2f} ns of the trainer"],
        ["an inner step of a task", f"{1e3 * of['between_s_per_task']:.1f} ms of the trainer"],
        ["an update", f"{1e3 * of['update_s_per_task']:.1f} ms of the trainer for each task"],
    ]
    checks = [
        [
            str(cores),
            f"{of[f'measured_s_{cores}']:.2f}",
            f"{of[f'predicted_s_{cores}']:.2f}",
            f"{of[f'predicted_over_measured_{cores}']:.2f}",
        ]
        for cores in CHECKED
    ]
    scaled = [
        [
            str(cores),
            *(
                f"{of[f'speedup_{tasks}tasks_{cores}cores{slow}']:.1f}"
                for tasks in TASKS
                for slow in ("", "_stragglers")
            ),
        ]
        for cores in CORES
    ]
    columns = [f"{tasks} tasks{slow}" for tasks in TASKS for slow in ("", ", stragglers")]
    return (
        PAGE.format(env=env)
        + table(["piece", "cost"], pieces)
        + CHECK
        + table(["workers", "measured [s]", "predicted [s]", "ratio"], checks)
        + SCALE.format(share=f"{SHARE:.0%}", slow=f"{SLOW:g}", wire=f"{8 * WIRE / 1e9:g}", few=TASKS[0])
        + table(["workers", *columns], scaled)
    )


PAGE = """# What training costs, and what more cores would give

`python scripts/bench.py cost --json docs/results/bench-cost.json --page docs/cost.md` measures each piece of an
iteration of `metasgd` by reward on `{env}` and writes this page.

"""
CHECK = """
An iteration is a round of trials for each inner step and one for the query; whoever is free gets the next trial; the
trainer, one process, hands out and takes back, does the inner steps, and updates. A small simulation plays that with
trials drawn from those measured. Against whole iterations measured here:

"""
SCALE = """
What it predicts on more workers, as times faster than one. Beyond this machine, all bytes go through one wire of the
trainer's with {wire} Gbit/s (assumed). Stragglers: {share} of the workers have {slow} of the usual speed. A round waits
for its last trial, and a task's trial is one worker's: with {few} tasks no more than {few} workers have work, and where
there are more tasks the trainer's own part, which no worker shares, is what remains.

"""
