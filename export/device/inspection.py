"""Reads the bytes of an ONNX graph before ONNX Runtime sees them, and refuses what no policy needs. Runs nothing.

ONNX is a protobuf message; only as much of its wire format is read as decides. Every message may hold the fields that
are listed here and no others, each of its wire type: so there are no functions, no training, no subgraphs, no sparse
or external tensors. Time grows with the size of the file, memory hardly: parts are views of it.

Bounded are numbers of nodes, inputs and dimensions, sizes of tensors, against the bytes that are there, and constants
that say how large something is to become. Not bounded is what a graph may compute such sizes from; only a signature
tells whether the one who made it meant well.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from export.device.strict import BundleError

OPERATORS = frozenset(
    """
    Abs Add And ArgMax ArgMin Cast Ceil Clip Concat ConstantOfShape Cos CumSum Div Elu Equal Erf Exp Expand Floor Gather
    GatherElements GatherND Gemm Greater GreaterOrEqual Identity IsInf IsNaN LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax MatMul Max Min Mod Mul Neg Not Or Pad Pow Range Reciprocal ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Shape Sigmoid Sign Sin Slice
    Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Trilu Unsqueeze Where
    """.split()  # noqa: SIM905
)
SHAPED = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Pad": 1}  # which input says how much memory they take
OPSETS, IR_VERSIONS = range(17, 23), range(8, 11)
NODES, ENDS, RANK, NAME = 5000, 64, 8, 256  # at most: nodes; inputs or outputs; dimensions of a tensor; letters
ELEMENTS = 1 << 24  # of any tensor, and of what a constant asks for
BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}  # of an element, by ONNX's number of its type
VARINT, FIXED64, TEXT, FIXED32 = 0, 1, 2, 5
# Fields of each message that may be there, by number: wire type, and whether there may be several.
MODEL = {1: (VARINT, False), 2: (TEXT, False), 3: (TEXT, False), 4: (TEXT, False), 5: (VARINT, False),
         6: (TEXT, False), 7: (TEXT, False), 8: (TEXT, True)}  # fmt: skip
OPSET = {1: (TEXT, False), 2: (VARINT, False)}
GRAPH = {1: (TEXT, True), 2: (TEXT, False), 5: (TEXT, True), 10: (TEXT, False), 11: (TEXT, True), 12: (TEXT, True)}
NODE = {1: (TEXT, True), 2: (TEXT, True), 3: (TEXT, False), 4: (TEXT, False), 5: (TEXT, True), 7: (TEXT, False)}
ATTRIBUTE = {1: (TEXT, False), 2: (FIXED32, False), 3: (VARINT, False), 4: (TEXT, False), 5: (TEXT, False),
             7: (FIXED32, True), 8: (VARINT, True), 9: (TEXT, True), 20: (VARINT, False)}  # fmt: skip
TENSOR = {1: (VARINT, True), 2: (VARINT, False), 4: (FIXED32, True), 5: (VARINT, True), 7: (VARINT, True),
          8: (TEXT, False), 9: (TEXT, False), 14: (VARINT, False)}  # fmt: skip
VALUE = {1: (TEXT, False), 2: (TEXT, False)}
TYPE, TENSOR_TYPE = {1: (TEXT, False)}, {1: (VARINT, False), 2: (TEXT, False)}
SHAPE, DIMENSION = {1: (TEXT, True)}, {1: (VARINT, False), 2: (TEXT, False)}
AGAIN = "export the bundle again"


class Field(NamedTuple):
    number: int
    kind: int
    value: int
    part: memoryview


def inspect(graph: bytes, name: str) -> None:
    """Raises BundleError, naming what was found and expected, for a graph that must not be loaded."""
    try:
        _model(memoryview(graph))
    except BundleError as error:
        raise BundleError(f"{name}: {error}; {AGAIN}") from error


def _model(data: memoryview) -> None:
    found = fields(data, MODEL, "model")
    version = next((field.value for field in found if field.number == 1), 0)
    if version not in IR_VERSIONS:
        raise BundleError(f"its IR version is {version}, expected {IR_VERSIONS.start} to {IR_VERSIONS.stop - 1}")
    opsets = [_opset(field.part) for field in found if field.number == 8]
    if len(opsets) != 1 or opsets[0][0] != "" or opsets[0][1] not in OPSETS:
        raise BundleError(
            f"it imports the operator sets {opsets}, expected plain ONNX alone, {OPSETS.start} to {OPSETS.stop - 1}"
        )
    graphs = [field.part for field in found if field.number == 7]
    if len(graphs) != 1:
        raise BundleError(f"it holds {len(graphs)} graphs, expected one")
    _graph(graphs[0])


def _opset(data: memoryview) -> tuple[str, int]:
    found = fields(data, OPSET, "operator set")
    domain = next((_text(field.part) for field in found if field.number == 1), "")
    return domain, next((field.value for field in found if field.number == 2), 0)


def _graph(data: memoryview) -> None:
    found = fields(data, GRAPH, "graph")
    for number, what, most in (
        (1, "nodes", NODES),
        (5, "constants", NODES),
        (11, "inputs", ENDS),
        (12, "outputs", ENDS),
    ):
        count = sum(field.number == number for field in found)
        if count > most:
            raise BundleError(f"it holds {count} {what}, expected at most {most}")
    shapes = {name for field in found if field.number == 1 for name in _node(field.part)}
    for field in found:
        if field.number == 5:
            _tensor(field.part, shapes)
        elif field.number in (11, 12):
            _value(field.part)


def _node(data: memoryview) -> list[str]:
    """The name of the input that says how large its output becomes, if one does."""
    found = fields(data, NODE, "node")
    kinds = [_text(field.part) for field in found if field.number == 4]
    domain = next((_text(field.part) for field in found if field.number == 7), "")
    if domain or len(kinds) != 1 or kinds[0] not in OPERATORS:
        raise BundleError(
            f"it holds the operator {kinds} of the domain {domain!r}, expected plain mathematics: {sorted(OPERATORS)}"
        )
    if len(found) > 4 * ENDS:
        raise BundleError(f"a {kinds[0]} has {len(found)} parts, expected at most {4 * ENDS}")
    for field in found:
        if field.number == 5:
            _attribute(field.part)
    inputs = [_text(field.part) for field in found if field.number == 1]
    at = SHAPED.get(kinds[0], len(inputs))
    return inputs[at : at + 1]


def _attribute(data: memoryview) -> None:
    for field in fields(data, ATTRIBUTE, "attribute"):
        if field.number in (1, 4, 9):
            _text(field.part)
        elif field.number == 5:
            _tensor(field.part, set())


def _tensor(data: memoryview, shapes: set[str]) -> None:
    found = fields(data, TENSOR, "tensor")
    kind = next((field.value for field in found if field.number == 2), 0)
    where = next((field.value for field in found if field.number == 14), 0)
    if kind not in BYTES or where:
        raise BundleError(f"a tensor is of type {kind} in place {where}, expected one of {sorted(BYTES)}, in the graph")
    shape = [number for field in found if field.number == 1 for number in _numbers(field, "tensor")]
    size = _elements(shape)
    name = next((_text(field.part) for field in found if field.number == 8), "")
    raw = sum(len(field.part) for field in found if field.number == 9)
    if raw:
        if raw != size * BYTES[kind]:
            raise BundleError(f"a tensor of shape {shape} has {raw} bytes, expected {size * BYTES[kind]}")
        if name in shapes:
            part = next(field.part for field in found if field.number == 9)
            _memory([int.from_bytes(part[at : at + 8], "little", signed=True) for at in range(0, raw, 8)])
        return
    listed = 0
    for field in found:
        if field.number == 4:
            listed += len(field.part) // 4 if field.kind == TEXT else 1
        elif field.number in (5, 7):
            numbers = list(_numbers(field, "tensor"))
            listed += len(numbers)
            if name in shapes:
                _memory(numbers)
    if listed != size:
        raise BundleError(f"a tensor of shape {shape} lists {listed} numbers, expected {size}")


def _value(data: memoryview) -> None:
    """An input or output: a tensor of known type, whose axes are sizes or names."""
    parts = [field.part for field in fields(data, VALUE, "value") if field.number == 2]
    types = [field.part for part in parts for field in fields(part, TYPE, "type")]
    if len(types) != 1:
        raise BundleError(f"an input or output has {len(types)} types, expected one, of a tensor")
    for field in fields(types[0], TENSOR_TYPE, "tensor type"):
        if field.number == 2:
            sizes = []
            for axis in fields(field.part, SHAPE, "shape"):
                sizes += [entry.value for entry in fields(axis.part, DIMENSION, "axis") if entry.number == 1]
            _elements(sizes)
        elif field.value not in BYTES:
            raise BundleError(f"an input or output is of type {field.value}, expected one of {sorted(BYTES)}")


def _elements(shape: list[int]) -> int:
    """Of a tensor of this shape."""
    size = prod(shape) if len(shape) <= RANK and all(0 <= axis <= ELEMENTS for axis in shape) else -1
    if not 0 <= size <= ELEMENTS:
        raise BundleError(f"a tensor has the shape {shape[:RANK]}, expected at most {ELEMENTS} elements")
    return size


def _memory(numbers: list[int]) -> None:
    """Whole numbers that say how large something is to become."""
    if not prod(max(1, abs(number)) for number in numbers[: 2 * RANK]) <= ELEMENTS or len(numbers) > 2 * RANK:
        raise BundleError(f"a constant asks for {numbers[:RANK]} elements, expected at most {ELEMENTS} in all")


def fields(data: memoryview, known: dict[int, tuple[int, bool]], what: str) -> list[Field]:
    """The fields of a message: known ones, of their wire types (repeated numbers may be packed), and single where they
    must be.
    """
    at, end, found, seen = 0, len(data), [], set()
    while at < end:
        key, at = _varint(data, at, what)
        number, kind = key >> 3, key & 7
        if number not in known:
            raise BundleError(f"a {what} has a field of number {number}, expected some of {sorted(known)}")
        wanted, several = known[number]
        if kind != wanted and not (kind == TEXT and several and wanted != TEXT):
            raise BundleError(f"field {number} of a {what} has wire type {kind}, expected {wanted}")
        if number in seen and not several:
            raise BundleError(f"field {number} of a {what} is there twice, expected it once")
        seen.add(number)
        value, start = 0, at
        if kind == VARINT:
            value, at = _varint(data, at, what)
        elif kind == TEXT:
            length, start = _varint(data, at, what)
            at = start + length
        else:
            at += 4
        if at > end:
            raise BundleError(f"field {number} of a {what} ends {at - end} bytes beyond it, expected it to fit")
        found.append(Field(number, kind, value, data[start:at]))
    return found


def _numbers(field: Field, what: str) -> Iterator[int]:
    """Whole numbers of a field that may be packed, as they are signed in 64 bits."""
    if field.kind == VARINT:
        yield _signed(field.value)
        return
    at = 0
    while at < len(field.part):
        value, at = _varint(field.part, at, what)
        yield _signed(value)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _varint(data: memoryview, at: int, what: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise BundleError(f"a {what} is cut off within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at
    raise BundleError(f"a {what} has a number of more than 64 bits")


def _text(part: memoryview) -> str:
    if len(part) > NAME:
        raise BundleError(f"a name has {len(part)} bytes, expected at most {NAME}")
    try:
        return bytes(part).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError("a name is not UTF-8") from error
