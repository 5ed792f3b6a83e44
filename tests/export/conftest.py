"""A toy robot's policies and their ways to adapt, their graphs and bundles; small, and exported once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_driver import BOUNDS, LIMITS, TABLE

from export.bundle import Adaptation, Contents, Memory, write
from export.device.adapter import OUTPUTS
from export.device.manifest import Collect
from export.device.search import Search
from export.graphs import export_graph

OBSERVATION, HIDDEN, ACTION = 4, 8, 2
PARTS = (HIDDEN * OBSERVATION, HIDDEN, ACTION * HIDDEN, ACTION, ACTION)
UNITS, HEARD = 3, OBSERVATION + ACTION + 2  # of the policy with memory
MEMORY_PARTS = (UNITS * (HEARD + UNITS), UNITS * (HEARD + UNITS), ACTION * UNITS, ACTION, ACTION)
FIELDS = {
    "demonstration": ("observation", "action", "mask"),
    "reward": ("observation", "action", "reward", "mask"),
}


def act(theta: Tensor, observation: Tensor) -> tuple[Tensor, Tensor]:
    w1, b1, w2, b2, log_std = theta.split(PARTS)
    hidden = torch.tanh(observation @ w1.view(HIDDEN, OBSERVATION).T + b1)
    return hidden @ w2.view(ACTION, HIDDEN).T + b2, log_std


def remember(theta: Tensor, memory: Tensor, observation: Tensor, feedback: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A gated cell whose units are also the hidden layer."""
    gate, candidate, weight, bias, log_std = theta.split(MEMORY_PARTS)
    heard = torch.cat([observation, feedback, memory])
    keep = torch.sigmoid(gate.view(UNITS, -1) @ heard)
    following = keep * memory + (1 - keep) * torch.tanh(candidate.view(UNITS, -1) @ heard)
    return weight.view(ACTION, UNITS) @ following + bias, log_std, following


def demonstration(theta: Tensor, observation: Tensor, action: Tensor, mask: Tensor) -> Tensor:
    mean, _ = act(theta, observation)
    return ((mean - action).square().sum(-1) * mask).sum() / mask.sum()


def reward(theta: Tensor, observation: Tensor, action: Tensor, reward: Tensor, mask: Tensor) -> Tensor:
    time = torch.arange(reward.shape[1])
    ahead = time[:, None] - time[None, :]
    discount = torch.where(ahead >= 0, 0.9 ** ahead.clamp(min=0).float(), 0.0)
    togo = (reward * mask) @ discount * mask
    others = mask.sum(0) - 1
    advantage = (togo - (togo.sum(0) - togo) / others.clamp(min=1)) * mask * (others > 0)
    advantage = advantage / (advantage.square().sum().div(mask.sum()).sqrt() + 1e-6)
    mean, log_std = act(theta, observation)
    logp = -(0.5 * ((action - mean) * torch.exp(-log_std)).square() + log_std).sum(-1)
    return -(torch.exp(logp - logp.detach()) * advantage).sum() / mask.sum()


def adaptation(loss: Callable[..., Tensor], step_sizes: Tensor) -> Callable[..., tuple[Tensor, ...]]:
    def adapt(theta: Tensor, step: Tensor, *batch: Tensor) -> tuple[Tensor, ...]:
        gradient, value = torch.func.grad_and_value(loss)(theta, *batch)
        size = step_sizes.index_select(0, step.clamp(max=len(step_sizes) - 1).reshape(1))[0]
        moved = theta - size * gradient
        return moved, value, gradient.square().sum().sqrt(), torch.isfinite(moved).all() & torch.isfinite(value)

    return adapt


