"""The command lines, as a user meets them: from training to a robot that adapts, and what bad input says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from metarl.config import APPLIES

ROOT = Path(__file__).parents[2]
TINY = ("--iterations", "2", "--tasks", "2", "--episodes", "2", "--query", "2", "--hidden", "16", "--workers", "0")


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / f"{name}.py", *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line that says what is wrong, and an exit code that is not 0."""
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    done = script("train", "--out", out, *TINY)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def bundle(trained):
    done = script("export_policy", trained, "--out", trained / "bundle.zip")
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout
    return trained / "bundle.zip"


def test_a_memory_is_exported_without_figures_of_gradient_steps(tmp_path):
    out = tmp_path / "run"
    sizes = ("--iterations", "1", "--tasks", "1", "--episodes", "2", "--workers", "0")
    done = script("train", "--out", out, "--learner", "rl2", "--env", "metarl/PandaReach-v0", *sizes)
    assert done.returncode == 0, done.stderr
    done = script("export_policy", out, "--out", tmp_path / "memory.zip")
    assert done.returncode == 0, done.stderr
    assert "act differs by" in done.stdout
    assert "theta" not in done.stdout


def test_a_run_is_evaluated_beside_its_baselines(trained):
    arguments = ("--tasks", "3", "--episodes", "1", "--steps", "1", "--workers", "0", "--json", trained / "r.json")
    done = script("evaluate", trained, *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads((trained / "r.json").read_text())
    assert [entry["steps"] for entry in results["curve"]] == [0, 1]
    assert set(results["baselines"]) == {
        "domain_randomization",
        "finetune",
        "finetune_adam100",
        "oracle",
        "registration",
    }


def test_a_bundle_adapts_on_the_workstation_and_on_the_device(bundle, tmp_path):
    events, log, plot = (tmp_path / name for name in ("events.json", "log.mcap", "plot.png"))
    kept = ("--json", events, "--log", log, "--plot", plot, "--state", tmp_path / "state")
    done = script("adapt", bundle, "--steps", "2", "--attempts", "1", "--option", "seed", "3", *kept)
    assert done.returncode == 0, done.stderr
    assert [event["kind"] for event in json.loads(events.read_text())].count("adapted") == 2
    assert plot.read_bytes().startswith(b"\x89PNG")
    done = script("replay", log, bundle)
    assert done.returncode == 0, done.stdout + done.stderr
    command = [sys.executable, "-m", "export.device", str(bundle), "--driver", "pybullet", "--attempts", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "step 1: loss" in done.stdout
    refused(script("adapt", bundle, "--trust", tmp_path / "none.pub"), "none.pub")


def test_an_unknown_environment_or_learner_is_refused(tmp_path):
    refused(script("train", "--out", tmp_path / "a", "--env", "metarl/Nothing-v0"), "Nothing", "PandaReach")
    done = script("train", "--out", tmp_path / "a", "--learner", "magic")  # the parser of arguments knows them all
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(name in done.stderr for name in ("magic", *APPLIES))
    pair = ("--learner", "rl2", "--objective", "demonstration")
    refused(script("train", "--out", tmp_path / "a", *pair), "rl2", "demonstration", "maml")
    assert not (tmp_path / "a").exists()


def test_what_judging_cannot_use_is_refused_before_anything_is_learned(tmp_path):
    out = tmp_path / "a"
    refused(script("learn", "metarl/PointNavigation-v0", "--out", out), "PointNavigation", "RobotEnv")
    refused(script("learn", "metarl/PandaSeek-v0", "--out", out, "--judge", '{"horizon": 0}'), "horizon", "0")
    refused(script("reptile", out, "--env", "metarl/PandaSeek-v0", "--worlds", "1"), "worlds is 1", "expected")
    refused(script("sweep", "--out", out, "--judged", "0"), "0 worlds", "expected 1 or more")
    refused(script("evidence", "--cells", "-1"), "cells is -1", "expected 0 or more")
    assert not out.exists()


def test_a_folder_that_is_not_a_run_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    refused(script("evaluate", tmp_path), "notes.txt", "config.json")
    refused(script("export_policy", tmp_path, "--out", tmp_path / "b.zip"), "config.json")
    refused(script("train", "--out", tmp_path), "exists", "--resume")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_truncated_bundle_is_refused(bundle, tmp_path):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(bundle.read_bytes()[:-100])
    refused(script("adapt", broken), "broken.zip")


WALKER = """
from gymnasium import register

from envs.legged import Walk
from envs.robot_env import RobotEnv
from robots.legged import A1

register(id="metarl/ShortWalk-v0", entry_point=RobotEnv, kwargs={"job": Walk(A1, horizon=30)})
"""


def test_a_walking_robot_goes_all_the_way_to_the_device(tmp_path, monkeypatch):
    (tmp_path / "walker.py").write_text(WALKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run, bundle, env = tmp_path / "run", tmp_path / "walk.zip", "walker:metarl/ShortWalk-v0"
    done = script("train", "--objective", "reward", "--env", env, "--out", run, *TINY)
    assert done.returncode == 0, done.stderr
    done = script("export_policy", run, "--out", bundle)
    assert done.returncode == 0, done.stderr
    for driver in ("pybullet", "mujoco"):
        done = script("adapt", bundle, "--driver", driver, "--steps", "1", "--attempts", "1")
        assert done.returncode == 0, done.stderr
        assert "after 1 step" in done.stdout
    refused(script("train", "--env", env, "--out", tmp_path / "b", *TINY), "guided motions")


def test_a_policy_is_learned_judged_and_filmed(tmp_path):
    out, options = tmp_path / "learned", '{"horizon": 40}'
    done = script("learn", "metarl/A1Walk-v0", "--out", out, "--steps", "8192", "--episodes", "2", "--options", options)
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "results-pybullet-heldout.json").read_text())
    assert results["episodes"] == 2
    assert 0 <= results["survived"]["mean"] <= 1
    film = tmp_path / "film.gif"
    arguments = ("--policy", out, "--out", film, "--episodes", "1", "--engine", "mujoco")
    done = script("view", "metarl/A1Walk-v0", *arguments)
    assert done.returncode == 0, done.stderr
    assert film.read_bytes().startswith(b"GIF89a")
    refused(script("view", "metarl/A1Walk-v0", "--options", "{level"), "options", "JSON")
    refused(script("view", "metarl/A1Walk-v0", "--policy", tmp_path), "learn.py")
    refused(script("view", "metarl/LaikagoWalk-v0", "--policy", out), "A1Walk", "LaikagoWalk")
    refused(script("learn", "metarl/PandaReach-v0", "--steps", "0", "--out", out), "A1Walk", "PandaReach")
    refused(script("learn", "metarl/A1Walk-v0", "--out", out), "holds a policy already")
    refused(script("view", "metarl/PandaReach-v0", "--episodes", "0"), "0 frames")


def test_a_benchmark_is_one_flat_object(tmp_path):
    done = script("bench", "sim", "--env", "metarl/PandaReach-v0", "--json", tmp_path / "bench.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert figures.pop("machine")["pybullet"]
    assert figures["sim.step_over_physics.metarl/PandaReach-v0"] > 1
    assert all(isinstance(value, float) for value in figures.values())


@pytest.mark.parametrize(
    "name", ["train", "evaluate", "export_policy", "adapt", "demo", "learn", "view", "bench", "sweep", "endure"]
)
def test_help_explains_every_argument(name):
    done = script(name, "--help")
    assert done.returncode == 0
    assert "--" in done.stdout
    assert len(done.stdout) > 500
