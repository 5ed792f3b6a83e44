"""Losses against slow loops, the mask, and the derivatives of the policy gradient, the second included."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad, hessian

from metarl.networks import MLP, log_probability
from metarl.objectives import Demonstration, Prediction, Reward

NETWORK = MLP(3, 2, (4,), predicts=2)
REWARD = Reward(discount=0.9)
PREDICTION = Prediction((2, 0))
ALL = {"demonstration": Demonstration(), "reward": REWARD, "prediction": PREDICTION}
THETA = NETWORK.initial(torch.Generator().manual_seed(3)).double() * 2
THETA[-14:] = torch.randn(14, generator=torch.Generator().manual_seed(4), dtype=torch.float64)  # of the predicting head


def slow_advantage(reward: Tensor, mask: Tensor, discount: float) -> Tensor:
    """Step by step: reward to go, less the mean of the others still alive, over the root mean square."""
    episodes, steps = reward.shape
    alive = mask.bool().tolist()
    togo = torch.zeros_like(reward)
    for e in range(episodes):
        for t in range(steps):
            later = [s for s in range(t, steps) if alive[e][s]]
            togo[e, t] = sum(discount ** (s - t) * reward[e, s].item() for s in later)
    advantage = torch.zeros_like(reward)
    for e in range(episodes):
        for t in range(steps):
            others = [togo[o, t].item() for o in range(episodes) if o != e and alive[o][t]]
            if alive[e][t] and others:
                advantage[e, t] = togo[e, t] - sum(others) / len(others)
    lived = [advantage[e, t].item() for e in range(episodes) for t in range(steps) if alive[e][t]]
    return advantage / ((sum(a * a for a in lived) / len(lived)) ** 0.5 + 1e-6)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.floats(0, 1), st.integers(0, 100))
def test_the_advantage_is_what_a_slow_loop_finds(make_batch, lengths: list[int], discount: float, seed: int):
    batch = make_batch(seed, lengths)
    found = Reward(discount).advantage(batch["reward"], batch["mask"])
    torch.testing.assert_close(found, slow_advantage(batch["reward"], batch["mask"], discount))


def test_a_step_that_one_episode_reached_alone_has_no_advantage(make_batch):
    batch = make_batch(lengths=(5, 3, 4))
    advantage = REWARD.advantage(batch["reward"], batch["mask"])
    assert advantage[0, 4] == 0
    assert (advantage[:, :3] != 0).all()
    assert (REWARD.advantage(batch["reward"][:1], batch["mask"][:1]) == 0).all()


def test_equal_rewards_have_no_advantage():
    assert (REWARD.advantage(torch.full((4, 6), -0.7), torch.ones(4, 6)) == 0).all()


def test_demonstration_is_the_mean_squared_error_over_lived_steps(make_batch):
    batch = make_batch()
    mean, _ = NETWORK(THETA, batch["observation"])
    errors = [
        ((mean[e, t] - batch["action"][e, t]) ** 2).sum() for e in range(3) for t in range(5) if batch["mask"][e, t]
    ]
    loss = Demonstration().loss(NETWORK, THETA, batch)
    torch.testing.assert_close(loss, torch.stack(errors).mean())


@pytest.mark.parametrize("name", ALL)
def test_padding_counts_for_nothing(make_batch, name: str):
    batch, loss = make_batch(), lambda theta, data: ALL[name].loss(NETWORK, theta, data)
    rubbish = make_batch(9, (5, 5, 5))
    padded = {
        field: torch.where(batch["mask"].reshape(3, 5, *[1] * (value.ndim - 2)) > 0, value, 50 * rubbish[field])
        for field, value in batch.items()
        if field != "mask"
    }
    longer = {field: torch.cat([value, 50 * rubbish[field][:, :2]], 1) for field, value in padded.items()}
    longer["mask"] = torch.nn.functional.pad(batch["mask"], (0, 2))
    assert not torch.equal(longer["reward"][:, :5], batch["reward"])
    torch.testing.assert_close(loss(THETA, longer), loss(THETA, batch), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(grad(loss)(THETA, longer), grad(loss)(THETA, batch), rtol=1e-12, atol=1e-15)


def likelihood_loss(theta: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Log-likelihood times advantage: the right first derivative."""
    logp = log_probability(*NETWORK(theta, batch["observation"]), batch["action"])
    advantage = REWARD.advantage(batch["reward"], batch["mask"])
    return -(logp * advantage * batch["mask"]).sum() / batch["mask"].sum()


