"""What every memory network owes: streaming equals whole trials, gradients, ONNX. And the GRU against torch's own."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from export.device.policy import session
from export.graphs import export_graph
from metarl.gru import GRUMemory, gru
from metarl.mann import MANN
from metarl.memory import Outputs, Remembering, length, pieces
from metarl.networks import LOG_STD
from metarl.snail import SNAIL

SMALL: dict[str, dict[str, int]] = {
    "gru": {"hidden": 8},
    "mann": {"hidden": 8, "slots": 5, "width": 3},
    "mann of two heads": {"hidden": 8, "slots": 5, "width": 3, "reads": 2},
    "snail": {"length": 6, "filters": 2, "embedding": 4, "keys": 3, "values": 2},
    "snail of one step": {"length": 1, "filters": 2, "embedding": 4, "keys": 3, "values": 2},
}
KINDS: dict[str, type[Remembering]] = {"gru": GRUMemory, "mann": MANN, "snail": SNAIL}
OBSERVATION, ACTION = 3, 2


def make(name: str, discrete: bool = False) -> Remembering:
    settings: dict[str, Any] = SMALL[name]
    return KINDS[name.split()[0]](OBSERVATION, ACTION, discrete, **settings)


def lively(network: Remembering, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """A theta away from rest, with every bias in play."""
    generator = torch.Generator().manual_seed(seed)
    theta = network.initial(generator).to(dtype)
    return theta + 0.3 * torch.randn(network.size, generator=generator).to(dtype)


def lived(trials: int, time: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Observation and feedback of trials: as at a trial's start, feedback begins with zeros."""
    generator = torch.Generator().manual_seed(seed)
    observation = torch.randn(trials, time, OBSERVATION, generator=generator).to(dtype)
    feedback = torch.randn(trials, time, ACTION + 2, generator=generator).to(dtype)
    feedback[:, 0] = 0
    return observation, feedback


def streamed(network: Remembering, theta: Tensor, observation: Tensor, feedback: Tensor) -> Outputs:
    """Steps [..., time, n] in turn, from zero memory."""
    memory, answers = theta.new_zeros(*observation.shape[:-2], network.memory), []
    for step in range(observation.shape[-2]):
        outputs, memory = network.step(theta, memory, observation[..., step, :], feedback[..., step, :])
        answers.append(outputs)
    mean, recalled = (torch.stack([getattr(outputs, name) for outputs in answers], -2) for name in ("mean", "recalled"))
    return Outputs(mean, answers[0].log_std, torch.stack([outputs.value for outputs in answers], -1), recalled)


def rows(outputs: Outputs, cut: Callable[[Tensor], Tensor]) -> Outputs:
    """The same of some trials: `cut` makes them of all."""
    return Outputs(cut(outputs.mean), outputs.log_std, cut(outputs.value), cut(outputs.recalled))


def assert_alike(found: Outputs, expected: Outputs, atol: float = 1e-5) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@given(name=st.sampled_from(sorted(SMALL)), trials=st.integers(1, 4), time=st.integers(1, 17), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_steps_in_turn_answer_what_the_sequence_does(name: str, trials: int, time: int, seed: int):
    network = make(name)
    theta, told = lively(network, seed), lived(trials, time, seed)
    assert_alike(streamed(network, theta, *told), network.sequence(theta, *told))


@pytest.mark.parametrize("name", SMALL)
def test_leading_axes_may_be_none_or_many_and_trials_do_not_mix(name: str):
    network = make(name)
    theta, (observation, feedback) = lively(network), lived(6, 9)
    together = streamed(network, theta, observation, feedback)
    stacked = streamed(network, theta, observation.reshape(2, 3, 9, -1), feedback.reshape(2, 3, 9, -1))
    assert_alike(rows(stacked, lambda part: part.flatten(0, 1)), together)
    for row in range(6):
        alone = streamed(network, theta, observation[row], feedback[row])
        assert_alike(alone, rows(together, itemgetter(row)))


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"snail of one step"}))
def test_what_was_lived_is_remembered_within_a_trial_and_forgotten_with_it(name: str):
    network = make(name)
    theta, (observation, feedback) = lively(network), lived(1, 6)
    before = network.sequence(theta, observation, feedback)
    nudged = observation.clone()
    nudged[:, 0] += 1
    assert (network.sequence(theta, nudged, feedback).mean - before.mean)[:, 1:].abs().max() > 1e-4
    assert_alike(network.sequence(theta, observation, feedback), before, atol=0)
    # Two trials in one row are another thing than two trials.
    joined = network.sequence(theta, observation.repeat(1, 2, 1), feedback.repeat(1, 2, 1))
    assert (joined.mean[:, 6:] - before.mean).abs().max() > 1e-4


