"""Learners by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from metarl.checkpoint import load_theta
from metarl.config import MEMORY, ONLINE, Config
from metarl.gru import GRUMemory
from metarl.informed import Informed, Plain
from metarl.learners.belief import Belief
from metarl.learners.es_maml import ESMAML
from metarl.learners.learner import Learner
from metarl.learners.maml import MAML, RULES
from metarl.learners.memory import MemoryLearner
from metarl.learners.reptile import Reptile
from metarl.mann import MANN
from metarl.memory import Memory
from metarl.networks import MLP, Symmetric
from metarl.objectives import Demonstration, Objective, Prediction, Reward
from metarl.problem import Problem
from metarl.residual import Residual
from metarl.snail import SNAIL
from robots.mirror import Mirror

LEARNERS: dict[str, Callable[..., Learner]] = {
    **dict.fromkeys(RULES, MAML),
    "reptile": Reptile,
    "es_maml": ESMAML,
    **dict.fromkeys(ONLINE, Belief),
    **dict.fromkeys(("rl2", "mann", "snail"), MemoryLearner),
}


def make_learner(config: Config, problem: Problem) -> Learner:
    """The config's learner, untrained. Raises ValueError for an objective that the environment cannot serve."""
    objective = make_objective(config, problem)
    if objective.gather == "guided" and not problem.guided:
        raise ValueError(
            f"objective {config.objective!r} needs guided motions, which {config.env} has not; use 'reward'"
        )
    if config.learner in ONLINE and problem.robot is None:
        raise ValueError(f"{config.env} has no robot, expected one for learner {config.learner!r}; use 'rl2'")
    start = None if config.start is None else torch.from_numpy(load_theta(Path(config.start)))
    world = {"problem": problem} if config.learner in ONLINE else {}
    return LEARNERS[config.learner](make_network(config, problem), objective, config, start, **world)


def make_objective(config: Config, problem: Problem) -> Objective:
    if config.objective == "reward":
        return Reward(config.discount)
    return Prediction(problem.felt) if config.objective == "prediction" else Demonstration()


def make_network(config: Config, problem: Problem) -> Plain | Memory:
    if config.learner in ONLINE:
        code, pooled = problem.space.size, config.learner == "rma"
        policy = MLP(problem.observation + 2 * code, problem.action, config.hidden, activation=config.activation)
        if problem.symmetry:
            seen, done, task = problem.symmetry
            policy = Symmetric(**vars(policy), sees=Mirror.join((seen, task, task.unsigned)), does=done)
        return Informed(policy, code, problem.felt, config.context, config.inner_steps, pooled=pooled)
    if config.learner in MEMORY:
        upper = _remembering(config, problem)
        return upper if config.start is None else Residual(_plain(config, problem, config.hidden[1:]), upper)
    return _plain(config, problem, config.hidden)


def _remembering(config: Config, problem: Problem) -> Memory:
    sizes, width = (problem.observation, problem.action, problem.discrete), config.hidden[0]
    if config.learner == "rl2":
        return GRUMemory(*sizes, hidden=width)
    if config.learner == "mann":
        return MANN(*sizes, hidden=width, slots=config.slots)
    length = config.episodes * problem.horizon
    return SNAIL(*sizes, length, filters=width, embedding=2 * width, keys=width, values=width)


def _plain(config: Config, problem: Problem, hidden: tuple[int, ...]) -> MLP:
    return MLP(
        problem.observation,
        problem.action,
        hidden,
        problem.discrete,
        context=config.context if config.learner == "cavia" else 0,
        predicts=len(problem.felt) if config.objective == "prediction" else 0,
        activation=config.activation,
    )
