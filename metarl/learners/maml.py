"""MAML: an initialization, and step sizes, from which a few gradient steps go far (Finn et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from envs.tasks import Task
from metarl.adaptation import Step, inner_step
from metarl.checkpoint import load_optimizer, optimizer_state
from metarl.config import Config
from metarl.episodes import Episodes
from metarl.learners.learner import ACTOR
from metarl.networks import GaussianMLP, divergence, log_probability
from metarl.objectives import Batch, Objective, Reward, tensors
from metarl.sampling.serial import Sampler
from metarl.sampling.worker import Trial


class MAML:
    """The learner whose outer gradient goes through its inner steps. Methods as in Learner.

    By `reward` an outer step is bounded in KL, for the next data come from the policy that it leaves. By
    `demonstration` data do not depend on the policy, and a clipped gradient suffices.
    """

    def __init__(self, network: GaussianMLP, objective: Objective, config: Config) -> None:
        self.network, self.objective, self.config = network, objective, config
        generator = torch.Generator().manual_seed(config.seed)
        self.theta = network.initial(generator).requires_grad_()
        sizes = torch.full((config.inner_steps, network.size), config.step_size)
        self.step_sizes = sizes.requires_grad_()
        self._optimizer = torch.optim.Adam(
            [
                {"params": [self.theta], "lr": config.learning_rate},
                {"params": [self.step_sizes], "lr": config.step_size_rate},
            ]
        )

    def adapt(self, theta: Tensor, step: Tensor, *fields: Tensor) -> Step:
        batch = dict(zip(self.objective.fields, fields, strict=True))
        sizes = self.step_sizes.detach()
        return inner_step(self.network, self.objective, theta, sizes, step, batch)

    def gather(self, sampler: Sampler, tasks: Sequence[Task], key: tuple[int, int]) -> list[Episodes]:
        count, config = len(tasks), self.config
        if self.objective.gather == "guided":
            both = config.episodes + config.query
            trials = [Trial(task, (*key, index, 0), both, "guided") for index, task in enumerate(tasks)]
            motions = Episodes.stack(sampler.sample(trials))
            support = motions.map(lambda array: array[:, : config.episodes])
            query = motions.map(lambda array: array[:, config.episodes :])
            return [support] * config.inner_steps + [query]
        thetas, batches = self.theta.detach().expand(count, -1), []
        for step in range(config.inner_steps + 1):
            episodes = config.query if step == config.inner_steps else config.episodes
            trials = [
                Trial(task, (*key, index, step), episodes, "explore", ACTOR, thetas[index].numpy())
                for index, task in enumerate(tasks)
            ]
            batches.append(Episodes.stack(sampler.sample(trials)))
            if step < config.inner_steps:
                thetas = self._steps(thetas, self.step_sizes.detach(), [tensors(batches[-1])], start=step)
        return batches

    def update(self, batches: Sequence[Episodes], progress: float) -> dict[str, float]:
        scale = 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * progress))
        rates = (self.config.learning_rate, self.config.step_size_rate)
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * scale
        *supports, query = [tensors(batch) for batch in batches]
        if isinstance(self.objective, Reward):
            figures = self._update_by_reward(self.objective, supports, query)
            figures["return_before"] = float(batches[0].reward.sum(-1).mean())
            figures["return_after"] = float(batches[-1].reward.sum(-1).mean())
            return figures
        return self._update_supervised(supports, query)

    def state(self) -> dict[str, Tensor]:
        state = {"theta": self.theta.detach(), "step_sizes": self.step_sizes.detach()}
        return state | optimizer_state(self._optimizer, "adam")

    def load(self, state: dict[str, Tensor]) -> None:
        for name, parameter in (("theta", self.theta), ("step_sizes", self.step_sizes)):
            found = list(state[name].shape) if name in state else None
            if found != list(parameter.shape):
                raise ValueError(
                    f"checkpoint holds {name} of shape {found}, expected {list(parameter.shape)}; was config.json "
                    "or the environment changed after training?"
                )
        with torch.no_grad():
            self.theta.copy_(state["theta"])
            self.step_sizes.copy_(state["step_sizes"])
        load_optimizer(self._optimizer, state, "adam")

    def _steps(self, thetas: Tensor, sizes: Tensor, supports: Sequence[Batch], start: int = 0) -> Tensor:
        """thetas [task, P] after one inner step on each support in turn."""
        for index, support in enumerate(supports, start):
            step = torch.tensor(index)

            def one(theta: Tensor, batch: Batch, step: Tensor = step) -> Tensor:
                first = self.config.first_order
                return inner_step(self.network, self.objective, theta, sizes, step, batch, first).theta

            thetas = vmap(one)(thetas, support)
        return thetas

    def _adapted(self, supports: Sequence[Batch]) -> Tensor:
        count = len(supports[0]["mask"])
        return self._steps(self.theta.expand(count, -1), self.step_sizes, supports)

    def _descend(self, loss: Tensor) -> float:
        """One clipped step of the optimizer; returns the gradient's norm."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_([self.theta, self.step_sizes], 1.0)
        if not torch.isfinite(loss) or not torch.isfinite(norm):
            raise FloatingPointError(f"outer loss is {loss.item()} and its gradient's norm {norm.item()}")
        self._optimizer.step()
        return norm.item()

    def _update_supervised(self, supports: Sequence[Batch], query: Batch) -> dict[str, float]:
        with torch.no_grad():
            before = self.objective.loss(self.network, self.theta, query)
        loss = vmap(lambda theta, batch: self.objective.loss(self.network, theta, batch))
        after = loss(self._adapted(supports), query).mean()
        norm = self._descend(after)
        return {"loss_before": before.item(), "loss_after": after.item(), "gradient_norm": norm}

    def _update_by_reward(self, objective: Reward, supports: Sequence[Batch], query: Batch) -> dict[str, float]:
        config, policy = self.config, vmap(self.network)
        with torch.no_grad():
            advantage = vmap(objective.advantage)(query["reward"], query["mask"])
            old = policy(self._adapted(supports), query["observation"])
            old_start = self.network(self.theta.clone(), supports[0]["observation"])
            old_logp = vmap(log_probability)(*old, query["action"])

        def moved() -> float:
            """The larger mean KL from the old policy, before and after adaptation."""
            with torch.no_grad():
                after = vmap(divergence)(*policy(self._adapted(supports), query["observation"]), *old)
                before = divergence(*self.network(self.theta, supports[0]["observation"]), *old_start)
                means = [(kl * b["mask"]).sum() / b["mask"].sum() for kl, b in ((after, query), (before, supports[0]))]
            return max(mean.item() for mean in means)

        # After the first pass the inner steps' data come from a slightly older policy, and their ratio starts from the
        # present one as the device's will: the bound on the divergence keeps that harmless.
        figures = {}
        for count in range(1, config.passes + 1):
            logp = vmap(log_probability)(*policy(self._adapted(supports), query["observation"]), query["action"])
            ratio = torch.exp(logp - old_logp)
            clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
            gain = torch.minimum(ratio * advantage, clipped * advantage) * query["mask"]
            saved = self.theta.detach().clone(), self.step_sizes.detach().clone()
            norm = self._descend(-gain.sum() / query["mask"].sum())
            kl = moved()
            figures = {"gradient_norm": norm, "divergence": kl, "passes": float(count)}
            if not kl <= config.divergence:
                figures["divergence"] = self._backtrack(saved, moved)
                break
        figures["std"] = self.network(self.theta.detach(), supports[0]["observation"][0, 0, 0])[1].exp().mean().item()
        return figures

    def _backtrack(self, saved: tuple[Tensor, Tensor], moved: Callable[[], float]) -> float:
        """Halve the step from `saved` until the divergence is within bounds, and if that fails undo it."""
        for _ in range(8):
            with torch.no_grad():
                for parameter, old in zip((self.theta, self.step_sizes), saved, strict=True):
                    parameter.lerp_(old, 0.5)
            kl = moved()
            if kl <= self.config.divergence:
                return kl
        with torch.no_grad():
            for parameter, old in zip((self.theta, self.step_sizes), saved, strict=True):
                parameter.copy_(old)
        return moved()
