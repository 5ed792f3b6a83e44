"""The files inside a bundle's zip, whole and unchanged or not at all. Knows names, sizes and hashes only."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.device.manifest import Entry, Manifest
from export.device.policy import first_line
from export.device.strict import BundleError

MANIFEST, DIGEST = "manifest.json", "manifest.sha256"
LARGEST = 1 << 26  # of any one file in a bundle [bytes]; of the manifest, a 64th of that
AGAIN = "copy the bundle again or export it again"


def read(path: str | Path) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and every other file of the bundle at `path`, each of the size and hash that the manifest says.

    Raises BundleError for a file that is missing, damaged, truncated, edited, too large or not a bundle.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise BundleError(f"no file at {path}, expected a bundle; check the path") from error
    except Exception as error:  # zipfile raises many kinds on damaged bytes
        raise BundleError(
            f"{path} is not a whole zip file ({first_line(error)}), expected a bundle; {AGAIN}"
        ) from error
    with archive:
        names = [info.filename for info in archive.infolist()]
        if names.count(MANIFEST) != 1:
            raise BundleError(f"{path} holds {_some(names)}, expected one {MANIFEST}; is it a bundle?")
        text = _member(archive, MANIFEST, LARGEST >> 6)
        manifest = Manifest.from_json(text)
        expected = [MANIFEST, DIGEST, *manifest.files()]
        if sorted(names) != sorted(expected):
            raise BundleError(f"{path} holds {_some(names)}, expected exactly {sorted(expected)}; {AGAIN}")
        # Not a signature: it tells an accident or a careless edit, not an attack.
        said, found = _member(archive, DIGEST, 64), hashlib.sha256(text).hexdigest()
        if said != found.encode():
            raise BundleError(f"{MANIFEST} was changed: sha256 {found}, expected {said[:64]!r}; {AGAIN}")
        files = {name: _member(archive, name, manifest.entries[name].size) for name in manifest.files()}
    for name, data in files.items():
        if (made := entry(data)) != manifest.entries[name]:
            raise BundleError(f"{name} in {path} is {made}, expected {manifest.entries[name]}; {AGAIN}")
    return manifest, files


def entry(data: bytes) -> Entry:
    return Entry(len(data), hashlib.sha256(data).hexdigest())


def array(data: bytes, name: str) -> NDArray[np.float32]:
    """The float32 array in a .npy file's bytes. Raises BundleError for anything else, before allocating for it."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0(stream) if version == (1, 0) else ((), False, None)
    except Exception as error:  # the header is Python source, and fails in as many ways
        raise BundleError(f"{name} is not a .npy file ({first_line(error)}); {AGAIN}") from error
    shape, fortran, dtype = header
    rest = data[stream.tell() :]
    if dtype != np.dtype("<f4") or fortran or 4 * int(np.prod(shape, dtype=object)) != len(rest):
        raise BundleError(
            f"{name} holds {dtype}{list(shape)} in {len(rest)} bytes, expected float32 in C order, 4 bytes each; "
            f"{AGAIN}"
        )
    values: NDArray[np.float32] = np.frombuffer(rest, "<f4").reshape(shape).astype(np.float32)
    if not np.isfinite(values).all():
        raise BundleError(f"{name} holds NaN or infinity, expected finite values; {AGAIN}")
    return values


def _member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    """The bytes of one file, at most `largest`."""
    size = archive.getinfo(name).file_size
    if not size <= min(largest, LARGEST):
        raise BundleError(f"{name} in the bundle has {size} bytes, expected at most {min(largest, LARGEST)}; {AGAIN}")
    try:
        return archive.read(name)
    except Exception as error:  # zipfile and zlib raise many kinds on damaged bytes
        raise BundleError(f"{name} in the bundle cannot be read ({first_line(error)}); {AGAIN}") from error


def _some(names: list[str]) -> str:
    return f"{sorted(names)[:20]} ({len(names)} files)"
