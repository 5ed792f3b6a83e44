"""The memory family: learners that adapt by remembering, trained by PPO over whole trials. RL2, MANN, SNAIL."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from envs.tasks import Task
from metarl.config import Config
from metarl.episodes import Episodes, Float
from metarl.learners.learner import ACTOR, initial
from metarl.learners.trained import Trained
from metarl.memory import Memory, Outputs
from metarl.networks import divergence, entropy, log_probability
from metarl.objectives import Objective
from metarl.recall import Recall
from metarl.sampling.serial import Sampler
from metarl.sampling.worker import Trial

VALUE = 0.5  # weight of the value loss
FORGET = 0.9  # of the running size of returns


class MemoryLearner:
    """RL2 (Duan et al. 2016) with the memory that `network` has. Methods as in Learner.

    One trial is `config.episodes` attempts at one task; memory, discount and advantages go on across its episodes and
    start anew with the next trial.
    """

    remembers = True

    def __init__(self, network: Memory, objective: Objective, config: Config, start: Tensor | None = None) -> None:
        self.network, self.objective, self.config = network, objective, config
        self._recall = Recall(network.recalled, network.observation, network.action)
        parts = {"theta": initial(network, config, start)}
        if config.recall:
            parts["recall"] = self._recall.initial(config.seed)
        self._trained = Trained(parts, dict.fromkeys(parts, config.learning_rate))
        self._size = torch.ones(())  # of returns: the value head learns them in this unit

    @property
    def theta(self) -> Tensor:
        return self._trained.parameters["theta"]

    def gather(self, sampler: Sampler, tasks: Sequence[Task], key: tuple[int, int]) -> list[Episodes]:
        """One batch: every task's trial."""
        theta = self.theta.detach().clone().numpy()
        trials = [
            Trial(task, (*key, index, 0), self.config.episodes, "explore", ACTOR, theta)
            for index, task in enumerate(tasks)
        ]
        return [Episodes.stack(sampler.sample(trials))]

    def update(self, batches: Sequence[Episodes], progress: float) -> dict[str, float]:
        self._trained.schedule(progress)
        config, (lived,) = self.config, batches
        data = {name: torch.from_numpy(value) for name, value in unrolled(lived).items()}
        with torch.no_grad():
            old = self._outputs(data)
            data["logp"] = log_probability(old.mean, old.log_std, data["action"])
            advantage, returns = advantages(
                data["reward"], old.value * self._size, data["mask"], config.discount, config.gae_lambda
            )
            size = _mean(returns.square(), data["mask"]).sqrt().clamp(min=1e-3)
            # The first batch sets the size, later ones move it.
            size = size if not progress else FORGET * self._size + (1 - FORGET) * size
            data |= {"advantage": _standardised(advantage, data["mask"]), "returns": returns / size}
            data |= {"standardised": _standardised(data["reward"], data["mask"], 1e-3), "old_mean": old.mean}
        order = np.random.default_rng([config.seed, round(progress * config.iterations)])
        figures = self._passes(data, old.log_std, order)
        self._size = size
        rewards = lived.reward.sum(-1)
        figures |= {"return_before": float(rewards[:, 0].mean()), "return_after": float(rewards[:, -1].mean())}
        return figures | {"return_of_trial": float(rewards.sum(1).mean())}

    def state(self) -> dict[str, Tensor]:
        return self._trained.state() | {"size": self._size}

    def load(self, state: dict[str, Tensor]) -> None:
        self._trained.load(state)
        self._size = state["size"]

    def _outputs(self, data: dict[str, Tensor]) -> Outputs:
        return self.network.sequence(self.theta, data["observation"], data["feedback"])

    def _passes(self, data: dict[str, Tensor], old_log_std: Tensor, rng: np.random.Generator) -> dict[str, float]:
        """PPO's passes over batches of trials; they end when the policy has moved by more than the bound."""
        config, figures, count = self.config, {}, len(data["mask"])
        parameters = self._trained.parameters
        for turn in range(config.passes):
            moved = []
            for rows in np.array_split(rng.permutation(count), min(config.batches, count)):
                part = {name: value[rows] for name, value in data.items()}
                mask = part["mask"]
                now = self._outputs(part)
                ratio = torch.exp(log_probability(now.mean, now.log_std, part["action"]) - part["logp"])
                clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
                gain = _mean(torch.minimum(ratio * part["advantage"], clipped * part["advantage"]), mask)
                error = _mean((now.value - part["returns"]).square(), mask)
                bonus = _mean(entropy(now.mean, now.log_std), mask)
                loss = -gain + VALUE * error - config.entropy * bonus
                also = {}
                if config.recall:
                    unknown = self._recall.error(parameters["recall"], now.recalled, part, rng)
                    loss = loss + config.recall * unknown
                    also["recall_loss"] = unknown.item()
                gradients = torch.autograd.grad(loss, list(parameters.values()))
                kl = divergence(now.mean.detach(), now.log_std.detach(), part["old_mean"], old_log_std)
                moved.append(_mean(kl, mask).item())
                norm = self._trained.step(loss.item(), dict(zip(parameters, gradients, strict=True)))
                figures = {"gradient_norm": norm, "value_loss": error.item(), "entropy": bonus.item(), **also}
            figures |= {"divergence": float(np.mean(moved)), "passes": turn + 1.0}
            if moved[-1] > config.divergence:
                break
        return figures


