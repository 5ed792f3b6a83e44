"""stable-baselines3's PPO: its policy is our network, and a folder holds all that is needed to act."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from envs.robot_env import make
from metarl.networks import MLP, Symmetric
from metarl.problem import Problem
from metarl.sb3 import Learned, Settings, environment, learn, network, ppo, theta

TINY = Settings(
    "metarl/PandaSeek-v0", steps=64, options={"horizon": 8}, environments=2, rollout=16, batch=16, epochs=1,
    hidden=(8, 6),
)  # fmt: skip
OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)


def test_theta_is_the_policy_in_our_network():
    env = make(TINY.env)
    model = ppo(env, TINY)
    mean, log_std = MLP(8, 7, TINY.hidden)(torch.from_numpy(theta(model)), torch.from_numpy(OBSERVATIONS))
    expected, _ = model.predict(OBSERVATIONS, deterministic=True)
    np.testing.assert_allclose(mean.numpy().clip(-1, 1), expected, atol=1e-5)
    np.testing.assert_allclose(log_std.numpy(), -1, atol=1e-6)
    env.close()


WALKER = Settings(
    "metarl/A1Field-v0", steps=64, options={"horizon": 8}, environments=2, rollout=16, batch=16, epochs=1,
    hidden=(8, 6), symmetric=True,
)  # fmt: skip


@pytest.mark.parametrize("sees", ["observation", "task", "past"])
def test_a_symmetric_policy_answers_an_image_with_the_image_of_its_answer(sees: Literal["observation", "task", "past"]):
    settings = replace(WALKER, sees=sees, window=2)
    env = environment(settings)
    model = ppo(env, settings)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    rule = network(settings, Problem.of(settings.env, settings.options))
    assert isinstance(rule, Symmetric)
    seen = np.random.default_rng(0).normal(size=(5, rule.observation)).astype(np.float32)
    mean, log_std = rule(torch.from_numpy(theta(model)), torch.from_numpy(seen))
    normal = model.policy.get_distribution(torch.from_numpy(seen)).distribution
    torch.testing.assert_close((normal.mean, normal.stddev[0].log()), (mean, log_std))
    there = model.policy.get_distribution(torch.from_numpy(rule.sees(seen))).mode()
    np.testing.assert_allclose(there.detach(), rule.does(mean.numpy()), atol=1e-5)
    values = [model.policy.predict_values(torch.from_numpy(each)) for each in (seen, rule.sees(seen))]
    torch.testing.assert_close(*values)
    assert values[0].shape == (5, 1)
    acted, valued, logp = model.policy(torch.from_numpy(seen))
    again = model.policy.evaluate_actions(torch.from_numpy(seen), acted)
    torch.testing.assert_close(again[:2], (valued, logp))
    env.close()


def test_a_symmetric_policy_is_learned_and_acts_from_its_folder(tmp_path: Path):
    found, env = learn(WALKER, tmp_path), make(WALKER.env)
    seen = np.random.default_rng(0).normal(size=env.interface.observation_size).astype(np.float32)
    env.close()
    rule = network(WALKER, Problem.of(WALKER.env, WALKER.options))
    mean, _ = rule(torch.from_numpy(found), torch.from_numpy(seen))
    np.testing.assert_allclose(Learned.load(tmp_path).act(seen), mean.numpy(), atol=1e-5)


def test_an_arm_is_not_its_own_image():
    with pytest.raises(ValueError, match="PandaSeek-v0 is not known to be its own mirror image"):
        network(replace(TINY, symmetric=True), Problem.of(TINY.env))


def test_a_folder_holds_all_that_is_needed_to_act(tmp_path: Path):
    found = learn(TINY, tmp_path)
    assert not np.array_equal(found, learn(Settings(**{**vars(TINY), "seed": 1}), tmp_path / "other"))
    np.testing.assert_array_equal(found, learn(TINY, tmp_path / "again"))
    learned = Learned.load(tmp_path)
    assert learned.settings == TINY
    mean, _ = MLP(8, 7, TINY.hidden)(torch.from_numpy(found), torch.from_numpy(OBSERVATIONS))
    np.testing.assert_allclose([learned.act(observation) for observation in OBSERVATIONS], mean.numpy(), atol=1e-5)


def test_a_folder_without_a_policy_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no learned policy"):
        Learned.load(tmp_path)