def test_the_first_derivative_is_the_policy_gradient(make_batch):
    batch = make_batch()
    found = grad(lambda theta: REWARD.loss(NETWORK, theta, batch))(THETA)
    torch.testing.assert_close(found, grad(likelihood_loss)(THETA, batch))


def test_the_second_derivative_is_that_of_the_expected_reward():
    """A Gaussian bandit, E[r(a)] with r(a) = -(a - 1)^2 and a ~ N(theta, std): minus the return has the second
    derivative 2, which the mean over samples must approach. Log-likelihood alone has nearly none."""
    policy, std = MLP(1, 1, ()), 0.5
    theta = torch.tensor([0.0, 0.2, torch.tensor(std).log()], dtype=torch.float64)  # weight, bias, log std
    generator = torch.Generator().manual_seed(0)
    action = 0.2 + std * torch.randn(200_000, 1, 1, generator=generator, dtype=torch.float64)
    reward = -(action[..., 0] - 1).square()
    mask = torch.ones_like(reward)
    batch = {"observation": torch.zeros_like(action), "action": action, "reward": reward, "mask": mask}
    centred = reward - reward.mean()
    scale = centred.square().mean().sqrt()  # by which advantages are normalised

    def plain(at: Tensor) -> Tensor:
        return -(log_probability(*policy(at, batch["observation"]), action) * centred).mean()

    def ratio(at: Tensor) -> Tensor:
        return REWARD.loss(policy, at, batch) * scale

    assert grad(ratio)(theta)[1].item() == pytest.approx(-2 * 0.8, abs=0.05)
    assert hessian(ratio)(theta)[1, 1].item() == pytest.approx(2.0, abs=0.1)
    assert hessian(plain)(theta)[1, 1].item() == pytest.approx(0.0, abs=0.1)


def test_objectives_say_how_their_batch_comes_about():
    made = (Demonstration(), Reward(), Prediction((0,)))
    assert {one.name: one.gather for one in made} == {
        "demonstration": "guided",
        "reward": "attempts",
        "prediction": "attempts",
    }


def test_prediction_is_the_mean_squared_error_of_the_felt_elements(make_batch):
    """Over the steps whose successor was lived in the same episode, and no others."""
    batch, lengths = make_batch(lengths=(5, 1, 3)), (5, 1, 3)
    observation = batch["observation"]
    forecast = NETWORK.predict(THETA, observation, batch["action"])
    errors = [
        ((forecast[e, t] - (observation[e, t + 1] - observation[e, t])[[2, 0]]) ** 2).mean()
        for e, length in enumerate(lengths)
        for t in range(length - 1)
    ]
    assert len(errors) == 6
    torch.testing.assert_close(PREDICTION.loss(NETWORK, THETA, batch), torch.stack(errors).mean())


def test_prediction_by_hand():
    """Features tanh(0) = 0, so that the forecast is the bias alone."""
    network = MLP(2, 1, (1,), predicts=1)
    theta = torch.zeros(network.size)
    theta[-1] = 0.5
    batch = {
        "observation": torch.tensor([[[0.0, 7.0], [2.0, -7.0], [2.5, 9.0]], [[1.0, 0.0], [0.0, 0.0], [50.0, 0.0]]]),
        "action": torch.zeros(2, 3, 1),
        "mask": torch.tensor([[1.0, 1, 1], [1, 1, 0]]),
    }
    expected = ((2 - 0.5) ** 2 + (0.5 - 0.5) ** 2 + (-1 - 0.5) ** 2) / 3
    assert Prediction((0,)).loss(network, theta, batch).item() == pytest.approx(expected)


def test_prediction_looks_at_its_elements_alone(make_batch):
    batch = make_batch()
    other = {**batch, "observation": batch["observation"].clone()}
    other["observation"][:, -1, 1] += 1  # the last one is seen by no forecast
    assert PREDICTION.loss(NETWORK, THETA, other) == PREDICTION.loss(NETWORK, THETA, batch)
    other["observation"][0, -1, 0] += 1
    assert PREDICTION.loss(NETWORK, THETA, other) != PREDICTION.loss(NETWORK, THETA, batch)


def test_prediction_moves_the_features_that_the_policy_acts_by(make_batch):
    gradient = grad(lambda theta: PREDICTION.loss(NETWORK, theta, make_batch()))(THETA)
    assert gradient[:16].abs().min() > 0  # the hidden layer
    assert not gradient[16:-14].any()  # the layer that acts, and the spread
