"""Trained bundles that come with the package, each called `zoo:NAME`; its card NAME.md lies beside it."""

from __future__ import annotations

from pathlib import Path

from export.device.strict import BundleError

FOLDER = Path(__file__).parents[1] / "zoo"
SCHEME = "zoo:"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.zip"))


def located(bundle: str | Path) -> Path:
    """Where a bundle lies. Raises BundleError for a name that the zoo does not have."""
    name = str(bundle)
    if not name.startswith(SCHEME):
        return Path(bundle)
    name = name.removeprefix(SCHEME)
    if name not in names():
        raise BundleError(f"the zoo has no {name!r}, expected one of {names()}; or give the path of a bundle")
    return FOLDER / f"{name}.zip"
