"""Training: the same bytes for any number of workers and after any interruption, and errors that spoil nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metarl import trainer
from metarl.checkpoint import Run
from metarl.config import MEMORY, Config
from metarl.evaluation import load_learner
from metarl.files import write_json
from metarl.trainer import train

ROOT = Path(__file__).parents[2]
KILLED = """
import json, sys
from pathlib import Path
from metarl import trainer
from metarl.config import MEMORY, Config
from metarl.evaluation import load_learner
trainer.CHECKPOINT_SECONDS = 0
trainer.train(Config.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]), workers=1)
"""


def parameters(run: Run) -> bytes:
    return (run.path / "checkpoints" / f"{run.config.iterations:06d}.safetensors").read_bytes()


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a run but its logs: bytes and time of writing."""
    files = [path for path in folder.rglob("*") if path.is_file() and "tb" not in path.parts]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("objective", ["demonstration", "reward"])
def test_bytes_do_not_depend_on_the_workers(
    tiny, trained: Callable[[str], Run], tmp_path: Path, objective: str, workers: int
):
    expected = trained(objective)
    run = train(tiny(objective), tmp_path / "run", workers)
    assert parameters(run) == parameters(expected)
    assert (run.path / "curve.json").read_bytes() == (expected.path / "curve.json").read_bytes()


def test_another_seed_gives_other_parameters(tiny, trained: Callable[[str], Run], tmp_path: Path):
    run = train(tiny("demonstration", seed=1), tmp_path / "run", workers=0)
    assert parameters(run) != parameters(trained("demonstration"))


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("objective", "given"), [("reward", {"iterations": 8}), ("demonstration", {"iterations": 60, "passes": 30})]
)
def test_a_killed_run_goes_on_to_the_same_bytes(tiny, tmp_path: Path, objective: str, given: dict[str, int]):
    config: Config = tiny(objective, **given)
    command = [sys.executable, "-c", KILLED, json.dumps(config.to_dict()), str(tmp_path / "killed")]
    latest, deadline = tmp_path / "killed" / "checkpoints" / "latest.json", time.monotonic() + 60
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and time.monotonic() < deadline:
            if latest.exists() and json.loads(latest.read_text())["iteration"] >= 2:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 2 <= Run(tmp_path / "killed").iteration < config.iterations
    while alive(process.pid) and time.monotonic() < deadline:  # nor does a worker outlive its trainer
        time.sleep(0.05)
    assert not alive(process.pid)
    resumed = train(config, tmp_path / "killed", workers=0, resume=True)
    whole = train(config, tmp_path / "whole", workers=0)
    assert parameters(resumed) == parameters(whole)
    curve = json.loads((resumed.path / "curve.json").read_text())
    assert curve == json.loads((whole.path / "curve.json").read_text())
    assert [entry["iteration"] for entry in curve] == list(range(1, config.iterations + 1))


