"""What published tables compare with: UCB1 and Thompson sampling on bandits, random play and PSRL on tabular MDPs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from envs.classic import Bandit, TabularMDP
from robots.spec import Array

CHUNK = 1000  # trials at a time: a model of each is held in memory
Integers = NDArray[np.int64]


def ucb1(arms: int, pulls: int, trials: int, rng: np.random.Generator, c: float = 0.2) -> Array:
    """Reward summed over each trial [trials] of UCB1 (Auer et al. 2002) on `Bandit(arms)`.

    An arm's index is mean + c sqrt(2 log t / n) after t pulls in all, where mean and n start from one success and one
    failure; the RL2 paper's authors count so too (arXiv 1611.02779). c = 1 is the textbook's; they report the best of
    0, 0.1 ... 1 for each entry of their table, which is 0.1 or 0.2 here.
    """

    def index(t: int, wins: Array, count: Array) -> Array:
        bound: Array = wins / count + c * np.sqrt(2 * np.log(max(t, 1)) / count)
        return bound

    return _pulled(arms, pulls, trials, rng, index)


def thompson(arms: int, pulls: int, trials: int, rng: np.random.Generator) -> Array:
    """Reward summed over each trial [trials] of Thompson sampling with the prior Beta(1, 1) on `Bandit(arms)`."""
    return _pulled(arms, pulls, trials, rng, lambda _, wins, count: rng.beta(wins, count - wins))


def random_mdp(episodes: int, trials: int, rng: np.random.Generator, job: TabularMDP | None = None) -> Array:
    """Reward summed over each trial [trials] of `episodes` episodes of a tabular MDP, with actions drawn evenly."""
    mdp = job or TabularMDP()

    def trial(rows: int) -> Array:
        values, total = rng.random((rows, mdp.width)), np.zeros(rows)
        for _ in range(episodes):
            state, _ = mdp.start(values, np.empty((rows, 0)))
            for _ in range(mdp.horizon):
                action = np.eye(mdp.actions)[rng.integers(mdp.actions, size=rows)]
                state, outcome = mdp.step(state, action, rng.random((rows, mdp.draws)))
                total += outcome.reward
        return total

    return _chunked(trial, trials)


def psrl(episodes: int, trials: int, rng: np.random.Generator, job: TabularMDP | None = None) -> Array:
    """Reward summed over each trial [trials] of `episodes` episodes of PSRL (Osband et al., arXiv 1306.0940).

    Before each episode an MDP is drawn from the posterior, whose prior is what tasks are drawn from, and solved for its
    horizon; the best policy of that one acts.
    """
    mdp = job or TabularMDP()

    def trial(rows: int) -> Array:
        pairs = (rows, mdp.states, mdp.actions)
        values, total, row = rng.random((rows, mdp.width)), np.zeros(rows), np.arange(rows)
        reached, earned, visits = np.ones((*pairs, mdp.states)), np.ones(pairs), np.ones(pairs)  # the prior's
        for _ in range(episodes):
            policy = _solved(mdp, rng.standard_gamma(reached), rng.normal(earned / visits, visits**-0.5))
            state, _ = mdp.start(values, np.empty((rows, 0)))
            for best in policy:
                place, chosen = state.place, best[row, state.place]
                state, outcome = mdp.step(state, np.eye(mdp.actions)[chosen], rng.random((rows, mdp.draws)))
                reached[row, place, chosen, state.place] += 1
                earned[row, place, chosen] += outcome.reward
                visits[row, place, chosen] += 1
                total += outcome.reward
        return total

    return _chunked(trial, trials)


def _solved(mdp: TabularMDP, weight: Array, mean: Array) -> list[Integers]:
    """The best action [rows, states] of every step. weight: of next states, not normalised [rows, s, a, s]."""
    chance = (weight / weight.sum(-1, keepdims=True)).reshape(len(weight), -1, mdp.states)
    worth, policy = np.zeros((len(weight), mdp.states)), []
    for _ in range(mdp.horizon):
        gain = mean + (chance @ worth[:, :, None]).reshape(mean.shape)
        policy.append(gain.argmax(2))
        worth = gain.max(2)
    return policy[::-1]


def _pulled(
    arms: int, pulls: int, trials: int, rng: np.random.Generator, index: Callable[[int, Array, Array], Array]
) -> Array:
    """Rewards of pulling the arm of the highest index(t, wins, count), counted from one success and one failure."""
    bandit, row = Bandit(arms), np.arange(trials)
    state, _ = bandit.start(rng.random((trials, arms)), np.empty((trials, 0)))
    wins, count, total = np.ones((trials, arms)), np.full((trials, arms), 2.0), np.zeros(trials)
    for t in range(pulls):
        arm = index(t, wins, count).argmax(1)
        state, outcome = bandit.step(state, np.eye(arms)[arm], rng.random((trials, bandit.draws)))
        wins[row, arm] += outcome.reward
        count[row, arm] += 1
        total += outcome.reward
    return total


def _chunked(trial: Callable[[int], Array], trials: int) -> Array:
    return np.concatenate([np.zeros(0), *(trial(min(CHUNK, trials - done)) for done in range(0, trials, CHUNK))])
