"""Evaluation: whole ones, of every kind of learner, and of several seeds in one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from safetensors.torch import save

from metarl.baselines import networks
from metarl.checkpoint import Run
from metarl.evaluation import evaluate, load_learner
from metarl.files import write_atomic
from metarl.ppo import STEPS
from metarl.trainer import train

SHORT = "metarl/TestShortWalk-v0"


FIGURES = {"return", "success", "error", "gap_closed"}


def check(results: dict[str, Any], run: Run, steps: int, baselines: set[str]) -> None:
    plain = json.loads(json.dumps(results, allow_nan=False))
    expected = {
        "env": run.config.env,
        "learner": run.config.learner,
        "objective": run.config.objective,
        "engine": "pybullet",
    }
    assert plain.items() >= {**expected, "split": "heldout", "tasks": 3, "seed": 1, "training_seeds": [0]}.items()
    assert [entry["steps"] for entry in plain["curve"]] == list(range(steps + 1))
    assert set(plain["baselines"]) == baselines
    for entry in (*plain["curve"], *plain["baselines"].values()):
        assert set(entry) >= {"steps", "seconds", "episodes"} | FIGURES
        for name in FIGURES - {"gap_closed"}:
            for found in (entry[name], entry[name]["iqm"]):
                assert found["low"] <= found["mean"] <= found["high"]
        assert 0 <= entry["success"]["mean"] <= 1
        assert 0 < entry["error"]["mean"] < 2
        assert entry["return"]["mean"] < 0
    ends = [plain["baselines"][name]["gap_closed"] for name in ("domain_randomization", "oracle")]
    assert ends == [None, None] or [end["mean"] for end in ends] == [0, 1]  # hardly trained, there may be no gap
    assert plain["baselines"]["oracle"]["steps"] == 0


@pytest.fixture
def copied(trained: Callable[[str], Run], tmp_path: Path) -> Callable[[str], Run]:
    """A run that may be written to."""
    return lambda objective: Run(shutil.copytree(trained(objective).path, tmp_path / objective))


def test_a_run_by_demonstration_is_evaluated_beside_its_baselines(copied: Callable[[str], Run]):
    run = copied("demonstration")
    results = evaluate(run, tasks=3, episodes=1, steps=2, workers=0)
    check(results, run, 2, {"domain_randomization", "finetune", "finetune_adam100", "oracle", "registration"})
    assert [entry["episodes"] for entry in results["curve"]] == [0, 2, 2]
    assert [entry["seconds"] for entry in results["curve"]] == [0, pytest.approx(2.4), pytest.approx(2.4)]
    sizes = results["finetune_step_sizes"]
    assert evaluate(run, tasks=3, episodes=1, steps=2, workers=1, step_sizes=sizes) == results


def untrained_baselines(run: Run) -> None:
    """As if trained before: PPO takes minutes."""
    _, problem, _ = load_learner(run)
    generator = torch.Generator().manual_seed(0)
    thetas = {name: net.initial(generator) for name, net in networks(run.config, problem).items()}
    write_atomic(run.path / f"ppo-{STEPS}.safetensors", save(thetas))


def test_a_run_by_reward_is_evaluated_beside_its_baselines(copied: Callable[[str], Run]):
    run = copied("reward")
    untrained_baselines(run)
    results = evaluate(run, tasks=3, episodes=1, steps=1, workers=0, step_sizes={"finetune": 0.1})
    check(results, run, 1, {"domain_randomization", "finetune", "oracle", "trilateration", "best_visited"})
    assert [entry["episodes"] for entry in results["curve"]] == [0, 3]
    assert [entry["seconds"] for entry in results["curve"]] == [0, 3.0]


def test_a_walking_robot_is_evaluated_without_classical_answers(tiny, tmp_path: Path):
    gymnasium.register(id=SHORT, entry_point="envs.legged:build", kwargs={"robot": "a1", "horizon": 6})
    try:
        run = train(tiny("reward", env=SHORT, iterations=1), tmp_path / "run", workers=0)
        untrained_baselines(run)
        results = evaluate(run, tasks=2, episodes=1, steps=1, workers=0, step_sizes={"finetune": 0.1})
    finally:
        del gymnasium.registry[SHORT]
    assert set(results["baselines"]) == {"domain_randomization", "finetune", "oracle"}
    assert results["measure"]["unit"] == "m/s"
    assert [entry["episodes"] for entry in results["curve"]] == [0, 3]


@pytest.mark.parametrize("name", ["tasks", "steps", "episodes"])
def test_an_evaluation_of_nothing_is_refused(trained: Callable[[str], Run], name: str):
    with pytest.raises(ValueError, match=f"{name} is 0, expected . or more"):
        evaluate(trained("demonstration"), workers=0, **{name: 0})


def test_a_run_that_has_not_begun_is_refused(tiny, tmp_path: Path):
    with pytest.raises(ValueError, match="no checkpoint yet"):
        evaluate(Run.create(tmp_path / "run", tiny("demonstration")), tasks=2, workers=0)
