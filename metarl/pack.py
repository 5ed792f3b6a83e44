"""A trained run as a bundle for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from export.bundle import Adaptation, Contents, Memory, write
from export.device import golden
from export.device.adapter import Adapter
from export.device.manifest import Collect
from export.device.policy import Policy
from export.device.search import candidates, choose
from export.device.slots import Bounds, thinned
from export.verify import Report, verify
from metarl.checkpoint import Run
from metarl.episodes import Episodes, Float
from metarl.evaluation import EVALUATION, load_learner
from metarl.graphs import act_function, act_graph, adapt_function, adapt_graph
from metarl.learners.learner import ACTOR, ByGradient, ByMemory, BySearch, Learner, Online
from metarl.learners.memory import unrolled
from metarl.problem import Problem
from metarl.sampling.opening import open_sampler
from metarl.sampling.worker import Trial, draw_tasks
from robots.limits import Limits

VECTORS = 12  # golden ones, of the act graph
PROBES = 64  # observations at which parameters are compared by what they would do
CORRELATION, CAP = 0.5, 2.5  # of exploration noise on a robot, whose motors white noise would shake
MARGIN = 3.0  # of bounds on adaptation, over what was seen in training
WIDEST = 1.5  # change of an action that is allowed: they are cut to ±1, so that 2 would bound nothing
PROBATION = 3  # attempts
PATIENCE = 2  # refusals in a row


def pack(run: Run, out: Path, evaluations: Sequence[Mapping[str, Any]] = (), key: Path | None = None) -> Report:
    """Export, verify against torch, and only then write the bundle; returns what verification found.

    evaluations: results of this run, which travel in the manifest under their splits (and engines). key: PEM file of
    the private key to sign it with. Verification and golden vectors use motions or attempts on training tasks. Raises
    export's VerificationError if torch and ONNX Runtime disagree, and ValueError for a run without a checkpoint,
    results of another run, or a path that cannot be used.
    """
    torch.set_num_threads(1)
    learner, problem, _ = load_learner(run)
    config, robot = run.config, problem.robot
    if robot is None:
        raise ValueError(f"{config.env} has no robot to be deployed on; only runs in a robot's worlds can be exported")
    for results in evaluations:
        found = tuple(results.get(name) for name in ("env", "training_seeds", "iterations"))
        if found != (config.env, [config.seed], run.iteration):
            raise ValueError(
                f"the evaluation is of (env, training seeds, iterations) {found}, expected "
                f"{(config.env, [config.seed], run.iteration)} as in {run.path}; evaluate this run"
            )
    theta = learner.theta.detach().numpy()
    lived = _lived(learner, problem, theta)
    common: dict[str, Any] = {
        "interface": robot.interface,
        "horizon": robot.horizon,
        "limits": Limits.of(robot.spec),
        "learner": config.learner,
        "provenance": {"config": config.to_dict(), "iterations": run.iteration, "engine": "pybullet"},
        "evaluation": {_told(results): dict(results) for results in evaluations} or None,
    }
    if isinstance(learner, ByGradient):
        report, contents = _by_gradient(learner, theta, lived, common)
    elif isinstance(learner, ByMemory):
        report, contents = _by_memory(learner, theta, lived, common)
    else:
        report, contents = _by_search(learner, theta, lived, common)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, contents, key)
    return report


def _told(results: Mapping[str, Any]) -> str:
    """What an evaluation is called in the manifest: its split, and the engine where nothing was trained."""
    split, engine = str(results["split"]), results.get("engine", "pybullet")
    return split if engine in ("pybullet", "numpy") else f"{split}-{engine}"


def _lived(learner: Learner, problem: Problem, theta: Float) -> list[Episodes]:
    """Real experience: four training tasks, twenty motions or attempts each, or one trial."""
    config, key = learner.config, (learner.config.seed, EVALUATION)
    mode: Literal["guided", "explore"] = "guided" if learner.objective.gather == "guided" else "explore"
    count = config.episodes if isinstance(learner, ByMemory) else 20
    tasks = draw_tasks(problem.space, "train", key, 4)
    trials = [Trial(task, (*key, index, 0), count, mode, ACTOR, theta) for index, task in enumerate(tasks)]
    with closing(open_sampler(problem, {ACTOR: learner.network}, 0)) as sampler:
        return sampler.sample(trials)


def _by_gradient(
    learner: ByGradient, theta: Float, lived: Sequence[Episodes], common: Mapping[str, Any]
) -> tuple[Report, Contents]:
    """What a network's inner steps leave alone is baked into both graphs."""
    network, objective, config = learner.network, learner.objective, learner.config
    own, sizes = np.ascontiguousarray(theta[: network.adapted]), learner.step_sizes.detach().numpy()
    act, adapt = act_graph(network, learner.theta), adapt_graph(learner)
    shown = lived[0].map(lambda array: array[: config.episodes])

    def batch(seed: int, episodes: int, steps: int) -> dict[str, Float]:
        """Real experience cut, or repeated, to a size."""
        source = lived[seed % len(lived)]
        rows, columns = np.arange(episodes) % len(source.mask), np.arange(steps) % source.mask.shape[1]
        return {name: getattr(source, name)[rows][:, columns] for name in objective.fields}

    report = verify(
        own, act_function(network, learner.theta), act, adapt_function(learner), adapt,
        steps=max(3, len(sizes)), batches=batch,
    )  # fmt: skip
    adaptation = Adaptation(
        graph=adapt,
        objective=objective.name,
        step_sizes=sizes,
        collect=Collect(objective.gather, config.episodes, shown.mask.shape[1], CORRELATION, CAP),
        batch={name: getattr(shown, name) for name in objective.fields},
        plan=learner.plan if isinstance(learner, Online) else None,
    )
    observations = shown.observation[0, :VECTORS]
    adapted = []
    for trial in lived:
        theta, data = own, {name: getattr(trial, name)[: config.episodes] for name in objective.fields}
        for step in range(len(sizes)):
            theta = Adapter(adapt).step(theta, step, data).theta
        adapted.append(theta)
    bounds = _bounds(act, own, adapted, lived)
    return report, Contents(
        **common, act=act, theta=own, observations=observations, adaptation=adaptation, bounds=bounds
    )


