"""Load bundles that somebody has tampered with, and count at which stage each is refused."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from rich.table import Table

from metarl.console import main, progress, stdout

CHUNK, LIMIT = 250, 10.0  # bundles at once for a process; seconds for one of them
STAGES = ("zip", "digest", "manifest", "names", "hash", "inspection", "arrays", "runtime", "golden", "accepted")


@dataclass(frozen=True)
class Args:
    """Mutate bundles (bits, cuts, splices, entries, names, sizes, manifests, operators), half of them with hashes and
    checksums made right again so that later stages are reached, and load each. Anything but a refusal by BundleError,
    or a bundle that still answers its golden vectors, is a failure: a crash, a hang, another exception, a new file, an
    allocation over twice the declared size. Exit code 1 if there is one.
    """

    bundles: tuple[Path, ...]
    """Bundles to start from."""
    count: int = 2000
    """Mutations, in all."""
    seed: int = 0
    """Of the mutations: the same seed makes the same ones."""
    workers: int = 1
    """Processes."""
    json: Path | None = None
    """File for the counts."""


def run(args: Args) -> None:
    from metarl.files import write_json

    console, counts, failures = stdout(), Counter[tuple[str, str]](), list[str]()
    originals = [path.read_bytes() for path in args.bundles]
    if not originals:
        raise ValueError(
            "there are no bundles to start from, expected one at least; scripts/export_policy.py makes one"
        )
    chunks = [range(start, min(start + CHUNK, args.count)) for start in range(0, args.count, CHUNK)]
    started = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with progress(console, "bundles", args.count) as show:
        pool = ProcessPoolExecutor(args.workers, context)
        futures = [pool.submit(chunk, originals, args.seed, numbers) for numbers in chunks]
        for number, future in enumerate(futures):
            try:
                found, wrong = future.result()
                counts.update(found)
                failures += wrong
            except BrokenProcessPool:
                failures.append(f"a process died within mutations {chunks[number]}")
                break
            show(min((number + 1) * CHUNK, args.count), f"{len(failures)} failures")
        pool.shutdown(cancel_futures=True)
    seconds = time.monotonic() - started
    table = Table("stage", "as mutated", "hashes made right")
    for stage in STAGES:
        table.add_row(stage, *(str(counts[stage, kind]) for kind in ("raw", "mended")))
    console.print(table)
    console.print(f"{sum(counts.values())} bundles in {seconds:.0f} s, {len(failures)} failures", highlight=False)
    for failure in failures[:10]:
        console.print(failure, highlight=False)
    if args.json:
        by = {stage: {kind: counts[stage, kind] for kind in ("raw", "mended")} for stage in STAGES}
        write_json(args.json, {"bundles": sum(counts.values()), "failures": failures, "stages": by, "seconds": seconds})
    if failures or sum(counts.values()) != args.count:
        sys.exit(1)


def chunk(originals: list[bytes], seed: int, numbers: range) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Counts per stage and kind of some mutations, and what went wrong."""
    counts, failures = Counter[tuple[str, str]](), list[str]()
    signal.signal(signal.SIGALRM, _hung)
    stage_of(originals[0])  # everything is loaded
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        here = Path(folder, "one", "two")  # where files would land, also those that are called ../evil
        here.mkdir(parents=True)
        stack.callback(os.chdir, Path.cwd())
        os.chdir(here)
        before = set(Path(folder).rglob("*"))
        for number in numbers:
            kind = "mended" if number % 2 else "raw"
            data = mutated(originals, seed, number)
            size = 2 * len(data) // 1024 + 64 * 1024  # kB; what a process rounds up to is no allocation of ours
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            signal.setitimer(signal.ITIMER_REAL, LIMIT)
            try:
                counts[stage_of(data), kind] += 1
            except Exception as error:  # whatever it is, it should have been a refusal
                failures.append(f"mutation {number} of seed {seed}: {type(error).__name__}: {error}")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
            if grown > size:
                failures.append(f"mutation {number} of seed {seed}: {grown} kB for {len(data)} bytes")
        if set(Path(folder).rglob("*")) != before:
            failures.append(f"files appeared within mutations {numbers}")
    return counts, failures


def stage_of(data: bytes) -> str:
    """At which stage a bundle is refused, or "accepted". Raises whatever is not a refusal."""
    from export.device import BundleError
    from export.device.archive import unpack as unzip
    from export.device.bundle import unpack

    try:
        unpack(unzip(data, "bundle"))
    except BundleError as error:
        text = str(error)
        for words, stage in (
            ("is not a whole zip file", "zip"),
            ("expected manifest.json and", "zip"),
            ("manifest.json was changed", "digest"),
            ("expected exactly [", "names"),
            ("Entry(", "hash"),
            ("golden vectors", "golden"),
            ("ONNX Runtime", "runtime"),
            ("is it an a", "runtime"),
            ("has the sizes", "arrays"),
            (".npy", "arrays"),
            ("act.onnx: ", "inspection"),
            ("adapt.onnx: ", "inspection"),
        ):
            if words in text:
                return stage
        return "manifest"
    return "accepted"


