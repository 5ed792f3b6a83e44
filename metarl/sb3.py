"""One policy by stable-baselines3's PPO on one environment: how learnable a world is. Kept as a flat theta."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors.numpy import save
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from envs.robot_env import RobotEnv, make
from envs.tasks import Split
from export.device.policy import Policy
from metarl.checkpoint import load_theta
from metarl.config import tuples
from metarl.files import write_atomic, write_json
from metarl.graphs import act_graph
from metarl.networks import MLP, Symmetric
from metarl.problem import Problem, open_env
from metarl.statistics import interval, share
from metarl.symmetric_sb3 import SymmetricPolicy
from metarl.wrappers import Past, Privileged
from robots.mirror import Mirror

Theta = NDArray[np.float32]
Show = Callable[[int, str], None]
BETWEEN = 100_000  # steps, between points of the curve


@dataclass(frozen=True)
class Settings:
    """What PPO is run with; all of it is stable-baselines3's own.

    env: id; options: fields of its job. steps: of control, in all. environments: stepped side by side in one process.
    rollout: steps of each between updates. batch, epochs: of an update. rate: Adam's, falling linearly to zero.
    log_std: of the actions, at first. hidden: widths of policy and value network. start: a folder with a policy to
    begin with, which may see the observation alone. sees: the observation, and the task or the past beside it: the last
    `window` observations and actions. symmetric: the robot is its own mirror image, and its policy knows.
    """

    env: str
    steps: int = 2_000_000
    options: Mapping[str, Any] = field(default_factory=dict)
    environments: int = 8
    rollout: int = 1024
    batch: int = 1024
    epochs: int = 5
    rate: float = 1e-3
    gamma: float = 0.98
    gae_lambda: float = 0.95
    log_std: float = -1.0
    hidden: tuple[int, ...] = (128, 128)
    seed: int = 0
    start: str | None = None
    sees: Literal["observation", "task", "past"] = "observation"
    window: int = 12
    symmetric: bool = False


class _Curve(BaseCallback):
    """Every BETWEEN steps, and at the end: the last hundred episodes' mean return, length, success and error there."""

    def __init__(self, keep: Callable[[int, dict[str, float]], None]) -> None:
        super().__init__()
        self._keep, self._next, self._noted = keep, BETWEEN, 0

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next:
            self._next += BETWEEN
            self._note()
        return True

    def _on_training_end(self) -> None:
        if self.num_timesteps > self._noted:
            self._note()

    def _note(self) -> None:
        self._noted = self.num_timesteps
        episodes = list(self.model.ep_info_buffer or [])
        names = {"return": "r", "length": "l", "success": "is_success", "error": "error"}
        figures = {name: float(np.mean([e[key] for e in episodes])) for name, key in names.items() if episodes}
        self._keep(self.num_timesteps, figures)


def learn(settings: Settings, out: Path, show: Show = lambda done, figures: None) -> Theta:
    """Train; parameters, settings and the learning curve land in `out`, anew every BETWEEN steps. Returns theta [P].

    Raises ValueError for a folder that holds a policy already.
    """
    if (out / "theta.safetensors").exists():
        raise ValueError(f"{out} holds a policy already: choose another folder, or --steps 0 to judge that one")
    torch.set_num_threads(1)
    environments = DummyVecEnv([partial(_monitored, settings)] * settings.environments)
    model = ppo(environments, settings)
    if settings.start:
        _begin_with(model, Path(settings.start))
    curve: list[dict[str, float]] = []

    def keep(steps: int, figures: dict[str, float]) -> None:
        curve.append({"steps": steps, **figures})
        write_json(out / "curve.json", curve)
        write_atomic(out / "theta.safetensors", save({"theta": theta(model)}))
        show(steps, " ".join(f"{name} {value:.3g}" for name, value in figures.items()))

    write_json(out / "settings.json", asdict(settings))
    show(0, "")
    model.learn(settings.steps, callback=_Curve(keep))
    environments.close()
    return theta(model)


def _begin_with(model: PPO, folder: Path) -> None:
    """Copy a folder's policy into the model's; what sees more begins by ignoring it. ValueError for another shape."""
    flat, (first, *parts) = torch.from_numpy(load_theta(folder)), _parts(model)
    rest = sum(part.numel() for part in parts)
    known, odd = divmod(flat.numel() - rest, len(first))
    if odd or not 0 < known <= first.shape[1]:
        raise ValueError(f"{folder}: theta has {flat.numel()} values, expected {rest + first.numel()}, or fewer inputs")
    weight, *layers = torch.split(flat, [known * len(first), *(part.numel() for part in parts)])
    with torch.no_grad():
        first.zero_()
        first[:, :known] = weight.reshape(len(first), known)
        for part, values in zip(parts[:-1], layers[:-1], strict=True):  # log_std is a setting
            part.copy_(values.reshape(part.shape))


def environment(settings: Settings) -> gymnasium.Env[Any, Any]:
    """What PPO meets: the environment, and around it what lets the policy see more."""
    env = open_env(settings.env, settings.options)
    if settings.sees == "task":
        return Privileged(env)
    if settings.sees == "past":
        assert isinstance(env, RobotEnv)
        return Past(env, settings.window)
    return env


def _monitored(settings: Settings) -> Monitor:
    return Monitor(environment(settings), info_keywords=("is_success", "error"))