@pytest.mark.parametrize("name", SMALL)
def test_every_part_of_what_is_told_matters(name: str):
    network = make(name)
    theta, told = lively(network), [value.requires_grad_() for value in lived(1, 3)]
    answer = network.sequence(theta, *told).mean[:, -1].sum()
    for gradient in torch.autograd.grad(answer, told):
        assert (gradient[:, -1] != 0).all()


@pytest.mark.parametrize("name", SMALL)
def test_the_gradient_agrees_with_finite_differences(name: str):
    network = make(name)
    told, theta = lived(2, 7, dtype=torch.float64), lively(network, dtype=torch.float64).requires_grad_()

    def answers(theta: Tensor) -> Tensor:
        outputs = network.sequence(theta, *told)
        return torch.stack([outputs.mean.square().sum(), outputs.value.sin().sum(), outputs.log_std.sum()])

    assert answers(theta).dtype == torch.float64
    assert torch.autograd.gradcheck(answers, (theta,), eps=1e-6, atol=1e-6, rtol=1e-5, fast_mode=True)


@pytest.mark.parametrize("name", SMALL)
def test_the_gradient_at_the_start_is_finite(name: str):
    network = make(name)
    theta = network.initial(torch.Generator().manual_seed(0)).requires_grad_()
    nothing = torch.zeros(1, 4, OBSERVATION), torch.zeros(1, 4, ACTION + 2)
    outputs = network.sequence(theta, *nothing)
    (gradient,) = torch.autograd.grad(outputs.mean.sum() + outputs.value.sum(), theta)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("discrete", [False, True])
def test_theta_is_drawn_from_its_generator_and_acts_near_rest(name: str, discrete: bool):
    network = make(name, discrete)
    first, again, other = (network.initial(torch.Generator().manual_seed(seed), std=0.3) for seed in (1, 1, 2))
    assert first.shape == (network.size,)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    outputs = network.sequence(first, *lived(50, 5))
    assert outputs.mean.shape == (50, 5, ACTION)
    assert outputs.value.shape == (50, 5)
    assert outputs.mean.abs().max() < 1
    assert outputs.log_std.exp().tolist() == ([] if discrete else pytest.approx([0.3, 0.3]))


@pytest.mark.parametrize("name", SMALL)
def test_choices_differ_by_the_spread_alone_and_the_spread_is_bounded(name: str):
    continuous, discrete = make(name), make(name, discrete=True)
    assert continuous.size == discrete.size + ACTION
    theta, told = lively(continuous), lived(2, 3)
    theta[-ACTION:] = torch.tensor([-9.0, 9.0])
    ours, theirs = continuous.sequence(theta, *told), discrete.sequence(theta[:-ACTION], *told)
    assert torch.equal(ours.mean, theirs.mean)
    assert torch.equal(ours.value, theirs.value)
    assert ours.log_std.tolist() == list(LOG_STD)


@pytest.mark.parametrize(
    ("name", "discrete"), [("gru", False), ("gru", True), ("mann of two heads", False), ("snail", False)]
)
def test_the_exported_step_follows_torch(name: str, discrete: bool):
    network = make(name, discrete)
    # Of weights under which two heads do not let a last bit grow: with some it is 2e-5 after fifty steps.
    theta, (observation, feedback) = lively(network, seed=2), lived(1, 50)

    def act(theta: Tensor, memory: Tensor, observation: Tensor, feedback: Tensor) -> tuple[Tensor, ...]:
        outputs, following = network.step(theta, memory, observation, feedback)
        return outputs.mean, outputs.log_std, following

    sizes = {"theta": network.size, "memory": network.memory, "observation": OBSERVATION, "feedback": ACTION + 2}
    example = {name: torch.zeros(size) for name, size in sizes.items()}
    run = session(export_graph(act, example, ("mean", "log_std", "memory_next"))).run
    memory, ours = torch.zeros(network.memory), np.zeros(network.memory, np.float32)
    for step in range(50):
        told = observation[0, step], feedback[0, step]
        mean, log_std, memory = act(theta, memory, *told)
        feed = dict(zip(sizes, [theta.numpy(), ours, *(value.numpy() for value in told)], strict=True))
        found, spread, ours = run(None, feed)
        np.testing.assert_allclose(found, mean.numpy(), atol=1e-5)
        np.testing.assert_allclose(ours, memory.numpy(), atol=1e-5)
        np.testing.assert_allclose(spread, log_std.numpy())


