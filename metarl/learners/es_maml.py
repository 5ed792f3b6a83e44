"""ES-MAML: an initialization from which a search goes far, found without any gradient (Song et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.tasks import Task
from export.device.search import Search, candidates, choose
from metarl.config import Config
from metarl.episodes import Episodes
from metarl.learners.learner import ACTOR, initial
from metarl.learners.trained import Trained
from metarl.networks import MLP
from metarl.objectives import Objective
from metarl.sampling.serial import Sampler
from metarl.sampling.worker import Stream, Trial, seed

Thetas = NDArray[np.float32]


class ESMAML:
    """Evolution strategies on the return after adaptation. Methods as in Learner.

    Every task meets one antithetic pair theta ± sigma e, and both sides of it the same worlds, noise and perturbations
    of their searches: their difference is then the perturbation's doing alone. Policies act by their mean.
    """

    def __init__(self, network: MLP, objective: Objective, config: Config, start: Tensor | None = None) -> None:
        self.network, self.objective, self.config = network, objective, config
        self._trained = Trained({"theta": initial(network, config, start)}, {"theta": config.learning_rate})
        self._directions = np.zeros((0, network.size), np.float32)  # of the batch that was gathered last
        self.search = Search(
            kind="climb" if config.climb else "estimate",
            sigma=config.sigma,
            rate=config.step_size,
            tries=config.tries,
            episodes=config.episodes,
            rounds=config.inner_steps,
        )

    @property
    def theta(self) -> Tensor:
        return self._trained.parameters["theta"]

    def gather(self, sampler: Sampler, tasks: Sequence[Task], key: tuple[int, int]) -> list[Episodes]:
        """What each round's candidates lived, then what the adapted did; tasks twice, theta + sigma e first."""
        theta = self.theta.detach().numpy()
        rngs = [np.random.default_rng(seed(Stream.PARAMETERS, (*key, index))) for index in range(len(tasks))]
        self._directions = np.stack([rng.standard_normal(theta.shape, np.float32) for rng in rngs])
        moved = np.float32(self.config.sigma) * self._directions
        thetas, keys = np.concatenate([theta + moved, theta - moved]), [(*key, i) for i in range(len(tasks))] * 2
        lived: list[Episodes] = []
        for turn in range(self.search.rounds):
            thetas, found = search_round(self.search, sampler, [*tasks, *tasks], keys, thetas, turn)
            lived.append(found)
        trials = [
            Trial(task, (*where, self.search.rounds), self.config.query, "mean", ACTOR, one)
            for task, where, one in zip([*tasks, *tasks], keys, thetas, strict=True)
        ]
        return [*lived, Episodes.stack(sampler.sample(trials))]

    def update(self, batches: Sequence[Episodes], progress: float) -> dict[str, float]:
        self._trained.schedule(progress)
        plus, minus = np.split(batches[-1].reward.sum(-1).mean(1).astype(np.float64), 2)
        spread = np.concatenate([plus, minus]).std() + 1e-8
        weights = torch.from_numpy(((plus - minus) / (2 * spread * len(plus))).astype(np.float32))
        gradient = -weights @ torch.from_numpy(self._directions)
        after = float((plus.mean() + minus.mean()) / 2)
        norm = self._trained.step(after, {"theta": gradient})
        before = float(batches[0].reward.sum(-1).mean())
        return {"gradient_norm": norm, "return_before": before, "return_after": after}

    def state(self) -> dict[str, Tensor]:
        return self._trained.state()

    def load(self, state: dict[str, Tensor]) -> None:
        self._trained.load(state)


def search_round(
    search: Search,
    sampler: Sampler,
    tasks: Sequence[Task],
    keys: Sequence[tuple[int, ...]],
    thetas: Thetas,
    turn: int,
    actor: str = ACTOR,
) -> tuple[Thetas, Episodes]:
    """thetas [task, P] after one round of each one's search, and all that their candidates lived [task, episode, ...].

    All candidates of a task meet the same worlds and noise, those of `keys`. When climbing, the incumbent is one more.
    Raises FloatingPointError for returns that are not finite.
    """
    tried = []
    for theta, key in zip(thetas, keys, strict=True):
        made = candidates(search, theta, np.random.default_rng(seed(Stream.PARAMETERS, (*key, turn, 0))))
        tried.append(np.concatenate([theta[None], made]) if search.kind == "climb" else made)
    each = len(tried[0])
    trials = [
        Trial(task, (*key, turn), search.episodes, "mean", actor, one)
        for task, key, many in zip(tasks, keys, tried, strict=True)
        for one in many
    ]
    lived = Episodes.stack(sampler.sample(trials))
    values = lived.reward.sum(-1).mean(1).reshape(len(tasks), each)
    if not np.isfinite(values).all():
        raise FloatingPointError(f"returns of candidates are {values[~np.isfinite(values)][:5].tolist()}")
    moved = []
    for theta, many, value in zip(thetas, tried, values, strict=True):
        own, others, theirs = (float(value[0]), many[1:], value[1:]) if search.kind == "climb" else (None, many, value)
        moved.append(choose(search, theta, own, others, theirs)[0])

    def by_task(field: NDArray[np.float32]) -> NDArray[np.float32]:
        return field.reshape(len(tasks), each * search.episodes, *field.shape[2:])

    return np.stack(moved), lived.map(by_task)
