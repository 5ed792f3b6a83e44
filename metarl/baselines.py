"""What adaptation is measured against: domain randomization, the same fine-tuned, and an oracle that sees the task."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load, save
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor
from torch.func import vmap

from envs.robot_env import Observation, RobotEnv, make
from metarl.adaptation import inner_step
from metarl.checkpoint import Run, write_atomic
from metarl.config import Config
from metarl.console import progress
from metarl.learners.maml import MAML, tensors
from metarl.networks import GaussianMLP
from metarl.objectives import Batch, Objective
from metarl.sampling.processes import make_sampler
from metarl.trainer import draw_tasks

PPO_STEPS = 300_000
DOMAIN_RANDOMIZATION, ORACLE = "domain_randomization", "oracle"


def networks(config: Config, env: RobotEnv) -> dict[str, GaussianMLP]:
    """The baselines' networks: as wide as the learner's; the oracle's also takes the encoded task."""
    size, action = env.interface.observation_size, env.interface.action_size
    return {
        DOMAIN_RANDOMIZATION: GaussianMLP(size, action, config.hidden),
        ORACLE: GaussianMLP(size + env.task_space.size, action, config.hidden),
    }


def train_baselines(run: Run, learner: MAML, workers: int, console: Console) -> dict[str, Tensor]:
    """theta of each baseline, trained once per run folder: by cloning the guided motions, or by PPO on the reward."""
    file = run.path / "baselines.safetensors"
    if file.exists():
        return load(file.read_bytes())
    train = _clone if learner.objective.gather == "guided" else _train_ppo
    thetas = train(run.config, learner, workers, console)
    write_atomic(file, save(thetas))
    return thetas


def _clone(config: Config, learner: MAML, workers: int, console: Console) -> dict[str, Tensor]:
    """Behaviour cloning on the very motions that the learner was trained on, seen once, in the same order."""
    env = make(config.env)
    env.close()
    nets = networks(config, env)
    generator = torch.Generator().manual_seed(config.seed)
    thetas = {name: net.initial(generator).requires_grad_() for name, net in nets.items()}
    optimizers = {name: torch.optim.Adam([theta], lr=config.learning_rate) for name, theta in thetas.items()}
    with (
        closing(make_sampler(config.env, {}, workers)) as sampler,
        ThreadPoolExecutor(1) as gatherer,
        progress(console, "cloning the baselines", config.iterations) as show,
    ):

        def gather(iteration: int) -> tuple[Batch, Tensor]:
            tasks = draw_tasks(config, env.task_space, iteration)
            support, *_, query = learner.gather(sampler, tasks, (config.seed, iteration))
            halves = tensors(support), tensors(query)
            both = {name: torch.cat([half[name] for half in halves], 1) for name in learner.objective.fields}
            known = torch.from_numpy(np.stack([env.task_space.encode(task) for task in tasks]).astype(np.float32))
            return both, known

        ahead = gatherer.submit(gather, 0)
        for iteration in range(config.iterations):
            batch, known = ahead.result()
            ahead = gatherer.submit(gather, min(iteration + 1, config.iterations - 1))
            seen = batch["observation"]
            told = torch.cat([seen, known[:, None, None].expand(*seen.shape[:3], -1)], -1)
            rate = config.learning_rate * (1 - iteration / config.iterations)
            for name, observation in ((DOMAIN_RANDOMIZATION, seen), (ORACLE, told)):
                optimizers[name].param_groups[0]["lr"] = rate
                loss = learner.objective.loss(nets[name], thetas[name], {**batch, "observation": observation})
                optimizers[name].zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizers[name].step()
            show(iteration + 1)
    return {name: theta.detach() for name, theta in thetas.items()}


class Privileged(gymnasium.ObservationWrapper[Observation, NDArray[np.float32], Observation]):
    """The encoded task after the observation."""

    def __init__(self, env: RobotEnv) -> None:
        super().__init__(env)
        self._robot_env = env
        size = env.interface.observation_size + env.task_space.size
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def observation(self, observation: Observation) -> Observation:
        known = self._robot_env.task_space.encode(self._robot_env.task)
        return np.concatenate([observation, known]).astype(np.float32)


def _train_ppo(config: Config, learner: MAML, workers: int, console: Console) -> dict[str, Tensor]:
    """stable-baselines3's PPO on training tasks; domain randomization and oracle side by side."""
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    names = (DOMAIN_RANDOMIZATION, ORACLE)
    with (
        ProcessPoolExecutor(max(1, min(workers, 2)), context, initializer=_share, initargs=(done,)) as pool,
        progress(console, "PPO baselines, steps", PPO_STEPS * len(names)) as show,
    ):
        futures = [pool.submit(_ppo, config, name) for name in names]
        while wait(futures, timeout=0.5).not_done:
            show(done.value)
        return {name: torch.from_numpy(future.result()) for name, future in zip(names, futures, strict=True)}


_done: Any  # steps simulated by all PPO processes


def _share(done: Any) -> None:
    global _done
    _done = done


class _Count(BaseCallback):
    def _on_step(self) -> bool:
        with _done.get_lock():
            _done.value += 1
        return True


def _ppo(config: Config, name: str) -> NDArray[np.float32]:
    """PPO's policy as the flat theta of GaussianMLP: its policy network's layers, then its log standard deviation."""
    torch.set_num_threads(1)
    env = make(config.env)
    model = PPO(
        "MlpPolicy",
        Privileged(env) if name == ORACLE else env,
        policy_kwargs={"net_arch": {"pi": list(config.hidden), "vf": list(config.hidden)}, "log_std_init": -0.9},
        n_steps=2000,
        batch_size=250,
        learning_rate=lambda left: 1e-3 * left,
        gamma=0.95,
        seed=config.seed,
        device="cpu",
    )
    model.learn(PPO_STEPS, callback=_Count())
    env.close()
    policy: Any = model.policy
    layers = [layer for layer in policy.mlp_extractor.policy_net if isinstance(layer, torch.nn.Linear)]
    parts = [part for layer in (*layers, policy.action_net) for part in (layer.weight.flatten(), layer.bias)]
    theta = torch.cat([*parts, policy.log_std]).detach().numpy()
    return np.ascontiguousarray(theta, dtype=np.float32)


def fine_tune(network: GaussianMLP, objective: Objective, thetas: Tensor, batch: Batch, step_size: float) -> Tensor:
    """thetas [task, P] after one plain gradient step of the objective on each task's batch."""
    sizes, step = torch.full((1, thetas.shape[1]), step_size), torch.tensor(0)
    return vmap(lambda theta, data: inner_step(network, objective, theta, sizes, step, data).theta)(thetas, batch)