def unrolled(lived: Episodes) -> dict[str, Float]:
    """Trials [task, episode, time, ...] as sequences [task, step, ...]: what was lived comes first, then padding.

    Beside Episodes' fields: feedback [task, step, action + 2], the action, reward and done (1 where an episode ended)
    of the step before, zeros at a trial's start.
    """
    tasks, episodes, time = lived.mask.shape
    after = np.pad(lived.mask, [(0, 0), (0, 0), (0, 1)])[:, :, 1:]
    done = lived.mask * (1 - after)
    fields = {
        "observation": lived.observation,
        "action": lived.action,
        "reward": lived.reward,
        "mask": lived.mask,
        "done": done,
    }
    order = np.argsort(lived.mask.reshape(tasks, -1) == 0, axis=1, kind="stable")
    length = int(lived.mask.sum((1, 2)).max())
    order = order[:, :length]
    flat = {name: value.reshape(tasks, episodes * time, *value.shape[3:]) for name, value in fields.items()}
    rows = np.arange(tasks)[:, None]
    flat = {name: value[rows, order] for name, value in flat.items()}
    said = np.concatenate([flat["action"], flat["reward"][..., None], flat["done"][..., None]], -1)
    flat["feedback"] = np.pad(said, [(0, 0), (1, 0), (0, 0)])[:, :-1]
    return {name: np.ascontiguousarray(value, np.float32) for name, value in flat.items()}


def advantages(
    reward: Tensor, value: Tensor, mask: Tensor, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantages [task, step] (Schulman et al. 2016) and the returns that they imply.

    They run across a trial's episodes, for what is learned in one pays in the next; after the trial nothing comes.
    """
    following = torch.nn.functional.pad(value * mask, (0, 1))[:, 1:]
    error = (reward + discount * following - value) * mask
    advantage, ahead = torch.zeros_like(error), torch.zeros(len(error))
    for step in reversed(range(error.shape[1])):
        ahead = error[:, step] + discount * gae_lambda * ahead
        advantage[:, step] = ahead
    return advantage * mask, (advantage + value) * mask


def _standardised(value: Tensor, mask: Tensor, least: float = 0.0) -> Tensor:
    """value with mean 0 and spread 1 where the mask is; a spread below `least` counts as that."""
    mean = _mean(value, mask)
    spread = _mean((value - mean).square(), mask).sqrt().clamp(min=least)
    return (value - mean) / (spread + 1e-6)


def _mean(value: Tensor, mask: Tensor) -> Tensor:
    return (value * mask).sum() / mask.sum()
