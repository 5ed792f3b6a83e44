"""Policy, adapter and Device: right inputs are answered, wrong ones refused, the initial theta is never lost."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from export.bundle import write
from export.device import Device
from export.device.adapter import Adapter
from export.device.policy import Policy, RecurrentPolicy, open_policy
from export.graphs import export_graph

ROOT = Path(__file__).parents[2]


@pytest.fixture
def device(bundle) -> Device:
    return Device.load(bundle)


def test_the_policy_answers_as_torch_does(toy):
    policy, rng = Policy(toy.act_graph), np.random.default_rng(0)
    assert (policy.parameters, policy.observation_size, policy.action_size) == (60, 4, 2)
    for _ in range(20):
        observation = rng.normal(size=4).astype(np.float32)
        found = policy(toy.theta, observation)
        wanted = toy.act(torch.from_numpy(toy.theta), torch.from_numpy(observation))
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)


def test_with_its_parameters_fixed_it_answers_the_same(toy, remembering):
    rng, policy = np.random.default_rng(0), Policy(toy.act_graph)
    recurrent = RecurrentPolicy(remembering.graph)
    for scale in (0.0, 1.0, 3.0):
        theta = (scale * toy.theta).astype(np.float32)
        answer = policy.fixed(theta)
        seen, memory, heard = (rng.normal(size=size).astype(np.float32) for size in (4, 3, 4))
        for ours, theirs in zip(answer(seen), policy(theta, seen), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
        theta = (scale * remembering.theta).astype(np.float32)
        found = recurrent.fixed(theta)(memory, seen, heard)
        for ours, theirs in zip(found, recurrent(theta, memory, seen, heard), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("theta", "observation", "message"),
    [
        (np.zeros(59, np.float32), np.zeros(4, np.float32), r"theta is float32\[59\], expected float32\[60\]"),
        (np.zeros(60, np.float32), np.zeros(5, np.float32), r"observation is float32\[5\], expected float32\[4\]"),
        (np.zeros(60, np.float32), np.zeros(4), r"observation is float64\[4\], expected float32\[4\]"),
    ],
)
def test_the_policy_refuses_other_shapes_and_types(act_graph, theta, observation, message):
    with pytest.raises(ValueError, match=message):
        Policy(act_graph)(theta, observation)


def test_a_policy_with_memory_answers_as_torch_does(remembering):
    policy, rng = RecurrentPolicy(remembering.graph), np.random.default_rng(0)
    sizes = (policy.parameters, policy.memory_size, policy.observation_size, policy.feedback_size, policy.action_size)
    assert sizes == (76, 3, 4, 4, 2)
    assert not policy.discrete
    memory = np.zeros(3, np.float32)
    for _ in range(20):
        inputs = (remembering.theta, memory, *rng.normal(size=(2, 4)).astype(np.float32))
        found = policy(*inputs)
        wanted = remembering.act(*map(torch.from_numpy, inputs))
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
        memory = found[2]


@pytest.mark.parametrize("odd", range(4))
def test_a_policy_with_memory_refuses_other_shapes_and_types(remembering, odd):
    names = ("theta", "memory", "observation", "feedback")
    for wrong, found in ((np.zeros(5, np.float32), r"float32\[5\]"), (np.zeros(4), r"float64\[4\]"), ([], "list")):
        inputs = [np.zeros(size, np.float32) for size in (76, 3, 4, 4)]
        inputs[odd] = wrong
        with pytest.raises(ValueError, match=rf"{names[odd]} is {found}, expected float32"):
            RecurrentPolicy(remembering.graph)(*inputs)


def test_either_policy_is_opened_by_its_graph(toys, remembering):
    toy = toys["reward"]
    assert type(open_policy(toy.act_graph)) is Policy
    assert type(open_policy(remembering.graph)) is RecurrentPolicy
    with pytest.raises(ValueError, match=r"is it an act graph\?"):
        open_policy(toy.adapt_graph)
    with pytest.raises(ValueError, match=r"is it an act graph\?"):
        Policy(remembering.graph)
    with pytest.raises(ValueError, match="is it an act graph with a memory"):
        RecurrentPolicy(toy.act_graph)
    with pytest.raises(ValueError, match="cannot load the graph"):
        open_policy(b"nonsense")


@pytest.mark.parametrize("sizes", [(3, 4, 2, 2, 3), (3, 5, 2, 2, 3), (3, 4, 2, 1, 3), (3, 4, 2, 2, 2)])
def test_a_memory_whose_sizes_do_not_fit_is_refused(sizes):
    memory, feedback, *outputs = sizes

    def act(theta, memory, observation, feedback):
        total = theta.sum() + memory.sum() + observation.sum() + feedback.sum()
        return tuple(total + torch.zeros(size) for size in outputs)

    example = {"theta": 9, "memory": memory, "observation": 4, "feedback": feedback}
    graph = export_graph(
        act, {name: torch.zeros(size) for name, size in example.items()}, ("mean", "log_std", "memory_next")
    )
    if sizes == (3, 4, 2, 2, 3):
        RecurrentPolicy(graph)
        return
    with pytest.raises(ValueError, match="the graph has vectors of the sizes"):
        RecurrentPolicy(graph)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": None}, r"batch has the fields \['action', 'observation'\], expected exactly"),
        ({"extra": np.zeros((3, 5), np.float32)}, "expected exactly"),
        ({"mask": np.ones((3, 4), np.float32)}, r"'mask' has shape \[3, 4\], expected \[3, 5\]"),
        ({"action": np.ones((3, 5, 3), np.float32)}, r"'action' has shape \[3, 5, 3\], expected \[3, 5, 2\]"),
        ({"observation": np.ones((3, 4), np.float32)}, r"'observation' has shape \[3, 4\]"),
        ({"observation": np.ones((0, 5, 4), np.float32)}, "at least one of each"),
        ({"mask": np.ones((3, 5))}, "'mask' is float64"),
        ({"action": np.full((3, 5, 2), np.nan, np.float32)}, "'action' holds NaN or infinity in 30 of 30 places"),
    ],
)
def test_the_adapter_refuses_a_batch_that_does_not_fit(toys, changes, message):
    toy = toys["demonstration"]
    batch = {name: value for name, value in (toy.batch(3, 5) | changes).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        Adapter(toy.adapt_graph).step(toy.theta, 0, batch)


def test_the_adapter_refuses_a_theta_or_step_that_does_not_fit(toys):
    toy = toys["demonstration"]
    adapter, batch = Adapter(toy.adapt_graph), toy.batch(3, 5)
    with pytest.raises(ValueError, match=r"theta is float32\[61\], expected float32\[60\]"):
        adapter.step(np.zeros(61, np.float32), 0, batch)
    with pytest.raises(ValueError, match="theta holds NaN"):
        adapter.step(np.full(60, np.nan, np.float32), 0, batch)
    with pytest.raises(ValueError, match="step is -1, expected 0 or more"):
        adapter.step(toy.theta, -1, batch)


def test_adapting_lowers_the_loss_and_restore_is_exact(device, toys):
    toy = toys["demonstration"]
    batch, observation = toy.batch(5, 9), np.linspace(-1, 1, 4, dtype=np.float32)
    before = device.act(observation)
    losses = [device.adapt(batch, step).loss for step in range(4)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    assert not np.array_equal(device.act(observation), before)
    device.restore()
    assert device.theta.tobytes() == device.base.tobytes() == toy.theta.tobytes()
    np.testing.assert_array_equal(device.act(observation), before)


def test_a_step_that_is_not_finite_changes_nothing(device, toys):
    batch = toys["demonstration"].batch(2, 3)
    batch["mask"][:] = 0  # 0 / 0
    taken = device.adapt(batch, 0)
    assert not taken.finite
    assert device.theta.tobytes() == device.base.tobytes()


def test_theta_is_copied_in_and_read_only_outside(device):
    mine = np.ones(60, np.float32)
    device.theta = mine
    mine[:] = 7
    np.testing.assert_array_equal(device.theta, 1)
    with pytest.raises(ValueError, match="read-only"):
        device.theta[0] = 2
    with pytest.raises(ValueError, match="read-only"):
        device.base[0] = 2


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (np.ones(61, np.float32), r"theta is float32\[61\], expected float32\[60\]"),
        (np.ones(60), r"theta is float64\[60\]"),
        (np.full(60, np.inf, np.float32), "theta holds NaN or infinity in 60 of 60 places"),
    ],
)
def test_a_wrong_theta_is_refused(device, theta, message):
    with pytest.raises(ValueError, match=message):
        device.theta = theta
    np.testing.assert_array_equal(device.theta, device.base)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros(3, np.float32), r"observation is float32\[3\], expected float32\[4\]"),
        (np.zeros((1, 4), np.float32), r"float32\[1, 4\]"),
        (np.array([0, np.nan, 0, 0], np.float32), "observation holds NaN or infinity in 1 of 4 places"),
        (np.array([0, np.inf, 0, 0], np.float32), "observation holds NaN"),
        (None, "observation is NoneType"),
    ],
)
def test_a_wrong_observation_is_refused(device, observation, message):
    for act in (device.act, lambda seen: device.sample(seen, np.random.default_rng(0))):
        with pytest.raises(ValueError, match=message):
            act(observation)


def test_exploring_actions_have_the_policys_mean_and_spread(device):
    observation, rng = np.zeros(4, np.float32), np.random.default_rng(0)
    actions = np.array([device.sample(observation, rng.standard_normal(2, np.float32)) for _ in range(4000)])
    assert actions.dtype == np.float32
    std = np.exp(device.theta[-2:])
    np.testing.assert_allclose(actions.mean(0), device.act(observation), atol=0.1)
    np.testing.assert_allclose(actions.std(0), std, rtol=0.05)


def test_without_an_adapt_graph_adapting_is_refused(toys, tmp_path):
    write(tmp_path / "fixed.zip", dataclasses.replace(toys["reward"].contents(), adaptation=None, bounds=None))
    device = Device.load(tmp_path / "fixed.zip")
    device.act(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="'maml' has no gradient step"):
        device.adapt({}, 0)


@pytest.fixture
def rememberer(memory_bundle) -> Device:
    return Device.load(memory_bundle)


def steps(count: int, seed: int = 0) -> np.ndarray:
    """Observations and feedbacks [count, 2, 4] from a trial's start."""
    made = np.random.default_rng(seed).normal(size=(count, 2, 4)).astype(np.float32)
    made[0, 1] = 0
    return made


