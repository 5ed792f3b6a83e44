"""Held-out evaluation over adaptation, beside the baselines. Gradient steps run in ONNX Runtime, as on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from envs.tasks import Split, Task
from export.device.adapter import Adapter
from metarl import classical
from metarl.baselines import DOMAIN_RANDOMIZATION, LONG, ORACLE, fine_tune, fine_tune_long, networks
from metarl.checkpoint import Run
from metarl.classical import Point
from metarl.console import progress, stdout
from metarl.episodes import Episodes
from metarl.graphs import adapt_graph
from metarl.learners.es_maml import search_round
from metarl.learners.learner import ACTOR, ByGradient, ByMemory, BySearch, Learner
from metarl.learners.registry import make_learner
from metarl.objectives import Reward, tensors
from metarl.ppo import STEPS as PPO_STEPS
from metarl.ppo import ppo_baselines
from metarl.problem import Problem
from metarl.sampling.opening import Workers, open_sampler
from metarl.sampling.serial import Sampler
from metarl.sampling.worker import Trial, draw_tasks
from metarl.scores import Row, Score

EVALUATION, TUNING = 2**32 - 1, 2**32 - 2  # in place of an iteration, in the keys of random draws
ATTEMPTS = 2**32 - 1  # in place of an inner step: attempts that are judged
# Step sizes to choose from on training tasks: for plain gradient steps, and for a hundred steps of Adam.
FINE_TUNING = {"finetune": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0), "finetune_adam100": (3e-4, 1e-3, 3e-3, 1e-2)}
Thetas = NDArray[np.float32]  # [task, P]
Where = tuple[Sequence[Task], tuple[int, int]]  # tasks, and the start of their trials' keys
Rows = dict[str, list[Row]]  # by policy


class Evaluator:
    """One run's policies in the same worlds: all meet the same tasks, targets and noise."""

    def __init__(self, learner: Learner, problem: Problem, sampler: Sampler) -> None:
        self.config, self.learner, self.problem, self.sampler = learner.config, learner, problem, sampler
        self.guided = learner.objective.gather == "guided"

    @cached_property
    def _adapter(self) -> Adapter:
        assert isinstance(self.learner, ByGradient)
        return Adapter(adapt_graph(self.learner))

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
        return Score.of(self.sampler.sample(trials), self.problem.measure.tolerance, self.problem.falls)

    def experience(
        self, where: Where, step: int, thetas: Thetas, actor: str = ACTOR, count: int | None = None
    ) -> list[Episodes]:
        """What each task's robot has to learn from before inner step `step`; the same motions for every step."""
        trials = []
        for index, (task, theta) in enumerate(zip(where[0], thetas, strict=True)):
            key, episodes = (*where[1], index, 0 if self.guided else step), count or self.config.episodes
            trials.append(Trial(task, key, episodes, "guided" if self.guided else "explore", actor, theta))
        return self.sampler.sample(trials)

    def row(self, score: Score, steps: int, episodes: int, length: int | None = None) -> Row:
        """length: of an episode that was learned from, in control steps."""
        return Row(steps, episodes, episodes * (length or self.problem.horizon) * self.problem.seconds, score)

    def adapted(self, where: Where, steps: int, episodes: int) -> tuple[list[Row], list[list[Episodes]]]:
        """The learner's rows after 0 ... steps, and what was lived before each gradient step."""
        learner, tasks = self.learner, len(where[0])
        thetas = learner.theta.detach().expand(tasks, -1).numpy()
        if isinstance(learner, ByMemory):
            return self._remembered(where, steps, episodes), []
        scores, lived, spent = [self.attempts(where, episodes, ACTOR, thetas)], [], [0]
        for step in range(steps):
            if isinstance(learner, BySearch):
                thetas, found = self._searched(learner, where, thetas, step)
                spent.append(spent[-1] + found.mask.shape[1])
            else:
                lived.append(self.experience(where, step, thetas))
                thetas = self._step(thetas, step, lived[-1])
                spent.append(self.config.episodes * (1 if self.guided else step + 1))
            scores.append(self.attempts(where, episodes, ACTOR, thetas))
        length = lived[0][0].mask.shape[1] if lived else None
        return [self.row(score, *row, length) for score, row in zip(scores, enumerate(spent), strict=True)], lived

    def taught(self, where: Where) -> Thetas:
        """Each task's theta after all the inner steps of training: on guided motions gathered once, or on attempts made
        anew before each."""
        learner, tasks = self.learner, len(where[0])
        thetas, lived = learner.theta.detach().expand(tasks, -1).numpy(), list[Episodes]()
        for step in range(self.config.inner_steps):
            if isinstance(learner, BySearch):
                thetas, _ = self._searched(learner, where, thetas, step)
            else:
                lived = lived if lived and self.guided else self.experience(where, step, thetas)
                thetas = self._step(thetas, step, lived)
        return thetas

    def _searched(self, learner: BySearch, where: Where, thetas: Thetas, turn: int) -> tuple[Thetas, Episodes]:
        keys = [(*where[1], index) for index in range(len(where[0]))]
        return search_round(learner.search, self.sampler, where[0], keys, thetas, turn)

    def _step(self, thetas: Thetas, step: int, batches: Sequence[Episodes]) -> Thetas:
        """Every task's theta after one inner step in ONNX Runtime; not finite is not taken, as on the device."""
        size, moved = self._adapter.parameters, []
        for theta, batch in zip(thetas, batches, strict=True):
            fields = {name: getattr(batch, name) for name in self.learner.objective.fields}
            taken = self._adapter.step(np.ascontiguousarray(theta[:size]), step, fields)
            moved.append(np.concatenate([taken.theta, theta[size:]]) if taken.finite else theta)
        return np.stack(moved)

    def _remembered(self, where: Where, steps: int, episodes: int) -> list[Row]:
        """Attempt n of a trial is judged after n attempts; `episodes` trials of each task, by the mean action."""
        theta = self.learner.theta.detach().numpy()
        trials = [
            Trial(task, (*where[1], index, ATTEMPTS, turn), steps + 1, "mean", ACTOR, theta)
            for index, task in enumerate(where[0])
            for turn in range(episodes)
        ]
        lived = Episodes.stack(self.sampler.sample(trials))
        rows = []
        for step in range(steps + 1):
            judged = lived.map(lambda field, step=step: field[:, step])  # type: ignore[misc]
            by_task = judged.map(lambda field: field.reshape(len(where[0]), episodes, *field.shape[1:]))
            each = [by_task.map(lambda field, index=index: field[index]) for index in range(len(where[0]))]  # type: ignore[misc]
            rows.append(self.row(Score.of(each, self.problem.measure.tolerance, self.problem.falls), step, step))
        return rows