def test_an_older_checkpoint_leads_to_the_same_bytes(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    run = train(tiny("demonstration"), tmp_path / "run", workers=0)
    expected = parameters(run)
    for name in ("000002", "000003"):
        (run.path / "checkpoints" / f"{name}.safetensors").unlink()
    write_json(run.path / "checkpoints" / "latest.json", {"file": "000001.safetensors", "iteration": 1})
    resumed = train(replace(run.config, seed=9), run.path, workers=0, resume=True)
    assert resumed.config == run.config
    assert parameters(resumed) == expected


def test_resuming_a_finished_run_changes_nothing(trained: Callable[[str], Run]):
    run = trained("demonstration")
    before = contents(run.path)
    train(run.config, run.path, workers=0, resume=True)
    assert contents(run.path) == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"env": "metarl/Nothing-v0"}, "environment 'metarl/Nothing-v0' is unknown"),
        ({"learner": "mammal"}, "learner 'mammal' is unknown, expected one of"),
        ({"objective": "applause"}, "objective 'applause' is unknown, expected one of"),
        ({"env": "metarl/PandaSeek-v0"}, "needs guided motions, which metarl/PandaSeek-v0 has not"),
    ],
)
def test_a_run_that_cannot_be_is_refused_and_leaves_nothing(tiny, tmp_path: Path, changes: dict[str, str], says: str):
    with pytest.raises(ValueError, match=says):
        train(replace(tiny("demonstration"), **changes), tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_refused(tiny, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    for resume, says in ((False, "exists already; add --resume"), (True, "is not a run folder")):
        with pytest.raises(ValueError, match=says):
            train(tiny("demonstration"), tmp_path, workers=0, resume=resume)
    assert os.listdir(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("name", ["config.json", "curve.json"])
def test_a_damaged_run_is_refused_and_left_as_it_is(trained: Callable[[str], Run], tmp_path: Path, name: str):
    folder = tmp_path / "run"
    shutil.copytree(trained("demonstration").path, folder)
    write_json(folder / "config.json", {**trained("demonstration").config.to_dict(), "iterations": 4})
    file = folder / name
    file.write_bytes(file.read_bytes()[:10])
    before = contents(folder)
    with pytest.raises(ValueError, match=file.name):
        train(trained("demonstration").config, folder, workers=0, resume=True)
    assert contents(folder) == before


POINT = {"env": "metarl/PointNavigation-v0", "options": {"horizon": 5}}
FAMILIES = [
    ("maml", "reward", POINT),
    ("maml", "demonstration", {"env": "metarl/Sinusoid-v0"}),
    ("cavia", "prediction", POINT),
    ("reptile", "reward", POINT),
    ("es_maml", "reward", POINT),
    ("rl2", "reward", {"env": "metarl/Bandit-v0", "options": {"arms": 2}}),
    ("mann", "reward", {"env": "metarl/Maze-v0", "options": {"size": 2, "horizon": 4}, "recall": 1.0}),
    ("rl2", "reward", {**POINT, "recall": 1.0}),
    ("belief", "prediction", {"env": "metarl/A1Walk-v0", "options": {"horizon": 40}, "episodes": 1}),
    (
        "snail",
        "reward",
        {"env": "metarl/TabularMDP-v0", "options": {"states": 3, "actions": 2, "horizon": 3}, "recall": 1.0},
    ),
]


@pytest.mark.parametrize(("learner", "objective", "world"), FAMILIES, ids=lambda value: str(value))
def test_every_learner_goes_on_from_a_checkpoint_to_the_same_bytes(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: str, objective: str, world: dict[str, object]
):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    config = tiny(objective, learner, iterations=4, **world)
    run = train(config, tmp_path / "run", workers=0)
    expected, curve = parameters(run), (run.path / "curve.json").read_bytes()
    checkpoints = run.path / "checkpoints"
    for name in ("000003", "000004"):
        (checkpoints / f"{name}.safetensors").unlink()
    write_json(checkpoints / "latest.json", {"file": "000002.safetensors", "iteration": 2})
    resumed = train(config, run.path, workers=1, resume=True)
    assert parameters(resumed) == expected
    assert (resumed.path / "curve.json").read_bytes() == curve
    figures = json.loads(curve)
    kind = "return" if objective == "reward" or learner == "cavia" else "loss"
    assert all({f"{kind}_before", f"{kind}_after"} <= entry.keys() for entry in figures)
    loaded, problem, _ = load_learner(resumed)
    assert problem.env == config.env
    assert loaded.network.size == len(loaded.theta)
    assert (learner in MEMORY) == hasattr(loaded.network, "memory")


@pytest.mark.parametrize(
    ("learner", "objective", "says"),
    [
        ("maml", "demonstration", r"outer loss is (nan|inf) and its gradient's norm"),
        ("reptile", "demonstration", r"the mean displacement is not finite, after losses \["),
        ("rl2", "reward", r"outer loss is"),
    ],
)
def test_a_run_that_diverges_stops_and_its_last_good_checkpoint_stays(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: str, objective: str, says: str
):
    """An outer step so long that the next iteration cannot be computed."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    config = tiny(objective, learner, env="metarl/Sinusoid-v0", learning_rate=1e25, passes=1, batches=1)
    with pytest.raises(FloatingPointError, match=says):
        train(config, tmp_path / "run", workers=0)
    run = Run(tmp_path / "run")
    assert run.iteration == 1
    learned, _, state = load_learner(run)
    assert learned.theta.abs().max() > 1e20
    assert all(torch.isfinite(value).all() for value in state.values())
    assert len(json.loads((run.path / "curve.json").read_text())) == 1


def test_a_run_that_diverges_through_its_gradient_says_what_was_not_finite(tiny, tmp_path: Path):
    config = tiny("demonstration", "maml", env="metarl/Sinusoid-v0", step_size=1e30, inner_steps=3)
    with pytest.raises(FloatingPointError, match=r"outer loss is (nan|inf|[0-9.e+]+) and its gradient's norm"):
        train(config, tmp_path / "run", workers=0)
    assert Run(tmp_path / "run").iteration == 0  # nothing bad was kept