def _by_memory(
    learner: ByMemory, theta: Float, lived: Sequence[Episodes], common: Mapping[str, Any]
) -> tuple[Report, Contents]:
    act = act_graph(learner.network)
    report = verify(theta, act_function(learner.network), act)
    trial = unrolled(lived[0].map(lambda field: field[None]))
    vectors = {name: trial[name][0, :VECTORS] for name in ("observation", "feedback")}
    memory = Memory(learner.network.memory, learner.config.episodes, vectors["feedback"])
    return report, Contents(**common, act=act, theta=theta, observations=vectors["observation"], memory=memory)


def _by_search(
    learner: Learner, theta: Float, lived: Sequence[Episodes], common: Mapping[str, Any]
) -> tuple[Report, Contents]:
    assert isinstance(learner, BySearch)
    act = act_graph(learner.network)
    report = verify(theta, act_function(learner.network), act)
    observations, search = lived[0].observation[0, :VECTORS], learner.search
    spread = float(np.mean([trial.reward.sum(1).std() for trial in lived]))
    found, adapted = theta, list[Float]()
    for step in range(search.rounds):
        rng = np.random.default_rng(step)
        tried = candidates(search, found, rng)
        found, _ = choose(search, found, None, tried, spread * rng.standard_normal(search.size))
        adapted += [*tried, found]
    bounds = _bounds(act, theta, adapted, lived)
    return report, Contents(**common, act=act, theta=theta, observations=observations, search=search, bounds=bounds)


def _bounds(act: bytes, base: Float, adapted: Sequence[Float], lived: Sequence[Episodes]) -> Bounds:
    """Adaptation on the robot may go MARGIN times as far as it went on training tasks."""
    seen = np.concatenate([trial.observation[trial.mask > 0] for trial in lived])
    policy, probes = Policy(act), thinned(seen, PROBES)
    actions = [np.clip(golden.act(policy, theta, probes)["mean"], -1, 1) for theta in (base, *adapted)]
    norm = max(float(np.linalg.norm(theta.astype(np.float64) - base)) for theta in adapted)
    changes = [np.abs(action - actions[0]) for action in actions[1:]]
    most = max(float(change.max()) for change in changes)
    rms = max(float(np.sqrt(np.mean(change**2))) for change in changes)
    # A policy that training tasks left as it was may still move a little.
    return Bounds(
        norm=MARGIN * max(norm, 1e-3),
        action=min(MARGIN * max(most, 1e-2), WIDEST),
        rms=min(MARGIN * max(rms, 1e-2), WIDEST),
        probation=PROBATION,
        patience=PATIENCE,
    )