class FineTuning:
    """Domain randomization, moved by plain gradients on data of the learner's kind and amount."""

    def __init__(self, evaluator: Evaluator, theta: Tensor) -> None:
        self._evaluator, self._theta = evaluator, theta
        config = evaluator.config
        self._network = networks(config, evaluator.problem)[DOMAIN_RANDOMIZATION]
        # Without a head that predicts there is nothing to fine-tune by prediction: reward is what attempts bring.
        self._objective = evaluator.learner.objective if evaluator.guided else Reward(config.discount)
        self._count = config.episodes if evaluator.guided else max(2, config.episodes)

    def rows(
        self, name: str, size: float, steps: int, where: Where, episodes: int, all_steps: bool = True
    ) -> list[Row]:
        """One of FINE_TUNING by the steps that the data serve, judged after every step, or after the last alone."""
        evaluator, thetas = self._evaluator, self._theta.expand(len(where[0]), -1)
        tune, rounds = (fine_tune_long, 1) if name == "finetune_adam100" else (fine_tune, steps)
        rows = []
        for step in range(rounds):
            data = evaluator.experience(where, step, thetas.numpy(), DOMAIN_RANDOMIZATION, self._count)
            thetas = tune(self._network, self._objective, thetas, tensors(Episodes.stack(data)), size)
            if all_steps or step + 1 == rounds:
                score = evaluator.attempts(where, episodes, DOMAIN_RANDOMIZATION, thetas.numpy())
                spent = self._count * (1 if evaluator.guided else step + 1)
                taken = LONG if name == "finetune_adam100" else step + 1
                rows.append(evaluator.row(score, taken, spent, data[0].mask.shape[1]))
        return rows

    def tuned(self, name: str, steps: int) -> float:
        """The step size of FINE_TUNING[name] that ends nearest to what was asked on training tasks."""
        key = (self._evaluator.config.seed, TUNING)
        where = draw_tasks(self._evaluator.problem.space, "train", key, 20), key
        ends = []
        for size in FINE_TUNING[name]:
            (row,) = self.rows(name, size, steps, where, episodes=2, all_steps=False)
            ends.append(row.score.error.mean())
        return FINE_TUNING[name][int(np.argmin(ends))]


