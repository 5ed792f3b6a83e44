"""The flat parameter vector, and the distributions against torch's own."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, Normal, kl_divergence

from metarl.learners.learner import begin_with
from metarl.networks import LOG_STD, MLP, Symmetric, divergence, draw, entropy, log_probability, mode
from robots.mirror import Mirror

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


def test_the_entropy_is_the_gaussians_up_to_a_constant():
    mean, log_std = torch.randn(4, 5, 2), torch.tensor([-1.0, 0.3])
    expected = Normal(mean, log_std.exp()).entropy().sum(-1)
    found = entropy(mean, log_std)
    assert found.shape == (4, 5)
    torch.testing.assert_close(found, expected - 2 * 0.5 * math.log(2 * math.pi * math.e))


NONE = torch.zeros(0)  # in place of a log std: choices
LOGITS = st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3).map(torch.tensor)


def test_a_network_of_choices_has_no_spread():
    network, continuous = MLP(3, 4, (5,), discrete=True), MLP(3, 4, (5,))
    assert network.size == continuous.size - 4
    theta = continuous.initial(torch.Generator().manual_seed(0))
    observation = torch.randn(6, 3)
    logits, none = network(theta[:-4], observation)
    torch.testing.assert_close(logits, continuous(theta, observation)[0])
    assert none.shape == (0,)
    assert network.initial(torch.Generator().manual_seed(0)).shape == (network.size,)


def test_drawn_choices_are_one_hot_and_as_frequent_as_the_softmax_says():
    logits, generator = torch.tensor([0.5, -1.0, 2.0, 0.0]), torch.Generator().manual_seed(0)
    uniform = torch.rand(20_000, 4, generator=generator)
    drawn = draw(logits.expand(20_000, 4), NONE, -torch.log(-torch.log(uniform)))
    assert set(drawn.flatten().tolist()) == {0.0, 1.0}
    assert (drawn.sum(-1) == 1).all()
    torch.testing.assert_close(drawn.mean(0), torch.softmax(logits, -1), atol=0.012, rtol=0)
    assert mode(logits, NONE).tolist() == [0, 0, 1, 0]


def test_a_gaussian_draw_is_the_mean_and_scaled_noise():
    mean, log_std, noise = torch.randn(5, 2), torch.tensor([-1.0, 0.3]), torch.randn(5, 2)
    torch.testing.assert_close(draw(mean, log_std, noise), mean + log_std.exp() * noise)
    assert torch.equal(mode(mean, log_std), mean)


@given(LOGITS, LOGITS, st.integers(0, 2))
def test_choices_are_torchs_categorical(new: torch.Tensor, old: torch.Tensor, chosen: int):
    action = torch.eye(3)[chosen]
    torch.testing.assert_close(
        log_probability(new, NONE, action), Categorical(logits=new).log_prob(torch.tensor(chosen))
    )
    torch.testing.assert_close(entropy(new, NONE), Categorical(logits=new).entropy())
    found = divergence(new, NONE, old, NONE)
    torch.testing.assert_close(
        found, kl_divergence(Categorical(logits=old), Categorical(logits=new)), atol=2e-6, rtol=1e-4
    )
    assert found >= -1e-6
    assert abs(divergence(new, NONE, new + 3, NONE)) < 1e-5


@pytest.mark.parametrize("discrete", [False, True])
def test_the_context_comes_first_and_enters_beside_the_observation(discrete: bool):
    network = MLP(3, 2, (5,), discrete, context=4)
    theta, context = torch.randn(network.size), torch.randn(4)
    theta[:4] = context
    assert network.adapted == 4
    observation = torch.randn(6, 7, 3)
    beside = torch.cat([observation, context.expand(6, 7, 4)], -1)
    mean, log_std = MLP(7, 2, (5,), discrete)(theta[4:], beside)
    torch.testing.assert_close(network(theta, observation)[0], mean)
    assert torch.equal(network(theta, observation)[1], log_std)
    assert not network.initial(torch.Generator().manual_seed(0))[:4].any()


@pytest.mark.parametrize("hidden", [(), (5, 4)])
@pytest.mark.parametrize("predicts", [0, 2])
@pytest.mark.parametrize("discrete", [False, True])
def test_a_context_of_zeros_acts_like_the_plain_policy_it_began_with(
    hidden: tuple[int, ...], predicts: int, discrete: bool
):
    plain = MLP(3, 2, hidden, discrete)
    network = MLP(3, 2, hidden, discrete, context=4, predicts=predicts)
    start = plain.initial(torch.Generator().manual_seed(1))
    fresh = network.initial(torch.Generator().manual_seed(2))
    theta, observation = begin_with(network, fresh, start), torch.randn(9, 3)
    assert theta.shape == (network.size,)
    for found, expected in zip(network(theta, observation), plain(start, observation), strict=True):
        torch.testing.assert_close(found, expected)
    moved = theta.clone()
    moved[:4] = 1.0
    assert not torch.allclose(network(moved, observation)[0], network(theta, observation)[0])  # yet it is connected
    head = network.size - predicts * (network.layers[-1][0] + 3)
    assert torch.equal(theta[head:], fresh[head:])


def test_a_policy_of_another_shape_is_no_beginning():
    network = MLP(3, 2, (5,))
    with pytest.raises(ValueError, match=f"start has 7 parameters, expected {network.size}"):
        begin_with(network, torch.zeros(network.size), torch.zeros(7))


def test_the_predicting_head_reads_the_last_features_and_the_action():
    network, acting = MLP(3, 2, (5, 4), predicts=3), MLP(3, 2, (5, 4))
    assert network.size == acting.size + 3 * (4 + 2) + 3
    theta = torch.randn(network.size)
    observation, action = torch.randn(6, 7, 3), torch.randn(6, 7, 2)
    torch.testing.assert_close(network(theta, observation)[0], acting(theta[: acting.size], observation)[0])
    first, second = theta[:15].reshape(5, 3), theta[20:40].reshape(4, 5)
    features = torch.tanh(torch.tanh(observation @ first.T + theta[15:20]) @ second.T + theta[40:44])
    weight, bias = theta[acting.size : acting.size + 18].reshape(3, 6), theta[-3:]
    expected = torch.cat([features, action], -1) @ weight.T + bias
    torch.testing.assert_close(network.predict(theta, observation, action), expected)
    # It begins by forecasting nearly nothing; from a head of zeros, no gradient would reach the features.
    start = network.initial(torch.Generator().manual_seed(0))
    assert 0 < network.predict(start, observation, action).abs().max() < 1
    slope = torch.func.grad(lambda at: network.predict(at, observation, action).square().sum())(start)
    assert slope[:15].abs().min() > 0


def test_a_symmetric_network_answers_an_image_with_the_image_of_its_answer():
    sees, does = Mirror((1, 0, 2), (1.0, 1.0, -1.0)), Mirror((1, 0), (-1.0, -1.0))
    network = Symmetric(3, 2, (5, 4), sees=sees, does=does)
    theta = torch.randn(network.size)
    seen = torch.randn(6, 3)
    mean, log_std = network(theta, seen)
    turned, same = network(theta, seen[:, [1, 0, 2]] * torch.tensor([1.0, 1.0, -1.0]))
    torch.testing.assert_close(turned, -mean[:, [1, 0]])
    assert torch.equal(log_std, same)
    assert log_std[0] == log_std[1]
    assert not torch.allclose(mean, NETWORK(theta, seen)[0])
