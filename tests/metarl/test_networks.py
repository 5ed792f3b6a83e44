"""The flat parameter vector, and the Gaussian against torch's own."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from metarl.networks import LOG_STD, MLP, divergence, log_probability

NETWORK = MLP(3, 2, (5, 4))


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_theta_is_weights_and_biases_in_order_then_the_log_std(hidden: tuple[int, ...]):
    network = MLP(3, 2, hidden)
    sizes = [3, *hidden, 2]
    layers = [torch.nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)]
    parts = [part for layer in layers for part in (layer.weight.flatten(), layer.bias)]
    theta = torch.cat([*parts, torch.tensor([-1.0, 0.25])]).detach()
    assert theta.shape == (network.size,)
    modules = [module for layer in layers for module in (layer, torch.nn.Tanh())][:-1]
    observation = torch.randn(4, 6, 3)
    mean, log_std = network(theta, observation)
    torch.testing.assert_close(mean, torch.nn.Sequential(*modules)(observation))
    assert log_std.tolist() == [-1.0, 0.25]


def test_an_initial_theta_is_near_rest_and_drawn_from_its_generator():
    first, again, other = (NETWORK.initial(torch.Generator().manual_seed(seed), std=0.3) for seed in (1, 1, 2))
    assert first.shape == (NETWORK.size,)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    mean, log_std = NETWORK(first, torch.randn(100, 3))
    assert mean.abs().max() < 1
    torch.testing.assert_close(log_std.exp(), torch.full((2,), 0.3))


def test_the_log_std_is_bounded():
    theta = torch.zeros(NETWORK.size)
    theta[-2:] = torch.tensor([-9.0, 9.0])
    assert NETWORK(theta, torch.zeros(3))[1].tolist() == list(LOG_STD)


def test_log_probability_is_the_gaussians_up_to_a_constant():
    mean, action, log_std = torch.randn(4, 5, 2), torch.randn(4, 5, 2), torch.tensor([-1.0, 0.3])
    expected = Normal(mean, log_std.exp()).log_prob(action).sum(-1)
    found = log_probability(mean, log_std, action)
    torch.testing.assert_close(found, expected + 2 * 0.5 * math.log(2 * math.pi))


def test_divergence_is_that_of_the_new_from_the_old():
    new, old = (torch.randn(4, 5, 2), torch.tensor([-1.0, 0.3])), (torch.randn(4, 5, 2), torch.tensor([0.2, -0.4]))
    expected = kl_divergence(Normal(old[0], old[1].exp()), Normal(new[0], new[1].exp())).sum(-1)
    torch.testing.assert_close(divergence(*new, *old), expected)
    assert divergence(*old, *old).abs().max() < 1e-6
