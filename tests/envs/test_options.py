"""What a job may be asked for: every field of the wrong kind is one clear ValueError."""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np
import pytest

from envs import options
from envs.arm import Reach, Seek
from envs.arm import build as build_arm
from envs.legged import Walk
from envs.legged import build as build_walker
from envs.tasks import Choice, Parameter
from robots.arms import PANDA
from robots.legged import A1

BAD_WALKS: list[tuple[dict[str, Any], str]] = [
    ({"level": "high"}, r"level is 'high', expected a finite number in \[0.001, 1\]"),
    ({"level": 2}, r"level is 2, expected a finite number in \[0.001, 1\]"),
    ({"frequency": 2.0}, r"frequency is 2.0, expected \(from, to\): two finite numbers in order in \[0.1, inf\]"),
    ({"frequency": (0.0, 2.0)}, r"frequency is \(0.0, 2.0\)"),
    ({"ground": "rough"}, r"ground is 'rough', expected a tuple of names, even for one"),
    ({"ground": ["rough"]}, r"ground is \['rough'\], expected a tuple"),
    ({"ground": (1,)}, r"ground is \(1,\), expected a tuple of names"),
    ({"forward": (nan, 1.0)}, r"forward is \(nan, 1.0\), expected \(from, to\): two finite numbers in order"),
    ({"forward": (0.7,)}, r"forward is \(0.7,\)"),
    ({"left": (0.2, -0.2)}, r"left is \(0.2, -0.2\)"),
    ({"yaw_rate": ("a", "b")}, r"yaw_rate is \('a', 'b'\)"),
    ({"stance": (0.5, 1.2)}, r"stance is \(0.5, 1.2\), .* in \[0.05, 0.95\]"),
    ({"stance": (0.0, 0.5)}, r"stance is \(0.0, 0.5\)"),
    ({"lift": (-0.1, 0.1)}, r"lift is \(-0.1, 0.1\)"),
    ({"residual": 0}, "residual is 0, expected a finite number in"),
    ({"residual": True}, "residual is True"),
    ({"ground_seed": -1}, "ground_seed is -1, expected a whole number from 0 up"),
]
BAD_JOBS: list[tuple[dict[str, Any], str]] = [
    ({"unknown": (3,)}, r"unknown is \(3,\), expected a tuple of names of faults, Parameters and Choices"),
    ({"unknown": "payload"}, r"unknown is 'payload', expected a tuple of names.*such as \('payload',\)"),
    ({"unknown": None}, "unknown is None"),
    ({"horizon": 0}, "horizon is 0, expected a whole number from 1 up"),
    ({"horizon": -5}, "horizon is -5, expected a whole number"),
    ({"horizon": 2.0}, "horizon is 2.0, expected a whole number"),
    ({"horizon": "long"}, "horizon is 'long', expected a whole number"),
]


@pytest.mark.parametrize(("asked", "says"), [*BAD_WALKS, *BAD_JOBS])
def test_a_walk_that_makes_no_sense_is_refused(asked: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        Walk(A1, **asked)


@pytest.mark.parametrize("job", [Reach, Seek])
@pytest.mark.parametrize(("asked", "says"), BAD_JOBS)
def test_an_arms_job_that_makes_no_sense_is_refused(job: Any, asked: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        job(PANDA, **asked)


def test_what_makes_sense_passes():
    walk = Walk(A1, (), ("rough",), level=1, forward=(0, 0), horizon=np.int64(5), residual=np.float64(0.1))  # type: ignore[arg-type]
    assert walk.horizon == 5
    Reach(PANDA, ["payload", Parameter("p", "1", 0.0, 0.0, 1.0, "set"), Choice("c", ("a", "b"))])
    Seek(PANDA, unknown=())


def test_a_job_is_arranged_by_name_or_spec():
    robots = {"a1": A1}
    assert options.arrange(Walk, "a1", robots, {"horizon": 3}) == Walk(A1, horizon=3)
    assert options.arrange(Walk, A1, {}, {}) == Walk(A1)
    with pytest.raises(ValueError, match=r"robot is 'b2', expected one of \['a1'\] or a RobotSpec of your own"):
        options.arrange(Walk, "b2", robots, {})
    with pytest.raises(ValueError, match=r"options \['grund'\] are unknown, expected some of \['unknown', .* of Walk"):
        options.arrange(Walk, "a1", robots, {"grund": 1})


def test_builders_name_what_is_unknown():
    with pytest.raises(ValueError, match=r"robot is 'panda', expected one of \['a1', 'laikago'"):
        build_walker("panda")
    with pytest.raises(ValueError, match=r"job is 'Read', expected one of \['Reach', 'Seek'\]"):
        build_arm("panda", "Read")
