"""Bundles of every kind of learner: packed, verified, loaded as a device does, and adapting on a simulated robot."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.drivers import SimulatedDriver
from export.device.device import Device
from export.device.run import Event, run
from export.verify import Report
from metarl.checkpoint import Run
from metarl.evaluation import load_learner
from metarl.learners.registry import make_learner
from metarl.pack import pack
from metarl.problem import Problem
from metarl.trainer import train

SEEK, REACH = "metarl/PandaSeek-v0", "metarl/PandaReach-v0"
LEARNERS = {  # how each adapts, and on what
    "metasgd": ("gradient", "demonstration", {"env": REACH}),
    "prediction": ("gradient", "prediction", {"env": SEEK, "learner": "maml", "inner_steps": 2}),
    "cavia": ("gradient", "reward", {"env": SEEK, "learner": "cavia", "context": 3}),
    "reptile": ("gradient", "reward", {"env": SEEK, "learner": "reptile"}),
    "es_maml": ("search", "reward", {"env": SEEK, "learner": "es_maml", "tries": 1}),
    "rl2": ("memory", "reward", {"env": SEEK, "learner": "rl2"}),
    "mann": ("memory", "reward", {"env": SEEK, "learner": "mann", "slots": 3}),
    "snail": ("memory", "reward", {"env": SEEK, "learner": "snail", "hidden": (4,)}),
}


@dataclass(frozen=True)
class Packed:
    """A run, its bundle, and what verification found."""

    run: Run
    bundle: Path
    report: Report


@pytest.fixture(scope="module")
def packed(tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Packed]:
    """The bundle of one of LEARNERS, made once."""
    made: dict[str, Packed] = {}

    def make(name: str) -> Packed:
        if name not in made:
            _, objective, changes = LEARNERS[name]
            folder = tmp_path_factory.mktemp(name)
            config = tiny(objective, iterations=1, **changes)
            if name == "rl2":
                begun = train(config, folder / "run", workers=0)
            else:  # untrained: a graph more would be traced for training, which takes seconds
                begun = Run.create(folder / "run", config)
                begun.save(1, make_learner(config, Problem.of(config.env)).state(), [])
            made[name] = Packed(begun, folder / "out" / "bundle.zip", pack(begun, folder / "out" / "bundle.zip"))
        return made[name]

    return make


@pytest.mark.parametrize("name", LEARNERS)
def test_a_bundle_is_verified_and_says_how_it_adapts(packed: Callable[[str], Packed], name: str):
    found, (way, objective, changes) = packed(name), LEARNERS[name]
    device = Device.load(found.bundle)
    manifest, config = device.manifest, found.run.config
    learner, problem, _ = load_learner(found.run)
    assert 0 <= found.report.act < 1e-4
    assert (found.report.cases > 0) == (way == "gradient")
    assert (manifest.adapts, manifest.learner) == (way, changes.get("learner", "metasgd"))
    assert manifest.horizon == problem.horizon
    assert manifest.provenance["config"] == {**config.to_dict(), "hidden": list(config.hidden)}
    assert manifest.steps == (
        config.episodes - 1 if way == "memory" else len(learner.step_sizes) if way == "gradient" else config.inner_steps
    )
    if way == "gradient":
        assert manifest.objective == objective
        assert len(device.base) == learner.network.adapted
        assert (manifest.collect.kind, manifest.collect.episodes) == (learner.objective.gather, config.episodes)
    else:
        assert len(device.base) == learner.network.size
    if way == "memory":
        assert manifest.memory.size == learner.network.memory
    if way == "search":
        assert manifest.search == learner.search


@pytest.mark.parametrize("name", LEARNERS)
def test_the_device_acts_as_the_learner_does(packed: Callable[[str], Packed], name: str):
    found = packed(name)
    device, (learner, problem, _) = Device.load(found.bundle), load_learner(found.run)
    rng, network, theta = np.random.default_rng(0), learner.network, learner.theta.detach()
    observation = rng.standard_normal((6, problem.observation)).astype(np.float32)
    if LEARNERS[name][0] == "memory":
        feedback = rng.standard_normal((6, problem.action + 2)).astype(np.float32)
        feedback[0] = 0
        wanted = network.sequence(theta, torch.from_numpy(observation)[None], torch.from_numpy(feedback)[None]).mean[0]
        acted = [device.act(*pair) for pair in zip(observation, feedback, strict=True)]
    else:
        wanted = network(theta, torch.from_numpy(observation))[0]
        acted = [device.act(one) for one in observation]
    np.testing.assert_allclose(acted, wanted.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_device_adapts_on_a_robot(packed: Callable[[str], Packed], name: str):
    way, _, changes = LEARNERS[name]
    device, events = Device.load(packed(name).bundle), []

    def tell(event: Event) -> None:
        events.append(event)

    with closing(SimulatedDriver(env=changes["env"], seed=3)) as driver:
        returns = run(device, driver, steps=1, attempts=1, report=tell)
    assert len(returns) == 2
    assert np.isfinite(returns).all()
    kinds = [event.kind for event in events]
    if way == "memory":
        assert device.memory.any()
        assert np.array_equal(device.theta, device.base)
    else:
        (adapted,) = (event for event in events if event.kind == {"gradient": "adapted", "search": "searched"}[way])
        assert adapted.figures["accepted"] == (adapted.figures["change"] > 0)
        assert adapted.figures["accepted"] == 1 or way == "search"  # where nothing may be better
        assert kinds.count("evaluated") == 1 + adapted.figures["accepted"]
        # Hardly trained, a step may do harm: then it was rolled back.
        assert ("promoted" in kinds) == (not np.array_equal(device.theta, device.base))


def test_only_a_contexts_own_parameters_travel_as_theta(packed: Callable[[str], Packed]):
    """The rest of cavia's theta is baked into the graphs; a step on the device is the learner's own."""
    found = packed("cavia")
    device, (learner, problem, _) = Device.load(found.bundle), load_learner(found.run)
    assert device.base.shape == (3,)
    rng = np.random.default_rng(1)
    shapes = {"observation": (problem.observation,), "action": (problem.action,), "reward": (), "mask": ()}
    batch = {name: rng.standard_normal((4, 6, *shape)).astype(np.float32) for name, shape in shapes.items()}
    batch["mask"] = np.ones((4, 6), np.float32)
    taken = device.adapt(batch, 0)
    fields = [torch.from_numpy(batch[name]) for name in learner.objective.fields]
    wanted = learner.adapt(learner.theta.detach(), torch.tensor(0), *fields)
    assert taken.finite
    np.testing.assert_allclose(device.theta, wanted.theta[:3].numpy(), atol=1e-5)
    assert np.abs(device.theta - device.base).max() > 1e-4
    observation = rng.standard_normal(problem.observation).astype(np.float32)
    mean, _ = learner.network(wanted.theta, torch.from_numpy(observation))
    np.testing.assert_allclose(device.act(observation), mean.detach().numpy(), atol=1e-4)


def test_a_bundle_carries_evaluations_of_its_own_run_alone(packed: Callable[[str], Packed], tmp_path: Path):
    found = packed("rl2").run
    results: dict[str, Any] = {
        "env": SEEK, "training_seeds": [0], "iterations": 1, "split": "heldout", "curve": [1.0]
    }  # fmt: skip
    pack(found, tmp_path / "one.zip", [results])
    assert Device.load(tmp_path / "one.zip").manifest.evaluation == {"heldout": results}
    for change in ({"training_seeds": [0, 1]}, {"iterations": 2}, {"env": REACH}):
        with pytest.raises(ValueError, match="evaluate this run"):
            pack(found, tmp_path / "two.zip", [{**results, **change}])
    assert not (tmp_path / "two.zip").exists()


def test_equal_runs_give_equal_bytes(packed: Callable[[str], Packed], tmp_path: Path):
    found = packed("rl2")
    pack(found.run, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == found.bundle.read_bytes()


def test_what_has_no_robot_is_not_packed(tiny, tmp_path: Path):
    run_ = train(tiny("reward", "rl2", env="metarl/Bandit-v0", iterations=1), tmp_path / "run", workers=0)
    with pytest.raises(ValueError, match="metarl/Bandit-v0 has no robot to be deployed on"):
        pack(run_, tmp_path / "bundle.zip")
    assert not (tmp_path / "bundle.zip").exists()


def test_a_run_that_has_not_begun_is_not_packed(tiny, tmp_path: Path):
    with pytest.raises(ValueError, match="no checkpoint yet"):
        pack(Run.create(tmp_path / "run", tiny("reward", "rl2")), tmp_path / "bundle.zip")