def make_batch(names: tuple[str, ...], episodes: int, steps: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    fields = {
        "observation": rng.normal(size=(episodes, steps, OBSERVATION)),
        "action": rng.uniform(-1, 1, size=(episodes, steps, ACTION)),
        "reward": rng.normal(size=(episodes, steps)),
        "mask": np.arange(steps) < rng.integers(1, steps + 1, size=(episodes, 1)),
    }
    return {name: fields[name].astype(np.float32) for name in names}


@dataclass(frozen=True)
class Toy:
    """One objective's torch function and graph, and everything that goes with them."""

    name: str
    theta: np.ndarray
    step_sizes: np.ndarray
    act: Callable[..., tuple[Tensor, Tensor]]
    adapt: Callable[..., tuple[Tensor, ...]]
    act_graph: bytes
    adapt_graph: bytes

    def batch(self, episodes: int, steps: int, seed: int = 0) -> dict[str, np.ndarray]:
        return make_batch(FIELDS[self.name], episodes, steps, seed)

    def contents(self) -> Contents:
        kind, episodes = ("guided", 3) if self.name == "demonstration" else ("attempts", 6)
        adaptation = Adaptation(
            self.adapt_graph, self.name, self.step_sizes, Collect(kind, episodes, 10, 0.5, 2.5), self.batch(3, 10)
        )
        observations = np.random.default_rng(1).normal(size=(4, OBSERVATION)).astype(np.float32)
        return Contents(
            interface=TABLE,
            horizon=12,
            learner="maml",
            act=self.act_graph,
            theta=self.theta,
            observations=observations,
            limits=LIMITS,
            bounds=BOUNDS,
            adaptation=adaptation,
            provenance={"iterations": 7},
            evaluation={"final": [0.3, 0.1]},
        )


@pytest.fixture(scope="session")
def act_graph() -> bytes:
    return export_graph(
        act, {"theta": torch.zeros(sum(PARTS)), "observation": torch.zeros(OBSERVATION)}, ("mean", "log_std")
    )


@pytest.fixture(scope="session")
def toys(act_graph: bytes) -> dict[str, Toy]:
    rng = np.random.default_rng(0)
    theta = rng.normal(0, 0.5, sum(PARTS)).astype(np.float32)
    step_sizes = rng.uniform(0.05, 0.2, (3, sum(PARTS))).astype(np.float32)
    made = {}
    for name, loss in (("demonstration", demonstration), ("reward", reward)):
        adapt = adaptation(loss, torch.from_numpy(step_sizes))
        batch = {key: torch.from_numpy(value) for key, value in make_batch(FIELDS[name], 2, 3).items()}
        example = {"theta": torch.from_numpy(theta), "step": torch.tensor(0), **batch}
        axes = {key: {0: "episode", 1: "time"} for key in batch}
        made[name] = Toy(name, theta, step_sizes, act, adapt, act_graph, export_graph(adapt, example, OUTPUTS, axes))
    return made


@pytest.fixture(params=["demonstration", "reward"])
def toy(request: pytest.FixtureRequest, toys: dict[str, Toy]) -> Toy:
    return toys[request.param]


@pytest.fixture(scope="session")
def bundles(toys: dict[str, Toy], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    paths = {name: folder / f"{name}.zip" for name in toys}
    for name, path in paths.items():
        write(path, toys[name].contents())
    return paths


@pytest.fixture(scope="session")
def wild_bundles(toys: dict[str, Toy], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles whose one step size is a thousand times too large, within bounds that fit the right one."""
    folder, paths = tmp_path_factory.mktemp("wild"), {}
    for name, loss in (("demonstration", demonstration), ("reward", reward)):
        toy, sizes = toys[name], 1000 * toys[name].step_sizes[:1]
        batch = {key: torch.from_numpy(value) for key, value in toy.batch(2, 3).items()}
        example = {"theta": torch.from_numpy(toy.theta), "step": torch.tensor(0), **batch}
        axes = {key: {0: "episode", 1: "time"} for key in batch}
        graph = export_graph(adaptation(loss, torch.from_numpy(sizes)), example, OUTPUTS, axes)
        contents = toy.contents()
        paths[name] = folder / f"{name}.zip"
        write(paths[name], replace(contents, adaptation=replace(contents.adaptation, graph=graph, step_sizes=sizes)))
    return paths


@pytest.fixture(scope="session")
def bundle(bundles: dict[str, Path]) -> Path:
    return bundles["demonstration"]


@pytest.fixture(scope="session")
def memory_graph() -> bytes:
    sizes = {"theta": sum(MEMORY_PARTS), "memory": UNITS, "observation": OBSERVATION, "feedback": ACTION + 2}
    example = {name: torch.zeros(size) for name, size in sizes.items()}
    return export_graph(remember, example, ("mean", "log_std", "memory_next"))


@dataclass(frozen=True)
class Remembering:
    """The torch function and graph of a policy with memory."""

    theta: np.ndarray
    act: Callable[..., tuple[Tensor, Tensor, Tensor]]
    graph: bytes


@pytest.fixture(scope="session")
def remembering(memory_graph: bytes) -> Remembering:
    theta = np.random.default_rng(2).normal(0, 0.7, sum(MEMORY_PARTS)).astype(np.float32)
    return Remembering(theta, remember, memory_graph)


@pytest.fixture(scope="session")
def memory_contents(remembering: Remembering) -> Contents:
    """A policy that was trained on trials of 3 attempts."""
    rng = np.random.default_rng(3)
    feedback = rng.normal(size=(8, ACTION + 2)).astype(np.float32)
    feedback[:, -1] = np.arange(8) == 5
    feedback[0] = 0
    return Contents(
        interface=TABLE,
        horizon=12,
        learner="rl2",
        act=remembering.graph,
        theta=remembering.theta,
        observations=rng.normal(size=(8, OBSERVATION)).astype(np.float32),
        limits=LIMITS,
        memory=Memory(UNITS, 3, feedback),
    )


@pytest.fixture(scope="session")
def memory_bundle(memory_contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "memory.zip"
    write(path, memory_contents)
    return path


SEARCHES = {
    "climb": Search("climb", sigma=0.1, rate=0.0, tries=8, episodes=1, rounds=5),
    "estimate": Search("estimate", sigma=0.05, rate=0.01, tries=6, episodes=2, rounds=4),
}


@pytest.fixture(scope="session")
def search_bundles(toys: dict[str, Toy], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A policy that climbs, and one that estimates."""
    folder = tmp_path_factory.mktemp("search")
    paths = {kind: folder / f"{kind}.zip" for kind in SEARCHES}
    for kind, path in paths.items():
        contents = toys["reward"].contents()
        write(path, replace(contents, learner="es_maml", adaptation=None, search=SEARCHES[kind]))
    return paths
