"""Reptile over stable-baselines3: the update rule, what goes from task to task and what must not, files, refusals."""

import base64
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from metarl.reptile_sb3 import (
    DEFAULTS,
    OneTask,
    Settings,
    adapt,
    begin,
    evaluate,
    place,
    reptile,
    restore,
    run_seed,
    task_space,
    theta,
    world,
)
from metarl.sampling.worker import Stream, draw_tasks

ROOT = Path(__file__).parents[2]
LINE = "tests/Line-v0"


class Places:
    """A foreign task space: a task is a place on the line."""

    def sample(self, rng: np.random.Generator, split: str = "train") -> float:
        return float(rng.uniform(-1, 1))


class Line(gymnasium.Env[Any, Any]):
    """Go to a place that is not seen; everything that happens to any of them is in `log`."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    task_space = Places()
    log: list[tuple[str, float]] = []  # noqa: RUF012

    def __init__(self, horizon: int = 5) -> None:
        self.horizon, self.task = horizon, np.nan

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.task = options["task"] if options else self.task_space.sample(self.np_random)
        self.place, self.steps = float(self.np_random.normal(0, 0.1)), 0
        self.log.append(("reset", self.task))
        return self._observed(), {}

    def step(self, action: Any) -> Any:
        self.log.append(("step", self.task))
        self.place = float(np.clip(self.place + action[0], -5, 5))
        self.steps += 1
        error = abs(self.place - self.task)
        return self._observed(), -error, False, self.steps == self.horizon, {"error": error, "is_success": error < 0.1}

    def _observed(self) -> Any:
        return np.array([self.place, self.steps / self.horizon], np.float32)


gymnasium.register(LINE, Line)
gymnasium.register("tests/Untasked-v0", lambda: gymnasium.make("CartPole-v1").unwrapped)

SMALL = {"policy_kwargs": {"net_arch": [8]}, "learning_rate": 3e-3}
KWARGS = {
    "PPO": {**SMALL, "n_steps": 20, "batch_size": 10, "n_epochs": 2},
    "A2C": {**SMALL, "n_steps": 10},
}
TINY = Settings(
    LINE, algorithm_kwargs=KWARGS["PPO"], environments=2, iterations=2, tasks=3, inner_steps=40, epsilon=0.5
)  # fmt: skip
TINY_OF = {name: replace(TINY, algorithm=name, algorithm_kwargs=kwargs) for name, kwargs in KWARGS.items()}
OBSERVATIONS = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)


@pytest.fixture
def env() -> Iterator[DummyVecEnv]:
    with closing(world(LINE, {}, 2)) as env:
        yield env


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def actions(model: Any) -> Any:
    return model.predict(OBSERVATIONS, deterministic=True)[0]


def moments(model: Any) -> dict[tuple[int, str], torch.Tensor]:
    state = model.policy.optimizer.state_dict()["state"]
    return {(i, name): value.clone() for i, each in state.items() for name, value in each.items()}


@pytest.mark.parametrize("algorithm", KWARGS)
def test_an_outer_step_is_the_mean_displacement_of_stable_baselines3s_own_learn(
    algorithm: str, env: DummyVecEnv, tmp_path: Path
):
    run = replace(TINY_OF[algorithm], iterations=1)
    found = theta(reptile(run, tmp_path))
    model = begin(run, env)
    start = theta(model)
    assert {"log_std", "value_net.weight", "mlp_extractor.value_net.0.weight"} <= set(start)
    ends = []
    for index, task in enumerate(draw_tasks(task_space(env), "train", (0, 0), run.tasks)):
        model.policy.load_state_dict(start)
        for one in env.envs:
            one.get_wrapper_attr("begin")(task)
        model.set_random_seed(run_seed(Stream.ACTION, (0, 0, index)))
        model.learn(run.inner_steps)
        ends.append(theta(model))
    for name, value in start.items():
        expected = value + 0.5 * (sum(end[name] for end in ends) / len(ends) - value)
        np.testing.assert_allclose(found[name], expected, atol=1e-6)
        assert not torch.equal(found[name], value), name


def test_a_whole_step_on_one_task_is_where_that_task_led(env: DummyVecEnv, tmp_path: Path):
    run = replace(TINY, iterations=1, tasks=1, epsilon=1.0)
    (task,) = draw_tasks(task_space(env), "train", (0, 0), 1)
    led = theta(adapt(begin(run, env), env, task, 40, run_seed(Stream.ACTION, (0, 0, 0))))
    found = theta(reptile(run, tmp_path))
    for name in led:
        np.testing.assert_allclose(found[name], led[name], atol=1e-6)


def test_epsilon_falls_linearly(tmp_path: Path):
    reptile(replace(TINY, iterations=4), tmp_path / "zero")
    reptile(replace(TINY, iterations=4, epsilon_end=0.1), tmp_path / "end")
    curves = [json.loads((tmp_path / name / "curve.json").read_text()) for name in ("zero", "end")]
    np.testing.assert_allclose([point["epsilon"] for point in curves[0]], [0.5, 0.375, 0.25, 0.125])
    np.testing.assert_allclose([point["epsilon"] for point in curves[1]], [0.5, 0.4, 0.3, 0.2])


def test_tasks_are_lived_through_one_after_the_other_each_from_a_reset(env: DummyVecEnv, tmp_path: Path):
    Line.log.clear()
    reptile(TINY, tmp_path)
    expected = [draw_tasks(task_space(env), "train", (0, iteration), 3) for iteration in range(2)]
    lived: list[tuple[float, list[str]]] = []
    for what, task in Line.log:
        if not lived or lived[-1][0] != task:
            lived.append((task, []))
        lived[-1][1].append(what)
    assert [task for task, _ in lived] == [*expected[0], *expected[1]]
    for _, events in lived:
        assert events[:3] == ["reset", "reset", "step"]  # both environments
        assert events.count("step") == TINY.inner_steps


@settings(max_examples=15)
@given(st.floats(-1, 1), st.booleans())
def test_what_a_task_teaches_does_not_depend_on_the_one_before(before: float, cut_short: bool):
    with closing(world(LINE, {"horizon": 7 if cut_short else 5}, 2)) as env:  # 20 steps: amid an episode or at its end
        model = begin(TINY, env)
        start = theta(model)
        alone = theta(adapt(model, env, 0.5, 40, seed=3))
        place(model, start)
        adapt(model, env, before, 40, seed=4)
        place(model, start)
        model.policy.optimizer.state.clear()
        assert same(theta(adapt(model, env, 0.5, 40, seed=3)), alone)


def test_schedules_begin_anew_on_every_task(env: DummyVecEnv):
    rates: list[float] = []
    model = PPO("MlpPolicy", env, learning_rate=lambda left: rates.append(left) or 1e-3, n_steps=10, batch_size=20)
    for task in (0.1, 0.2):
        rates.clear()
        adapt(model, env, task, 40)
        assert rates[0] == rates[1] == 0.5  # asked twice: to log and to set
        assert rates[-1] == 0.0


def test_moments_are_kept_and_the_parameters_are_not(env: DummyVecEnv, tmp_path: Path):
    kept = reptile(TINY, tmp_path / "kept")
    steps = TINY.inner_steps // 10 * 2 * TINY.tasks * TINY.iterations  # minibatches of 10, two epochs
    found = moments(kept)
    assert {float(value) for (_, name), value in found.items() if name == "step"} == {steps}
    assert all(bool(value.any()) for (_, name), value in found.items() if name == "exp_avg_sq")
    assert kept.policy.optimizer.param_groups[0]["betas"] == (0.0, 0.999)
    reset = reptile(replace(TINY, optimizer="reset"), tmp_path / "reset")
    assert moments(reset) == {}
    assert not same(theta(kept), theta(reset))
    one = replace(TINY, iterations=1, tasks=1)  # without a task before it there is nothing to keep
    first, again = (reptile(replace(one, optimizer=how), tmp_path / f"{how}1") for how in ("keep", "reset"))
    assert same(theta(first), theta(again))


def test_users_may_have_their_own_optimizer_and_network(env: DummyVecEnv):
    policy = {"optimizer_class": "torch.optim:SGD", "activation_fn": "torch.nn:ReLU", "net_arch": [4]}
    run = replace(TINY, algorithm_kwargs={**KWARGS["PPO"], "policy_kwargs": policy})
    model = begin(run, env)
    assert isinstance(model.policy.optimizer, torch.optim.SGD)
    assert any(isinstance(layer, torch.nn.ReLU) for layer in model.policy.modules())
    betas = {"optimizer_kwargs": {"betas": [0.9, 0.99]}}
    model = begin(replace(TINY, algorithm_kwargs={**KWARGS["PPO"], "policy_kwargs": betas}), env)
    assert tuple(model.policy.optimizer.param_groups[0]["betas"]) == (0.9, 0.99)


@pytest.mark.parametrize(("algorithm", "loader"), [("PPO", PPO), ("A2C", A2C)])
def test_what_is_saved_is_stable_baselines3s_own(algorithm: str, loader: Any, env: DummyVecEnv, tmp_path: Path):
    model = reptile(TINY_OF[algorithm], tmp_path)
    loaded = loader.load(tmp_path / "policy.zip", env=env, device="cpu")
    np.testing.assert_array_equal(actions(loaded), actions(model))
    assert same(theta(loaded), theta(model))
    expected = moments(model)
    assert moments(loaded).keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in moments(loaded).items())
    assert np.isfinite(actions(loaded.learn(40))).all()
    with zipfile.ZipFile(tmp_path / "policy.zip") as archive:  # whoever loads it needs none of our code
        data = json.loads(archive.read("data"))
    hidden = [base64.b64decode(value[":serialized:"]) for value in data.values() if ":serialized:" in str(value)]
    assert hidden
    assert not any(b"metarl" in part or b"OneTask" in part for part in hidden)
    restored = restore(tmp_path, env)
    assert same(theta(restored), theta(model))
    assert same(theta(adapt(restored, env, 0.3, 40, seed=1)), theta(adapt(model, env, 0.3, 40, seed=1)))


class Stop(Exception):  # noqa: N818
    pass


def stopping(at: int) -> Any:
    def show(done: int, figures: str) -> None:
        if done == at:
            raise Stop

    return show


@pytest.mark.parametrize("algorithm", KWARGS)
def test_an_interrupted_run_goes_on_to_the_same_parameters(algorithm: str, tmp_path: Path):
    run = replace(TINY_OF[algorithm], iterations=4)
    whole = reptile(run, tmp_path / "whole")
    for at in (0, 2):
        with pytest.raises(Stop):
            reptile(run, tmp_path / f"{at}", stopping(at))
        # As if it had died between the two files: the curve is ahead, and the state is what counts.
        file = tmp_path / f"{at}" / "curve.json"
        file.write_text(json.dumps([*json.loads(file.read_text()), {"iteration": at + 1, "epsilon": 9.0}]))
        (tmp_path / f"{at}" / "policy.zip").write_bytes(b"older")
        resumed = reptile(None, tmp_path / f"{at}", resume=True)
        assert same(theta(resumed), theta(whole))
        assert same(*({str(key): value for key, value in moments(one).items()} for one in (resumed, whole)))
        assert file.read_bytes() == (tmp_path / "whole" / "curve.json").read_bytes()
    (tmp_path / "2" / "policy.zip").unlink()  # nor is one that was about to be written lost
    assert same(theta(reptile(None, tmp_path / "2", resume=True)), theta(whole))
    loader = {"PPO": PPO, "A2C": A2C}[algorithm]
    assert same(theta(loader.load(tmp_path / "2" / "policy.zip")), theta(whole))


def test_another_seed_gives_another_policy(tmp_path: Path):
    one, again = (reptile(TINY, tmp_path / name) for name in "ab")
    assert same(theta(one), theta(again))
    assert not same(theta(one), theta(reptile(replace(TINY, seed=1), tmp_path / "c")))


def poisoned(file: Path, marker: Path) -> None:
    """Rewrite a saved model so that unpickling its data makes a file."""
    code = base64.b64encode(f"cbuiltins\nopen\n(S'{marker}'\nS'w'\ntR.".encode()).decode()
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(parts["data"]) | {"ep_info_buffer": {":type:": "x", ":serialized:": code}}
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in (parts | {"data": json.dumps(data).encode()}).items():
            archive.writestr(name, part)


def test_a_run_starts_from_the_weights_of_a_file_and_runs_nothing_in_it(env: DummyVecEnv, tmp_path: Path):
    file, marker = tmp_path / "theirs.zip", tmp_path / "marker"
    theirs = begin(replace(TINY, seed=7), env)
    theirs.save(file)
    poisoned(file, marker)
    started = begin(replace(TINY, start=str(file)), env)
    assert same(theta(started), theta(theirs))
    assert not same(theta(started), theta(begin(TINY, env)))
    reptile(replace(TINY, start=str(file), iterations=1), tmp_path / "run")
    assert not marker.exists()
    PPO.load(file)
    assert marker.exists()  # the poison works
    file.unlink()  # a run that has begun needs it no more
    reptile(None, tmp_path / "run", resume=True)


def test_files_without_fitting_weights_are_refused(env: DummyVecEnv, tmp_path: Path):
    file = tmp_path / "theirs.zip"
    PPO("MlpPolicy", env, n_steps=10, batch_size=20, policy_kwargs={"net_arch": [3]}).save(file)
    (tmp_path / "text.zip").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "objects.zip", "w") as archive, archive.open("policy.pth", "w") as part:
        torch.save({"policy": SimpleNamespace()}, part)
    for name in ("theirs", "text", "objects", "absent"):
        with pytest.raises(ValueError, match=f"{name}.zip has no weights"):
            begin(replace(TINY, start=str(tmp_path / f"{name}.zip")), env)


def test_learning_on_a_task_is_judged_on_it_and_leaves_the_model_alone(env: DummyVecEnv, tmp_path: Path):
    kwargs = {**KWARGS["PPO"], "batch_size": 40, "n_epochs": 10, "learning_rate": 1e-2}
    model = reptile(replace(TINY, algorithm_kwargs=kwargs), tmp_path)
    before, kept = theta(model), moments(model)
    found = evaluate(model, env, [-0.9, 0.9, 0.0], runs=2, steps=400, episodes=2)
    json.dumps(found, allow_nan=False)
    assert [row["steps"] for row in found["curve"]] == [0, 400, 800]
    first, *_, last = found["curve"]
    assert last["return"]["mean"] > first["return"]["mean"] + 0.3
    assert last["error"]["mean"] < first["error"]["mean"]
    assert first["error"]["low"] <= np.mean(first["per_task"]["error"]) <= first["error"]["high"]
    assert {len(values) for values in last["per_task"].values()} == {3}
    assert same(theta(model), before)
    assert all(torch.equal(value, kept[key]) for key, value in moments(model).items())
    assert evaluate(model, env, [-0.9, 0.9, 0.0], runs=1, steps=400, episodes=2)["curve"] == found["curve"][:2]


def test_a_diverging_run_says_so_and_keeps_what_was_saved(env: DummyVecEnv, tmp_path: Path):
    wild = replace(TINY, algorithm_kwargs={**KWARGS["PPO"], "learning_rate": 1e38})
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        reptile(wild, tmp_path)
    assert same(theta(restore(tmp_path, env)), theta(begin(wild, env)))


def test_a_schedule_that_lets_nothing_be_learned_is_noticed(tmp_path: Path):
    still = replace(TINY, algorithm_kwargs={**KWARGS["PPO"], "learning_rate": 0.0})
    with pytest.raises(ValueError, match="moved no parameter"):
        reptile(still, tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"algorithm": "SAC"}, "off-policy.*PPO, A2C"),
        ({"algorithm": "DQN"}, "off-policy.*PPO, A2C"),
        ({"algorithm": "Magic"}, "'Magic' is no OnPolicyAlgorithm.*PPO, A2C"),
        ({"algorithm": "nowhere:Magic"}, "nowhere.*PPO, A2C"),
        ({"algorithm": "builtins:dict"}, "is no OnPolicyAlgorithm"),
        ({"policy": "Magic"}, "Magic"),
        ({"algorithm_kwargs": {**KWARGS["PPO"], "magic": 1}}, "magic"),
        ({"algorithm_kwargs": {}}, r"multiple of n_steps \* environments = 2048 \* 2"),
        ({"inner_steps": 50}, "steps on a task are 50"),
        ({"algorithm_kwargs": {"policy_kwargs": {"activation_fn": "subprocess:Popen"}}}, "is no Module"),
        ({"env": "tests/Untasked-v0"}, "no tasks"),
        ({"env": "tests/Nothing-v0"}, "Nothing"),
        ({"options": {"magic": 1}}, "magic"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(changes: dict[str, Any], words: str, tmp_path: Path):
    with pytest.raises(ValueError, match=words):
        reptile(replace(TINY, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"epsilon_end": -0.1}, "epsilon"),
        ({"tasks": 0}, "tasks is 0"),
        ({"seed": -1}, "seed"),
        ({"optimizer": "forget"}, "keep"),
        ({"algorithm_kwargs": {"seed": 1}}, "seed"),
        ({"options": {"when": np.float32(1)}}, "options.*JSON"),
        ({"algorithm_kwargs": {"learning_rate": lambda left: left}}, "JSON"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        replace(TINY, **changes)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        reptile(TINY, tmp_path)
    with pytest.raises(ValueError, match=r"settings\.json"):
        reptile(None, tmp_path, resume=True)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_state_is_refused(env: DummyVecEnv, tmp_path: Path):
    reptile(replace(TINY, iterations=1), tmp_path)
    curve, file = tmp_path / "curve.json", tmp_path / "state.safetensors"
    text = curve.read_text()
    curve.write_text("[1]")
    with pytest.raises(ValueError, match=r"curve\.json cannot be read"):
        reptile(None, tmp_path, resume=True)
    curve.write_text(text)
    file.write_bytes(file.read_bytes()[:100])
    for again in (lambda: restore(tmp_path, env), lambda: reptile(None, tmp_path, resume=True)):
        with pytest.raises(ValueError, match="cannot be read"):
            again()


def test_environments_that_do_not_fit_are_refused(env: DummyVecEnv):
    model = begin(TINY, env)
    with closing(world(LINE, {}, 3)) as three, pytest.raises(ValueError, match="learns from 2 environments, found 3"):
        adapt(model, three, 0.0, 40)
    with pytest.raises(ValueError, match="VecNormalize"):
        adapt(model, VecNormalize(env), 0.0, 40)  # type: ignore[arg-type]


def test_without_a_task_the_environment_draws_its_own():
    env = OneTask(Line())
    env.reset(seed=0)
    assert -1 <= Line.log[-1][1] <= 1
    env.begin(0.25)
    env.reset(seed=0)
    assert Line.log[-1] == ("reset", 0.25)


def test_a_robot_in_simulation(tmp_path: Path):
    kwargs = {**DEFAULTS["PPO"], "n_steps": 8, "batch_size": 16, "n_epochs": 1}
    run = Settings(
        "metarl/PandaSeek-v0", {"horizon": 8, "unknown": ["payload"]}, algorithm_kwargs=kwargs, environments=2,
        iterations=1, tasks=2, inner_steps=16,
    )  # fmt: skip
    model = reptile(run, tmp_path)
    assert Settings.load(tmp_path) == run
    with closing(world(run.env, run.options, 2)) as env:
        tasks = draw_tasks(task_space(env), "heldout", (0, 9), 2)
        found = evaluate(model, env, tasks, runs=1, steps=16, episodes=1)
        assert env.envs[0].unwrapped.task == tasks[1]  # type: ignore[attr-defined]
    assert set(found["curve"][1]) == {"steps", "return", "success", "error", "per_task"}


def test_the_command_line(tmp_path: Path):
    little = {"iterations": 1, "tasks": 1, "inner-steps": 80, "environments": 2, "worlds": 2, "runs": 1, "episodes": 1}
    given = little | {"options": '{"horizon": 5}', "algorithm-kwargs": '{"n_steps": 40}', "json": tmp_path / "r.json"}
    command = [sys.executable, ROOT / "scripts" / "reptile.py", tmp_path / "run"]
    command += [part for name, value in given.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "read by PPO.load" in done.stdout
    results = json.loads((tmp_path / "r.json").read_text())
    for name in ("reptile", "random weights"):
        assert [row["steps"] for row in results[name]["curve"]] == [0, 80]
