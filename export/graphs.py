"""A torch function -> one self-contained ONNX graph, gradients inside it included. Knows no policy and no learner."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

OPSET = 18
IR_VERSION = 10  # the newest that ONNX Runtime 1.20 reads
PRIMES = (211, 223, 227, 229, 233, 239, 241, 251)  # batch sizes to trace with, which hardly a layer has


def export_graph(
    function: Callable[..., Any],
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    batch_axes: Mapping[str, Mapping[int, str]] | None = None,
) -> bytes:
    """ONNX bytes (opset 18, no external data) that compute `function`, which may hold `torch.func.grad`.

    function takes tensors of the example's types and shapes positionally, in its order, and returns as many as
    `outputs` names. What its closure holds (step sizes, say) becomes constants. batch_axes names the axes whose size
    may vary: {"observation": {0: "episode", 1: "time"}}; a name stands for one size wherever it occurs, from 1 up.

    In functions of a batch use `x @ w.T + b` or `addmm`: under `torch.func.grad`,
    `torch.nn.functional.linear` on more than two axes fixes the batch's size. Raises ValueError if a size that
    should vary was fixed all the same, or for operators that ONNX lacks.
    """
    axes = {name: dict(named) for name, named in (batch_axes or {}).items()}
    values = tuple(_resized(example, axes).values())
    # No upper bound and no lower one: torch.export traces for sizes of 2 and more, and `verify` tries 1.
    sizes = {axis: torch.export.Dim(axis) for named in axes.values() for axis in named.values()}
    shapes = tuple({axis: sizes[label] for axis, label in axes.get(name, {}).items()} or None for name in example)
    with _quiet():
        # torch.export cannot look into torch.func.grad; make_fx writes the gradient out as plain operators.
        module = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*values)
        try:
            program = torch.export.export(module, values, dynamic_shapes=shapes)
        except torch._dynamo.exc.UserError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"the function fixes the size of a batch axis, expected {sorted(sizes)} to stay free: use "
                f"`x @ w.T + b` instead of torch.nn.functional.linear, and sizes that no layer has; torch says: "
                f"{reason}"
            ) from error
        try:
            exported = torch.onnx.export(
                program,
                input_names=list(example),
                output_names=list(outputs),
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ValueError(
                f"the function uses an operator that ONNX lacks, expected those of opset {OPSET}; write it with "
                f"others: {error}"
            ) from error
    assert exported is not None
    model = exported.model_proto
    _strip(model)
    _check_model(model, list(example), list(outputs), axes)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _resized(example: Mapping[str, Tensor], axes: Mapping[str, Mapping[int, str]]) -> dict[str, Tensor]:
    """`example` with batch axes of sizes that no other axis has: tracing takes equal sizes for one and the same.

    Tracing reads no values, so zeros serve.
    """
    if unknown := sorted(set(axes) - set(example)):
        raise ValueError(f"batch_axes names {unknown}, which example does not hold; it holds {list(example)}")
    for name, named in axes.items():
        if not all(0 <= axis < example[name].ndim for axis in named):
            raise ValueError(f"batch_axes of {name!r} is {named}, expected axes below {example[name].ndim}")
    taken = {
        size
        for name, value in example.items()
        for axis, size in enumerate(value.shape)
        if axis not in axes.get(name, {})
    }
    labels = sorted({label for named in axes.values() for label in named.values()})
    sizes = dict(zip(labels, (prime for prime in PRIMES if prime not in taken), strict=False))
    if len(sizes) < len(labels):
        raise ValueError(f"batch_axes names {len(labels)} sizes {labels}, expected fewer: {len(PRIMES)} at most")
    return {
        name: value.new_zeros(
            [sizes[axes[name][axis]] if axis in axes.get(name, {}) else size for axis, size in enumerate(value.shape)]
        )
        for name, value in example.items()
    }


def _check_model(
    model: onnx.ModelProto, inputs: list[str], outputs: list[str], axes: Mapping[str, Mapping[int, str]]
) -> None:
    onnx.checker.check_model(model, full_check=True)
    found = [entry.name for entry in model.graph.input], [entry.name for entry in model.graph.output]
    if found != (inputs, outputs):
        raise ValueError(f"the graph has inputs and outputs {found}, expected {(inputs, outputs)}")
    domains = {entry.domain for entry in model.opset_import}
    if model.functions or domains - {""} or model.ir_version > IR_VERSION:
        raise ValueError(
            f"the graph has IR version {model.ir_version}, domains {sorted(domains)} and {len(model.functions)} "
            f"functions, expected at most {IR_VERSION}, plain ONNX and none; use operators that ONNX has"
        )
    for entry in model.graph.input:
        for axis, label in axes.get(entry.name, {}).items():
            dimension = entry.type.tensor_type.shape.dim[axis]
            if dimension.dim_param != label:
                raise ValueError(
                    f"the graph fixed axis {axis} of {entry.name!r} to {dimension.dim_value or dimension.dim_param!r}, "
                    f"expected it to vary as {label!r}; use `x @ w.T + b` instead of torch.nn.functional.linear"
                )


def _strip(model: onnx.ModelProto) -> None:
    """Drop stack traces, file names and inferred shapes: the bytes depend on the computation alone."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    graph.name = "graph"


@contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx tells of every optional package that is missing and of every deprecated call inside it."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
