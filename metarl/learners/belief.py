"""Adaptation by what a robot feels: a context, moved by its forecasts' errors, tells the policy what its task is.

The parents are MAML (Finn et al. 2017) and CAVIA (Zintgraf et al. 2019) for a context that inner steps move from a
learned start, GrBAL (Nagabandi et al. 2019) for steps on the error of forecasts, UP-OSI (Yu et al. 2017) and RMA (Kumar
et al. 2021) for a policy that acts on what is inferred of its task. Here nobody is taught by an oracle: one policy
learns what to do if it is told nothing, the truth, or what was inferred, so that it also is what it does without
adapting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.faults import later
from envs.tasks import Task
from export.device.plan import Plan
from metarl.adaptation import Step, inner_step
from metarl.belief import Prior, imagine
from metarl.config import Config
from metarl.episodes import Episodes, Float
from metarl.experience import Experience, Whole, Windows
from metarl.informed import Informed
from metarl.learners.learner import ACTOR, begin_with
from metarl.learners.memory import advantages
from metarl.learners.trained import Trained
from metarl.memory import Pieces
from metarl.networks import MLP, Symmetric, divergence, log_probability
from metarl.objectives import Batch, Prediction
from metarl.problem import Problem
from metarl.sampling.serial import Sampler
from metarl.sampling.worker import Stream, Trial, draw_tasks, seed
from robots.mirror import Mirror

PLAN = Plan(every=0.5, window=2.0, probation=0.5, first=0.5)
NOTHING = 0.25  # share of attempts in which nothing is believed, so that it learns to do without, too
CHANGES = 0.25  # share of those who infer whose task changes under way
STD = 0.22  # of actions, at first
# Mean KL [nat] of a pass's updates, at first and at last, that the rate is made to keep: as in Rudin et al. 2022,
# "Learning to walk in minutes using massively parallel deep reinforcement learning", but falling.
MOVES = (0.04, 0.002)
RATES, FASTER = (1e-5, 2e-3), 1.3  # its bounds, and by how much it changes at most
INFER = 1e-2  # learning rate of what infers
STEPS, WINDOWS = 8, 64  # that it takes in an iteration, and in each of them
AHEAD = 25  # control steps after a window that are to be foreseen from it
FORESIGHT = 0.3  # weight of forecasts, in the outer loss
LIKELY = 0.1  # of beliefs' likelihood, beside their score
EARLIER = 0.3  # weight of beliefs before the last inner step, the start's included
JUDGED = 128  # windows that were not learned from yet
FORGET = 0.9  # of the running size of returns
OTHERS = 2**31  # beyond any iteration: tasks that others change to


@dataclass(frozen=True)
class Told(Episodes):
    """Attempts, one a task, [task, 1, time, ...], of which it is known what task they were lived in: truth [task, 2,
    code], whitened, at first and from control step `changed` [task] on. And what was believed: what was inferred on the
    way where `inferring` [task], else all the time `imagined` [task, 2 * code]."""

    truth: Float
    changed: Whole
    imagined: Float
    inferring: NDArray[np.bool_]

    @property
    def experience(self) -> Experience:
        return Experience.of(self, self.truth, self.changed)

    @property
    def truths(self) -> Float:
        """[task, time, code]"""
        after = np.arange(self.reward.shape[-1]) >= self.changed[:, None]
        return np.where(after[..., None], self.truth[:, 1:], self.truth[:, :1])


class Belief:
    """PPO (Schulman et al. 2017) on what is inferred, and beside it what infers. Methods as in Learner.

    What infers learns from all that was ever lived: what limits how well tasks can be told apart is how many were met.
    In an attempt the policy is told nothing, the truth, or what was inferred on the way: the last as often as the
    training has progressed, for at first there is little to infer from, and what is inferred changes faster than the
    policy can learn to use it. The critic, which no robot needs, is always told the truth beside it (as in Pinto et al.
    2018, "Asymmetric actor critic"). Of a robot that is its own mirror image (`envs.symmetry`) policy and critic are
    so, too, and half of the windows are learned from as in a mirror: every attempt teaches as much as two.
    """

    def __init__(
        self, network: Informed, objective: Prediction, config: Config, start: Tensor | None, problem: Problem
    ) -> None:
        """start: a policy that sees the observation alone. Raises ValueError for more than one attempt a world."""
        if config.episodes != 1:
            raise ValueError(f"episodes is {config.episodes}, expected 1: every world is met in one attempt")
        self.network, self.objective, self.config = network, objective, config
        self.plan = replace(PLAN, steps=network.steps)
        self._space, self._prior, self._hz = problem.space, Prior.of(problem.space), 1 / problem.seconds
        generator = torch.Generator().manual_seed(config.seed)
        known, rate = network.observation, config.learning_rate
        policy = network.policy.initial(generator, STD)
        if start is not None:
            policy = begin_with(network.policy, policy, start, known)
            policy[-network.action :] = np.log(STD)
        self._symmetry = problem.symmetry
        self._critic = MLP(network.policy.observation + network.code, 1, config.hidden)
        if isinstance(network.policy, Symmetric) and self._symmetry:
            known_too = Mirror.join((network.policy.sees, self._symmetry.code))
            self._critic = Symmetric(**vars(self._critic), sees=known_too, does=Mirror.of((1.0,)))
        value = self._critic.initial(generator)
        parts = {"policy": ignoring(network.policy, policy, known), "value": ignoring(self._critic, value, known)}
        self._acting = Trained(parts, dict.fromkeys(parts, rate))
        theta = network.initial(generator.manual_seed(config.seed), config.step_size)
        theta[network.place("unit")] = torch.from_numpy(self._prior.deviation)
        self._inferring = Trained({"theta": theta}, {"theta": INFER})
        self._horizon = problem.horizon
        self._learned = torch.ones(network.own)
        for fixed in ("scale", "unit"):
            self._learned[network.place(fixed)] = 0
        self._lived: list[Experience] = []
        self._size = torch.ones(())  # of returns: the value learns them in this unit
        self._rate = torch.tensor(rate)  # of learning to act

    @property
    def theta(self) -> Tensor:
        return torch.cat([self._inferring.parameters["theta"], self._acting.parameters["policy"]])

    @property
    def step_sizes(self) -> Tensor:
        return self.network.step_sizes(self.network.pieces(self.theta))

    def adapt(self, theta: Tensor, step: Tensor, *fields: Tensor) -> Step:
        batch = dict(zip(self.objective.fields, fields, strict=True))
        network, parts = self.network, self.network.pieces(theta)
        if not network.pooled:
            return inner_step(network, self.objective, theta, network.step_sizes(parts), step, batch)
        change, lived = self.objective.changes(batch)
        context = network.pool(parts, batch["observation"], batch["action"], change, lived).mean(0)
        loss = self.objective.loss(network, theta, batch)
        moved = torch.cat([context, theta[network.context :]])
        norm = (context - parts["context"]).square().sum().sqrt()
        return Step(moved, loss, norm, torch.isfinite(context).all() & torch.isfinite(loss))

    def gather(self, sampler: Sampler, tasks: Sequence[Task], key: tuple[int, int]) -> list[Episodes]:
        """One batch: an attempt on every task; what infers adapts on its way, and some tasks change on theirs."""
        count, horizon = len(tasks), self._horizon
        others = [*map(later, tasks, draw_tasks(self._space, "train", (key[0], key[1] + OTHERS), count))]
        rng, theta = np.random.default_rng(seed(Stream.CHANGE, key)), self.theta.detach()
        truth = np.stack([[self._prior.truth(self._space, task) for task in kinds] for kinds in (tasks, others)], 1)
        imagined = imagine(truth[:, 0], NOTHING, rng)
        inferring = imagined.any(1) & (rng.random(count) < key[1] / self.config.iterations)
        changes = inferring & (rng.random(count) < CHANGES)
        changed = np.where(changes, rng.integers(1, horizon, count), horizon)
        thetas = [
            (theta if infers else self.network.believing(theta, torch.from_numpy(belief))).numpy()
            for infers, belief in zip(inferring, imagined, strict=True)
        ]
        trials = [
            Trial(task, (*key, index, 0), 1, "explore", ACTOR, own, then=(changed[index] / self._hz, other))
            for index, (task, other, own) in enumerate(zip(tasks, others, thetas, strict=True))
        ]
        lived = Episodes.stack(sampler.sample(trials))
        return [Told(**vars(lived), truth=truth, changed=changed, imagined=imagined, inferring=inferring)]

    def update(self, batches: Sequence[Episodes], progress: float) -> dict[str, float]:
        """Passes of PPO, then STEPS for what infers, whose figures are of windows that it has not learned from yet."""
        (told,) = batches
        assert isinstance(told, Told)
        iteration = round(progress * self.config.iterations)
        acting, inferring = (np.random.default_rng([self.config.seed, iteration, use]) for use in range(2))
        new = told.experience
        if not self._lived:
            self._measure(new)
        figures = self._act(told, progress, acting) | self._judged(new, inferring)
        self._lived.append(new)
        return figures | self._infer(progress, inferring)

    def state(self) -> dict[str, Tensor]:
        parts = {"acting": self._acting.state(), "inferring": self._inferring.state()}
        parts["pace"] = {"size": self._size, "rate": self._rate}
        if self._lived:
            parts["lived"] = {name: torch.from_numpy(value) for name, value in self._lived[0].fields().items()}
        return {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        self._acting.load(parts.get("acting", {}))
        self._inferring.load(parts.get("inferring", {}))
        self._size, self._rate = parts["pace"]["size"], parts["pace"]["rate"]
        lived = {name: value.numpy() for name, value in parts.get("lived", {}).items()}
        self._lived = [Experience(**lived)] if lived else []

    def contexts(self, parts: Pieces, support: Batch, learning: bool = True) -> list[Tensor]:
        """The contexts [window, context] before and after each inner step; gradients go through if `learning`."""
        network = self.network
        change, lived = self.objective.changes(support)
        start = parts["context"].expand(len(lived), -1)
        if network.pooled:
            return [start, network.pool(parts, support["observation"], support["action"], change, lived)]
        found, weight = [start], parts["log_weight"].exp()
        forecast = network.features(parts, support["observation"], support["action"], change)
        for size in network.step_sizes(parts):
            context = found[-1] if learning else found[-1].detach().requires_grad_()
            surprise = (network.errors(parts, context, *forecast) * weight).square().mean(-1)
            # Each window's own mean: their sum's gradient is every one's.
            total = ((surprise * lived).sum(1) / lived.sum(1).clamp(min=1)).sum()
            (gradient,) = torch.autograd.grad(total, context, create_graph=learning)
            found.append(context - size * gradient)
        return found

    def inference_loss(self, parts: Pieces, support: Batch, query: Batch) -> tuple[Tensor, dict[str, float]]:
        """What is believed after each inner step on each support window, and before the first, is judged by
        `misbelief`; what is foreseen after the last, by the query's errors. And figures of that.
        """
        contexts, truth = self.contexts(parts, support), support["truth"]
        beliefs = [self.network.belief(parts, context) for context in contexts]
        losses = [misbelief(*belief, truth, self._prior.choice) for belief in beliefs]
        first, last = self._foreseen(parts, (contexts[0].detach(), contexts[-1]), query)
        mean, certainty = (part.detach() for part in beliefs[-1])
        return losses[-1] + EARLIER * torch.stack(losses[:-1]).mean() + FORESIGHT * last, {
            "loss_before": losses[0].item(),
            "loss_after": losses[-1].item(),
            "unlikelihood": unlikelihood(*beliefs[-1], truth).mean().item(),
            "forecast_before": first.item(),
            "forecast_after": last.item(),
            "known": (1 - (mean - truth).square().mean() / truth.square().mean()).item(),
            "certainty": certainty.mean().item(),
        }

    def told(self, lived: Told) -> Tensor:
        """What the policy was told when it lived [task, horizon, 2 code]."""
        believed = torch.from_numpy(lived.imagined)[:, None].expand(-1, self._horizon, -1)
        if lived.inferring.any():
            inferred = self.beliefs(lived.experience)
            believed = torch.where(torch.from_numpy(lived.inferring)[:, None, None], inferred, believed)
        return self.network.told(self.network.pieces(self.theta.detach()), believed)

    def beliefs(self, lived: Experience) -> Tensor:
        """What is inferred on the way [episode, horizon, 2 code], by windows as `plan` says."""
        first, every, longest = (round(t * self._hz) for t in (self.plan.start, self.plan.every, self.plan.window))
        parts = self.network.pieces(self.theta.detach())
        found = self._believed(parts, parts["context"]).expand(len(lived.length), self._horizon, -1).clone()
        for time in range(first, self._horizon, every):
            (rows,) = np.nonzero(lived.length > time)
            if len(rows):
                ends = np.full(len(rows), time)
                support = _tensors(lived.cut(rows, np.maximum(0, ends - longest), ends, longest))
                context = self.contexts(parts, support, learning=False)[-1].detach()
                found[rows, time:] = self._believed(parts, context)[:, None]
        return found

    def _believed(self, parts: Pieces, context: Tensor) -> Tensor:
        return torch.cat(self.network.belief(parts, context), -1)

    def _act(self, lived: Told, progress: float, rng: np.random.Generator) -> dict[str, float]:
        """PPO's passes over one batch of attempts."""
        config, policy = self.config, self.network.policy
        self._acting.pace(float(self._rate))
        mask, reward = (torch.from_numpy(field[:, 0]) for field in (lived.mask, lived.reward))
        seen = torch.cat([torch.from_numpy(lived.observation[:, 0]), self.told(lived)], -1)
        known = torch.cat([seen, torch.from_numpy(lived.truths * self._prior.deviation)], -1)
        data = {"seen": seen, "known": known, "action": torch.from_numpy(lived.action[:, 0])}
        with torch.no_grad():
            theta, value = (self._acting.parameters[name] for name in ("policy", "value"))
            mean, log_std = policy(theta, seen)
            data |= {"mean": mean, "logp": log_probability(mean, log_std, data["action"])}
            worth = self._critic(value, known)[0][..., 0] * self._size
            # Where time was up, what would have come is worth what the last step was.
            paid = reward.clone()
            paid[:, -1] += config.discount * worth[:, -1] * mask[:, -1]
            advantage, returns = advantages(paid, worth, mask, config.discount, config.gae_lambda)
            alive = mask > 0
            spread = returns[alive].square().mean().sqrt().clamp(min=1e-3)
            self._size = spread if not progress else FORGET * self._size + (1 - FORGET) * spread
            data |= {"advantage": (advantage - advantage[alive].mean()) / (advantage[alive].std() + 1e-6)}
            data |= {"returns": returns / self._size}
        data = {name: value[alive] for name, value in data.items()}
        figures = {"return": float(lived.reward.sum(-1).mean()), "length": float(lived.mask.sum(-1).mean())}
        for _ in range(config.passes):
            moved = []
            for rows in np.array_split(rng.permutation(len(data["logp"])), config.batches):
                part = {name: value[rows] for name, value in data.items()}
                theta, value = (self._acting.parameters[name] for name in ("policy", "value"))
                now, spread_now = policy(theta, part["seen"])
                ratio = torch.exp(log_probability(now, spread_now, part["action"]) - part["logp"])
                clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
                gain = torch.minimum(ratio * part["advantage"], clipped * part["advantage"]).mean()
                error = (self._critic(value, part["known"])[0][..., 0] - part["returns"]).square().mean()
                gradients = torch.autograd.grad(error - gain, [theta, value])
                self._acting.step((error - gain).item(), dict(zip(("policy", "value"), gradients, strict=True)))
                moved.append(divergence(now.detach(), spread_now.detach(), part["mean"], log_std).mean().item())
                figures["value_loss"] = error.item()
            figures["divergence"] = float(np.mean(moved))
            if moved[-1] > config.divergence:
                break
        wanted = MOVES[0] + progress * (MOVES[1] - MOVES[0])
        change = np.clip((wanted / max(figures["divergence"], 1e-9)) ** 0.5, 1 / FASTER, FASTER)
        self._rate = (self._rate * change).clamp(*RATES)
        return figures | {"std": log_std.exp().mean().item()}

    def _judged(self, new: Experience, rng: np.random.Generator) -> dict[str, float]:
        return self.inference_loss(self.network.pieces(self.theta), *self._drawn(new, rng, JUDGED))[1]

    def _infer(self, progress: float, rng: np.random.Generator) -> dict[str, float]:
        self._inferring.schedule(progress)
        lived, norms = Experience.join(self._lived), []
        self._lived = [lived]
        policy = self._acting.parameters["policy"].detach()
        for _ in range(STEPS):
            theta = self._inferring.parameters["theta"]
            parts = self.network.pieces(torch.cat([theta, policy]))
            loss, _ = self.inference_loss(parts, *self._drawn(lived, rng, WINDOWS))
            (gradient,) = torch.autograd.grad(loss, theta)
            norms.append(self._inferring.step(loss.item(), {"theta": gradient * self._learned}))
        return {"gradient_norm": float(np.mean(norms))}

    def _foreseen(self, parts: Pieces, contexts: Sequence[Tensor], query: Batch) -> list[Tensor]:
        """Mean square error of forecasts by each context, in units of their scale."""
        change, lived = self.objective.changes(query)
        forecast = self.network.features(parts, query["observation"], query["action"], change)
        errors = [self.network.errors(parts, context, *forecast).square().mean(-1) for context in contexts]
        return [(error * lived).sum() / lived.sum().clamp(min=1) for error in errors]

    def _measure(self, lived: Experience) -> None:
        """Set the scale of what is felt: how much it changes from step to step, and how much it varies at all."""
        some, _ = self._drawn(lived, np.random.default_rng(self.config.seed), JUDGED)
        change, within = self.objective.changes(some)
        levels = some["observation"][..., list(self.network.felt)]
        with torch.no_grad():
            own = self._inferring.parameters["theta"]
            spread = torch.cat([change, levels], -1)[within > 0].std(0)
            own[self.network.place("scale")] = spread.clamp(min=1e-4)

    def _drawn(self, lived: Experience, rng: np.random.Generator, count: int) -> tuple[Batch, Batch]:
        support, query = lived.drawn(rng, count, round(self.plan.window * self._hz), AHEAD)
        if self._symmetry:
            which = rng.random(count) < 0.5
            support, query = support.mirrored(self._symmetry, which), query.mirrored(self._symmetry, which)
        return _tensors(support), _tensors(query)


