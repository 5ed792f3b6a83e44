"""The papers' own tables: what is trained, how it is judged, and the page that says how it compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metarl.benchmarks.references import random_mdp, thompson, ucb1
from metarl.checkpoint import Run
from metarl.config import Config, default
from metarl.evidence.cell import Cell, Verdict, by_learner, failures, seeds_of
from metarl.evidence.judges import adapted, remembered
from metarl.evidence.tables import minutes, spread, table

SEEDS = (0, 1, 2)
Row = tuple[str, Config, Callable[[Run, int], Verdict]]  # table and row, settings, judge


def cells() -> list[Cell]:
    """All of them, seed by seed, so that every row has one before any has two."""
    made = [
        by_learner(f"papers/{name}/{seed}", replace(config, seed=seed), judge)
        for seed in SEEDS
        for name, config, judge in _rows()
    ]
    return made


def _rows() -> Iterator[Row]:
    yield from _sinusoid()
    yield from _navigation()
    yield from _bandits()
    yield from _tabular()
    yield from _binding()
    yield from _maze()
    yield from _rotated()


def _sinusoid() -> Iterator[Row]:
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
            inner_steps=5 if learner in ("reptile", "metasgd") else 1,
            learning_rate=0.5 if learner == "reptile" else 2e-3,
            step_size=0.01,
            step_size_rate=1e-3,
        )
        if learner == "metasgd":  # five learned steps are delicate
            config = replace(config, step_size_rate=1e-4, every_step=True)
        yield f"sinusoid/{learner}", config, partial(adapted, tasks=600, steps=5, episodes=50)


def _navigation() -> Iterator[Row]:
    """MAML's point in the plane (Finn et al. 2017): 20 trajectories of 100 steps before each inner step.

    Every step counts in training (MAML++, Antoniou et al. 2019), and each is smaller than the one before. Trained for
    the last step alone, the first ones only prepare it; trained for one step alone, further ones ruin it.
    """
    base = replace(
        default("promp", "reward"),
        env="metarl/PointNavigation-v0",
        hidden=(100, 100),
        activation="relu",
        iterations=100,
        tasks=25,
        inner_steps=3,
        every_step=True,
        learning_rate=6e-3,
        step_size=0.55,
        step_decay=0.6,
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


MEMORY = {"discount": 1.0, "gae_lambda": 0.3, "entropy": 0.005, "divergence": 0.1, "passes": 6}
OWN: dict[str, dict[str, Any]] = {
    "rl2": {"hidden": (64,), "learning_rate": 5e-3},
    "mann": {"hidden": (64,), "learning_rate": 5e-3},
    "snail": {"hidden": (16,), "learning_rate": 3e-3},
}


def _memory(learner: str, **settings: Any) -> Config:
    return replace(default(learner, "reward"), **{**MEMORY, **OWN[learner], **settings})


def _bandits() -> Iterator[Row]:
    """RL2's bandits (Duan et al. 2016): n pulls of k arms; the reward of a trial.

    Of a hundred pulls `snail` can look up any; the others learn what to keep, from more trials, exploring longer, and
    being asked.
    """
    keeping = {"tasks": 500, "gae_lambda": 0.9, "entropy": 0.01, "recall": 1.0}
    long = {"rl2": keeping, "mann": keeping, "snail": {"tasks": 250, "gae_lambda": 0.8}}
    for pulls, arms in ((10, 5), (10, 10), (100, 5)):
        for learner in ("rl2", "snail", "mann"):
            settings = {"tasks": 1000} if pulls == 10 else long[learner]
            config = _memory(
                learner, env="metarl/Bandit-v0", options={"arms": arms}, episodes=pulls, iterations=150, **settings
            )
            yield f"bandit-{pulls}-{arms}/{learner}", config, partial(remembered, trials=10_000)


def _tabular() -> Iterator[Row]:
    """RL2's random MDPs (Duan et al. 2016): 10 states, 5 actions, 10 episodes of 10 steps; the reward of a trial.

    A short sight is what makes it learnable in so little motion: of a trial's reward little is due to one choice. As in
    the long bandit, all but `snail` are asked.
    """
    base: dict[str, Any] = {"episodes": 10, "discount": 0.9, "gae_lambda": 0.3, "divergence": 0.05, "batches": 4}
    own: dict[str, dict[str, Any]] = {
        "rl2": {"tasks": 400, "iterations": 400, "discount": 0.7, "hidden": (96,), "recall": 1.0},
        "snail": {"tasks": 240, "iterations": 300, "passes": 5, "learning_rate": 6e-3},
        "mann": {"tasks": 400, "iterations": 400, "discount": 0.7, "recall": 1.0},
    }
    for learner, settings in own.items():
        config = _memory(learner, env="metarl/TabularMDP-v0", **{**base, **settings})
        yield f"mdp-10/{learner}", config, partial(remembered, trials=4000)


def _binding() -> Iterator[Row]:
    """Which value goes with which key, told once, one step late (after Santoro et al. 2016), at equal parameters."""
    for learner, width in (("mann", 64), ("rl2", 72)):
        config = _memory(
            learner, env="metarl/Binding-v0", episodes=1, hidden=(width,), tasks=250, iterations=200, discount=0.0
        )
        yield f"binding/{learner}", config, partial(remembered, trials=4000)


def _maze() -> Iterator[Row]:
    """A new maze per task (after Mishra et al. 2018): the second time the way should be known."""
    for learner in ("rl2", "snail", "mann"):
        config = _memory(
            learner, env="metarl/Maze-v0", episodes=3, tasks=200, iterations=200, gae_lambda=0.95, discount=0.99
        )
        yield f"maze/{learner}", config, partial(remembered, trials=2000)


def _rotated() -> Iterator[Row]:
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


PAGE = "papers.md"
HEAD = """# The papers' own tables

