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
from metarl.episodes import Episodes
from metarl.evaluation import ATTEMPTS, EVALUATION, FINE_TUNING, evaluate, load_learner
from metarl.files import write_atomic
from metarl.learners.inner import inner_steps
from metarl.learners.learner import ACTOR
from metarl.learners.maml import RULES
from metarl.objectives import tensors
from metarl.ppo import STEPS
from metarl.sampling.batch import BatchSampler
from metarl.sampling.worker import Trial, draw_tasks
from metarl.scores import Score
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


def test_it_is_judged_in_an_engine_where_nothing_was_trained(copied: Callable[[str], Run]):
    pytest.importorskip("mujoco")
    run = copied("demonstration")
    here, there = (evaluate(run, tasks=3, steps=1, workers=0, engine=name) for name in ("pybullet", "mujoco"))
    assert (here["engine"], there["engine"]) == ("pybullet", "mujoco")
    for one, other in zip(here["curve"], there["curve"], strict=True):
        assert one["error"] != other["error"]
        assert abs(one["error"]["mean"] - other["error"]["mean"]) < 0.05  # [m], of the same worlds


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


def classic(tiny, folder: Path, objective: str, learner: str, **changes: Any) -> Run:
    """A tiny run in one of the papers' worlds, with baselines as if they were trained."""
    run = train(tiny(objective, learner, iterations=2, **changes), folder, workers=0)
    if objective != "demonstration":
        untrained_baselines(run)
    return run


POINT = {"env": "metarl/PointNavigation-v0", "options": {"horizon": 4}}
CLASSICS = [  # and the episodes behind each row of the curve
    ("demonstration", "maml", {"env": "metarl/Sinusoid-v0"}, [0, 2, 2]),
    ("prediction", "cavia", POINT, [0, 3, 6]),
    ("reward", "es_maml", {**POINT, "episodes": 2, "tries": 3}, [0, 12, 24]),
    ("reward", "es_maml", {**POINT, "episodes": 2, "tries": 3, "climb": True}, [0, 8, 16]),
    ("reward", "rl2", {"env": "metarl/Bandit-v0", "options": {"arms": 2}}, [0, 1, 2]),
    ("reward", "snail", {"env": "metarl/Maze-v0", "options": {"size": 2, "horizon": 3}, "episodes": 3}, [0, 1, 2]),
]


@pytest.mark.parametrize(("objective", "learner", "world", "spent"), CLASSICS)
def test_every_learner_is_evaluated_in_the_papers_worlds(
    tiny, tmp_path: Path, objective: str, learner: str, world: dict[str, Any], spent: list[int]
):
    run = classic(tiny, tmp_path / "run", objective, learner, **world)
    results = json.loads(json.dumps(evaluate(run, tasks=3, episodes=2, steps=2, workers=0), allow_nan=False))
    assert results["engine"] == "numpy"
    assert (results["learner"], results["objective"], results["env"]) == (learner, objective, world["env"])
    assert results["options"] == world.get("options", {})
    assert [entry["steps"] for entry in results["curve"]] == [0, 1, 2]
    assert [entry["episodes"] for entry in results["curve"]] == spent
    fine_tuned = {"finetune", "finetune_adam100"} if objective == "demonstration" else {"finetune"}
    assert set(results["baselines"]) == {"domain_randomization", "oracle"} | fine_tuned
    assert set(results["finetune_step_sizes"]) == fine_tuned
    for entry in (*results["curve"], *results["baselines"].values()):
        for name in ("return", "success", "error"):
            assert entry[name]["low"] <= entry[name]["mean"] <= entry[name]["high"]
            assert entry[name]["iqm"]["low"] <= entry[name]["iqm"]["mean"] <= entry[name]["iqm"]["high"]
    if learner not in RULES:  # the others' graphs take seconds to trace
        assert evaluate(run, tasks=3, episodes=2, steps=2, workers=1) == results


def test_an_attempt_of_a_memory_is_judged_after_those_before_it(tiny, tmp_path: Path):
    """A step more changes nothing of the rows before: attempt n is the same trial's."""
    run = classic(tiny, tmp_path / "run", "reward", "rl2", env="metarl/Bandit-v0", options={"arms": 2})
    short, long = (
        evaluate(run, tasks=20, episodes=2, steps=steps, workers=0, step_sizes={"finetune": 0.1}) for steps in (1, 3)
    )
    assert short["curve"] == long["curve"][:2]


def test_runs_of_several_seeds_are_one_evaluation(tiny, tmp_path: Path):
    runs = [classic(tiny, tmp_path / str(seed), "reward", "es_maml", seed=seed, **POINT) for seed in (0, 1)]
    how: dict[str, Any] = {"tasks": 4, "episodes": 1, "steps": 1, "workers": 0, "step_sizes": {"finetune": 0.1}}
    both, *each = (evaluate(which, **how) for which in (runs, *runs))
    assert (both["training_seeds"], each[1]["training_seeds"]) == ([0, 1], [1])
    for row in (0, 1):
        alone = [results["curve"][row]["error"]["mean"] for results in each]
        assert both["curve"][row]["error"]["mean"] == pytest.approx(sum(alone) / 2)
    assert each[0]["curve"][1]["error"]["mean"] != each[1]["curve"][1]["error"]["mean"]
    other = classic(tiny, tmp_path / "other", "reward", "es_maml", seed=2, **{**POINT, "hidden": (5,)})
    with pytest.raises(ValueError, match=r"differ in \['hidden'\], expected runs of different seeds"):
        evaluate([runs[0], other], **how)


def test_adaptation_in_an_evaluation_is_the_learners_own(tiny, tmp_path: Path):
    """By ONNX Runtime, and yet the same error as torch's: a linear fit of sinusoids is easy to follow."""
    run = classic(tiny, tmp_path / "run", "demonstration", "maml", env="metarl/Sinusoid-v0", step_size=0.02)
    results = evaluate(run, tasks=50, episodes=5, steps=3, workers=0, step_sizes=dict.fromkeys(FINE_TUNING, 0.01))
    errors = [entry["error"]["mean"] for entry in results["curve"]]
    learner, problem, _ = load_learner(run)
    sampler = BatchSampler(problem.classic, {ACTOR: learner.network})
    tasks = draw_tasks(problem.space, "heldout", (1, EVALUATION), 50)
    lived = sampler.sample([Trial(task, (1, EVALUATION, i, 0), 2, "guided") for i, task in enumerate(tasks)])
    batch = tensors(Episodes.stack(lived))
    thetas = inner_steps(learner, learner.theta.detach().expand(50, -1), [batch] * 3)
    trials = [
        Trial(task, (1, EVALUATION, i, ATTEMPTS), 5, "mean", ACTOR, thetas[i].numpy()) for i, task in enumerate(tasks)
    ]
    adapted = Score.of(sampler.sample(trials), problem.measure.tolerance, problem.falls)
    assert errors[3] == pytest.approx(adapted.error.mean(), rel=1e-3)
    assert errors[0] != pytest.approx(errors[3], rel=1e-3)
