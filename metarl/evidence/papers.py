"""The papers' own tables: what is trained, how it is judged, and the page that says how it compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from metarl.checkpoint import Run
from metarl.config import Config, default
from metarl.evidence.cell import Cell, Verdict
from metarl.evidence.judges import adapted, remembered

SEEDS = (0, 1, 2)


def cells() -> list[Cell]:
    """All of them, seed by seed, so that every row has one before any has two."""
    made = [
        Cell(f"papers/{name}/{seed}", replace(config, seed=seed), judge)
        for seed in SEEDS
        for name, config, judge in _rows()
    ]
    return made


def _rows() -> Iterator[tuple[str, Config, Callable[[Run], Verdict]]]:
    """(table and row, settings, judge)."""
    yield from _sinusoid()
    yield from _navigation()
    yield from _bandits()
    yield from _tabular()
    yield from _binding()
    yield from _maze()
    yield from _rotated()


def _sinusoid() -> Iterator[tuple[str, Config, Callable[[Run], Verdict]]]:
    """MAML's regression (Finn et al. 2017): five points, 1 and 5 steps; 40-40 relu, 25 tasks an iteration."""
    for learner in ("maml", "fomaml", "reptile", "metasgd"):
        base = default(learner, "demonstration")
        config = replace(
            base,
            env="metarl/Sinusoid-v0",
            hidden=(40, 40),
            activation="relu",
            iterations=15_000,
            tasks=25,
            episodes=5,
            query=10,
            inner_steps=5 if learner == "reptile" else 1,
            learning_rate=base.learning_rate if learner == "reptile" else 2e-3,
            step_size=base.step_size if learner == "reptile" else 0.01,
            step_size_rate=1e-3,
        )
        yield f"sinusoid/{learner}", config, partial(adapted, tasks=600, steps=5, episodes=50)


def _navigation() -> Iterator[tuple[str, Config, Callable[[Run], Verdict]]]:
    """MAML's point in the plane (Finn et al. 2017): 20 trajectories of 100 steps before each inner step.

    The step is halved after each, as it is after the first in the paper's judging.
    """
    base = replace(
        default("promp", "reward"),
        env="metarl/PointNavigation-v0",
        hidden=(100, 100),
        activation="relu",
        iterations=80,
        tasks=20,
        inner_steps=3,
        learning_rate=3e-3,
        step_size=0.4,
        step_decay=0.5,
        discount=0.99,
        divergence=0.05,
    )
    judge = partial(adapted, tasks=100, steps=3, episodes=20)
    for learner in ("maml", "promp", "fomaml"):
        yield f"navigation/{learner}", replace(base, learner=learner), judge
    reptile = default("reptile", "reward")
    same = {name: getattr(base, name) for name in ("env", "hidden", "activation", "iterations", "tasks", "inner_steps")}
    yield "navigation/reptile", replace(reptile, **same, discount=0.99, step_size=3e-3), judge
    search = default("es_maml", "reward")
    same = {"env": base.env, "iterations": 80, "tasks": 20}
    yield "navigation/es_maml", replace(search, **same), judge


MEMORY = {"discount": 0.99, "gae_lambda": 0.3, "entropy": 0.01, "learning_rate": 2e-3, "divergence": 0.05}


def _memory(learner: str, **settings: Any) -> Config:
    return replace(default(learner, "reward"), **{**MEMORY, **settings})


def _bandits() -> Iterator[tuple[str, Config, Callable[[Run], Verdict]]]:
    """RL2's bandits (Duan et al. 2016): n pulls of k arms; the reward of a trial."""
    for pulls, arms in ((10, 5), (10, 10), (100, 5)):
        for learner in ("rl2", "snail", "mann"):
            config = _memory(
                learner,
                env="metarl/Bandit-v0",
                options={"arms": arms},
                episodes=pulls,
                tasks=1000 if pulls == 10 else 500,
                iterations=300,
            )
            yield f"bandit-{pulls}-{arms}/{learner}", config, partial(remembered, trials=10_000)


def _tabular() -> Iterator[tuple[str, Config, Callable[[Run], Verdict]]]:
    """RL2's random MDPs (Duan et al. 2016): 10 states, 5 actions, 10 episodes of 10 steps; the reward of a trial."""
    for learner in ("rl2", "snail", "mann"):
        config = _memory(learner, env="metarl/TabularMDP-v0", episodes=10, tasks=500, iterations=400)
        yield f"mdp-10/{learner}", config, partial(remembered, trials=4000)


def _binding() -> Iterator[tuple[str, Config, Callable[[Run], Verdict]]]:
    """Which value goes with which key, told once, one step late (after Santoro et al. 2016), at equal parameters."""
    for learner, width in (("mann", 64), ("rl2", 96)):
        config = _memory(
            learner, env="metarl/Binding-v0", episodes=1, hidden=(width,), tasks=500, iterations=300, discount=0.0
        )
        yield f"binding/{learner}", config, partial(remembered, trials=4000)


def _maze() -> Iterator[tuple[str, Config, Callable[[Run], Verdict]]]:
    """A new maze per task (after Mishra et al. 2018): the second time the way should be known."""
    for learner in ("rl2", "snail", "mann"):
        config = _memory(learner, env="metarl/Maze-v0", episodes=3, tasks=250, iterations=300)
        yield f"maze/{learner}", config, partial(remembered, trials=2000)


def _rotated() -> Iterator[tuple[str, Config, Callable[[Run], Verdict]]]:
    """NoRML's point whose actions are turned (Yang et al. 2019): 25 rollouts of 10 steps."""
    for learner in ("maml", "metasgd"):
        config = replace(
            default(learner, "reward"),
            env="metarl/RotatedPoint-v0",
            hidden=(50, 50),
            iterations=300,
            tasks=10,
            episodes=25,
            query=25,
            inner_steps=1,
            discount=0.9,
            learning_rate=3e-3,
            divergence=0.05,
        )
        yield f"rotated/{learner}", config, partial(adapted, tasks=100, steps=3, episodes=5)
