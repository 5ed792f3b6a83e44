"""Held-out evaluation over gradient steps, beside the baselines. Adaptation runs in ONNX Runtime, as on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import bootstrap
from torch import Tensor

from envs.robot_env import RobotEnv, make
from envs.tasks import Split, Task
from export.device.adapter import Adapter
from metarl import classical
from metarl.baselines import DOMAIN_RANDOMIZATION, LONG, ORACLE, fine_tune, fine_tune_long, networks
from metarl.checkpoint import Run
from metarl.classical import Answer, Point
from metarl.console import progress, stdout
from metarl.episodes import Episodes, Float
from metarl.graphs import act_graph, adapt_graph
from metarl.learners.learner import ACTOR, Learner
from metarl.learners.registry import make_learner
from metarl.objectives import tensors
from metarl.ppo import STEPS as PPO_STEPS
from metarl.ppo import ppo_baselines
from metarl.sampling.processes import make_sampler
from metarl.sampling.serial import Sampler
from metarl.sampling.worker import Actor, Trial, draw_tasks
from metarl.statistics import interval
from robots.spec import Array

EVALUATION, TUNING = 2**32 - 1, 2**32 - 2  # in place of an iteration, in the keys of random draws
ATTEMPTS = 2**32 - 1  # in place of an inner step: attempts that are judged
# Step sizes to choose from on training tasks: for plain gradient steps, and for a hundred steps of Adam.
FINE_TUNING = {"finetune": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0), "finetune_adam100": (3e-4, 1e-3, 3e-3, 1e-2)}
Thetas = NDArray[np.float32]  # [task, P]
Where = tuple[Sequence[Task], tuple[int, int]]  # tasks, and the start of their trials' keys


@dataclass(frozen=True)
class Score:
    """Per task, over its episodes [task]: mean return, share of successes at the end, the job's error at the end."""

    returns: Float
    success: Float
    error: Float

    @classmethod
    def of(cls, episodes: Sequence[Episodes], tolerance: float) -> Score:
        last, lived = (
            np.stack([values[:, -1] for values in field])
            for field in ([e.error for e in episodes], [e.mask for e in episodes])
        )
        returns = np.stack([e.reward.sum(-1) for e in episodes])
        success = (last <= tolerance) & (lived > 0)
        return cls(returns.mean(1), success.mean(1).astype(np.float32), last.mean(1))

    def to_dict(self) -> dict[str, Any]:
        fields = {"return": self.returns, "success": self.success, "error": self.error}
        return {name: interval(values) for name, values in fields.items()}


def gap_closed(without: Score, now: Score, oracle: Score) -> dict[str, float] | None:
    """Share of the error between domain randomization and the oracle that is closed, paired over tasks.

    None unless the gap's own interval lies above zero: a share of nothing means nothing.
    """

    def gap(a: Array, c: Array, axis: int = -1) -> Any:
        return a.mean(axis) - c.mean(axis)

    def share(a: Array, b: Array, c: Array, axis: int = -1) -> Any:
        return gap(a, b, axis) / gap(a, c, axis)

    a, b, c = (score.error.astype(np.float64) for score in (without, now, oracle))
    how: dict[str, Any] = {"n_resamples": 2000, "method": "percentile", "paired": True, "vectorized": True}
    if (np.ptp(a - c) == 0 and a[0] <= c[0]) or bootstrap((a, c), gap, rng=0, **how).confidence_interval.low <= 0:
        return None
    limits = bootstrap((a, b, c), share, rng=0, **how).confidence_interval
    return {"mean": float(share(a, b, c)), "low": float(limits.low), "high": float(limits.high)}


