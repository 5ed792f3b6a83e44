"""Evaluation: intervals that cover, shares of a known gap, and one whole evaluation of each objective."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import save

from metarl.baselines import networks
from metarl.checkpoint import Run
from metarl.episodes import Episodes
from metarl.evaluation import Score, evaluate, gap_closed, interval, load_learner
from metarl.files import write_atomic
from metarl.ppo import STEPS
from metarl.trainer import train

SHORT = "metarl/TestShortWalk-v0"


def score(*errors: float) -> Score:
    values = np.array(errors, np.float32)
    return Score(-values, (values < 0.1).astype(np.float32), values)


def test_intervals_cover_the_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    found = [interval(rng.normal(3.0, 2.0, 40).astype(np.float32)) for _ in range(200)]
    assert 0.88 <= np.mean([entry["low"] <= 3.0 <= entry["high"] for entry in found]) <= 0.99
    assert all(entry["low"] < entry["mean"] < entry["high"] for entry in found)


@pytest.mark.parametrize("values", [[0.0], [1.0] * 20, [-0.25, -0.25]])
def test_values_without_spread_have_an_interval_without_width(values: list[float]):
    assert interval(np.array(values, np.float32)) == dict.fromkeys(("mean", "low", "high"), values[0])


def test_a_score_is_taken_at_the_end_of_episodes():
    error = np.array([[0.5, 0.02], [0.01, 0.04]], np.float32)
    blank = np.zeros_like(error)
    episodes = Episodes(blank[..., None], blank[..., None], -error, blank + 1, error)
    found = Score.of([episodes, episodes], tolerance=0.03)
    np.testing.assert_allclose(found.error, [0.03, 0.03])
    np.testing.assert_allclose(found.success, [0.5, 0.5])
    np.testing.assert_allclose(found.returns, [-0.285, -0.285])


def test_who_fell_has_not_succeeded():
    error, blank = np.array([[0.01, 0.01], [0.01, 0.01]], np.float32), np.zeros((2, 2), np.float32)
    lived = np.array([[1, 1], [1, 0]], np.float32)
    found = Score.of([Episodes(blank[..., None], blank[..., None], blank, lived, error)], tolerance=0.03)
    np.testing.assert_allclose(found.success, [0.5])
    np.testing.assert_allclose(found.error, [0.01])


def test_the_gap_closed_is_a_share_of_mean_errors():
    without, oracle = score(0.2, 0.4, 0.3), score(0.1, 0.1, 0.1)
    assert gap_closed(without, score(0.15, 0.2, 0.175), oracle)["mean"] == pytest.approx(0.625)
    for now, share in ((without, 0.0), (oracle, 1.0), (score(0.15, 0.25, 0.2), 0.5), (score(0.3, 0.7, 0.5), -1.0)):
        assert gap_closed(without, now, oracle) == pytest.approx(
            dict.fromkeys(("mean", "low", "high"), share), abs=1e-5
        )
    spread = gap_closed(without, score(0.1, 0.4, 0.2), oracle)
    assert spread["low"] < spread["mean"] < spread["high"]


def test_a_gap_that_the_tasks_do_not_show_has_no_share():
    rng = np.random.default_rng(0)
    without, oracle = (score(*rng.uniform(0.1, 0.3, 30)) for _ in range(2))
    assert gap_closed(without, score(*rng.uniform(0.1, 0.3, 30)), oracle) is None
    assert gap_closed(score(0.2, 0.2), score(0.1, 0.1), score(0.2, 0.2)) is None


FIGURES = {"return", "success", "error", "gap_closed"}


def check(results: dict[str, Any], run: Run, steps: int, baselines: set[str]) -> None:
    plain = json.loads(json.dumps(results, allow_nan=False))
    expected = {"env": run.config.env, "learner": "maml", "objective": run.config.objective, "engine": "pybullet"}
    assert plain.items() >= {**expected, "split": "heldout", "tasks": 3, "seed": 1}.items()
    assert [entry["steps"] for entry in plain["curve"]] == list(range(steps + 1))
    assert set(plain["baselines"]) == baselines
    for entry in (*plain["curve"], *plain["baselines"].values()):
        assert set(entry) >= {"steps", "seconds", "episodes"} | FIGURES
        for name in FIGURES - {"gap_closed"}:
            assert entry[name]["low"] <= entry[name]["mean"] <= entry[name]["high"]
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
    _, env, _ = load_learner(run)
    generator = torch.Generator().manual_seed(0)
    thetas = {name: net.initial(generator) for name, net in networks(run.config, env.interface, env.task_space).items()}
    write_atomic(run.path / f"ppo-{STEPS}.safetensors", save(thetas))


def test_a_run_by_reward_is_evaluated_beside_its_baselines(copied: Callable[[str], Run]):
    run = copied("reward")
    untrained_baselines(run)
    results = evaluate(run, tasks=3, episodes=1, steps=1, workers=0)
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
