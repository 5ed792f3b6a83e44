"""Baselines: plain gradient steps, and clones that learn what they are told."""

import numpy as np
import torch
from torch.func import grad

from metarl.baselines import DOMAIN_RANDOMIZATION, ORACLE, fine_tune, fine_tune_long
from metarl.clones import Clones
from metarl.episodes import Episodes
from metarl.networks import MLP
from metarl.objectives import Demonstration
from metarl.problem import Problem

PROBLEM = Problem.of("metarl/PointNavigation-v0")  # 2 numbers seen, 2 moved, and a goal of 2 in each task
DEMONSTRATION = Demonstration()


def test_fine_tuning_steps_against_each_tasks_own_gradient(make_batch):
    network, batches = MLP(3, 2, (4,)), [make_batch(seed) for seed in range(2)]
    thetas = torch.randn(2, network.size, dtype=torch.float64)
    together = {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}
    found = fine_tune(network, DEMONSTRATION, thetas, together, 0.3)
    for theta, batch, moved in zip(thetas, batches, found, strict=True):
        slope = grad(lambda at, data=batch: DEMONSTRATION.loss(network, at, data))(theta)
        torch.testing.assert_close(moved, theta - 0.3 * slope)


def test_long_fine_tuning_descends_on_each_task_alone(make_batch):
    network, batches = MLP(3, 2, (4,)), [make_batch(seed) for seed in range(2)]
    thetas = torch.randn(2, network.size, dtype=torch.float64)
    together = {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}
    found = fine_tune_long(network, DEMONSTRATION, thetas, together, 0.02)
    for theta, batch, moved in zip(thetas, batches, found, strict=True):
        alone = fine_tune_long(
            network, DEMONSTRATION, theta[None], {name: value[None] for name, value in batch.items()}, 0.02
        )
        torch.testing.assert_close(alone[0], moved)
        before, after = (DEMONSTRATION.loss(network, at, batch) for at in (theta, moved))
        assert after < 0.5 * before


def learn(clones: Clones, make_episodes, start: int, end: int) -> None:
    """Motions whose action is the task's offset, which only the oracle is told."""
    for seed in range(start, end):
        tasks = [PROBLEM.space.sample(np.random.default_rng([seed, index])) for index in range(8)]
        offsets = np.array([2 * task["goal"] for task in tasks], np.float32)[:, None, None]
        motions: Episodes = make_episodes(seed, 8, 2, 5, observation=2)
        motions = Episodes(**{**vars(motions), "action": np.broadcast_to(offsets, motions.action.shape)})
        clones.update(tasks, [motions, motions], 0.0)


def test_only_the_oracle_learns_what_the_task_decides(tiny, make_episodes):
    config = tiny("demonstration", learning_rate=1e-2)
    clones = Clones(config, PROBLEM)
    learn(clones, make_episodes, 0, 200)
    observation, offset = torch.zeros(2), torch.tensor([0.5, -0.5])
    blind, _ = MLP(2, 2, config.hidden)(clones.thetas[DOMAIN_RANDOMIZATION], observation)
    told, _ = MLP(4, 2, config.hidden)(clones.thetas[ORACLE], torch.cat([observation, offset]))
    assert (told - offset).abs().max() < 0.1
    assert blind.abs().max() < 0.2


def test_loaded_clones_go_on_with_the_same_bits(tiny, make_episodes):
    config = tiny("demonstration")
    clones, other = (Clones(config, PROBLEM) for _ in range(2))
    learn(clones, make_episodes, 0, 3)
    other.load({name: value.clone() for name, value in clones.state().items()})
    for one in (clones, other):
        learn(one, make_episodes, 3, 6)
    found = other.state()
    assert all(torch.equal(found[name], value) for name, value in clones.state().items())
