"""What SNAIL sees of a trial: everything before, nothing after."""

import pytest
import torch
from torch import Tensor

from metarl.memory import pieces
from metarl.snail import SNAIL

LENGTHS = [2, 5, 8, 9]


def network(length: int) -> SNAIL:
    return SNAIL(3, 2, False, length=length, filters=3, embedding=24, keys=3, values=3)


def lively(net: SNAIL, without: tuple[str, ...] = ()) -> Tensor:
    """A theta in float64; without the pieces whose names begin so: those are zero."""
    generator = torch.Generator().manual_seed(0)
    theta = net.initial(generator).double() + 0.2 * torch.randn(net.size, generator=generator).double()
    for name, piece in pieces("theta", theta, net.weights).items():
        if name.startswith(without):
            piece.zero_()
    return theta


def influence(net: SNAIL, theta: Tensor, time: int) -> Tensor:
    """[time, time]: does the output at the second depend on the input at the first?"""
    generator = torch.Generator().manual_seed(1)
    observation = torch.randn(1, time, 3, generator=generator).double()
    feedback = torch.randn(1, time, 4, generator=generator).double()
    outputs = net.sequence(theta, observation, feedback)
    rows = []
    for step in range(time):
        nudged = observation.clone()
        nudged[:, step] += 1
        rows.append((net.sequence(theta, nudged, feedback).mean - outputs.mean)[0].abs().amax(-1) > 1e-13)
    return torch.stack(rows)


@pytest.mark.parametrize("length", LENGTHS)
def test_every_step_depends_on_all_before_and_on_none_after(length: int):
    net = network(length)
    assert torch.equal(influence(net, lively(net), length), torch.ones(length, length).triu().bool())


@pytest.mark.parametrize("length", LENGTHS)
def test_convolutions_alone_see_the_whole_trial(length: int):
    net = network(length)
    theta = lively(net, ("attention", "layer1", "block1"))  # one block, and no attention
    sees = influence(net, theta, length)
    assert torch.equal(sees, torch.ones(length, length).triu().bool())
    span = 2 ** len(net.dilations)
    assert span >= length > span // 2
    assert torch.equal(influence(net, theta, 2 * span), torch.ones(2 * span, 2 * span).triu().tril(span - 1).bool())


@pytest.mark.parametrize("length", LENGTHS)
def test_one_attention_alone_spans_the_last_steps_of_a_trials_length(length: int):
    net = network(length)
    theta, time = lively(net, ("attention0", "attention1", "block", "layer")), 2 * length + 1
    expected = torch.ones(time, time).triu().tril(length - 1).bool()
    assert torch.equal(influence(net, theta, time), expected)


def test_an_attention_over_equal_keys_reads_the_mean_of_what_was_lived():
    net = network(4)
    theta = lively(net, ("block", "layer", "head_bias"))
    weights = pieces("theta", theta, net.weights)
    for block in range(3):
        weights[f"attention{block}"][: 2 * net.keys] = 0
        weights[f"attention{block}_bias"][: 2 * net.keys] = 0
    weights["head"][:, : -net.values] = 0
    weights["head"][:, -net.values :] = torch.eye(3).double()
    observation, feedback = torch.randn(1, 4, 3).double(), torch.randn(1, 4, 4).double()
    outputs = net.sequence(theta, observation, feedback)
    seen = torch.relu(torch.cat([observation, feedback], -1) @ weights["embedding"].T + weights["embedding_bias"])
    for block in range(3):
        value = seen @ weights[f"attention{block}"][-net.values :].T + weights[f"attention{block}_bias"][-net.values :]
        read = value.cumsum(1) / torch.arange(1, 5)[:, None]
        seen = torch.cat([seen, read, *([torch.zeros(1, 4, 2 * net.filters).double()] if block < 2 else [])], -1)
    torch.testing.assert_close(outputs.mean, read[..., :2])
    torch.testing.assert_close(outputs.value, read[..., 2])


def test_dilations_double_up_to_the_trials_length():
    assert [len(network(length).dilations) for length in (1, 2, 3, 4, 5, 64, 65, 100)] == [0, 1, 2, 2, 3, 6, 7, 7]
    assert network(100).dilations == [1, 2, 4, 8, 16, 32, 64]


def test_the_memory_does_not_grow_and_forgets_what_is_too_old():
    net = network(3)
    theta, memory = lively(net).float(), torch.zeros(net.memory)
    for _ in range(10):
        _, memory = net.step(theta, memory, torch.randn(3), torch.randn(4))
        assert memory.shape == (net.memory,)
    state = pieces("memory", memory, net.state)
    assert state["count"].item() == 3
    for _ in range(30):  # the same step again and again fills every register with one entry
        _, memory = net.step(theta, memory, torch.ones(3), torch.ones(4))
    for name, register in pieces("memory", memory, net.state).items():
        assert register.std(0, correction=0).max() < 1e-6, name