class Evaluator:
    """One run's policies and its baselines in the same worlds: all meet the same tasks, targets and noise."""

    def __init__(self, run: Run, learner: Learner, env: RobotEnv, sampler: Sampler, thetas: dict[str, Tensor]) -> None:
        self.config, self.learner, self.env, self.sampler = run.config, learner, env, sampler
        self.baselines, self.nets = thetas, networks(run.config, env.interface, env.task_space)
        self.adapter = Adapter(adapt_graph(learner))

    def attempts(
        self,
        where: Where,
        episodes: int,
        actor: str = "",
        thetas: Thetas | None = None,
        points: Sequence[Point] | None = None,
    ) -> Score:
        """How well attempts go that act by the mean of an actor with a theta per task, or aim at a point per task."""
        tasks, key = where
        many = [None] * len(tasks)
        who = zip(tasks, many if thetas is None else thetas, points or many, strict=True)
        trials = [
            Trial(task, (*key, index, ATTEMPTS), episodes, "mean", actor, theta, point)
            for index, (task, theta, point) in enumerate(who)
        ]
        return Score.of(self.sampler.sample(trials), self.env.job.measure.tolerance)

    def experience(self, where: Where, step: int, actor: str, thetas: Thetas) -> list[Episodes]:
        """What each task's robot has to learn from before inner step `step`; the same motions for every step."""
        guided = self.learner.objective.gather == "guided"
        trials = []
        for index, (task, theta) in enumerate(zip(where[0], thetas, strict=True)):
            key, count = (*where[1], index, 0 if guided else step), self.config.episodes
            trials.append(Trial(task, key, count, "guided" if guided else "explore", actor, theta))
        return self.sampler.sample(trials)

    def adapt(self, thetas: Thetas, step: int, batches: Sequence[Episodes]) -> Thetas:
        """Every task's theta after one inner step in ONNX Runtime; not finite is not taken, as on the device."""
        moved = []
        for theta, batch in zip(thetas, batches, strict=True):
            fields = {name: getattr(batch, name) for name in self.learner.objective.fields}
            taken = self.adapter.step(theta, step, fields)
            moved.append(taken.theta if taken.finite else theta)
        return np.stack(moved)

    def fine_tuned(
        self, name: str, size: float, steps: int, where: Where, episodes: int, all_steps: bool = True
    ) -> dict[int, Score]:
        """One of FINE_TUNING on data of the learner's kind and amount, by the steps that this data serves.

        Judged after every step, or after the last alone.
        """
        net, objective = self.nets[DOMAIN_RANDOMIZATION], self.learner.objective
        thetas = self.baselines[DOMAIN_RANDOMIZATION].expand(len(where[0]), -1)
        tune, rounds = (fine_tune_long, 1) if name == "finetune_adam100" else (fine_tune, steps)
        scores = {}
        for step in range(rounds):
            data = self.experience(where, step, DOMAIN_RANDOMIZATION, thetas.numpy())
            thetas = tune(net, objective, thetas, tensors(Episodes.stack(data)), size)
            if all_steps or step + 1 == rounds:
                scores[step + 1] = self.attempts(where, episodes, DOMAIN_RANDOMIZATION, thetas.numpy())
        return scores

    def tuned(self, name: str, steps: int) -> float:
        """The step size of FINE_TUNING[name] that ends nearest to the target on training tasks."""
        key = (self.config.seed, TUNING)
        where = draw_tasks(self.env.task_space, "train", key, 20), key
        ends = []
        for size in FINE_TUNING[name]:
            (score,) = self.fine_tuned(name, size, steps, where, episodes=2, all_steps=False).values()
            ends.append(score.error.mean())
        return FINE_TUNING[name][int(np.argmin(ends))]


def load_learner(run: Run) -> tuple[Learner, RobotEnv, dict[str, Tensor]]:
    """A run's learner at its newest checkpoint, its environment (closed), and all that the checkpoint holds."""
    env = make(run.config.env)
    env.close()
    learner = make_learner(run.config, env.interface)
    state, _ = run.load()
    learner.load(state)
    return learner, env, state


