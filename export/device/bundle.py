"""From a bundle's file to a policy and an adapter that answer as they did where they were exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.device import archive, golden, inspection, signing
from export.device.adapter import Adapter
from export.device.manifest import ACT_GOLDEN, ADAPT_GOLDEN, MEMORY_GOLDEN, Manifest
from export.device.policy import Policy, RecurrentPolicy, Vector, first_line
from export.device.strict import BundleError


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds, checked. theta float32[parameters]: the initial parameters, read-only.

    probes float32[vectors, observation]: typical observations, to compare parameters by what they would do. digest:
    sha256 of the manifest, and so of everything.
    """

    manifest: Manifest
    digest: str
    theta: Vector
    probes: NDArray[np.float32]
    policy: Policy | RecurrentPolicy
    adapter: Adapter | None


def inspect(path: str | Path) -> Manifest:
    """The manifest of the bundle at `path`, whose files are whole. Raises BundleError."""
    return archive.read(path).manifest


def load(path: str | Path, trust: str | Path | None = None) -> Bundle:
    """The bundle at `path`, inspected, then warmed up by replaying its golden vectors on this machine.

    trust: PEM file of a public key; a bundle that is not signed by it is refused. Raises BundleError naming what was
    found, what was expected and what to do, whatever is wrong with the file.
    """
    return unpack(archive.read(path), trust)


def unpack(found: archive.Archive, trust: str | Path | None = None) -> Bundle:
    """The same for an archive that has been read."""
    manifest, files = found.manifest, found.files
    if trust is not None:
        signing.check(found.text, found.signature, trust)
    for name in (name for name in files if name.endswith(".onnx")):
        inspection.inspect(files[name], name)
    arrays = {name: archive.array(data, name) for name, data in files.items() if name.endswith(".npy")}
    theta = arrays.pop("theta.npy")
    theta.flags.writeable = False
    policy, adapter = _graphs(manifest, files)
    _expect("theta.npy", list(theta.shape), [manifest.parameters])
    _replay_act(policy, theta, _golden("act", MEMORY_GOLDEN if manifest.memory else ACT_GOLDEN, arrays))
    if adapter is not None:
        fields = tuple(field.name for field in manifest.batch)
        assert manifest.step_sizes is not None
        _replay_adapt(adapter, theta, _golden("adapt", (*fields, *ADAPT_GOLDEN), arrays), manifest.step_sizes.count)
    return Bundle(manifest, found.digest, theta, arrays["golden/act.observation.npy"], policy, adapter)


def _graphs(manifest: Manifest, files: dict[str, bytes]) -> tuple[Policy | RecurrentPolicy, Adapter | None]:
    name = "act.onnx"
    try:
        policy = RecurrentPolicy(files[name]) if manifest.memory else Policy(files[name])
        name = "adapt.onnx"
        adapter = Adapter(files[name]) if manifest.batch else None
    except ValueError as error:
        raise BundleError(f"{name}: {error}") from error
    interface = manifest.interface
    sizes = [policy.parameters, policy.observation_size, policy.action_size]
    expected = [manifest.parameters, interface.observation_size, interface.action_size]
    if manifest.memory and isinstance(policy, RecurrentPolicy):
        sizes, expected = [*sizes, policy.memory_size], [*expected, manifest.memory.size]
    _expect("act.onnx", sizes, expected)
    if adapter is not None:
        _expect("adapt.onnx", [adapter.parameters, adapter.fields], [manifest.parameters, manifest.batch])
    return policy, adapter


def _replay_act(policy: Policy | RecurrentPolicy, theta: Vector, vectors: dict[str, NDArray[np.float32]]) -> None:
    observations = vectors.pop("observation")
    if observations.ndim != 2 or not len(observations):
        raise BundleError(f"golden/act.observation.npy has shape {list(observations.shape)}, expected some vectors")
    # One-hot actions have no log_std, and a robot no use for them.
    _expect("golden/act.log_std.npy", list(vectors["log_std"].shape), [len(observations), policy.action_size])
    try:
        if isinstance(policy, RecurrentPolicy):
            found = golden.stream(policy, theta, observations, vectors.pop("feedback"))
        else:
            found = golden.act(policy, theta, observations)
        golden.check_act(found, vectors)
    except Exception as error:  # a graph may also fail while it runs, in a dozen ways
        raise _differs("act", error) from error


def _replay_adapt(adapter: Adapter, theta: Vector, vectors: dict[str, NDArray[np.float32]], steps: int) -> None:
    batch = {field.name: vectors.pop(field.name) for field in adapter.fields}
    try:
        golden.check_adapt(golden.adapt(adapter, theta, batch, steps), vectors, theta)
    except Exception as error:  # likewise
        raise _differs("adapt", error) from error


def _differs(graph: str, error: Exception) -> BundleError:
    return BundleError(
        f"{graph}.onnx does not answer its golden vectors on this machine: {first_line(error)}; export the bundle "
        "again, and compare the manifest's versions with those installed here"
    )


def _golden(
    graph: str, names: tuple[str, ...], arrays: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    return {name: arrays[f"golden/{graph}.{name}.npy"] for name in names}


def _expect(name: str, found: object, expected: object) -> None:
    if found != expected:
        raise BundleError(
            f"{name} has the sizes {found}, expected {expected} from the manifest; export the bundle again"
        )
