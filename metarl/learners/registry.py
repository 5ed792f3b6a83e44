"""Learners by name."""

from __future__ import annotations

from collections.abc import Callable

from metarl.config import Config
from metarl.learners.learner import Learner
from metarl.learners.maml import MAML
from metarl.networks import GaussianMLP
from metarl.objectives import OBJECTIVES, Objective
from robots.interface import Interface

LEARNERS: dict[str, Callable[[GaussianMLP, Objective, Config], Learner]] = {"maml": MAML}


def make_learner(config: Config, interface: Interface) -> Learner:
    """The config's learner, untrained. Raises ValueError for a learner or objective that is not known."""
    if config.learner not in LEARNERS:
        raise ValueError(f"learner {config.learner!r} is unknown, expected one of {sorted(LEARNERS)}")
    if config.objective not in OBJECTIVES:
        raise ValueError(f"objective {config.objective!r} is unknown, expected one of {sorted(OBJECTIVES)}")
    network = GaussianMLP(interface.observation_size, interface.action_size, config.hidden)
    return LEARNERS[config.learner](network, OBJECTIVES[config.objective], config)
