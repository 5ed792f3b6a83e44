"""A trained run as a bundle for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from export.bundle import Adaptation, Contents, write
from export.device.manifest import Collect
from export.verify import Report, verify
from metarl.checkpoint import Run
from metarl.episodes import Float
from metarl.evaluation import EVALUATION, load_learner
from metarl.graphs import act_graph, adapt_graph
from metarl.learners.learner import ACTOR
from metarl.sampling.serial import SerialSampler
from metarl.sampling.worker import Actor, Trial, draw_tasks


def pack(run: Run, out: Path, evaluations: Sequence[Mapping[str, Any]] = ()) -> Report:
    """Export, verify against torch, and only then write the bundle; returns what verification found.

    evaluations: results of this run, which travel in the manifest under their splits. Verification and golden
    vectors use motions or attempts on training tasks. Raises export's VerificationError if torch and ONNX Runtime
    disagree, and ValueError for a run without a checkpoint, results of another run, or a path that cannot be used.
    """
    torch.set_num_threads(1)
    learner, env, _ = load_learner(run)
    network, objective, config = learner.network, learner.objective, run.config
    for results in evaluations:
        found = tuple(results.get(name) for name in ("env", "training_seed", "iterations"))
        if found != (config.env, config.seed, run.iteration):
            raise ValueError(
                f"the evaluation is of (env, training seed, iterations) {found}, expected "
                f"{(config.env, config.seed, run.iteration)} as in {run.path}; evaluate this run"
            )
    theta, sizes = learner.theta.detach().numpy(), learner.step_sizes.detach().numpy()
    act, adapt = act_graph(network), adapt_graph(learner)
    guided = objective.gather == "guided"
    key = (config.seed, EVALUATION)
    with closing(SerialSampler(config.env, {ACTOR: Actor(act)})) as sampler:
        tasks = draw_tasks(env.task_space, "train", key, 4)
        mode: Literal["guided", "explore"] = "guided" if guided else "explore"
        trials = [Trial(task, (*key, index, 0), 20, mode, ACTOR, theta) for index, task in enumerate(tasks)]
        lived = sampler.sample(trials)
    golden = lived[0].map(lambda array: array[: config.episodes])

    def batch(seed: int, episodes: int, steps: int) -> dict[str, Float]:
        """Real experience cut, or repeated, to a size."""
        source = lived[seed % len(lived)]
        rows, columns = np.arange(episodes) % len(source.mask), np.arange(steps) % source.mask.shape[1]
        return {name: getattr(source, name)[rows][:, columns] for name in objective.fields}

    report = verify(theta, network, act, learner.adapt, adapt, steps=max(3, len(sizes)), batches=batch)
    contents = Contents(
        interface=env.interface,
        horizon=env.job.horizon,
        learner=config.learner,
        act=act,
        theta=theta,
        observations=golden.observation[0, :12],
        adaptation=Adaptation(
            graph=adapt,
            objective=objective.name,
            step_sizes=sizes,
            collect=Collect("guided" if guided else "attempts", config.episodes, golden.mask.shape[1]),
            batch={name: getattr(golden, name) for name in objective.fields},
        ),
        provenance={"config": config.to_dict(), "iterations": run.iteration, "engine": "pybullet"},
        evaluation={results["split"]: dict(results) for results in evaluations} or None,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, contents)
    return report