def mutated(originals: list[bytes], seed: int, number: int) -> bytes:
    """The mutation of this number: odd ones with every size, checksum and hash made right again."""
    rng = Random(f"{seed} {number}")
    data = rng.choice(originals)
    if number % 2 == 0:
        return rng.choice((_flip, _cut, _splice, _bomb, _grow))(data, rng, originals)
    files = _files(data)
    _tamper(files, rng)
    return _zip(files)


def _flip(data: bytes, rng: Random, originals: list[bytes]) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def _cut(data: bytes, rng: Random, originals: list[bytes]) -> bytes:
    return data[: rng.randrange(len(data))] if rng.random() < 0.7 else data[rng.randrange(len(data)) :]


def _splice(data: bytes, rng: Random, originals: list[bytes]) -> bytes:
    other = rng.choice(originals)
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def _grow(data: bytes, rng: Random, originals: list[bytes]) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randrange(1, 200)) + data[at:]


def _bomb(data: bytes, rng: Random, originals: list[bytes]) -> bytes:
    """Compressed, overlapping, encrypted, or of sizes that are not there."""
    made = bytearray(data)
    places = [at for at in range(len(made) - 4) if made[at : at + 4] == b"PK\x01\x02"]
    at = rng.choice(places)
    what = rng.choice(("method", "size", "offset", "flag", "extra"))
    if what == "method":
        struct.pack_into("<H", made, at + 10, rng.choice((8, 12, 14, 99)))
    elif what == "size":
        struct.pack_into("<II", made, at + 20, *(rng.choice((0, 1 << 31, 0xFFFFFFFF)) for _ in range(2)))
    elif what == "offset":
        struct.pack_into("<I", made, at + 42, rng.randrange(len(made)))
    elif what == "flag":
        struct.pack_into("<H", made, at + 8, rng.choice((1, 8, 64, 2048)))
    else:
        struct.pack_into("<HH", made, at + 30, rng.randrange(100), rng.randrange(100))
    return bytes(made)


def _tamper(files: dict[str, bytes], rng: Random) -> None:
    """Change what is inside, hashes made right."""
    values = json.loads(files["manifest.json"])
    names = [name for name in files if name not in ("manifest.json", "manifest.sha256")]
    what = rng.choice(("graph", "graph", "graph", "operator", "array", "manifest", "manifest", "name", "swap"))
    if what in ("graph", "operator", "array"):
        name = rng.choice([name for name in names if name.endswith(".npy") == (what == "array")])
        made = bytearray(files[name])
        if what == "operator":
            old, new = rng.choice(((b"Tanh", b"Loop"), (b"Gemm", b"Scan"), (b"Add", b"If\x00"), (b"Mul", b"Det")))
            made = bytearray(bytes(made).replace(old, new))
        elif rng.random() < 0.2:
            made = made[: rng.randrange(len(made))]
        else:
            for _ in range(rng.choice((1, 1, 4))):
                made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
        files[name] = bytes(made)
    elif what == "manifest":
        _edit(values, rng)
    elif what == "name":
        name = rng.choice(names)
        files[rng.choice(("../evil", "/etc/passwd", "a" * 5000, "act.onnx\x00", "..\\x", "golden/"))] = files.pop(name)
    else:
        first, second = rng.choice(names), rng.choice(names)
        files[first], files[second] = files[second], files[first]
    entries = values.get("entries")
    for name in [name for name in entries if name in files] if isinstance(entries, dict) else []:
        if isinstance(entries[name], dict):
            entries[name] = {"size": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
    files["manifest.json"] = json.dumps(values).encode()
    files["manifest.sha256"] = hashlib.sha256(files["manifest.json"]).hexdigest().encode()


def _edit(values: Any, rng: Random) -> None:
    """Replace, drop or add one thing somewhere in a JSON value."""
    junk = (None, True, -1, 0, 10**17, 1e300, "", "x" * 1000, [], {}, [[[]]], {"a": 1})
    at = values
    while True:
        key = rng.choice(sorted(at) if isinstance(at, dict) else range(len(at)))
        if not (isinstance(at[key], dict | list) and at[key] and rng.random() < 0.8):
            break
        at = at[key]
    if isinstance(at, dict) and rng.random() < 0.2:
        at["more"] = rng.choice(junk)
    elif rng.random() < 0.2:
        del at[key]
    else:
        at[key] = rng.choice(junk)


def _files(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def _hung(*_: object) -> None:
    raise TimeoutError(f"loading took more than {LIMIT} s")


if __name__ == "__main__":
    main(Args, run)
