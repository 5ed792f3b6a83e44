"""The files inside a bundle's zip, whole and unchanged or not at all. Knows names, sizes and hashes only.

Nothing is unpacked to disk, and nothing is decompressed: bundles are written stored, so what a file declares is what it
takes. The directory is read by hand, because a zip may say one thing there and another before each file.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.device.manifest import Entry, Manifest
from export.device.policy import first_line
from export.device.strict import BundleError
from export.device.zoo import located

MANIFEST, DIGEST, SIGNATURE = "manifest.json", "manifest.sha256", "manifest.ed25519"
LARGEST = 1 << 26  # of a whole bundle [bytes]; of the manifest, a 64th of that
FILES = 64  # in one bundle
AGAIN = "copy the bundle again or export it again"
_END, _CENTRAL, _LOCAL = b"PK\x05\x06", b"PK\x01\x02", b"PK\x03\x04"


class Archive(NamedTuple):
    """files: every file beside the manifest, by name. digest: the manifest's sha256, in hexadecimal. signature: of the
    manifest's bytes, None if the bundle brings none. text: those bytes.
    """

    manifest: Manifest
    files: dict[str, bytes]
    digest: str
    signature: bytes | None
    text: bytes


def read(path: str | Path) -> Archive:
    """The bundle at `path`, or `zoo:NAME`, each file of the size and hash that the manifest says.

    Raises BundleError for a file that is missing, damaged, truncated, edited, too large or not a bundle.
    """
    path = located(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise BundleError(f"{path} has {size} bytes, expected a bundle of at most {LARGEST}; is it one?")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(f"no file at {path}, expected a bundle; check the path") from error
    except IsADirectoryError as error:
        raise BundleError(f"{path} is a folder, expected a bundle; give the file itself") from error
    return unpack(data, str(path))


def unpack(data: bytes, where: str) -> Archive:
    """The same for a bundle's bytes; `where` names them in errors."""
    found = _stored(data, where)
    text, said = found.pop(MANIFEST, None), found.pop(DIGEST, None)
    if text is None or said is None:
        raise BundleError(f"{where} holds {_some(found)}, expected {MANIFEST} and {DIGEST}; is it a bundle?")
    if len(text) > LARGEST >> 6:
        raise BundleError(f"{MANIFEST} has {len(text)} bytes, expected at most {LARGEST >> 6}; {AGAIN}")
    # Not a signature: it tells an accident or a careless edit, not an attack.
    digest = hashlib.sha256(text).hexdigest()
    if said != digest.encode():
        raise BundleError(f"{MANIFEST} was changed: sha256 {digest}, expected {said[:64]!r}; {AGAIN}")
    signature = found.pop(SIGNATURE, None)
    manifest = Manifest.from_json(text)
    if sorted(found) != sorted(manifest.files()):
        raise BundleError(f"{where} holds {_some(found)}, expected exactly {sorted(manifest.files())}; {AGAIN}")
    for name, content in found.items():
        if (made := entry(content)) != manifest.entries[name]:
            raise BundleError(f"{name} in {where} is {made}, expected {manifest.entries[name]}; {AGAIN}")
    return Archive(manifest, found, digest, signature, text)


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


def _stored(data: bytes, where: str) -> dict[str, bytes]:
    """The zip's files by name: stored one after another, each said alike before it and in the directory, and no byte
    that belongs to none of them.
    """

    def broken(what: str) -> BundleError:
        return BundleError(f"{where} is not a whole zip file as bundles are ({what}); {AGAIN}")

    end = len(data) - 22
    if end < 0 or data[end : end + 4] != _END:
        raise broken("it does not end in a directory without comment")
    disk, start_disk, here, count, size, start, comment = struct.unpack("<4H2IH", data[end + 4 :])
    if (disk, start_disk, comment) != (0, 0, 0) or here != count or start + size != end:
        raise broken("its directory is not in its place")
    if not 1 <= count <= FILES:
        raise broken(f"it holds {count} files, expected 1 to {FILES}")
    found: dict[str, bytes] = {}
    at, place = start, 0
    for _ in range(count):
        if data[at : at + 4] != _CENTRAL or at + 46 > end:
            raise broken("its directory is damaged")
        (_, _, flags, method, _, _, crc, packed, full, length, extra, note, first, _, _, offset) = struct.unpack(
            "<6H3I5H2I", data[at + 4 : at + 46]
        )
        raw = data[at + 46 : at + 46 + length]
        at += 46 + length
        if flags or method or packed != full or extra or note or first:
            raise broken("a file is compressed, encrypted or has extras")
        if offset != place or data[place : place + 4] != _LOCAL or place + 30 > start:
            raise broken("a file is not where the directory has it")
        _, flags, method, _, _, *same, extra = struct.unpack("<5H3I2H", data[place + 4 : place + 30])
        body = place + 30 + length
        if flags or method or extra or same != [crc, packed, full, length] or data[place + 30 : body] != raw:
            raise broken("a file and the directory differ")
        place = body + full
        if place > start:
            raise broken("a file is longer than the zip")
        content = data[body:place]
        try:
            name = raw.decode("ascii")
        except UnicodeDecodeError as error:
            raise broken("a name is not plain text") from error
        if name in found:
            raise broken(f"it holds {name!r} twice")
        if zlib.crc32(content) != crc:
            raise broken(f"{name!r} is damaged")
        found[name] = content
    if at != end or place != start:
        raise broken("it has bytes that belong to no file")
    return found


def _some(names: dict[str, bytes]) -> str:
    return f"{sorted(names)[:20]} ({len(names)} files)"