def load_learner(run: Run) -> tuple[Learner, Problem, dict[str, Tensor]]:
    """A run's learner at its newest checkpoint, its problem, and all that the checkpoint holds."""
    problem = Problem.of(run.config.env, run.config.options)
    learner = make_learner(run.config, problem)
    state, _ = run.load()
    learner.load(state)
    return learner, problem, state


def evaluate(
    runs: Run | Sequence[Run],
    split: Split = "heldout",
    tasks: int = 100,
    steps: int = 3,
    episodes: int = 5,
    seed: int = 1,
    workers: Workers = 2,
    console: Console | None = None,
    step_sizes: Mapping[str, float] | None = None,
    engine: str = "pybullet",
) -> dict[str, Any]:
    """Adaptation over 0 ... steps steps and the baselines, as plain values. Several runs: of other training seeds.

    A step is a gradient step, a round of search, or an attempt remembered. tasks: worlds drawn from the split;
    episodes: attempts per task and row, by the mean action, with other targets and noise than in adaptation. Intervals
    are 95 % bootstrap over tasks and seeds. step_sizes: of fine-tuning, if known already (`finetune_step_sizes` of
    another evaluation); by default found on training tasks. engine: of everything that is judged here, adaptation and
    fine-tuning included; all was trained in PyBullet. Raises ValueError for runs that differ in more than seed, or an
    engine that is not there.
    """
    for name, value, least in (("tasks", tasks, 2), ("steps", steps, 1), ("episodes", episodes, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}, expected {least} or more")
    torch.set_num_threads(1)
    console = console or stdout()
    runs = [runs] if isinstance(runs, Run) else list(runs)
    if not runs:
        raise ValueError("there are no runs to evaluate, expected one or more of different seeds")
    for run in runs[1:]:
        one, other = ({**r.config.to_dict(), "seed": 0} for r in (runs[0], run))
        if differing := sorted(name for name in one if one[name] != other[name]):
            raise ValueError(f"{runs[0].path} and {run.path} differ in {differing}, expected runs of different seeds")
    measured: list[Rows] = []
    sizes = dict(step_sizes or {})
    for run in runs:
        measured.append(_measure(run, split, tasks, steps, episodes, seed, workers, console, sizes, engine))
    rows = {
        name: [
            Row(row.steps, row.episodes, row.seconds, Score.join([found[name][index].score for found in measured]))
            for index, row in enumerate(measured[0][name])
        ]
        for name in measured[0]
    }
    randomized, oracle = (rows[name][0].score for name in (DOMAIN_RANDOMIZATION, ORACLE))
    values = {name: [row.to_dict(randomized, oracle) for row in found] for name, found in rows.items()}
    config, problem = runs[0].config, Problem.of(runs[0].config.env, runs[0].config.options)
    guided = config.objective == "demonstration"
    simulated = int(
        min(runs[0].iteration, config.fresh) * config.episodes_per_iteration * _length(values[ACTOR], problem)
    )
    return {
        "env": config.env,
        "options": dict(config.options),
        "learner": config.learner,
        "objective": config.objective,
        "split": split,
        "tasks": tasks,
        "seed": seed,
        "training_seeds": [run.config.seed for run in runs],
        "iterations": runs[0].iteration,
        "engine": engine if problem.robot else "numpy",
        "measure": problem.measure._asdict(),
        "training_steps": {"learner": simulated, "baselines": simulated if guided else PPO_STEPS},
        "curve": values.pop(ACTOR),
        "baselines": {
            name: found[0] if len(found) == 1 else {**found[-1], "curve": found} for name, found in values.items()
        },
        "finetune_step_sizes": sizes,
    }


def _length(curve: Sequence[Mapping[str, Any]], problem: Problem) -> float:
    """Control steps of an episode that is learned from: a guided motion may be shorter than the horizon."""
    last = curve[-1]
    return float(round(last["seconds"] / problem.seconds / last["episodes"])) if last["episodes"] else problem.horizon


def _measure(
    run: Run,
    split: Split,
    tasks: int,
    steps: int,
    episodes: int,
    seed: int,
    workers: Workers,
    console: Console,
    sizes: dict[str, float],
    engine: str,
) -> Rows:
    """One run's rows; `sizes` of fine-tuning are looked for where they are missing, and kept."""
    learner, problem, state = load_learner(run)
    if engine != "pybullet" and problem.robot is None:
        raise ValueError(f"{run.config.env} has no robot, expected one for engine {engine!r}; leave it out")
    guided = learner.objective.gather == "guided"
    nets = networks(run.config, problem)
    if guided and not all(f"baseline.{name}" in state for name in nets):
        raise ValueError(f"the checkpoint in {run.path} holds no baselines; train again into a new folder")
    cloned = {name: state[f"baseline.{name}"] for name in nets} if guided else None
    thetas = cloned or ppo_baselines(run, problem, workers, console)
    policies = {ACTOR: learner.network, **nets}
    names = [name for name in FINE_TUNING if guided or name == "finetune"]
    shown = progress(console, f"evaluating on {split} tasks", 4 + len(names))
    there = replace(problem, options={**problem.options, "engine": engine}) if problem.robot else problem
    with closing(open_sampler(there, policies, workers, (ORACLE,))) as sampler, shown as show:
        evaluator = Evaluator(learner, problem, sampler)
        where = draw_tasks(problem.space, split, (seed, EVALUATION), tasks), (seed, EVALUATION)
        rows: Rows = {}
        rows[ACTOR], lived = evaluator.adapted(where, steps, episodes)
        show(1)
        for name in (DOMAIN_RANDOMIZATION, ORACLE):
            score = evaluator.attempts(where, episodes, name, thetas[name].expand(tasks, -1).numpy())
            rows[name] = [evaluator.row(score, 0, 0)]
        show(3)
        rows |= _classical(evaluator, where, episodes, lived)
        show(4)
        tuning = FineTuning(evaluator, thetas[DOMAIN_RANDOMIZATION])
        for done, name in enumerate(names, 5):
            if name not in sizes:
                sizes[name] = tuning.tuned(name, steps)
            rows[name] = tuning.rows(name, sizes[name], steps, where, episodes)
            show(done)
    return rows


def _classical(evaluator: Evaluator, where: Where, episodes: int, lived: list[list[Episodes]]) -> Rows:
    """The classical answers from the learner's own experience, by the inner steps that it served."""
    robot = evaluator.problem.robot
    if robot is None or not lived:
        return {}
    rows: Rows = {}
    for name, answer in classical.answers(robot, evaluator.guided).items():
        rows[name] = []
        for count in range(1, 2 if evaluator.guided else len(lived) + 1):
            data = [Episodes.join(parts) for parts in zip(*lived[:count], strict=True)]
            points = [answer(robot.spec, robot.interface, one) for one in data]
            score = evaluator.attempts(where, episodes, points=points)
            rows[name].append(evaluator.row(score, 0, count * evaluator.config.episodes, data[0].mask.shape[1]))
    return rows
