"""stable-baselines3's PPO: its policy is our network, and a folder holds all that is needed to act."""

from pathlib import Path

import numpy as np
import pytest
import torch

from envs.robot_env import make
from metarl.networks import MLP
from metarl.sb3 import Learned, Settings, learn, ppo, theta

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
