"""Configurations: there and back through JSON, and what they refuse."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from metarl.config import APPLIES, DEFAULTS, MEMORY, OBJECTIVES, ONLINE, Config, default
from metarl.episodes import Episodes
from metarl.learners.learner import ACTOR
from metarl.learners.registry import LEARNERS, make_learner
from metarl.objectives import Demonstration, Prediction, Reward
from metarl.problem import Problem
from metarl.sampling.batch import BatchSampler
from metarl.sampling.worker import Trial, draw_tasks

PAIRS = [(learner, objective) for learner, objectives in APPLIES.items() for objective in objectives]


@pytest.mark.parametrize("config", DEFAULTS.values(), ids=str)
def test_a_config_survives_json(config: Config):
    changed = replace(config, hidden=(7,), seed=3, start="elsewhere")
    for one in (config, changed):
        assert Config.from_dict(json.loads(json.dumps(one.to_dict()))) == one


COUNTS = ("iterations", "tasks", "episodes", "query", "inner_steps", "passes", "context", "batches", "slots", "tries")
RATES = ("learning_rate", "step_size", "step_decay", "step_size_rate", "clip", "divergence", "sigma")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in COUNTS),
        *((name, 0.0) for name in RATES),
        ("learning_rate", float("nan")),
        ("step_size", float("inf")),
        ("divergence", -0.1),
        ("discount", 1.01),
        ("gae_lambda", -0.1),
        ("entropy", -1.0),
        ("entropy", float("inf")),
        ("recall", -1.0),
        ("recall", float("inf")),
        ("activation", "sine"),
        ("seed", -1),
        ("hidden", (64, 0)),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: Any):
    with pytest.raises(ValueError, match=f"{name} is"):
        replace(DEFAULTS["reward"], **{name: value})


def test_unknown_and_missing_keys_are_refused():
    values = DEFAULTS["reward"].to_dict()
    with pytest.raises(TypeError, match="colour"):
        Config.from_dict({**values, "colour": 1})
    with pytest.raises(TypeError, match="iterations"):
        Config.from_dict({name: value for name, value in values.items() if name != "iterations"})


def test_defaults_are_filed_under_their_objective():
    assert all(config.objective == name for name, config in DEFAULTS.items())


def test_learners_and_objectives_are_those_that_exist():
    assert set(APPLIES) == set(LEARNERS)
    assert set(OBJECTIVES) == {Demonstration.name, Prediction.name, Reward.name}
    assert all(set(objectives) <= set(OBJECTIVES) for objectives in APPLIES.values())


@pytest.mark.parametrize(("learner", "objective"), PAIRS)
def test_every_pair_that_can_work_has_defaults_and_a_learner(learner: str, objective: str):
    config = default(learner, objective)
    assert (config.learner, config.objective) == (learner, objective)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    small = replace(config, env="metarl/A1Walk-v0" if learner in ONLINE else "metarl/Sinusoid-v0", hidden=(4,))
    made = make_learner(small, Problem.of(small.env))
    assert made.objective.name == objective
    assert made.theta.shape == (made.network.size,)


@pytest.mark.parametrize("learner", APPLIES)
def test_what_is_not_named_is_chosen_to_go_with_the_other(learner: str):
    assert default(learner).objective in APPLIES[learner]
    assert default(learner).learner == learner
    for objective in OBJECTIVES:
        assert default(None, objective).objective == objective
    assert (default().learner, default().objective) == ("metasgd", "demonstration")


@pytest.mark.parametrize(
    ("learner", "objective"), [pair for pair in product(APPLIES, OBJECTIVES) if pair not in PAIRS], ids=str
)
def test_a_pair_that_cannot_work_is_refused_with_what_would(learner: str, objective: str):
    with pytest.raises(ValueError, match=f"learner '{learner}' cannot learn by objective '{objective}'") as caught:
        default(learner, objective)
    text = str(caught.value)
    assert all(repr(name) in text for name in APPLIES[learner])
    assert all(repr(name) in text for name, objectives in APPLIES.items() if objective in objectives)


@pytest.mark.parametrize(("name", "value"), [("learner", "mammal"), ("objective", "applause")])
def test_an_unknown_name_is_refused_with_those_that_are_known(name: str, value: str):
    with pytest.raises(ValueError, match=f"{name} '{value}' is unknown, expected one of") as caught:
        replace(DEFAULTS["reward"], **{name: value})
    assert all(repr(known) in str(caught.value) for known in (APPLIES if name == "learner" else OBJECTIVES))
    with pytest.raises(ValueError, match=f"{name} '{value}' is unknown"):
        default(**{name: value})


@pytest.mark.parametrize("name", ["episodes", "query"])
@pytest.mark.parametrize("learner", [name for name, objectives in APPLIES.items() if len(objectives) > 1])
def test_by_reward_an_attempt_is_judged_against_others(learner: str, name: str):
    with pytest.raises(ValueError, match="expected 2 or more: by reward, an attempt is judged against the others"):
        replace(default(learner, "reward"), **{name: 1})


class Counting(BatchSampler):
    """Counts the episodes that it is asked for."""

    asked = 0

    def sample(self, trials: Sequence[Trial]) -> list[Episodes]:
        self.asked += sum(trial.episodes for trial in trials)
        return super().sample(trials)


@pytest.mark.parametrize("climb", [False, True])
@pytest.mark.parametrize(("learner", "objective"), [pair for pair in PAIRS if pair[0] not in ONLINE])
def test_an_iteration_costs_as_many_episodes_as_it_says(tiny, learner: str, objective: str, climb: bool):
    sizes = {"tasks": 3, "episodes": 4, "query": 5, "inner_steps": 2, "tries": 3, "climb": climb}
    config = tiny(objective, learner, env="metarl/Sinusoid-v0", **sizes)
    problem = Problem.of(config.env)
    made = make_learner(config, problem)
    sampler = Counting(problem.classic, {ACTOR: made.network})
    batches = made.gather(sampler, draw_tasks(problem.space, "train", (0, 0), 3), (0, 0))
    assert sampler.asked == config.episodes_per_iteration
    lived = {id(batch): batch.mask.shape[0] * batch.mask.shape[1] for batch in batches}
    assert sum(lived.values()) == sampler.asked  # none was lived for nothing
    assert (len(batches) == 1) == (learner in MEMORY)
    if learner not in MEMORY:
        assert len(batches) == config.inner_steps + 1
