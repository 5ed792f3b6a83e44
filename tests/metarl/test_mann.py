"""The memory of least recently used access, step by step on states made by hand."""

import pytest
import torch
from torch import Tensor

from metarl.mann import MANN, SHARP, similarity
from metarl.memory import Pieces, pieces

NETWORK = MANN(3, 2, False, hidden=4, slots=5, width=3, decay=0.8)
KEY = torch.tensor([0.9, -0.5, 0.1])
NOTE = torch.tensor([0.2, 0.6, -0.8])
SLOTS = torch.tensor([[0.9, -0.5, 0.1], [0.2, 0.9, 0.3], [-0.4, 0.1, 0.8], [0.7, 0.7, -0.7], [-0.9, 0.5, -0.1]])
BEFORE = torch.tensor([0.0, 0.7, 0.2, 0.1, 0.0])  # read weights of the step before, not those that KEY will get
USAGE = torch.tensor([0.5, 0.9, 0.6, 0.1, 0.7])
LEAST = 3


def taken(gate: float, strength: float = 3.0, network: MANN = NETWORK, **state: Tensor) -> Pieces:
    """The state after one step of a network that asks for KEY and writes NOTE, whatever it sees."""
    theta = network.initial(torch.Generator().manual_seed(0))
    weights = pieces("theta", theta, network.weights)
    weights["access"].zero_()
    raw = torch.tensor(gate).clamp(1e-6, 1 - 1e-6).logit(), torch.tensor(strength - 1).expm1().log() - SHARP
    weights["access_bias"].copy_(torch.cat([KEY.atanh(), NOTE.atanh(), torch.stack(raw)]))
    before = {name: torch.zeros(shape) for name, shape in network.state.items()} | state
    memory = torch.cat([before[name].flatten() for name in network.state])
    _, memory = network.step(theta, memory, torch.zeros(3), torch.zeros(4))
    return pieces("memory", memory, network.state)


def full(**changes: Tensor) -> dict[str, Tensor]:
    return {"slots": SLOTS, "weight": BEFORE[None], "usage": USAGE, **changes}


def test_notes_join_what_was_read_the_step_before():
    after = taken(gate=1.0, **full())
    kept = SLOTS.clone()
    kept[LEAST] = 0
    torch.testing.assert_close(after["slots"], kept + BEFORE[:, None] * NOTE, rtol=0, atol=1e-5)
    assert after["weight"][0].argmax() == 0  # what is read now is another slot: the one like the key
    assert (after["weight"][0] - BEFORE).abs().max() > 0.3


def test_new_notes_replace_the_least_used_slot_and_leave_the_others():
    after = taken(gate=0.0, **full())
    torch.testing.assert_close(after["slots"][LEAST], NOTE, rtol=0, atol=1e-5)
    others = [slot for slot in range(5) if slot != LEAST]
    torch.testing.assert_close(after["slots"][others], SLOTS[others], rtol=0, atol=1e-5)


@pytest.mark.parametrize("gate", [0.0, 0.3, 1.0])
def test_the_least_used_slot_is_emptied_before_writing(gate: float):
    weight = torch.zeros(1, 5)
    weight[0, LEAST] = 0.5
    after = taken(gate, **full(weight=weight))
    share = gate * 0.5 + (1 - gate)
    torch.testing.assert_close(after["slots"][LEAST], share * NOTE, rtol=0, atol=1e-5)


@pytest.mark.parametrize("gate", [0.0, 0.3, 1.0])
def test_usage_fades_and_grows_by_reading_and_writing(gate: float):
    after = taken(gate, **full())
    write = gate * BEFORE
    write[LEAST] += 1 - gate
    torch.testing.assert_close(after["usage"], 0.8 * USAGE + after["weight"][0] + write, rtol=0, atol=1e-5)


def test_slots_are_read_by_likeness_and_strength():
    after = taken(gate=0.0, strength=3.0, **full())
    cosine = torch.cosine_similarity(after["slots"], KEY[None])
    torch.testing.assert_close(after["weight"][0], torch.softmax(3 * cosine, 0), rtol=0, atol=1e-3)
    torch.testing.assert_close(after["read"][0], after["weight"][0] @ after["slots"])
    sharp = taken(gate=0.0, strength=30.0, **full())
    assert sharp["weight"].max() > after["weight"].max()


def test_what_is_read_reaches_the_outputs_and_the_next_step():
    generator = torch.Generator().manual_seed(1)
    theta = NETWORK.initial(generator)
    weights = pieces("theta", theta, NETWORK.weights)
    told = torch.randn(3, generator=generator), torch.randn(4, generator=generator)
    blank = pieces("memory", torch.zeros(NETWORK.memory), NETWORK.state)
    start = torch.cat([({**blank, **full()})[name].flatten() for name in NETWORK.state])
    other = torch.cat([({**blank, **full(slots=SLOTS.flip(1))})[name].flatten() for name in NETWORK.state])
    (first, memory), (second, changed) = (NETWORK.step(theta, state, *told) for state in (start, other))
    assert (first.mean - second.mean).abs().max() > 1e-4
    weights["read_out"][:, NETWORK.hidden :] = 0  # now the read vector acts through the controller alone
    mended = pieces("memory", changed.clone(), NETWORK.state)
    mended["read"].copy_(pieces("memory", memory, NETWORK.state)["read"])
    again = NETWORK.step(theta, torch.cat([piece.flatten() for piece in mended.values()]), *told)[0].mean
    assert (NETWORK.step(theta, changed, *told)[0].mean - again).abs().max() > 1e-6


def test_a_trial_starts_with_an_empty_memory_and_fills_one_slot_after_the_other():
    memory = taken(gate=0.0)
    assert (memory["slots"].abs().sum(-1) > 0.1).sum() == 1
    for count in range(2, 6):
        memory = taken(gate=0.0, **memory)
        assert (memory["slots"].abs().sum(-1) > 0.1).sum() == count


def test_each_head_takes_a_slot_of_its_own():
    network = MANN(3, 2, False, hidden=4, slots=5, width=3, reads=2)
    theta = network.initial(torch.Generator().manual_seed(3))
    state = {name: torch.zeros(shape) for name, shape in network.state.items()} | {"slots": SLOTS, "usage": USAGE}
    pieces("theta", theta, network.weights)["access_bias"][-4:] = torch.tensor([-20.0, -20.0, 0.0, 0.0])  # gates shut
    memory = torch.cat([piece.flatten() for piece in state.values()])
    after = pieces("memory", network.step(theta, memory, torch.ones(3), torch.zeros(4))[1], network.state)
    changed = (after["slots"] - SLOTS).abs().amax(-1) > 1e-5
    assert changed.tolist() == [True, False, False, True, False]  # the two least used


def test_likeness_is_safe_at_an_empty_memory():
    key, slots = torch.zeros(1, 1, 3, requires_grad=True), torch.zeros(1, 4, 3, requires_grad=True)
    alike = similarity(key, slots)
    assert alike.tolist() == [[[0, 0, 0, 0]]]
    (gradient,) = torch.autograd.grad(similarity(key + 1, slots).sum(), slots)
    assert gradient.isfinite().all()
    torch.testing.assert_close(
        similarity(KEY[None, None], SLOTS[None])[0, 0], torch.cosine_similarity(SLOTS, KEY[None]), rtol=0, atol=1e-3
    )
