"""Whether a bundle comes from who it should: Ed25519 over the manifest, which holds the hash of everything else.

Needs the extra `signing`. Keys are PEM files, as made by `openssl genpkey -algorithm ed25519 -out key.pem` and
`openssl pkey -in key.pem -pubout -out key.pub`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from export.device.strict import BundleError

CONTEXT = b"sim2adapt bundle\n"  # a signature for this purpose is none for another


def sign(text: bytes, key: str | Path) -> bytes:
    """The signature [64] of a manifest by the private key in a PEM file. Raises ValueError for any other file."""
    found = _key(key, private=True)
    signature: bytes = found.sign(CONTEXT + text)
    return signature


def check(text: bytes, signature: bytes | None, key: str | Path) -> None:
    """Raises BundleError unless `signature` is one of this manifest, by the public key in a PEM file."""
    from cryptography.exceptions import InvalidSignature

    found = _key(key, private=False)
    name = fingerprint(found)
    if signature is None:
        raise BundleError(f"the bundle is not signed, expected a signature by the key {name}; sign it when exporting")
    try:
        found.verify(signature, CONTEXT + text)
    except InvalidSignature as error:
        raise BundleError(
            f"the bundle's signature is not by the key {name}; get the bundle from who has that key, or trust another"
        ) from error


def fingerprint(public: Any) -> str:
    """A short name for a public key."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def _key(path: str | Path, private: bool) -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ValueError("signatures need the package 'cryptography': pip install 'sim2adapt[signing]'") from error
    kind = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    try:
        data = Path(path).read_bytes()
        found = (
            serialization.load_pem_private_key(data, password=None)
            if private
            else serialization.load_pem_public_key(data)
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is not a PEM file of a key without password ({error}); make one with openssl"
        ) from error
    if not isinstance(found, kind):
        raise ValueError(f"{path} holds {type(found).__name__}, expected {kind.__name__}; make one with openssl")
    return found