def _tensors(windows: Windows) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in windows._asdict().items()}


def ignoring(network: MLP, theta: Tensor, known: int) -> Tensor:
    """theta [P] with no weight on what comes after the first `known` elements that the network sees."""
    (inputs, outputs), *_ = network.layers
    first = theta[: inputs * outputs].reshape(outputs, inputs).clone()
    first[:, known:] = 0
    return torch.cat([first.flatten(), theta[inputs * outputs :]])


def unlikelihood(mean: Tensor, certainty: Tensor, truth: Tensor) -> Tensor:
    """-log N(truth; mean, 1 - certainty) of each, up to a constant."""
    variance = 1 - certainty
    return 0.5 * ((truth - mean).square() / variance + variance.log())


def misbelief(mean: Tensor, certainty: Tensor, truth: Tensor, choice: NDArray[np.bool_]) -> Tensor:
    """What inference learns by, from [window, code]: of numbers, the continuous ranked probability score of
    N(mean, 1 - certainty), and LIKELY of the unlikelihood; of a `choice` [code], all of it as much as one number, the
    unlikelihood. All are least for what there is reason to believe (Gneiting and Raftery 2007, "Strictly proper scoring
    rules"). The first is not ruled by the few elements that can be known well; but of what is rare it asks nothing.
    """
    deviation = (1 - certainty).sqrt()
    off = (truth - mean) / deviation
    density = (-off.square() / 2).exp() / (2 * pi) ** 0.5
    score = deviation * (off * (2 * torch.special.ndtr(off) - 1) + 2 * density - pi**-0.5)
    unlikely = unlikelihood(mean, certainty, truth)
    judged = torch.where(torch.from_numpy(choice), unlikely, score + LIKELY * unlikely)
    return (judged * torch.from_numpy(np.where(choice, 1 / max(choice.sum(), 1), 1.0)).to(judged)).mean()
