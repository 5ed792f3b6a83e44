"""Graphs that no policy needs are refused before ONNX Runtime sees them; those that we write pass."""

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.device import BundleError
from export.device.inspection import ELEMENTS, NODES, inspect


def model(*nodes, initializers=(), opset=18, ir=10, **more) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph(list(nodes), "graph", ends[:1], ends[1:], list(initializers), **more)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


TANH = helper.make_node("Tanh", ["x"], ["y"])


def refused(made: onnx.ModelProto | bytes, message: str) -> None:
    data = made if isinstance(made, bytes) else made.SerializeToString()
    with pytest.raises(BundleError, match=message) as caught:
        inspect(data, "act.onnx")
    assert str(caught.value).startswith("act.onnx: ")


def test_what_we_write_passes(toys, memory_graph):
    inspect(model(TANH).SerializeToString(), "act.onnx")
    for toy in toys.values():
        inspect(toy.act_graph, "act.onnx")
        inspect(toy.adapt_graph, "adapt.onnx")
    inspect(memory_graph, "act.onnx")


def test_foreign_operators_domains_and_versions_are_refused():
    refused(model(helper.make_node("Loop", ["x"], ["y"])), "the operator .'Loop'")
    refused(model(helper.make_node("Tanh", ["x"], ["y"], domain="com.evil")), "of the domain 'com.evil'")
    refused(model(TANH, opset=7), r"operator sets .\('', 7\)")
    refused(model(TANH, ir=11), "IR version is 11, expected 8 to 10")
    other = model(TANH)
    other.opset_import.append(helper.make_opsetid("com.evil", 1))
    refused(other, "operator sets")


def test_functions_subgraphs_training_and_sparse_tensors_are_refused():
    function = model(TANH)
    function.functions.append(helper.make_function("", "F", ["x"], ["y"], [TANH], [helper.make_opsetid("", 18)]))
    refused(function, "a model has a field of number 25")
    body = helper.make_graph([TANH], "body", [], [])
    refused(model(helper.make_node("Tanh", ["x"], ["y"], body=body)), "an? attribute has a field of number 6")
    training = model(TANH)
    training.training_info.add()
    refused(training, "a model has a field of number 20")
    sparse = model(TANH)
    sparse.graph.sparse_initializer.add()
    refused(sparse, "a graph has a field of number 15")


def test_tensors_elsewhere_or_of_other_sizes_than_said_are_refused():
    external = numpy_helper.from_array(np.zeros(2, np.float32), "w")
    onnx.external_data_helper.set_external_data(external, "/etc/hostname")
    refused(model(TANH, initializers=[external]), "a tensor (has a field of number 13|is of type 1 in place 1)")
    wrong = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], raw_data=bytes(8))
    refused(model(TANH, initializers=[wrong]), r"shape .3. has 8 bytes, expected 12")
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40], raw_data=b"")
    refused(model(TANH, initializers=[huge]), "expected at most")
    negative = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[-1], raw_data=b"")
    refused(model(TANH, initializers=[negative]), "expected at most")
    text = helper.make_tensor("w", TensorProto.STRING, [1], [b"x"])
    refused(model(TANH, initializers=[text]), "a tensor has a field of number 6")


@pytest.mark.parametrize("kind", ["ConstantOfShape", "Expand", "Tile"])
def test_constants_that_ask_for_too_much_memory_are_refused(kind):
    inputs = ["shape"] if kind == "ConstantOfShape" else ["x", "shape"]
    for shape in ([1 << 20, 1 << 20], [ELEMENTS + 1]):
        values = numpy_helper.from_array(np.array(shape, np.int64), "shape")
        refused(model(helper.make_node(kind, inputs, ["y"]), initializers=[values]), "a constant asks for")
        listed = helper.make_tensor("shape", TensorProto.INT64, [len(shape)], shape)
        refused(model(helper.make_node(kind, inputs, ["y"]), initializers=[listed]), "a constant asks for")
    modest = numpy_helper.from_array(np.array([2, 3], np.int64), "shape")
    inspect(model(helper.make_node(kind, inputs, ["y"]), initializers=[modest]).SerializeToString(), "act.onnx")


def test_too_many_nodes_are_refused():
    refused(model(*[TANH] * (NODES + 1)), f"holds {NODES + 1} nodes, expected at most {NODES}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08", "cut off within a number"),
        (b"\x08" + b"\xff" * 10, "more than 64 bits"),
        (b"\x3a\xff\xff\xff\xff\x0f", "ends .* bytes beyond"),
        (b"\x0b", "wire type 3"),
        (b"\x08\x0a\x08\x0a", "is there twice"),
        (b"", "IR version is 0"),
    ],
)
def test_a_broken_wire_is_refused(data, message):
    refused(data, message)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_understood(data):
    try:
        inspect(data, "act.onnx")
    except BundleError:
        return
    raise AssertionError("two hundred random bytes are no graph")


@given(st.data())
def test_a_damaged_graph_is_refused_or_understood(toys, data):
    graph = toys["reward"].act_graph
    at, mask = data.draw(st.integers(0, len(graph) - 1)), data.draw(st.integers(1, 255))
    with contextlib.suppress(BundleError):  # and nothing else
        inspect(graph[:at] + bytes([graph[at] ^ mask]) + graph[at + 1 :], "act.onnx")
