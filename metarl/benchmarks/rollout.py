"""Whole episodes collected per second, beside stable-baselines3's parallel environments and on Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from statistics import median

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import SubprocVecEnv

from envs.robot_env import make
from metarl.benchmarks.machine import clocked, in_turn, ratio
from metarl.console import Show
from metarl.graphs import act_graph
from metarl.networks import MLP
from metarl.sampling.processes import make_sampler
from metarl.sampling.ray_cluster import Cluster, RaySampler
from metarl.sampling.worker import Actor, Trial, draw_tasks

HIDDEN = (64, 64)
TRIALS, REPEATS, SECONDS = 16, 3, 4.0
THEIRS = (2, 4, 8)  # environments
TURNS, EPISODES = 12, 5  # of Ray and processes; of a trial


def bench_rollout(name: str, show: Show) -> dict[str, float]:
    """Steps per second of one and two processes that act for themselves, and of SubprocVecEnv at its best.

    Where Ray is installed, also two of its actors' throughput over that of two processes.
    """
    torch.set_num_threads(1)
    env = make(name)
    network = MLP(env.interface.observation_size, env.interface.action_size, HIDDEN)
    theta = network.initial(torch.Generator().manual_seed(0)).numpy()
    tasks = draw_tasks(env.task_space, "train", (0, 0), TRIALS)
    env.close()
    trials = [Trial(task, (0, 0, index, 0), 1, "explore", "policy", theta) for index, task in enumerate(tasks)]
    actors = {"policy": Actor(act_graph(network))}
    rates: dict[str, list[float]] = {}
    for turn in range(REPEATS):
        for workers in (1, 2):
            with closing(make_sampler(name, actors, workers)) as sampler:
                sampler.sample(trials[:workers])  # worlds are loaded
                work = partial(sampler.sample, trials)
                steps = sum(float(episodes.mask.sum()) for episodes in sampler.sample(trials))
                rates.setdefault(f"ours {workers}", []).append(steps / clocked(work))
        for count in THEIRS:
            rates.setdefault(f"sb3 {count}", []).append(_sb3(name, count))
        show(turn + 1, " ".join(f"{key}: {values[-1]:.0f}/s" for key, values in rates.items()))
    found = {key: median(values) for key, values in rates.items()}
    best = max(found[f"sb3 {count}"] for count in THEIRS)
    return {
        "rollout.steps_per_s_over_sb3_subproc": found["ours 2"] / best,
        "rollout.two_process_efficiency": found["ours 2"] / (2 * found["ours 1"]),
        **({"rollout.ray_over_processes": _ray(name, actors, trials)} if find_spec("ray") else {}),
        **{f"rollout.steps_per_s.{key.replace(' ', '_')}": value for key, value in found.items()},
    }


def _ray(name: str, actors: Mapping[str, Actor], trials: Sequence[Trial]) -> float:
    """Throughput of two actors over that of two processes, in turn, all ready, on trials of several episodes."""
    trials = [replace(trial, episodes=EPISODES) for trial in trials]
    with (
        closing(make_sampler(name, actors, 2)) as processes,
        closing(RaySampler(name, actors, Cluster("auto", 2), {})) as cluster,
    ):
        while cluster.actors < min(2, os.cpu_count() or 1):
            cluster.sample(trials)
        processes.sample(trials)
        work = [partial(clocked, partial(sampler.sample, trials)) for sampler in (processes, cluster)]
        return ratio(*in_turn(TURNS, *work))


def _sb3(name: str, count: int) -> float:
    """Steps per second with stable-baselines3's policy of the same size in the parent."""
    environments = SubprocVecEnv([partial(make, name)] * count, start_method="spawn")
    model = PPO("MlpPolicy", environments, policy_kwargs={"net_arch": list(HIDDEN)}, device="cpu")
    observation = environments.reset()
    steps, spent = 0, 0.0

    def one() -> None:
        nonlocal observation
        action, _ = model.predict(observation)  # type: ignore[arg-type]
        observation, _, _, _ = environments.step(np.clip(action, -1, 1))

    one()
    while spent < SECONDS:
        spent += clocked(one)
        steps += count
    environments.close()
    return steps / spent
