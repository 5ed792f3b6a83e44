"""What rivals see: the past in training is the past in evaluation, and a start is not disturbed by seeing more."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from envs.robot_env import make
from metarl.graphs import act_graph
from metarl.networks import MLP
from metarl.sampling.history import History
from metarl.sampling.serial import SerialSampler
from metarl.sampling.worker import Actor, Trial
from metarl.sb3 import Settings, _begin_with, environment, ppo, theta
from metarl.wrappers import Past

ENV = "metarl/PandaSeek-v0"


def test_the_latest_comes_first_and_the_start_is_blank():
    history = History(2, 2, 1)
    history.start()
    np.testing.assert_array_equal(history.see(np.array([1, 2], np.float32)), [1, 2, 0, 0, 0, 0])
    history.act(np.array([9], np.float32))
    np.testing.assert_array_equal(history.see(np.array([3, 4], np.float32)), [3, 4, 9, 1, 2, 0])
    history.act(np.array([8], np.float32))
    np.testing.assert_array_equal(history.see(np.array([5, 6], np.float32)), [5, 6, 8, 3, 4, 9])
    history.start()
    np.testing.assert_array_equal(history.see(np.array([7, 7], np.float32)), [7, 7, 0, 0, 0, 0])


def test_a_policy_with_history_sees_in_evaluation_what_it_saw_in_training():
    env = make(ENV)
    sizes = env.interface.observation_size, env.interface.action_size
    network = MLP(2 * sum(sizes), sizes[1], (6,))
    flat = network.initial(torch.Generator().manual_seed(0))
    task = env.task_space.nominal
    trial = Trial(task, (0, 0, 0, 0), 1, "mean", "past", flat.numpy())
    with closing(SerialSampler(ENV, {"past": Actor(act_graph(network), history=2)})) as sampler:
        (lived,) = sampler.sample([trial])
    past, history = Past(env, 2), History(2, *sizes)
    past.reset(seed=0, options={"task": task})
    history.start()
    for observation, action in zip(lived.observation[0], lived.action[0], strict=True):
        mean, _ = network(flat, torch.from_numpy(history.see(observation)))
        np.testing.assert_allclose(mean.numpy(), action, atol=1e-5)
        history.act(action)
    assert past.observation_space.shape == (2 * sum(sizes),)
    seen, *_ = past.step(np.full(sizes[1], 0.5, np.float32))
    np.testing.assert_array_equal(seen[sizes[0] : sum(sizes)], np.full(sizes[1], 0.5, np.float32))
    env.close()


def test_who_sees_more_begins_as_the_start_does(tmp_path: Path):
    env = make(ENV)
    observation, action, told = env.interface.observation_size, env.interface.action_size, env.task_space.size
    env.close()
    plain, wide = MLP(observation, action, (6,)), MLP(observation + told, action, (6,))
    start = plain.initial(torch.Generator().manual_seed(0))
    (tmp_path / "theta.safetensors").write_bytes(save({"theta": start.numpy()}))
    settings = Settings(ENV, hidden=(6,), rollout=8, batch=8, sees="task")
    model = ppo(environment(settings), settings)
    _begin_with(model, tmp_path)
    seen, known = torch.randn(observation), torch.randn(told)
    mean, _ = wide(torch.from_numpy(theta(model)), torch.cat([seen, known]))
    torch.testing.assert_close(mean, plain(start, seen)[0])
    same = replace(settings, sees="observation")
    again = ppo(environment(same), same)
    _begin_with(again, tmp_path)
    np.testing.assert_array_equal(theta(again)[:-action], start.numpy()[:-action])