def test_memory_makes_the_same_call_answer_otherwise_until_a_new_trial(rememberer):
    trial = steps(6)
    assert not rememberer.memory.any()
    first = [rememberer.act(*step) for step in trial]
    assert np.abs(rememberer.memory).max() > 0.01
    assert not np.allclose(rememberer.act(*trial[0]), first[0], atol=1e-3)
    rememberer.begin_trial()
    assert not rememberer.memory.any()
    np.testing.assert_array_equal([rememberer.act(*step) for step in trial], first)
    assert not rememberer.memory.flags.writeable


def test_exploring_remembers_as_acting_does(rememberer):
    for step in steps(5):
        rememberer.act(*step)
    acted, rng = rememberer.memory.copy(), np.random.default_rng(0)
    rememberer.begin_trial()
    for seen, heard in steps(5):
        rememberer.sample(seen, rng.standard_normal(2, np.float32), heard)
    np.testing.assert_array_equal(rememberer.memory, acted)


def test_restore_another_theta_and_loading_begin_a_new_trial(rememberer, memory_bundle):
    assert not Device.load(memory_bundle).memory.any()
    for begin in (rememberer.restore, lambda: setattr(rememberer, "theta", rememberer.base)):
        rememberer.act(*steps(1)[0] + 1)
        assert rememberer.memory.any()
        begin()
        assert not rememberer.memory.any()