@pytest.mark.parametrize("name", ["gru", "mann"])
def test_a_step_sees_the_observation_before_it_and_none_where_a_trial_starts(name: str):
    """With the way out of the memory closed, means depend on this observation and on the one before alone."""
    network = make(name)
    theta, (observation, feedback) = lively(network), lived(1, 5)
    pieces("theta", theta, network.weights)["read_out"].zero_()
    mean = network.sequence(theta, observation.requires_grad_(), feedback).mean
    for step, seen in ((3, [2, 3]), (0, [0])):
        (gradient,) = torch.autograd.grad(mean[:, step].sum(), observation, retain_graph=True)
        assert gradient[0].any(-1).nonzero().flatten().tolist() == seen


@pytest.mark.parametrize("name", SMALL)
def test_what_is_recalled_can_be_learned(name: str):
    network = make(name)
    theta = lively(network).requires_grad_()
    recalled = network.sequence(theta, *lived(2, 5)).recalled
    assert recalled.shape == (2, 5, network.recalled)
    (gradient,) = torch.autograd.grad(recalled.sum(), theta)
    assert gradient.any()


def test_the_gru_is_torchs():
    network, width = make("gru"), SMALL["gru"]["hidden"]
    weights, torchs = pieces("theta", lively(network), network.weights), torch.nn.GRU(width, width, batch_first=True)
    embedded, hidden = torch.randn(3, 9, width, generator=torch.Generator().manual_seed(0)), torch.zeros(3, width)
    with torch.no_grad():
        torchs.weight_ih_l0.copy_(weights["input"])
        torchs.weight_hh_l0.copy_(torch.cat([weights["gates"], weights["candidate"]]))
        torchs.bias_ih_l0.copy_(weights["input_bias"])
        torchs.bias_hh_l0.copy_(torch.cat([torch.zeros(2 * width), weights["candidate_bias"]]))
        expected, _ = torchs(embedded)
    for step in range(9):
        hidden = gru(weights, torch.addmm(weights["input_bias"], embedded[:, step], weights["input"].T), hidden)
        torch.testing.assert_close(hidden, expected[:, step])


def test_pieces_are_cut_in_order():
    table = {"matrix": (2, 3), "vector": (1,)}
    assert length(table) == 7
    cut = pieces("it", torch.arange(14.0).reshape(2, 7), table)
    assert cut["matrix"][1].tolist() == [[7, 8, 9], [10, 11, 12]]
    assert cut["vector"].tolist() == [[6], [13]]


@pytest.mark.parametrize("name", SMALL)
def test_vectors_of_another_network_are_refused(name: str):
    network, (observation, feedback) = make(name), lived(1, 2)
    theta, memory = torch.zeros(network.size), torch.zeros(1, network.memory)
    with pytest.raises(ValueError, match=f"theta has {network.size + 1} entries, expected {network.size}"):
        network.sequence(torch.zeros(network.size + 1), observation, feedback)
    with pytest.raises(ValueError, match=f"memory has {network.memory + 1} entries, expected {network.memory}"):
        network.step(theta, torch.zeros(1, network.memory + 1), observation[:, 0], feedback[:, 0])
    with pytest.raises(RuntimeError):
        network.step(theta, memory, observation[:, 0], feedback[:, 0, 1:])


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="hidden is 0, expected at least 1"):
        GRUMemory(3, 2, False, hidden=0)
    with pytest.raises(ValueError, match="length is 0, expected at least 1"):
        SNAIL(3, 2, False, length=0)
    with pytest.raises(ValueError, match="reads is 3, expected at most slots, 2"):
        MANN(3, 2, False, slots=2, reads=3)
    with pytest.raises(ValueError, match=r"decay is 1\.0"):
        MANN(3, 2, False, decay=1.0)
