"""The sampler of the papers' little worlds: all trials at once, as rows of arrays, acting in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from envs.classic import Classic, stacked
from metarl.episodes import Episodes, Float
from metarl.informed import Plain
from metarl.memory import Memory
from metarl.networks import draw, mode
from metarl.sampling.worker import Stream, Trial, seed
from robots.spec import Array

Lives = NDArray[np.bool_]


class BatchSampler:
    """Every random number is a function of the trial's key alone, so that neither order nor company matters.

    networks: by the name that trials give their actor; those named in `privileged` also see the encoded task.
    """

    def __init__(self, job: Classic, networks: Mapping[str, Plain | Memory], privileged: Sequence[str] = ()) -> None:
        self._job, self._networks, self._privileged = job, networks, privileged

    def sample(self, trials: Sequence[Trial]) -> list[Episodes]:
        """All trials of one call are of one mode, actor and number of episodes."""
        first = trials[0]
        alike = {(trial.mode, trial.actor, trial.episodes) for trial in trials}
        if len(alike) > 1:
            raise ValueError(f"trials differ in (mode, actor, episodes) {sorted(alike)}; sample them one by one")
        if any(trial.then for trial in trials):
            raise ValueError(
                f"a trial's task changes under way, expected none: {type(self._job).__name__} has no change"
            )
        values = stacked(self._job.space, [trial.task for trial in trials])
        with torch.no_grad():
            if first.mode == "guided":
                lived = self._guided(trials, values)
            elif isinstance(network := self._networks[first.actor], Plain):
                lived = self._attempts(trials, values, network)
            else:
                lived = self._remembered(trials, values, network)
        return [lived.map(lambda field, index=index: field[index]) for index in range(len(trials))]  # type: ignore[misc]

    def close(self) -> None:
        pass

    def _noise(self, trials: Sequence[Trial]) -> tuple[Array, Float | None]:
        """The world's uniforms [trial, episode, time + 1, draws], and the actions' noise [trial, episode, time, n]."""
        job, first = self._job, trials[0]
        world, action = (first.episodes, job.horizon + 1, job.draws), (first.episodes, job.horizon, job.action_size)
        draws = np.stack([np.random.default_rng(seed(Stream.WORLD, trial.key)).random(world) for trial in trials])
        if first.mode != "explore":
            return draws, None
        rngs = (np.random.default_rng(seed(Stream.ACTION, trial.key)) for trial in trials)
        noise = [rng.gumbel(size=action) if job.discrete else rng.standard_normal(action) for rng in rngs]
        return draws, np.stack(noise).astype(np.float32)

    def _guided(self, trials: Sequence[Trial], values: Array) -> Episodes:
        """Fields [trial, episode, time, ...]."""
        count, rows = trials[0].episodes, np.repeat(values, trials[0].episodes, 0)
        rngs = (np.random.default_rng(seed(Stream.GUIDE, trial.key)) for trial in trials)
        draws = np.concatenate([rng.random((count, self._job.draws)) for rng in rngs])
        observation, action = self._job.demonstrate(rows, draws)
        none = np.zeros(observation.shape[:2], np.float32)
        lived = Episodes(observation, action, none, np.ones_like(none), none)
        return lived.map(lambda field: field.reshape(len(trials), count, *field.shape[1:]))

    def _attempts(self, trials: Sequence[Trial], values: Array, network: Plain) -> Episodes:
        """All episodes side by side: without a memory they do not depend on one another."""
        count = trials[0].episodes
        draws, noise = self._noise(trials)
        rows = len(trials) * count
        flat = None if noise is None else noise.reshape(rows, *noise.shape[2:])
        thetas = [trial.theta for trial in trials if trial.theta is not None]
        alike = all(theta is thetas[0] for theta in thetas)
        policy = _Plain(network, torch.from_numpy(np.stack(thetas[:1] if alike else thetas)))
        lived = self._episode(
            np.repeat(values, count, 0), draws.reshape(rows, *draws.shape[2:]), flat, self._known(trials), policy
        )
        return lived.map(lambda field: field.reshape(len(trials), count, *field.shape[1:]))

    def _remembered(self, trials: Sequence[Trial], values: Array, network: Memory) -> Episodes:
        """Trials side by side, their episodes in turn: the memory goes on from one to the next."""
        if any(trial.theta is not trials[0].theta for trial in trials):
            raise ValueError("trials of a policy with memory have different thetas; give all of them the same array")
        draws, noise = self._noise(trials)
        policy = _Remembering(network, trials[0].theta, len(trials))
        episodes = [
            self._episode(values, draws[:, index], None if noise is None else noise[:, index], None, policy)
            for index in range(trials[0].episodes)
        ]
        return Episodes(*(np.stack(field, 1) for field in zip(*(vars(one).values() for one in episodes), strict=True)))

    def _known(self, trials: Sequence[Trial]) -> Float | None:
        """What a privileged policy is told [row, size]."""
        if trials[0].actor not in self._privileged:
            return None
        codes = np.stack([self._job.space.encode(trial.task) for trial in trials])
        return np.repeat(codes.astype(np.float32), trials[0].episodes, 0)

    def _episode(
        self, values: Array, draws: Array, noise: Float | None, known: Float | None, policy: _Policy
    ) -> Episodes:
        """One episode on every row, fields [row, time, ...]; what ended is padded as `Episodes` says."""
        job, rows = self._job, len(values)
        seen_size = job.observation_size + (0 if known is None else known.shape[1])
        observations = np.zeros((rows, job.horizon, seen_size), np.float32)
        actions = np.zeros((rows, job.horizon, job.action_size), np.float32)
        rewards, mask, errors = (np.zeros((rows, job.horizon), np.float32) for _ in range(3))
        lives, error = np.ones(rows, bool), np.zeros(rows, np.float32)
        state, observation = job.start(values, draws[:, 0])
        for step in range(job.horizon):
            seen = observation if known is None else np.concatenate([observation, known], 1)
            mean, log_std = policy.act(torch.from_numpy(seen), lives)
            made = mode(mean, log_std) if noise is None else draw(mean, log_std, torch.from_numpy(noise[:, step]))
            action = made.numpy()
            state, outcome = job.step(state, action, draws[:, step + 1])
            error = np.where(lives, outcome.error, error)
            observations[lives, step], actions[lives, step] = seen[lives], action[lives]
            rewards[:, step], mask[:, step], errors[:, step] = outcome.reward * lives, lives, error
            policy.feel(action, outcome.reward, outcome.ended | (step + 1 == job.horizon), lives)
            observation = outcome.observation
            lives = lives & ~outcome.ended
            if not lives.any():
                errors[:, step + 1 :] = error[:, None]
                break
        return Episodes(observations, actions, rewards, mask, errors)


class _Policy(Protocol):
    """Acts on all rows; only those that live count."""

    def act(self, observation: Tensor, lives: Lives) -> tuple[Tensor, Tensor]: ...

    def feel(self, action: Float, reward: Float, done: Lives, lives: Lives) -> None: ...


class _Plain:
    """One theta for all rows [1, P], or one for each equally large group of them [group, P]."""

    def __init__(self, network: Plain, thetas: Tensor) -> None:
        self._network, self._thetas = network, thetas

    def act(self, observation: Tensor, lives: Lives) -> tuple[Tensor, Tensor]:
        groups = len(self._thetas)
        if groups == 1:
            return self._network(self._thetas[0], observation)
        mean, log_std = vmap(self._network)(self._thetas, observation.reshape(groups, -1, observation.shape[-1]))
        log_std = log_std.repeat_interleave(mean.shape[1], 0)
        return mean.reshape(len(observation), -1), log_std

    def feel(self, action: Float, reward: Float, done: Lives, lives: Lives) -> None:
        pass


class _Remembering:
    """A memory for each row, of one theta."""

    def __init__(self, network: Memory, theta: Float | None, rows: int) -> None:
        assert theta is not None
        self._network, self._theta = network, torch.from_numpy(theta)
        self._memory = torch.zeros(rows, network.memory)
        self._feedback = torch.zeros(rows, network.action + 2)

    def act(self, observation: Tensor, lives: Lives) -> tuple[Tensor, Tensor]:
        outputs, memory = self._network.step(self._theta, self._memory, observation, self._feedback)
        self._memory = torch.where(torch.from_numpy(lives)[:, None], memory, self._memory)
        return outputs.mean, outputs.log_std

    def feel(self, action: Float, reward: Float, done: Lives, lives: Lives) -> None:
        said = np.concatenate([action, reward[:, None], done[:, None]], 1).astype(np.float32)
        self._feedback[torch.from_numpy(lives)] = torch.from_numpy(said[lives])
