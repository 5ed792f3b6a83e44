"""Writes a bundle: one file with everything a device needs. The reader is `export.device.bundle`."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.device import archive, golden, signing
from export.device.adapter import Adapter
from export.device.bundle import load
from export.device.manifest import Collect, Manifest, Recurrence, StepSizes
from export.device.plan import Plan
from export.device.policy import RecurrentPolicy, open_policy
from export.device.search import Search
from export.device.slots import Bounds
from robots.interface import Interface
from robots.limits import Limits

PACKAGES = ("sim2adapt", "numpy", "onnxruntime", "torch", "onnx", "onnxscript", "pybullet", "gymnasium")


@dataclass(frozen=True)
class Adaptation:
    """What a policy that adapts brings along.

    graph: the adapt graph. step_sizes float32[K, parameters], as they stand in it. batch: golden, an array for
    each of the graph's fields. objective: its name. collect: how the device gets a batch. plan: when it adapts while it
    works, if that is what it was trained for.
    """

    graph: bytes
    objective: str
    step_sizes: NDArray[np.float32]
    collect: Collect
    batch: Mapping[str, NDArray[np.float32]]
    plan: Plan | None = None


@dataclass(frozen=True)
class Memory:
    """What a policy that adapts by memory brings along.

    size: numbers that it remembers. episodes: attempts of the trials it was trained on. feedback float32[vectors,
    action + 2]: golden, one beside each of the observations, which are then the first of a trial, in order; zeros
    in its first row. Best over the end of an attempt, so that the vectors hold one.
    """

    size: int
    episodes: int
    feedback: NDArray[np.float32]


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle.

    act: the act graph. theta float32[parameters]: the initial parameters. observations float32[vectors,
    observation]: golden, a dozen typical ones. adaptation, memory, search: the way in which the policy adapts, one
    of them or none; with memory, act is a graph that has one. limits: of what reaches the motors. bounds: of what
    adaptation or search may change. horizon: control steps of one attempt. learner: its name.
    provenance (how it was trained) and evaluation (what it reached): any JSON. versions: of what made it; None
    looks up what is installed.
    """

    interface: Interface
    horizon: int
    learner: str
    act: bytes
    theta: NDArray[np.float32]
    observations: NDArray[np.float32]
    limits: Limits
    adaptation: Adaptation | None = None
    memory: Memory | None = None
    search: Search | None = None
    bounds: Bounds | None = None
    provenance: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    versions: Mapping[str, str] | None = None


def write(path: str | Path, contents: Contents, key: str | Path | None = None) -> Manifest:
    """Write the bundle to `path`, whole or not at all, and return its manifest. Equal contents give equal bytes.

    key: PEM file of the private key to sign it with. The new file is loaded as a device would before it replaces what
    is at `path`. Raises ValueError if that fails, and for contents that do not fit together; `path` is then as it was.
    """
    path = Path(path)
    manifest, files = _files(contents)
    try:
        text = manifest.to_json()
    except (TypeError, ValueError) as error:
        raise ValueError(f"provenance or evaluation is not plain, finite JSON: {error}; leave it out") from error
    head = {archive.MANIFEST: text, archive.DIGEST: hashlib.sha256(text).hexdigest().encode()}
    if key is not None:
        head[archive.SIGNATURE] = signing.sign(text, key)
    if not path.parent.is_dir():
        raise ValueError(f"no folder {path.parent} to write {path.name} into; create it or choose another path")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            with zipfile.ZipFile(stream, "w") as target:
                for name, data in {**head, **files}.items():
                    target.writestr(_info(name), data)
            stream.flush()
            os.fsync(stream.fileno())
        load(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return manifest


def _files(contents: Contents) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest, and what is beside it in the zip, under its name."""
    theta = np.ascontiguousarray(contents.theta, np.float32)
    policy, memory = open_policy(contents.act), contents.memory
    files = {"act.onnx": contents.act, "theta.npy": _npy(theta)}
    vectors = {"observation": contents.observations}
    if isinstance(policy, RecurrentPolicy) and memory is not None:
        vectors["feedback"] = memory.feedback
        vectors |= golden.stream(policy, theta, contents.observations, memory.feedback)
    elif not isinstance(policy, RecurrentPolicy) and memory is None:
        vectors |= golden.act(policy, theta, contents.observations)
    else:
        raise ValueError(
            f"the act graph has {'no' if memory else 'a'} memory and the contents have {'one' if memory else 'none'}, "
            "expected both or neither; give the graph and the memory of one policy"
        )
    files |= {f"golden/act.{name}.npy": _npy(value) for name, value in vectors.items()}
    adaptation, adapter = contents.adaptation, None
    if adaptation is not None:
        adapter = Adapter(adaptation.graph)
        steps = len(adaptation.step_sizes)
        vectors = {**adaptation.batch, **golden.adapt(adapter, theta, adaptation.batch, steps)}
        files["adapt.onnx"] = adaptation.graph
        files |= {f"golden/adapt.{name}.npy": _npy(value) for name, value in vectors.items()}
    versions = _versions() if contents.versions is None else contents.versions
    manifest = Manifest(
        interface=contents.interface,
        horizon=contents.horizon,
        learner=contents.learner,
        objective=adaptation.objective if adaptation else None,
        parameters=policy.parameters,
        collect=adaptation.collect if adaptation else None,
        batch=adapter.fields if adapter else (),
        step_sizes=_summary(adaptation.step_sizes) if adaptation else None,
        memory=Recurrence(memory.size, "trial", memory.episodes) if memory else None,
        search=contents.search,
        plan=adaptation.plan if adaptation else None,
        limits=contents.limits,
        bounds=contents.bounds,
        versions=dict(versions),
        provenance=dict(contents.provenance or {}),
        evaluation=None if contents.evaluation is None else dict(contents.evaluation),
        entries={name: archive.entry(data) for name, data in files.items()},
    )
    return manifest, files


def _summary(step_sizes: NDArray[np.float32]) -> StepSizes:
    parts = (part.astype(np.float64).tolist() for part in (step_sizes.min(1), step_sizes.mean(1), step_sizes.max(1)))
    minimum, mean, maximum = (tuple(part) for part in parts)
    return StepSizes(count=len(step_sizes), beyond="last", minimum=minimum, mean=mean, maximum=maximum)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _npy(value: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(value, "<f4"), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _info(name: str) -> zipfile.ZipInfo:
    """Stored as it is, so that no byte can change unnoticed; without the time of day, so that bytes repeat."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    return info
