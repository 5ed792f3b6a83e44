"""Baselines by stable-baselines3's PPO, as flat parameters of our own networks."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load, save
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from metarl.baselines import DOMAIN_RANDOMIZATION, ORACLE
from metarl.checkpoint import Run
from metarl.config import Config
from metarl.console import progress
from metarl.files import write_atomic
from metarl.problem import Problem
from metarl.sampling.opening import Workers
from metarl.sampling.processes import end_with_parent
from metarl.sb3 import Settings, environment, ppo, theta

STEPS = 400_000  # of simulation, for each


def ppo_baselines(run: Run, problem: Problem, workers: Workers, console: Console) -> dict[str, Tensor]:
    """theta [P] of domain randomization and of the oracle, by name; trained once, then kept in the run folder."""
    file = run.path / f"ppo-{STEPS}.safetensors"
    if file.exists():
        try:
            return load(file.read_bytes())
        except SafetensorError as error:
            raise ValueError(f"{file} cannot be read ({error}); remove it to train these baselines again") from error
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    names = (DOMAIN_RANDOMIZATION, ORACLE)
    count = max(1, min(workers, len(names))) if isinstance(workers, int) else len(names)  # on this machine alone
    with (
        ProcessPoolExecutor(count, context, initializer=_share, initargs=(done,)) as pool,
        progress(console, "PPO baselines, steps", STEPS * len(names)) as show,
    ):
        futures = [pool.submit(_train, run.config, dict(problem.options), name) for name in names]
        while wait(futures, timeout=0.5).not_done:
            show(done.value)
        thetas = {name: torch.from_numpy(future.result()) for name, future in zip(names, futures, strict=True)}
        show(STEPS * len(names))
    write_atomic(file, save(thetas))
    return thetas


_done: Any  # steps simulated by all processes


def _share(done: Any) -> None:
    global _done
    end_with_parent()
    _done = done


class _Count(BaseCallback):
    def _on_step(self) -> bool:
        with _done.get_lock():
            _done.value += 1
        return True


def _train(config: Config, options: dict[str, Any], name: str) -> NDArray[np.float32]:
    """theta [P] of PPO on training tasks."""
    torch.set_num_threads(1)
    settings = Settings(
        config.env, STEPS, rollout=2000, batch=250, epochs=10, gamma=0.95, log_std=-0.9, hidden=config.hidden,
        options=options, sees="task" if name == ORACLE else "observation",
        seed=config.seed,
    )  # fmt: skip
    env = environment(settings)
    model = ppo(env, settings)
    model.learn(STEPS, callback=_Count())
    env.close()
    return theta(model)