def test_a_memory_is_of_one_device_alone(memory_bundle):
    one, other = Device.load(memory_bundle), Device.load(memory_bundle)
    one.act(*steps(1)[0])
    assert one.memory.any()
    assert not other.memory.any()


@pytest.mark.parametrize(
    ("heard", "message"),
    [
        (None, "feedback is missing, expected it for policies with memory"),
        (np.zeros(3, np.float32), r"feedback is float32\[3\], expected float32\[4\]"),
        (np.zeros(4), r"feedback is float64\[4\]"),
        (np.array([0, 0, np.nan, 0], np.float32), "feedback holds NaN or infinity in 1 of 4 places"),
    ],
)
def test_a_wrong_feedback_is_refused_and_not_remembered(rememberer, heard, message):
    rememberer.act(*steps(1)[0])
    before = rememberer.memory.copy()
    for act in (rememberer.act, lambda seen, heard: rememberer.sample(seen, np.random.default_rng(0), heard)):
        with pytest.raises(ValueError, match=message):
            act(np.zeros(4, np.float32), heard)
    with pytest.raises(ValueError, match="observation holds NaN"):
        rememberer.act(np.full(4, np.nan, np.float32), np.zeros(4, np.float32))
    np.testing.assert_array_equal(rememberer.memory, before)


def test_a_memory_that_would_not_be_finite_is_refused(memory_contents, tmp_path):
    def act(theta, memory, observation, feedback):
        return theta[:2] + observation[:2], theta[2:4] + feedback[:2], memory + torch.exp(observation[:3])

    sizes = {"theta": 76, "memory": 3, "observation": 4, "feedback": 4}
    graph = export_graph(
        act, {name: torch.zeros(size) for name, size in sizes.items()}, ("mean", "log_std", "memory_next")
    )
    write(tmp_path / "odd.zip", dataclasses.replace(memory_contents, act=graph))
    device = Device.load(tmp_path / "odd.zip")
    with pytest.raises(ValueError, match="memory_next holds NaN or infinity in 3 of 3 places"):
        device.act(np.full(4, 1000, np.float32), np.zeros(4, np.float32))
    assert not device.memory.any()


def test_a_policy_without_memory_takes_no_feedback(device):
    assert device.memory.shape == (0,)
    device.begin_trial()
    with pytest.raises(ValueError, match="feedback is given, expected it for policies with memory"):
        device.act(np.zeros(4, np.float32), np.zeros(4, np.float32))


def test_who_adapts_otherwise_refuses_gradient_steps(memory_bundle, search_bundles):
    with pytest.raises(ValueError, match=r"'rl2' has no gradient step, .* it adapts by what it remembers"):
        Device.load(memory_bundle).adapt({}, 0)
    with pytest.raises(ValueError, match=r"'es_maml' has no gradient step, .* it adapts by trying out parameters"):
        Device.load(search_bundles["climb"]).adapt({}, 0)


def test_the_device_loads_nothing_heavy(bundle):
    code = (
        "import sys; from export.device import Device; import export.device.__main__\n"
        "Device.load(sys.argv[1])\n"
        "print(sorted({'torch', 'onnx', 'onnxscript', 'pybullet', 'gymnasium', 'metarl', 'envs'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, bundle], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"
