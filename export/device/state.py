"""What a restart finds: the parameters that had proved themselves, in one small file. Whole and of this bundle, or not
used at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

import numpy as np

from export.device.policy import Vector
from export.device.strict import BundleError, parse, record

MAGIC = b"sim2adapt state 1\n"
LARGEST = 1 << 26  # of a state's file [bytes]


def save(path: Path, bundle: str, theta: Vector, taken: int) -> None:
    """Keep `theta` after `taken` steps from the bundle of this hash; `path` holds the old state until it is done.

    Raises OSError where the folder cannot be written.
    """
    head = json.dumps({"bundle": bundle, "parameters": theta.size, "taken": taken}).encode()
    body = MAGIC + struct.pack("<I", len(head)) + head + theta.astype("<f4").tobytes()
    temporary = path.with_name(f".{path.name}.new")  # always the same: what a crash leaves, the next save overwrites
    try:
        with temporary.open("wb") as stream:
            stream.write(body + hashlib.sha256(body).digest())
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too, survives a loss of power
    finally:
        os.close(folder)


def load(path: Path, bundle: str, parameters: int) -> tuple[Vector, int] | None:
    """theta and the steps in it; None where there is no file.

    Raises BundleError for a file that is damaged, of another bundle, or no state at all.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise BundleError(f"{path} has {path.stat().st_size} bytes, expected at most {LARGEST}; is it a state?")
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    again = "remove it to start from the bundle's own parameters"
    body, digest = data[:-32], data[-32:]
    if len(body) < len(MAGIC) + 4 or not data.startswith(MAGIC) or hashlib.sha256(body).digest() != digest:
        raise BundleError(f"{path} is damaged or no state, expected one that ends in its own sha256; {again}")
    start = len(MAGIC) + 4
    (length,) = struct.unpack("<I", body[len(MAGIC) : start])
    head = record(parse(body[start : start + length], str(path)), str(path), bundle=str, parameters=int, taken=int)
    if (head["bundle"], head["parameters"]) != (bundle, parameters):
        raise BundleError(
            f"{path} is of the bundle {head['bundle'][:12]} with {head['parameters']} parameters, expected "
            f"{bundle[:12]} with {parameters}; give the bundle that it was adapted from, or {again}"
        )
    theta = np.frombuffer(body[start + length :], "<f4").astype(np.float32)
    if theta.shape != (parameters,) or not np.isfinite(theta).all() or head["taken"] < 0:
        raise BundleError(f"{path} holds {theta.size} numbers, expected {parameters} finite ones; {again}")
    return theta, int(head["taken"])