def network(settings: Settings, problem: Problem) -> MLP:
    """What a policy of these settings is. Raises ValueError for one that is to be symmetric where nothing is."""
    told = {"task": problem.space.size, "past": 0, "observation": 0}[settings.sees]
    seen = problem.observation + told
    if settings.sees == "past":
        seen = settings.window * (problem.observation + problem.action)
    plain = MLP(seen, problem.action, settings.hidden, problem.discrete)
    if not settings.symmetric:
        return plain
    if problem.symmetry is None:
        raise ValueError(f"{settings.env} is not known to be its own mirror image, expected symmetric=False")
    observation, action, code = problem.symmetry
    parts = {
        "observation": (observation,),
        "task": (observation, code),
        "past": (observation, action) * settings.window,
    }
    return Symmetric(**vars(plain), sees=Mirror.join(parts[settings.sees]), does=action)


def ppo(env: gymnasium.Env[Any, Any] | DummyVecEnv, settings: Settings) -> PPO:
    sides: dict[str, Any] = {}
    if settings.symmetric:
        twofold = network(settings, Problem.of(settings.env, settings.options))
        assert isinstance(twofold, Symmetric)
        sides = {"sees": twofold.sees, "does": twofold.does}
    return PPO(
        SymmetricPolicy if settings.symmetric else "MlpPolicy",
        env,
        policy_kwargs={
            "net_arch": {"pi": list(settings.hidden), "vf": list(settings.hidden)},
            "log_std_init": settings.log_std,
            **sides,
        },
        n_steps=settings.rollout,
        batch_size=settings.batch,
        n_epochs=settings.epochs,
        learning_rate=lambda left: settings.rate * max(left, 0.0),  # the last rollout goes beyond the end
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        seed=settings.seed,
        device="cpu",
    )


def theta(model: PPO) -> Theta:
    """The policy network's layers, then its log standard deviation: our MLP's theta [P]."""
    flat = torch.cat([part.flatten() for part in _parts(model)]).detach().numpy()
    return np.ascontiguousarray(flat, dtype=np.float32)


def _parts(model: PPO) -> list[torch.Tensor]:
    """The tensors that make up theta, in order."""
    policy: Any = model.policy
    layers = [layer for layer in policy.mlp_extractor.policy_net if isinstance(layer, torch.nn.Linear)]
    return [part for layer in (*layers, policy.action_net) for part in (layer.weight, layer.bias)] + [
        *([policy.log_std] if hasattr(policy, "log_std") else [])  # choices have no spread
    ]


def load_settings(folder: Path) -> Settings:
    """Those that `learn` kept. Raises ValueError for a folder without."""
    try:
        values = json.loads((folder / "settings.json").read_text())
        fixed = {"hidden": tuple(values["hidden"]), "options": tuples(values["options"])}
        return Settings(**{**values, **fixed})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}/settings.json is not what scripts/learn.py writes ({error})") from error


@dataclass(frozen=True)
class Learned:
    """A policy from a folder that `learn` wrote: an environment's maker and how to act in it."""

    settings: Settings
    act: Callable[[NDArray[np.float32]], NDArray[np.float32]]

    @classmethod
    def load(cls, folder: Path) -> Learned:
        """Raises ValueError for a folder without a policy, or one of another shape."""
        flat, settings = load_theta(folder), load_settings(folder)
        acting = network(settings, Problem.of(settings.env, settings.options))
        if flat.shape != (acting.size,):
            raise ValueError(f"{folder}: theta has {flat.size} values, expected {acting.size} for {settings.env}")
        policy = Policy(act_graph(acting))
        return cls(settings, lambda observation: policy(flat, observation)[0])


def judge(
    learned: Learned, split: Split, episodes: int, seed: int, options: Mapping[str, Any], engine: str, show: Show
) -> dict[str, Any]:
    """How the policy's mean does on tasks of a split: shares, means and 95 % bootstrap intervals over episodes.

    survived: without the MDP's end. success: within tolerance at the end, and error: mean over the episode, and at its
    end (which for a walking robot is one instant of a body that sways). travelled: how far a legged robot's base was
    from its start at the end [m], and the share of robots at least 5 m away.
    """
    given = {**learned.settings.options, **options}
    env = make(learned.settings.env, None, engine, **given)
    rng = np.random.default_rng([seed, 7])
    rows: dict[str, list[float | bool]] = {}
    for index in range(episodes):
        observation, info = env.reset(
            seed=int(rng.integers(2**31)), options={"task": env.task_space.sample(rng, split)}
        )
        start, ended, stopped = env.state.base, False, False
        errors: list[float] = []
        while not (ended or stopped):
            observation, _, ended, stopped, info = env.step(learned.act(observation))
            errors.append(info["error"])
        figures: dict[str, float | bool] = {
            "survived": not ended,
            "success": info["is_success"] and not ended,
            "error": float(np.mean(errors)),
            "final_error": errors[-1],
        }
        if start is not None and env.state.base is not None:
            way = float(np.hypot(*np.subtract(env.state.base.position[:2], start.position[:2])))
            figures |= {"travelled": way, "came_5_m": way >= 5}
        for name, value in figures.items():
            rows.setdefault(name, []).append(value)
        show(index + 1, f"error {np.mean(rows['error']):.3g}")
    env.close()
    facts = {"env": learned.settings.env, "options": given, "engine": engine, "split": split, "episodes": episodes}
    return facts | {
        name: (share if isinstance(values[0], bool) else interval)(np.array(values)) for name, values in rows.items()
    }


def plot(folder: Path) -> None:
    """Write curve.png beside curve.json: return and error over steps."""
    points = json.loads((folder / "curve.json").read_text())
    settings = json.loads((folder / "settings.json").read_text())
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("return", "error"), strict=True):
        axes.plot([point["steps"] for point in points], [point.get(name, np.nan) for point in points])
        axes.set(xlabel="control steps", ylabel=f"{name} of exploring episodes" + (" at their end" * (name == "error")))
        axes.grid(alpha=0.3)
    figure.suptitle(f"{settings['env']}, PPO, seed {settings['seed']}")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    write_atomic(folder / "curve.png", buffer.getvalue())
