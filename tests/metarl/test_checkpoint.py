"""The run folder: whole files or none, the newest checkpoints only, and errors that name the file."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from metarl.checkpoint import KEEP, Run, locked
from metarl.config import DEFAULTS
from metarl.files import write_atomic, write_json

CONFIG = DEFAULTS["reward"]


def run_with(path: Path, iterations: int) -> Run:
    run = Run.create(path / "run", CONFIG)
    curve = []
    for iteration in range(1, iterations + 1):
        curve.append({"iteration": iteration, "loss": 1 / iteration})
        run.save(iteration, {"theta": torch.full((3,), float(iteration))}, curve)
    return run


def test_a_file_is_replaced_whole(tmp_path: Path):
    file = tmp_path / "new" / "file"
    for content in (b"first", b"second, longer"):
        write_atomic(file, content)
        assert file.read_bytes() == content
    assert os.listdir(file.parent) == ["file"]


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str):
    def full(*args: object) -> None:
        raise OSError("no space left on device")

    file = tmp_path / "file"
    write_atomic(file, b"old")
    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[fails], full)
    with pytest.raises(OSError, match="no space"):
        write_atomic(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_json_that_others_cannot_read_is_not_written(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"loss": float("nan")})
    assert os.listdir(tmp_path) == []


def test_the_newest_checkpoints_stay_and_the_last_is_read_back(tmp_path: Path):
    run = run_with(tmp_path, KEEP + 2)
    kept = sorted(path.name for path in (run.path / "checkpoints").glob("*.safetensors"))
    assert kept == [f"{iteration:06d}.safetensors" for iteration in (3, 4, 5)]
    state, curve = Run(run.path).load()
    assert run.iteration == 5
    assert state["theta"].tolist() == [5.0] * 3
    assert [entry["iteration"] for entry in curve] == [1, 2, 3, 4, 5]
    assert Run(run.path).config == CONFIG


def test_a_curve_ahead_of_its_checkpoint_is_cut(tmp_path: Path):
    run = run_with(tmp_path, 2)
    ahead = [{"iteration": iteration} for iteration in (1, 2, 3)]
    write_json(run.path / "curve.json", ahead)
    assert run.load()[1] == ahead[:2]


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path):
    run = Run.create(tmp_path / "run", CONFIG)
    assert run.iteration == 0
    with pytest.raises(ValueError, match="no checkpoint yet"):
        run.load()


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def other(file: Path) -> None:
    file.write_text(json.dumps({"something": "else"}))


@pytest.mark.parametrize("damage", [half, other, Path.unlink, lambda file: file.write_bytes(b"")])
@pytest.mark.parametrize("name", ["config.json", "curve.json"])
def test_damage_is_one_error_that_names_the_file(tmp_path: Path, name: str, damage: Callable[[Path], None]):
    file = run_with(tmp_path, 2).path / name
    damage(file)
    with pytest.raises(ValueError, match=file.name):
        Run(tmp_path / "run").load()


def flipped(file: Path) -> None:
    """One bit of a parameter, which no format notices."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [half, other, flipped, Path.unlink, lambda file: file.write_bytes(b"")])
def test_before_a_damaged_checkpoint_there_is_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
):
    damage(run_with(tmp_path, 3).path / "checkpoints" / "000003.safetensors")
    run = Run(tmp_path / "run")
    state, curve = run.load()
    assert run.iteration == 2
    assert state["theta"].tolist() == [2.0] * 3
    assert [entry["iteration"] for entry in curve] == [1, 2]
    (told,) = caplog.messages
    assert "000003.safetensors cannot be read" in told
    assert "000002.safetensors, is whole and serves instead" in told
    run.save(3, {"theta": torch.full((3,), 3.0)}, [*curve, {"iteration": 3}])
    assert Run(run.path).load()[0]["theta"].tolist() == [3.0] * 3


def test_without_a_whole_checkpoint_there_is_an_error(tmp_path: Path):
    run = run_with(tmp_path, 2)
    for name in ("000001", "000002"):
        flipped(run.path / "checkpoints" / f"{name}.safetensors")
    with pytest.raises(ValueError, match=r"000002.safetensors cannot be read \(ValueError: its checksum differs"):
        Run(run.path).load()


@pytest.mark.parametrize("damage", [half, other, lambda file: file.write_bytes(b"")])
def test_a_damaged_name_of_the_newest_checkpoint_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
):
    damage(run_with(tmp_path, 2).path / "checkpoints" / "latest.json")
    state, curve = Run(tmp_path / "run").load()
    assert state["theta"].tolist() == [2.0] * 3
    assert len(curve) == 2
    assert "latest.json cannot be read" in caplog.messages[0]


def test_a_checkpoint_that_was_being_written_does_not_count(tmp_path: Path):
    run = run_with(tmp_path, 1)
    latest = (run.path / "checkpoints" / "latest.json").read_bytes()
    run.save(2, {"theta": torch.full((3,), 2.0)}, [{"iteration": 1}, {"iteration": 2}])
    (run.path / "checkpoints" / "latest.json").write_bytes(latest)
    assert Run(run.path).iteration == 1
    assert [entry["iteration"] for entry in Run(run.path).load()[1]] == [1]
    (run.path / "checkpoints" / "latest.json").unlink()
    assert Run(run.path).iteration == 0


def test_a_folder_is_for_one_trainer(tmp_path: Path):
    left = tmp_path / "run" / ".config.json.123"
    with locked(tmp_path / "run"):
        left.write_text("half")
        with pytest.raises(ValueError, match="another trainer is at work in"), locked(tmp_path / "run"):
            pass
        with pytest.raises(ValueError, match="another trainer is at work in"):
            Run.create(tmp_path / "run", CONFIG)
    assert Run.create(tmp_path / "run", CONFIG).config == CONFIG  # what a killed trainer left is no obstacle
    assert not left.exists()


def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(OSError, match="/dev/null/run cannot be written"), locked(Path("/dev/null/run")):
        pass


def test_what_is_not_a_run_folder_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"not a run folder: found \['notes.txt'\], expected config.json"):
        Run(tmp_path)
    with pytest.raises(ValueError, match="not a run folder: found nothing"):
        Run(tmp_path / "missing")


def test_what_exists_is_not_overwritten(tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for path in (tmp_path, file):
        with pytest.raises(ValueError, match="exists already; add --resume"):
            Run.create(path, CONFIG)
    assert file.read_text() == "mine"
    assert os.listdir(tmp_path) == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    assert Run.create(tmp_path / "empty", CONFIG).config == CONFIG