def evaluate(
    run: Run,
    split: Split = "heldout",
    tasks: int = 100,
    steps: int = 3,
    episodes: int = 5,
    seed: int = 1,
    workers: int = 2,
    console: Console | None = None,
    step_sizes: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The run's adaptation curve over 0 ... steps gradient steps and its baselines, as plain values.

    tasks: worlds drawn from the split; episodes: attempts per task and entry, by the mean action, with other
    targets and noise than in adaptation. Intervals are 95 % bootstrap over tasks. step_sizes: of fine-tuning, if
    known already (`finetune_step_sizes` of another evaluation of the run); by default found on training tasks.
    """
    for name, value, least in (("tasks", tasks, 2), ("steps", steps, 1), ("episodes", episodes, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}, expected {least} or more")
    torch.set_num_threads(1)
    console = console or stdout()
    learner, env, state = load_learner(run)
    guided = learner.objective.gather == "guided"
    nets = networks(run.config, env.interface, env.task_space)
    if guided and not all(f"baseline.{name}" in state for name in nets):
        raise ValueError(f"the checkpoint in {run.path} holds no baselines; train again into a new folder")
    cloned = {name: state[f"baseline.{name}"] for name in nets} if guided else None
    thetas = cloned or ppo_baselines(run, workers, console)
    actors = {ACTOR: Actor(act_graph(learner.network))}
    actors |= {name: Actor(act_graph(net), privileged=name == ORACLE) for name, net in nets.items()}
    rows = progress(console, f"evaluating on {split} tasks", steps + 5)
    with closing(make_sampler(run.config.env, actors, workers)) as sampler, rows as show:
        evaluator = Evaluator(run, learner, env, sampler, thetas)
        where = draw_tasks(env.task_space, split, (seed, EVALUATION), tasks), (seed, EVALUATION)

        def fixed(name: str) -> Score:
            return evaluator.attempts(where, episodes, name, thetas[name].expand(tasks, -1).numpy())

        randomized, oracle = fixed(DOMAIN_RANDOMIZATION), fixed(ORACLE)
        show(2)
        adapted = learner.theta.detach().expand(tasks, -1).numpy()
        lived: list[list[Episodes]] = []
        curve = [evaluator.attempts(where, episodes, ACTOR, adapted)]
        for step in range(steps):
            lived.append(evaluator.experience(where, step, ACTOR, adapted))
            adapted = evaluator.adapt(adapted, step, lived[-1])
            curve.append(evaluator.attempts(where, episodes, ACTOR, adapted))
            show(step + 3)
        baselines = {DOMAIN_RANDOMIZATION: {0: randomized}, ORACLE: {0: oracle}}
        baselines |= _classical(evaluator, where, episodes, lived)
        show(steps + 3)
        names = [name for name in FINE_TUNING if guided or name == "finetune"]
        sizes = step_sizes or {name: evaluator.tuned(name, steps) for name in names}
        show(steps + 4)
        for name in names:
            baselines[name] = evaluator.fine_tuned(name, sizes[name], steps, where, episodes)
        show(steps + 5)
    length = lived[0][0].mask.shape[1]  # of an episode to learn from, in control steps
    config = run.config

    def entry(score: Score, steps: int, batches: int) -> dict[str, Any]:
        """A row: gradient steps taken, and what the batches of experience behind it cost."""
        count = batches * config.episodes
        spent = {"steps": steps, "episodes": count, "seconds": count * length / env.job.spec.control_hz}
        return spent | score.to_dict() | {"gap_closed": gap_closed(randomized, score, oracle)}

    def rows_of(name: str, scores: Mapping[int, Score]) -> dict[str, Any]:
        """The last of a baseline's rows, and all of them if there are more."""
        steps = {"finetune": range(len(scores) + 1), "finetune_adam100": (0, LONG)}.get(name, [0] * (len(scores) + 1))
        curve = [entry(score, steps[step], min(step, 1) if guided else step) for step, score in scores.items()]
        return curve[0] if len(curve) == 1 else {**curve[-1], "curve": curve}

    per_task = config.query + config.episodes * (1 if guided else config.inner_steps)
    simulated = run.iteration * config.tasks * per_task * length
    training_steps = {"learner": simulated, "baselines": simulated if guided else PPO_STEPS}
    return {
        "env": config.env,
        "learner": config.learner,
        "objective": config.objective,
        "split": split,
        "tasks": tasks,
        "seed": seed,
        "training_seed": config.seed,
        "iterations": run.iteration,
        "engine": "pybullet",
        "measure": env.job.measure._asdict(),
        "training_steps": training_steps,
        "curve": [entry(score, step, min(step, 1) if guided else step) for step, score in enumerate(curve)],
        "baselines": {name: rows_of(name, scores) for name, scores in baselines.items()},
        "finetune_step_sizes": sizes,
    }


def _classical(
    evaluator: Evaluator, where: Where, episodes: int, lived: list[list[Episodes]]
) -> dict[str, dict[int, Score]]:
    """The classical answers from the learner's own experience, by the inner steps that it served."""
    job, guided = evaluator.env.job, evaluator.learner.objective.gather == "guided"
    answers = classical.answers(job, guided)

    def score(answer: Answer, data: Sequence[Episodes]) -> Score:
        points = [answer(job.spec, job.interface, one) for one in data]
        return evaluator.attempts(where, episodes, points=points)

    if guided:
        return {name: {1: score(answer, lived[0])} for name, answer in answers.items()}
    so_far = [
        [Episodes.join(parts) for parts in zip(*lived[:count], strict=True)] for count in range(1, len(lived) + 1)
    ]
    return {
        name: {step: score(answer, data) for step, data in enumerate(so_far, 1)} for name, answer in answers.items()
    }
