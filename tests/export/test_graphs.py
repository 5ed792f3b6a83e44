"""The traced graphs compute what torch computes, at any size, and hold nothing else."""

import numpy as np
import onnx
import pytest
import torch

from export.device.adapter import OUTPUTS, Adapter
from export.graphs import export_graph

# One episode, one step, and sizes equal to the layers' widths (4, 8, 2) and to each other.
SIZES = [(1, 1), (1, 5), (5, 1), (2, 2), (4, 8), (8, 4), (8, 8), (2, 4), (60, 60), (7, 40)]


@pytest.mark.parametrize(("episodes", "steps"), SIZES)
def test_chained_steps_match_torch(toy, episodes, steps):
    adapter, batch = Adapter(toy.adapt_graph), toy.batch(episodes, steps, seed=3)
    tensors = [torch.from_numpy(value) for value in batch.values()]
    ours, theirs = toy.theta, torch.from_numpy(toy.theta)
    for step in range(3):
        taken = adapter.step(ours, step, batch)
        following, loss, norm, finite = toy.adapt(theirs, torch.tensor(step), *tensors)
        ours, theirs = taken.theta, following
        moved = np.linalg.norm(theirs.numpy() - toy.theta)
        assert np.linalg.norm(ours - theirs.numpy()) <= 1e-4 * moved
        assert taken.loss == pytest.approx(float(loss), rel=1e-4, abs=1e-6)
        assert taken.gradient_norm == pytest.approx(float(norm), rel=1e-4, abs=1e-6)
        assert taken.finite
        assert bool(finite)


def test_step_sizes_are_chosen_by_step_and_the_last_serves_beyond(toy):
    adapter, batch = Adapter(toy.adapt_graph), toy.batch(4, 6)
    thetas = [adapter.step(toy.theta, step, batch).theta for step in (0, 1, 2, 3, 4000)]
    gradients = [(toy.theta - theta) / size for theta, size in zip(thetas, toy.step_sizes, strict=False)]
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(gradients[2], gradients[0], rtol=1e-3, atol=1e-5)
    assert not np.array_equal(thetas[1], thetas[2])
    np.testing.assert_array_equal(thetas[3], thetas[2])
    np.testing.assert_array_equal(thetas[4], thetas[2])


def test_padding_does_not_matter(toy):
    adapter, batch = Adapter(toy.adapt_graph), toy.batch(4, 6)
    noisy = {name: value.copy() for name, value in batch.items()}
    for name in set(noisy) - {"mask"}:
        noisy[name][batch["mask"] == 0] = 5.0
    step, other = adapter.step(toy.theta, 0, batch), adapter.step(toy.theta, 0, noisy)
    np.testing.assert_allclose(other.theta, step.theta, atol=1e-6)


def test_graphs_are_plain_and_tell_nothing_of_their_making(toy):
    for graph in (toy.act_graph, toy.adapt_graph):
        model = onnx.load_from_string(graph)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
        assert model.ir_version <= 10
        assert not model.functions
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
        assert b".py" not in graph


def test_equal_functions_give_equal_bytes_whatever_the_example_holds():
    def function(theta, x):
        return torch.func.grad(lambda at: (x @ at).square().mean())(theta)

    axes = {"x": {0: "sample"}}
    first = export_graph(function, {"theta": torch.zeros(3), "x": torch.zeros(1, 3)}, ["gradient"], axes)
    second = export_graph(function, {"theta": torch.ones(3), "x": torch.ones(3, 3)}, ["gradient"], axes)
    assert first == second


def test_a_fixed_batch_size_is_refused():
    def step(theta, x):
        def loss(at, x):
            return torch.nn.functional.linear(x, at[:6].view(2, 3), at[6:]).square().mean()

        return torch.func.grad(loss)(theta, x)

    example = {"theta": torch.zeros(8), "x": torch.zeros(5, 7, 3)}
    with pytest.raises(ValueError, match=r"fixes the size of a batch axis.*use `x @ w.T \+ b`"):
        export_graph(step, example, ["gradient"], {"x": {0: "episode", 1: "time"}})


@pytest.mark.parametrize(("axes", "message"), [({"y": {0: "n"}}, "names .'y'."), ({"x": {2: "n"}}, "axes below 1")])
def test_batch_axes_must_exist(axes, message):
    with pytest.raises(ValueError, match=message):
        export_graph(lambda x: x + 1, {"x": torch.zeros(3)}, ["y"], axes)


def test_an_operator_that_onnx_lacks_is_refused():
    with pytest.raises(ValueError, match="operator that ONNX lacks"):
        export_graph(lambda x: torch.linalg.eigvalsh(x), {"x": torch.eye(3)}, ["y"])


def test_outputs_are_named_as_the_device_expects(toy):
    model = onnx.load_from_string(toy.adapt_graph)
    assert tuple(entry.name for entry in model.graph.output) == OUTPUTS
