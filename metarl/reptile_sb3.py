"""Reptile with any on-policy algorithm of stable-baselines3 as its inner learner; policies are saved as theirs.

theta <- theta + epsilon * mean over tasks of (theta_i - theta), where theta_i is the whole policy (value network and
log_std, too) after the algorithm's own `learn` on task i from theta: the whole displacement (Nichol, Achiam and
Schulman 2018, arXiv 1803.02999). Nothing else goes from task to task: every inner run starts at theta, with a reset on
its own task, with its own seed, with its schedules at their beginning and with an empty rollout buffer. The one
exception is the paper's own: the optimizer's second moments are kept (`Settings.optimizer`), while Adam's beta1 is 0.
Observations are not normalised by running statistics (VecNormalize), which would leak too.
The whole displacement has a price: every task narrows the exploration (log_std) that the next one would learn by, and
so does their mean. Watch it in long runs; `ent_coef` in algorithm_kwargs is the algorithm's own means against it.

stable-baselines3 draws from the global generators of random numbers, so that every inner run seeds those.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import DummyVecEnv, unwrap_vec_normalize
from torch import Tensor

import envs  # noqa: F401 (registers the environments)
from metarl.checkpoint import load_optimizer, optimizer_state
from metarl.files import write_atomic, write_json
from metarl.sampling.worker import Stream, draw_tasks
from metarl.sampling.worker import seed as sequence
from metarl.statistics import interval

Array = NDArray[np.float64]
Theta = dict[str, Tensor]  # a whole policy by its tensors' names
Show = Callable[[int, str], None]
HELDOUT = 2**32 - 1  # in place of an iteration, in the keys of random draws
JUDGED = 2**32 - 1  # in place of an inner run: attempts that are judged
OWN = ("policy", "env", "seed", "tensorboard_log", "_init_setup_model")  # arguments that are Reptile's own to give
CLASSES: dict[str, type] = {  # what policy_kwargs may name as MODULE:CLASS
    "activation_fn": torch.nn.Module,
    "features_extractor_class": torch.nn.Module,
    "optimizer_class": torch.optim.Optimizer,
}
_SMALL: dict[str, Any] = {
    "gamma": 0.98,
    "gae_lambda": 0.95,
    "learning_rate": 3e-3,
    "policy_kwargs": {"net_arch": [64, 64], "log_std_init": -1.0},
}
DEFAULTS: dict[str, dict[str, Any]] = {  # algorithm_kwargs for four environments and inner runs of some hundred steps
    "PPO": {**_SMALL, "n_steps": 40, "batch_size": 80, "n_epochs": 10},
    "A2C": {**_SMALL, "n_steps": 20},
}


@dataclass(frozen=True)
class Settings:
    """What Reptile is run with; plain values. Raises ValueError for what cannot be.

    env, options: a gymnasium id (or MODULE:ID) and what it is made with; its unwrapped environment has
    `task_space.sample(rng, split)` and takes tasks by `reset(options={"task": ...})`. algorithm: a name in
    stable-baselines3, or MODULE:CLASS. policy, algorithm_kwargs: as the algorithm takes them, JSON only; policy_kwargs
    may name CLASSES as MODULE:CLASS. optimizer: keep its moments from task to task, or reset them. environments: how
    many stand side by side in one process, on the same task. iterations: outer steps. tasks: of an iteration.
    inner_steps: of control on each task, over all environments; a multiple of what the algorithm gathers at a time
    (n_steps * environments). epsilon, epsilon_end: the outer step size, going linearly from one towards the other.
    start: a .zip that stable-baselines3 saved, to begin with its weights; nothing else of the file is read.

    Unless policy_kwargs has optimizer_class or optimizer_kwargs, Adam's beta1 is 0. (A2C brings its own RMSprop, which
    has no first moment.)
    """

    env: str
    options: Mapping[str, Any] = field(default_factory=dict)
    algorithm: str = "PPO"
    policy: str = "MlpPolicy"
    algorithm_kwargs: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Literal["keep", "reset"] = "keep"
    environments: int = 4
    iterations: int = 60
    tasks: int = 5
    inner_steps: int = 800
    epsilon: float = 1.0
    epsilon_end: float = 0.0
    seed: int = 0
    start: str | None = None

    def __post_init__(self) -> None:
        for name in ("environments", "iterations", "tasks", "inner_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not (0 < self.epsilon <= 1 and 0 <= self.epsilon_end <= 1):
            raise ValueError(
                f"epsilon goes from {self.epsilon} to {self.epsilon_end}, expected to begin in (0, 1] and end in [0, 1]"
            )
        if self.optimizer not in ("keep", "reset"):
            raise ValueError(f"optimizer is {self.optimizer!r}, expected 'keep' or 'reset' (its moments between tasks)")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")
        if given := sorted(set(OWN) & set(self.algorithm_kwargs)):
            raise ValueError(f"algorithm_kwargs has {given}, which Reptile gives itself; leave them out")
        for name in ("options", "algorithm_kwargs"):
            try:
                json.dumps(getattr(self, name))
            except TypeError as error:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected JSON ({error})") from error

    @classmethod
    def load(cls, folder: Path) -> Settings:
        """A run folder's. Raises ValueError if it has none."""
        try:
            return cls(**json.loads((folder / "settings.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{folder}/settings.json is not what Reptile writes ({error})") from error


class OneTask(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Every episode is of the task last given to `begin`; before that, the environment draws one itself."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.task: Any = None

    def begin(self, task: Any) -> None:
        """task: of the environment's task space, or None. Takes effect at the next reset."""
        self.task = task

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self.task is not None:
            options = {**(options or {}), "task": self.task}
        return self.env.reset(seed=seed, options=options)


def world(env_id: str, options: Mapping[str, Any], count: int) -> DummyVecEnv:
    """`count` environments, each with its Monitor and OneTask. Raises ValueError for one without a task space."""
    return DummyVecEnv([partial(_one, env_id, options)] * count)


def task_space(env: DummyVecEnv) -> Any:
    return env.envs[0].unwrapped.task_space  # type: ignore[attr-defined]


def _one(env_id: str, options: Mapping[str, Any]) -> Monitor[Any, Any]:
    # JSON has no tuples, which a job's fields are.
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
    try:
        env = gymnasium.make(env_id, disable_env_checker=True, **given)
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise ValueError(f"environment {env_id!r} cannot be made with the options {given}: {error}") from error
    if not callable(getattr(getattr(env.unwrapped, "task_space", None), "sample", None)):
        env.close()
        raise ValueError(
            f"environment {env_id!r} has no tasks, expected unwrapped.task_space.sample(rng, split) and "
            "reset(options={'task': ...}), such as metarl/PandaSeek-v0"
        )
    return Monitor(OneTask(env))


def _class(name: str, base: type) -> type:
    """The class of a name in stable-baselines3, or of MODULE:CLASS. Raises ValueError unless it is a `base`."""
    module, _, attribute = name.rpartition(":")
    hint = ""
    try:
        found = getattr(import_module(module or "stable_baselines3"), attribute)
    except (ImportError, AttributeError) as error:
        found, hint = None, f" ({error})"
    if isinstance(found, type) and issubclass(found, base):
        return found
    if isinstance(found, type) and issubclass(found, BaseAlgorithm):
        hint = " (it is off-policy: its replay buffer would take one task's experience to the next)"
    works = "PPO, A2C, or MODULE:CLASS such as sb3_contrib:TRPO" if base is OnPolicyAlgorithm else "MODULE:CLASS"
    raise ValueError(f"{name!r} is no {base.__name__}{hint}, expected {works}")


def begin(settings: Settings, env: DummyVecEnv) -> OnPolicyAlgorithm:
    """A new model with the settings' seed, weights from `start` if any. Raises ValueError for what cannot be."""
    algorithm = _class(settings.algorithm, OnPolicyAlgorithm)
    kwargs: dict[str, Any] = {"device": "cpu", **deepcopy(dict(settings.algorithm_kwargs))}
    policy = {
        name: _class(value, CLASSES[name]) if name in CLASSES and isinstance(value, str) else value
        for name, value in kwargs.pop("policy_kwargs", {}).items()
    }
    if not {"optimizer_class", "optimizer_kwargs"} & set(policy):
        policy["optimizer_kwargs"] = {"betas": (0.0, 0.999), "eps": 1e-5}
    try:
        model: OnPolicyAlgorithm = algorithm(settings.policy, env, policy_kwargs=policy, seed=settings.seed, **kwargs)
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"{settings.algorithm} cannot be made with policy {settings.policy!r} and algorithm_kwargs "
            f"{dict(settings.algorithm_kwargs)}: {error}"
        ) from error
    _whole_rollouts(model, settings.inner_steps)
    if settings.start:
        # Without its "data", which is pickled: weights alone (since 2.8, stable-baselines3 reads those unpickled).
        try:
            _, saved, _ = load_from_zip_file(settings.start, device=model.device, load_data=False)
            weights: Any = saved["policy"]
            model.policy.load_state_dict(weights)
        except Exception as error:  # a foreign file may fail in any way
            raise ValueError(
                f"{settings.start} has no weights for {settings.policy!r} with algorithm_kwargs "
                f"{dict(settings.algorithm_kwargs)}, expected a .zip saved by stable-baselines3 with the same "
                f"net_arch ({type(error).__name__}: {error})"
            ) from error
    return model


def _whole_rollouts(model: OnPolicyAlgorithm, steps: int) -> None:
    """Raises ValueError where stable-baselines3 would quietly take more steps than asked."""
    if steps < 1 or steps % (rollout := model.n_steps * model.n_envs):
        raise ValueError(
            f"steps on a task are {steps}, expected a multiple of n_steps * environments = {model.n_steps} * "
            f"{model.n_envs} = {rollout}; change n_steps in algorithm_kwargs, or the steps"
        )


def _tensors(model: OnPolicyAlgorithm) -> Theta:
    """The policy's own tensors: parameters, and what it has of running statistics."""
    policy = model.policy
    buffers = {name: buffer for name, buffer in policy.named_buffers() if buffer.is_floating_point()}
    return {name: parameter.detach() for name, parameter in policy.named_parameters()} | buffers


def theta(model: OnPolicyAlgorithm) -> Theta:
    """A copy of the whole policy."""
    return {name: tensor.clone() for name, tensor in _tensors(model).items()}


def place(model: OnPolicyAlgorithm, values: Theta) -> None:
    """Put `theta`'s copy back."""
    for name, tensor in _tensors(model).items():
        tensor.copy_(values[name])


class _Episodes(BaseCallback):
    """Return and success (NaN where the environment tells none) of every episode that ends, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[float, float]] = []

    def _on_step(self) -> bool:
        infos = self.locals["infos"]
        self.ended += [(i["episode"]["r"], float(i.get("is_success", np.nan))) for i in infos if "episode" in i]
        return True

    def halves(self) -> Array:
        """[return and success, first and second half of the episodes]; NaN for what there is none of."""
        ended = np.array([*self.ended, *[(np.nan, np.nan)] * max(0, 2 - len(self.ended))])
        middle = len(ended) // 2
        return np.array([ended[:middle].mean(0), ended[middle:].mean(0)]).T


def adapt(
    model: OnPolicyAlgorithm,
    env: DummyVecEnv,
    task: Any,
    steps: int,
    seed: int | None = None,
    callback: BaseCallback | None = None,
) -> OnPolicyAlgorithm:
    """Fine-tune a model in place on one task of a `world`, by its own `learn`, and return it.

    steps: of control, over all environments. The optimizer goes on from where the model has it. seed: of everything
    random in it. Raises ValueError for an environment or a number of steps that does not fit, FloatingPointError if the
    policy diverges.
    """
    if unwrap_vec_normalize(env) is not None:
        raise ValueError("env is a VecNormalize, which takes one task's statistics to the next; scale by constants")
    if env.num_envs != model.n_envs:
        raise ValueError(
            f"the model learns from {model.n_envs} environments, found {env.num_envs}; give world(..., {model.n_envs})"
        )
    _whole_rollouts(model, steps)
    model.set_env(env)
    env.env_method("begin", task)
    model.set_random_seed(seed)
    if not model.verbose and model.tensorboard_log is None:  # or every call would leave an empty folder in /tmp
        model.set_logger(Logger(None, []))
    try:
        model.learn(steps, callback=callback, reset_num_timesteps=True)  # resets the environments, too
        sound = all(bool(tensor.isfinite().all()) for tensor in _tensors(model).values())
    except ValueError as error:
        if "of distribution" not in str(error):  # how torch objects to NaN, and to a deviation of 0
            raise
        sound = False
    if not sound:
        raise FloatingPointError(f"learning on {task} gave a policy without finite actions; lower learning_rate")
    return model


def run_seed(stream: Stream, key: tuple[int, ...]) -> int:
    """The seed at a key (run seed, iteration, task, ...), as numpy's global generator takes it."""
    return int(sequence(stream, key).generate_state(1)[0]) >> 1


def reptile(
    settings: Settings | None, out: Path, show: Show = lambda done, figures: None, resume: bool = False
) -> OnPolicyAlgorithm:
    """Meta-train into the folder `out` and return the model; its environments are closed.

    `out` gets settings.json, curve.json, state.safetensors (to go on with) and policy.zip, saved by the algorithm's own
    `save` (its `load` unpickles: load only files that you trust; `restore` here does not), all anew after every
    iteration. With resume, the folder's own settings count, and an interrupted run ends with the same parameters as an
    uninterrupted one. Raises ValueError for settings or a folder that cannot be used, FloatingPointError if learning
    diverges (what was saved stays).
    """
    torch.set_num_threads(1)
    if resume:
        settings = Settings.load(out)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already; add --resume to go on with it, or choose another folder")
    if settings is None:
        raise ValueError("settings are None, expected Settings unless a run is resumed")
    with closing(world(settings.env, settings.options, settings.environments)) as env:
        done, curve = 0, []
        if resume and (out / "state.safetensors").exists():
            model = begin(replace(settings, start=None), env)
            done = _load(model, out)
            curve = _curve(out, done)
        else:
            model = begin(settings, env)
            write_json(out / "settings.json", asdict(settings))
        _save(model, out, done, curve)  # when resumed, too: an interruption may have left an older policy.zip
        show(done, "")
        for iteration in range(done, settings.iterations):
            figures = _iterate(model, env, settings, iteration)
            curve.append({"iteration": iteration + 1, **figures})
            _save(model, out, iteration + 1, curve)
            seen = [figures.get(name, np.nan) for name in ("return_first", "return_second")]
            show(iteration + 1, "return {:.3g} -> {:.3g} within a task".format(*seen))
    return model


def _iterate(model: OnPolicyAlgorithm, env: DummyVecEnv, settings: Settings, iteration: int) -> dict[str, float]:
    """One outer step. Returns its figures: means over tasks, of the first and second half of the inner runs."""
    start = theta(model)
    total = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
    tasks = draw_tasks(task_space(env), "train", (settings.seed, iteration), settings.tasks)
    halves = []
    for index, task in enumerate(tasks):
        place(model, start)
        if settings.optimizer == "reset":
            model.policy.optimizer.state.clear()
        heard = _Episodes()
        adapt(model, env, task, settings.inner_steps, run_seed(Stream.ACTION, (settings.seed, iteration, index)), heard)
        halves.append(heard.halves())
        for name, tensor in _tensors(model).items():
            total[name] += tensor - start[name]
    left = 1 - iteration / settings.iterations
    epsilon = settings.epsilon_end + (settings.epsilon - settings.epsilon_end) * left
    moved = {name: tensor / settings.tasks for name, tensor in total.items()}
    if not any(bool(tensor.any()) for tensor in moved.values()):
        raise ValueError(
            "learning moved no parameter: a schedule that falls to 0 is at its end in a run of one rollout; give a "
            "constant learning_rate, or more inner_steps"
        )
    place(model, {name: start[name] + epsilon * moved[name] for name in start})
    if settings.optimizer == "reset":
        model.policy.optimizer.state.clear()
    named = zip(
        ("return_first", "return_second", "success_first", "success_second"), np.mean(halves, 0).flat, strict=True
    )
    figures = {name: float(value) for name, value in named if np.isfinite(value)}
    norm = float(torch.cat([tensor.flatten() for tensor in moved.values()]).norm())
    return {"epsilon": epsilon, "displacement": norm, **figures}


def _save(model: OnPolicyAlgorithm, out: Path, iteration: int, curve: Sequence[Mapping[str, float]]) -> None:
    """The state after the curve, so that what it says is done is there; policy.zip can be made from it again."""
    write_json(out / "curve.json", list(curve))
    state = {f"policy.{name}": tensor.contiguous() for name, tensor in theta(model).items()}
    moments = optimizer_state(model.policy.optimizer, "optimizer")
    state |= {name: torch.as_tensor(value).contiguous() for name, value in moments.items()}
    write_atomic(out / "state.safetensors", save({**state, "iteration": torch.tensor(iteration)}))
    model._last_obs, model.ep_info_buffer, model.ep_success_buffer = None, None, None  # of the last task: not kept
    buffer = BytesIO()
    model.save(buffer)
    write_atomic(out / "policy.zip", buffer.getvalue())


def _load(model: OnPolicyAlgorithm, folder: Path) -> int:
    """Put a folder's state into a model made with its settings; returns the iterations done."""
    file = folder / "state.safetensors"
    try:
        state = load(file.read_bytes())
        done = int(state.pop("iteration"))
        found = {name.removeprefix("policy."): value for name, value in state.items() if name.startswith("policy.")}
        shapes, expected = ({name: tuple(v.shape) for name, v in each.items()} for each in (found, _tensors(model)))
        if shapes != expected:
            raise ValueError(f"it holds {shapes}, expected {expected}")
        place(model, found)
        load_optimizer(model.policy.optimizer, state, "optimizer")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({error}); train again into a new folder") from error
    return done


def _curve(folder: Path, done: int) -> list[dict[str, float]]:
    """A folder's curve, as far as its state has come."""
    file = folder / "curve.json"
    try:
        return [entry for entry in json.loads(file.read_text()) if entry["iteration"] <= done]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} cannot be read ({error}); train again into a new folder") from error


def restore(folder: Path, env: DummyVecEnv) -> OnPolicyAlgorithm:
    """The model that a run folder holds, moments too, for a `world` of its settings. Nothing is unpickled."""
    model = begin(replace(Settings.load(folder), start=None), env)
    _load(model, folder)
    return model


def evaluate(
    model: OnPolicyAlgorithm,
    env: DummyVecEnv,
    tasks: Sequence[Any],
    runs: int,
    steps: int,
    episodes: int,
    seed: int = 1,
    show: Show = lambda done, figures: None,
) -> dict[str, Any]:
    """A curve over 0 ... `runs` inner runs of `steps` control steps on every task, as plain values.

    Every task starts from the model's policy and moments, and the model comes back as it was. Judged are `episodes`
    attempts by the mean action: return, and where the environment's info has them, is_success and error at the end;
    means with 95 % bootstrap intervals over tasks, and each task's own. All models and numbers of steps meet the same
    attempts.
    """
    for name, value, least in (("tasks", len(tasks), 2), ("runs", runs, 0), ("episodes", episodes, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}, expected {least} or more")
    start, moments = theta(model), deepcopy(model.policy.optimizer.state_dict())
    scores: list[list[dict[str, float]]] = [[] for _ in range(runs + 1)]
    try:
        for index, task in enumerate(tasks):
            for run in range(runs + 1):
                if run:
                    adapt(model, env, task, steps, run_seed(Stream.ACTION, (seed, HELDOUT, index, run)))
                scores[run].append(_judge(model, env, task, (seed, HELDOUT, index, JUDGED), episodes))
            place(model, start)
            model.policy.optimizer.load_state_dict(deepcopy(moments))
            show(index + 1, "")
    finally:
        place(model, start)
        model.policy.optimizer.load_state_dict(moments)
    curve = []
    for run, rows in enumerate(scores):
        each = {name: [row[name] for row in rows] for name in rows[0]}
        means = {name: interval(np.array(values)) for name, values in each.items()}
        curve.append({"steps": run * steps, **means, "per_task": each})
    return {"tasks": len(tasks), "episodes": episodes, "seed": seed, "curve": curve}


def _judge(
    model: OnPolicyAlgorithm, worlds: DummyVecEnv, task: Any, key: tuple[int, ...], episodes: int
) -> dict[str, float]:
    """Means over episodes by the mean action, in the first of the environments."""
    env, rows = worlds.envs[0], []
    worlds.env_method("begin", task)
    for episode in range(episodes):
        observation, info = env.reset(seed=run_seed(Stream.WORLD, (*key, episode)))
        total, state, over = 0.0, None, False
        first = np.ones(1, bool)
        while not over:
            action, state = model.predict(observation, state, first, deterministic=True)
            observation, reward, ended, stopped, info = env.step(action)
            total, over, first = total + float(reward), ended or stopped, np.zeros(1, bool)
        names = {"success": "is_success", "error": "error"}
        rows.append({"return": total} | {name: float(info[key_]) for name, key_ in names.items() if key_ in info})
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
