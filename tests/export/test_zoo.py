"""Bundles that come with the package."""

from pathlib import Path

import pytest

from export.device import Device
from export.device.strict import BundleError
from export.device.zoo import FOLDER, located, names

LARGEST = 2_000_000  # bytes: whoever installs the package takes all of them along


@pytest.mark.parametrize("name", names())
def test_each_loads_by_name_and_has_a_card_that_says_how_it_was_made(name: str):
    device = Device.load(f"zoo:{name}")
    assert device.manifest.provenance["config"]["learner"] == device.manifest.learner
    assert located(f"zoo:{name}").stat().st_size < LARGEST
    card = (FOLDER / f"{name}.md").read_text()
    assert f"python scripts/zoo.py {name}" in card
    assert "| --- |" in card, "a table of what it does in worlds that it never saw"


def test_a_name_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(BundleError, match=r"the zoo has no 'sofa', expected one of \['a1-walk'"):
        Device.load("zoo:sofa")


def test_any_other_path_is_a_file(tmp_path: Path):
    assert located(tmp_path / "zoo.zip") == tmp_path / "zoo.zip"
    with pytest.raises(BundleError, match="no file at"):
        Device.load(tmp_path / "zoo.zip")
