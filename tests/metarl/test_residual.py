"""A memory on top of a plain policy begins as that policy, and streams as it is trained."""

import torch

from metarl.gru import GRUMemory
from metarl.learners.learner import begin_with
from metarl.networks import MLP
from metarl.residual import SHARE, Residual

PLAIN = MLP(3, 2, (5,))
NETWORK = Residual(PLAIN, GRUMemory(3, 2, False, 4))


def test_it_begins_with_what_a_plain_policy_learned():
    generator = torch.Generator().manual_seed(0)
    start = PLAIN.initial(generator)
    theta = begin_with(NETWORK, NETWORK.initial(generator), start)
    observation, feedback = torch.randn(6, 3, generator=generator), torch.zeros(6, 4)
    found, _ = NETWORK.step(theta, torch.zeros(6, NETWORK.memory), observation, feedback)
    mean, log_std = PLAIN(start, observation)
    upper, _ = NETWORK.upper.step(theta[: NETWORK.upper.size], torch.zeros(6, NETWORK.memory), observation, feedback)
    torch.testing.assert_close(found.mean, mean + SHARE * upper.mean)
    torch.testing.assert_close(found.log_std, log_std)
    assert (found.mean - mean).abs().max() < 0.1


def test_streaming_equals_the_sequence():
    generator = torch.Generator().manual_seed(1)
    theta = NETWORK.initial(generator)
    observation, feedback = torch.randn(2, 7, 3, generator=generator), torch.randn(2, 7, 4, generator=generator)
    whole = NETWORK.sequence(theta, observation, feedback)
    memory = torch.zeros(2, NETWORK.memory)
    for step in range(7):
        found, memory = NETWORK.step(theta, memory, observation[:, step], feedback[:, step])
        torch.testing.assert_close(found.mean, whole.mean[:, step], atol=1e-5, rtol=0)
        torch.testing.assert_close(found.value, whole.value[:, step], atol=1e-5, rtol=0)
        torch.testing.assert_close(found.recalled, whole.recalled[:, step], atol=1e-5, rtol=0)
