"""The gradient family: an initialization from which a few inner steps go far. MAML, FOMAML, Meta-SGD, ProMP, CAVIA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from envs.tasks import Task
from metarl.adaptation import Step, inner_step
from metarl.config import Config
from metarl.episodes import Episodes
from metarl.learners.inner import gather, inner_steps, shared
from metarl.learners.learner import initial
from metarl.learners.trained import Trained
from metarl.metagradient import meta_gradient
from metarl.networks import MLP, divergence, log_probability
from metarl.objectives import Batch, Objective, Reward
from metarl.sampling.serial import Sampler


@dataclass(frozen=True)
class Rule:
    """What tells the family's members apart.

    first_order: second derivatives are dropped. learned: step sizes are. clipped: the outer ratio, as PPO's.
    """

    first_order: bool = False
    learned: bool = False
    clipped: bool = False


RULES = {
    "maml": Rule(),  # Finn et al. 2017
    "fomaml": Rule(first_order=True),  # Nichol et al. 2018
    "metasgd": Rule(learned=True, clipped=True),  # Li et al. 2017
    "promp": Rule(clipped=True),  # Rothfuss et al. 2019
    "cavia": Rule(),  # Zintgraf et al. 2019: the network has a context, and the inner steps move that alone
}


Policy = tuple[Tensor, Tensor]  # mean and log_std


class MAML:
    """A learner whose outer gradient goes through its inner steps. Methods as in Learner.

    From attempts, an outer step is bounded in KL, for the next data come from the policy that it leaves. From guided
    motions, which do not depend on the policy, a clipped gradient suffices.
    """

    def __init__(self, network: MLP, objective: Objective, config: Config, start: Tensor | None = None) -> None:
        self.network, self.objective, self.config = network, objective, config
        self.rule, self._returns = RULES[config.learner], Reward(config.discount)
        # A row beyond those that training uses, where it is smaller, for a robot that goes on.
        beyond = config.step_decay != 1 and not self.rule.learned
        decay = config.step_decay ** torch.arange(config.inner_steps + beyond)
        self.step_sizes = config.step_size * decay[:, None] * torch.ones(network.adapted)
        parameters = {"theta": initial(network, config, start)}
        if self.rule.learned:
            parameters["step_sizes"] = self.step_sizes
        self._trained = Trained(parameters, {"theta": config.learning_rate, "step_sizes": config.step_size_rate})

    @property
    def theta(self) -> Tensor:
        return self._trained.parameters["theta"]

    @property
    def _sizes(self) -> Tensor:
        """Of the steps that training takes [K, A]."""
        return self.step_sizes.detach()[: self.config.inner_steps]

    def adapt(self, theta: Tensor, step: Tensor, *fields: Tensor) -> Step:
        batch = dict(zip(self.objective.fields, fields, strict=True))
        return inner_step(self.network, self.objective, theta, self.step_sizes.detach(), step, batch)

    def gather(self, sampler: Sampler, tasks: Sequence[Task], key: tuple[int, int]) -> list[Episodes]:
        """Each inner step's batch, then the query."""
        return gather(self, sampler, tasks, key)

    def update(self, batches: Sequence[Episodes], progress: float) -> dict[str, float]:
        self._trained.schedule(progress)
        *supports, query = shared(batches)
        if self.objective.gather == "guided":
            return self._update_supervised(supports, query)
        figures = self._update_by_reward(supports, query)
        figures["return_before"] = float(batches[0].reward.sum(-1).mean())
        figures["return_after"] = float(batches[-1].reward.sum(-1).mean())
        return figures

    def state(self) -> dict[str, Tensor]:
        return self._trained.state()

    def load(self, state: dict[str, Tensor]) -> None:
        self._trained.load(state)

    def _inner(self, theta: Tensor, batch: Batch) -> Tensor:
        return self.objective.loss(self.network, theta, batch)

    def _adapted(self, supports: Sequence[Batch]) -> Tensor:
        """thetas [task, P] after all inner steps, for judging an outer step."""
        return inner_steps(self, self.theta.detach().expand(len(supports[0]["mask"]), -1), supports)

    def _update_supervised(self, supports: Sequence[Batch], query: Batch) -> dict[str, float]:
        with torch.no_grad():
            before = self._inner(self.theta, query)
        found = meta_gradient(
            self._inner, self._inner, self.theta.detach(), self._sizes, supports, query,
            self.rule.first_order, along=[query] * (len(supports) - 1) if self.config.every_step else [],
        )  # fmt: skip
        norm = self._trained.step(found.loss.item(), found._asdict())
        return {"loss_before": before.item(), "loss_after": found.loss.item(), "gradient_norm": norm}

    def _update_by_reward(self, supports: Sequence[Batch], query: Batch) -> dict[str, float]:
        config, policy = self.config, vmap(self.network)

        def judged(supports: Sequence[Batch], query: Batch) -> tuple[Policy, Batch]:
            """The policies after these inner steps on the attempts that they made, and those for the surrogate."""
            old, count = policy(self._adapted(supports), query["observation"]), len(query["mask"])
            advantage = vmap(self._returns.advantage)(query["reward"], query["mask"])
            logp, share = vmap(log_probability)(*old, query["action"]), query["mask"].sum() / count
            return old, {**query, "advantage": advantage, "logp": logp, "share": share.expand(count)}

        with torch.no_grad():
            old, data = judged(supports, query)
            old_start = self.network(self.theta.detach(), supports[0]["observation"])
            # What a step has left made the next one's attempts.
            stages = range(1, len(supports)) if config.every_step else ()
            along = [judged(supports[:stage], supports[stage])[1] for stage in stages]

        def surrogate(theta: Tensor, batch: Batch) -> Tensor:
            logp = log_probability(*self.network(theta, batch["observation"]), batch["action"])
            ratio = torch.exp(logp - batch["logp"])
            gain = ratio * batch["advantage"]
            if self.rule.clipped:
                clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
                gain = torch.minimum(gain, clipped * batch["advantage"])
            return -(gain * batch["mask"]).sum() / batch["share"]

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
            found = meta_gradient(
                self._inner, surrogate, self.theta.detach(), self._sizes, supports, data,
                self.rule.first_order, along=along,
            )  # fmt: skip
            saved = self._trained.copy()
            norm = self._trained.step(found.loss.item(), found._asdict())
            kl = moved()
            figures = {"gradient_norm": norm, "divergence": kl, "passes": float(count)}
            if not kl <= config.divergence:
                figures["divergence"] = self._backtrack(saved, moved)
                break
        if not self.network.discrete:
            log_std = self.network(self.theta.detach(), supports[0]["observation"][0, 0, 0])[1]
            figures["std"] = log_std.exp().mean().item()
        return figures

    def _backtrack(self, saved: Mapping[str, Tensor], moved: Callable[[], float]) -> float:
        """Halve the step from `saved` until the divergence is within bounds, and if that fails undo it."""
        for _ in range(8):
            self._trained.towards(saved, 0.5)
            kl = moved()
            if kl <= self.config.divergence:
                return kl
        self._trained.towards(saved, 1)
        return moved()
