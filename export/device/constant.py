"""A graph with one of its inputs made a constant: ONNX Runtime then cuts and packs it once, and not in every call.

Writes as little of protobuf as that takes; what it is given has been inspected.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.device.inspection import GRAPH, MODEL, TEXT, VALUE, VARINT, fields

Vector = NDArray[np.float32]
FLOAT = 1  # ONNX's number of the type


def constant(graph: bytes, name: str, value: Vector) -> bytes:
    """`graph` without the input `name`, whose place a constant float32[P] takes."""
    made = b""
    for field in fields(memoryview(graph), MODEL, "model"):
        if field.kind == VARINT:
            made += _varint(field.number << 3 | VARINT) + _varint(field.value)
        else:
            part = _graph(field.part, name, value) if field.number == 7 else bytes(field.part)
            made += _text(field.number, part)
    return made


def _graph(data: memoryview, name: str, value: Vector) -> bytes:
    parts = []
    for field in fields(data, GRAPH, "graph"):
        if field.number != 11 or _name(field.part) != name.encode():
            parts.append(_text(field.number, bytes(field.part)))
    # dims, type, name, and the numbers as they are in memory
    tensor = _varint(1 << 3) + _varint(value.size) + _varint(2 << 3) + _varint(FLOAT)
    return b"".join([*parts, _text(5, tensor + _text(8, name.encode()) + _text(9, value.astype("<f4").tobytes()))])


def _name(value: memoryview) -> bytes:
    return next((bytes(field.part) for field in fields(value, VALUE, "value") if field.number == 1), b"")


def _text(number: int, part: bytes) -> bytes:
    return _varint(number << 3 | TEXT) + _varint(len(part)) + part


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])
