"""A bundle that is trusted is signed by the trusted key, and is whole."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from export.bundle import write
from export.device import BundleError, Device
from export.device.archive import SIGNATURE, unpack
from export.device.signing import check, sign


def keys(folder: Path, name: str, key=None) -> tuple[Path, Path]:
    """Files of a new private key and its public one, as openssl writes them."""
    key = key or ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_a_signed_bundle_is_trusted_by_its_key_alone(toys, bundle, tmp_path):
    private, public = keys(tmp_path, "ours")
    _, other = keys(tmp_path, "theirs")
    path = tmp_path / "signed.zip"
    write(path, toys["demonstration"].contents(), private)
    assert SIGNATURE.encode() in path.read_bytes()
    assert Device.load(path).bundle == Device.load(path, trust=public).bundle == Device.load(bundle).bundle
    with pytest.raises(BundleError, match="signature is not by the key"):
        Device.load(path, trust=other)
    with pytest.raises(BundleError, match="is not signed, expected a signature by the key"):
        Device.load(bundle, trust=public)


def test_a_signature_does_not_move_to_another_bundle(toys, tmp_path):
    private, public = keys(tmp_path, "ours")
    for name in ("demonstration", "reward"):
        write(tmp_path / f"{name}.zip", toys[name].contents(), private)
    first, second = ((tmp_path / f"{name}.zip").read_bytes() for name in ("demonstration", "reward"))
    theirs = unpack(first, "first").signature
    moved = second.replace(unpack(second, "second").signature, theirs)
    (tmp_path / "moved.zip").write_bytes(moved)
    with pytest.raises(BundleError, match="damaged"):  # its checksum, already
        Device.load(tmp_path / "moved.zip", trust=public)
    with pytest.raises(BundleError, match="signature is not by the key"):
        check(unpack(second, "second").text, theirs, public)


def test_keys_of_another_kind_are_refused(tmp_path):
    private, public = keys(tmp_path, "curve", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ValueError, match="holds ECPrivateKey, expected Ed25519PrivateKey"):
        sign(b"", private)
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(ValueError, match="is not a PEM file of a key"):
        sign(b"", tmp_path / "junk")
    with pytest.raises(ValueError, match="is not a PEM file of a key"):
        sign(b"", public)