Every learner on the tasks of the papers that introduced it, with the settings in `metarl/evidence/papers.py`: final
policies, not the best seen, on tasks drawn apart from training. A figure is the mean over training seeds, with the
lowest and the highest of them in brackets. Minutes are the wall time of training one seed in one process on two
cores that other work shared. `python scripts/evidence.py --only 'papers/*' --cells 1` runs the next missing cell; the
verdicts are in `docs/evidence/papers`, and this page is made from them.

"""


def markdown(docs: Path) -> str:
    """The page, from the verdicts that there are."""
    made = cells()

    def of(name: str) -> list[Verdict]:
        return seeds_of(made, f"papers/{name}", docs)

    sections = (_sinusoids, _navigations, _trials, _bindings, _mazes, _turned)
    return HEAD + "\n".join(section(of) for section in sections) + failures(made, docs)


Of = Callable[[str], list[Verdict]]


def _means(verdicts: Sequence[Verdict], figure: str, step: int) -> list[float]:
    return [verdict["rows"][step][figure]["mean"] for verdict in verdicts]


def _common(learner: str, verdicts: Sequence[Verdict]) -> list[str]:
    return [learner, str(len(verdicts))]


def _sinusoids(of: Of) -> str:
    lines = []
    for learner in ("maml", "fomaml", "reptile", "metasgd"):
        found = of(f"sinusoid/{learner}")
        errors = [spread(_means(found, "error", step), 3) for step in (0, 1, 5)]
        lines.append([*_common(learner, found), *errors, minutes(found)])
    lines.append(["MAML as published", "", "about 2.8", "about 0.7", "about 0.3", ""])
    return "## Sinusoids, five points (mean squared error)\n\n" + table(
        ["learner", "seeds", "0 steps", "1 step", "5 steps", "minutes"], lines
    )


def _navigations(of: Of) -> str:
    lines = []
    for learner in ("maml", "promp", "fomaml", "reptile", "es_maml"):
        found = of(f"navigation/{learner}")
        returns = [spread(_means(found, "return", step), 1) for step in range(4)]
        lines.append([*_common(learner, found), *returns, minutes(found)])
    lines.append(["MAML as published", "", "-40.4", "-11.7", "-3.3", "", ""])
    return (
        "## A point in the plane (return over 100 steps)\n\n"
        + table(["learner", "seeds", "0 steps", "1 step", "2 steps", "3 steps", "minutes"], lines)
        + "\nActing by the mean action. es_maml's steps are rounds of its search.\n"
    )


PUBLISHED = {  # Duan et al. 2016 and Mishra et al. 2018
    "bandit-10-5": {"rl2": 6.7, "snail": 6.6},
    "bandit-10-10": {"rl2": 6.7, "snail": 6.7},
    "bandit-100-5": {"rl2": 78.7, "snail": 79.1},
    "mdp-10": {"rl2": 156.2, "snail": 159.1},
}


TRIALS = """
Learners draw their actions, over 10,000 trials (MDPs 4,000); references are computed here, likewise. Unlike where they
were published, `rl2` and `mann` have a layer before and one after what recurs, and in the long bandit and in the MDP
they are asked, while they train, what any step of the trial paid (`metarl/recall.py`). They had 7.5 million steps of
the one and 16 million of the other; `snail`, which is not asked, 3.75 and 7.2.
"""


def _trials(of: Of) -> str:
    lines = []
    for name, published in PUBLISHED.items():
        for learner in ("rl2", "snail", "mann"):
            found = of(f"{name}/{learner}")
            rewards = [verdict["reward"]["mean"] for verdict in found]
            beside = f"{published[learner]:g}" if learner in published else ""
            lines.append([name, *_common(learner, found), spread(rewards), beside, minutes(found)])
        lines += [[name, *line, ""] for line in _references(name)]
    return (
        "## Bandits (pulls, arms) and random MDPs (episodes): reward of a trial\n\n"
        + table(["task", "learner", "seeds", "reward", "published", "minutes"], lines)
        + TRIALS
    )


def _references(name: str) -> list[list[str]]:
    """Lines of what needs no training."""
    rng, trials = np.random.default_rng(0), 10_000
    if name == "mdp-10":
        return [["random", "", f"{random_mdp(10, 4000, rng).mean():.1f}", "100.1"]]
    pulls, arms = (int(part) for part in name.split("-")[1:])
    best = {"bandit-10-5": "6.7", "bandit-10-10": "6.7", "bandit-100-5": "78.0"}[name]
    return [
        ["UCB1", "", f"{ucb1(arms, pulls, trials, rng).mean():.2f}", best],
        ["Thompson sampling", "", f"{thompson(arms, pulls, trials, rng).mean():.2f}", ""],
    ]


def _bindings(of: Of) -> str:
    lines = []
    for learner in ("mann", "rl2"):
        found = of(f"binding/{learner}")
        parameters = f"{found[0]['parameters']:,}" if found else ""
        rewards = [verdict["reward"]["mean"] for verdict in found]
        late = [float(np.mean(verdict["reward_curve"][-10:])) for verdict in found]
        lines.append([*_common(learner, found), parameters, spread(rewards), spread(late), minutes(found)])
    return "## Binding: eight keys and their values, told one step late (right answers of 40)\n\n" + table(
        ["learner", "seeds", "parameters", "right answers", "share right in the last ten", "minutes"], lines
    )


def _mazes(of: Of) -> str:
    lines = []
    for learner in ("rl2", "snail", "mann"):
        found = of(f"maze/{learner}")
        lengths = [spread([verdict["length_curve"][turn] for verdict in found], 1) for turn in range(3)]
        lines.append([*_common(learner, found), *lengths, minutes(found)])
    return "## A new maze per task: steps to the goal (40 at most)\n\n" + table(
        ["learner", "seeds", "first time", "second", "third", "minutes"], lines
    )


def _turned(of: Of) -> str:
    lines = []
    for learner in ("maml", "metasgd"):
        found = of(f"rotated/{learner}")
        returns = [spread(_means(found, "return", step), 1) for step in range(4)]
        lines.append([*_common(learner, found), *returns, minutes(found)])
    return "## A point whose actions are turned (return over 10 steps)\n\n" + table(
        ["learner", "seeds", "0 steps", "1 step", "2 steps", "3 steps", "minutes"], lines
    )
