"""Configurations: there and back through JSON, and what they refuse."""

import json
from dataclasses import replace
from typing import Any

import pytest

from metarl.config import DEFAULTS, Config


@pytest.mark.parametrize("config", DEFAULTS.values(), ids=str)
def test_a_config_survives_json(config: Config):
    changed = replace(config, hidden=(7,), seed=3, start="elsewhere")
    for one in (config, changed):
        assert Config.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("iterations", "tasks", "episodes", "query", "inner_steps", "passes")),
        *((name, 0.0) for name in ("learning_rate", "step_size", "step_size_rate", "clip", "divergence")),
        ("learning_rate", float("nan")),
        ("step_size", float("inf")),
        ("divergence", -0.1),
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
