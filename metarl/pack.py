"""A trained run as a bundle for the device."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from export.bundle import Adaptation, Contents, write
from export.device.manifest import Collect
from export.verify import Report, verify
from metarl.checkpoint import Run
from metarl.evaluation import EVALUATION, draw, load_learner
from metarl.graphs import act_graph, adapt_graph
from metarl.learners.learner import ACTOR
from metarl.sampling.serial import SerialSampler
from metarl.sampling.worker import Actor, Trial


def pack(run: Run, out: Path, evaluation: Mapping[str, Any] | None = None) -> Report:
    """Export, verify against torch, and only then write the bundle; returns what verification found.

    Golden vectors are a guided motion, or attempts, on one training task. Raises export's VerificationError if
    torch and ONNX Runtime disagree, and ValueError for a run without a checkpoint or a path that cannot be used.
    """
    learner, env, _ = load_learner(run)
    network, objective, config = learner.network, learner.objective, run.config
    theta, sizes = learner.theta.detach().numpy(), learner.step_sizes.detach().numpy()
    act, adapt = act_graph(network), adapt_graph(learner)
    report = verify(theta, network, act, learner.adapt, adapt, steps=max(3, len(sizes)))
    key = (config.seed, EVALUATION)
    (task,) = draw(env, "train", key, 1)
    guided = objective.gather == "guided"
    with closing(SerialSampler(config.env, {ACTOR: Actor(act)})) as sampler:
        (lived,) = sampler.sample(
            [Trial(task, (*key, 0, 0), config.episodes, "guided" if guided else "explore", ACTOR, theta)]
        )
    contents = Contents(
        interface=env.interface,
        horizon=env.job.horizon,
        learner=config.learner,
        act=act,
        theta=theta,
        observations=lived.observation[0, :12],
        adaptation=Adaptation(
            graph=adapt,
            objective=objective.name,
            step_sizes=sizes,
            collect=Collect("guided" if guided else "attempts", config.episodes, lived.mask.shape[1]),
            batch={name: getattr(lived, name) for name in objective.fields},
        ),
        provenance={"config": config.to_dict(), "iterations": run.iteration, "engine": "pybullet"},
        evaluation=evaluation,
    )
    torch.set_num_threads(1)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, contents)
    return report
