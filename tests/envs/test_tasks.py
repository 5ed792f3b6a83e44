"""Task spaces: draws in range, splits that differ, encodings, checks, and the way through JSON."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.arm import Reach, Seek
from envs.tasks import SPLITS, Parameter, Task, TaskSpace
from robots.arms import PANDA

SPACE = TaskSpace(
    (
        Parameter("mass", "kg", 1.0, 0.5, 2.5, "scale", bounds=(0.1, 2.6)),
        Parameter("shift", "m", 0.0, -0.4, 0.4, "add", size=3),
    )
)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def spaces(draw: st.DrawFn) -> TaskSpace:
    parameters = []
    for index in range(draw(st.integers(1, 4))):
        low, width = draw(st.floats(-100, 100)), draw(st.floats(0.01, 100))
        slack = draw(st.sampled_from([0.0, 0.01, 1.0, np.inf])) if index else np.inf
        bounds = (low - slack, low + width + slack)
        size = draw(st.integers(1, 3))
        parameters.append(Parameter(f"p{index}", "m", low, low, low + width, "set", size=size, bounds=bounds))
    return TaskSpace(tuple(parameters))


@given(spaces(), SEEDS, st.sampled_from(SPLITS))
def test_draws_lie_in_the_ranges_of_their_split(space: TaskSpace, seed: int, split):
    task = space.sample(np.random.default_rng(seed), split)
    space.check(task)
    outside = False
    for parameter in space.parameters:
        values = task[parameter.name]
        low, high = parameter.range(split)
        assert values.shape == (parameter.size,)
        assert ((values >= low) & (values <= high)).all()
        assert ((values >= parameter.bounds[0]) & (values <= parameter.bounds[1])).all()
        outside |= bool(((values < parameter.low) | (values > parameter.high)).any())
    assert outside == (split == "extrapolation")


@given(spaces(), SEEDS)
def test_encoding_maps_training_to_unit_range(space: TaskSpace, seed: int):
    rng = np.random.default_rng(seed)
    for split in ("train", "heldout"):
        code = space.encode(space.sample(rng, split))
        assert code.shape == (space.size,)
        assert (np.abs(code) <= 1).all()
    assert np.abs(space.encode(space.sample(rng, "extrapolation"))).max() > 1


def test_encoding_follows_the_order_of_parameters():
    task = Task({"shift": (-0.4, 0.0, 0.4), "mass": (2.5,)})
    np.testing.assert_allclose(SPACE.encode(task), [1, -1, 0, 1], atol=1e-12)


@given(SEEDS)
def test_splits_draw_differently_from_one_state(seed: int):
    draws = [SPACE.sample(np.random.default_rng(seed), split) for split in SPLITS]
    assert len({draw.values["mass"] for draw in draws}) == 3
    assert [SPACE.sample(np.random.default_rng(seed), split) for split in SPLITS] == draws


@given(spaces(), SEEDS, st.sampled_from(SPLITS))
def test_there_and_back_through_json(space: TaskSpace, seed: int, split):
    task = space.sample(np.random.default_rng(seed), split)
    assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task


@pytest.mark.parametrize("job", [Reach(PANDA), Seek(PANDA)], ids=["reach", "seek"])
def test_the_nominal_task_is_a_task(job: Reach | Seek):
    job.space.check(job.space.nominal)
    names = [parameter.name for parameter in job.space.parameters]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mass": (float("nan"),)}, r"'mass' is \[nan\] kg, expected values in \[0.1, 2.6\]"),
        ({"mass": (9.0,)}, r"'mass' is \[9.0\] kg, expected values in \[0.1, 2.6\]"),
        ({"shift": (0.0, -0.7, 0.0)}, r"'shift' is .*-0.7.* m, expected values in \[-0.6, 0.6\]"),
        ({"shift": (0.0, 0.0)}, "'shift' has 2 values, expected 3"),
        ({"mass": ()}, "'mass' has 0 values, expected 1"),
        ({"colour": (1.0,)}, r"\['colour', 'mass', 'shift'\], expected \['mass', 'shift'\]"),
    ],
)
def test_check_names_what_is_wrong(change: dict, says: str):
    with pytest.raises(ValueError, match=says):
        SPACE.check(Task({**SPACE.nominal.values, **change}))


def test_check_names_what_is_missing():
    with pytest.raises(ValueError, match=r"\['mass'\], expected \['mass', 'shift'\]"):
        SPACE.check(Task({"mass": (1.0,)}))


@pytest.mark.parametrize(
    "values",
    [None, [1.0], {"mass": 1.0}, {"mass": None}, {"mass": "12"}, {"mass": {"1": 2}}],
)
def test_from_dict_wants_a_list_under_each_name(values: object):
    with pytest.raises(ValueError, match="expected a list of numbers"):
        Task.from_dict(values)  # type: ignore[arg-type]


@pytest.mark.parametrize("entry", ["x", "1", None, True, [1.0], 10**400])
def test_from_dict_wants_numbers(entry: object):
    with pytest.raises(ValueError, match="expected a list of numbers"):
        Task.from_dict({"mass": [entry]})


def test_unknown_splits_are_refused():
    with pytest.raises(ValueError, match=r"split is 'test', expected one of \('train'"):
        SPACE.sample(np.random.default_rng(0), "test")  # type: ignore[arg-type]


def test_nothing_to_extrapolate_to_is_an_error_not_an_endless_search():
    tight = TaskSpace((Parameter("share", "1", 1.0, 0.0, 1.0, "scale", bounds=(0.0, 1.0)),))
    with pytest.raises(ValueError, match="nothing to extrapolate to"):
        tight.sample(np.random.default_rng(0), "extrapolation")


@pytest.mark.parametrize(("low", "high", "bounds"), [(1.0, 1.0, (0, 2)), (2.0, 1.0, (0, 3)), (0.0, 2.0, (0, 1))])
def test_ranges_are_ordered_and_possible(low: float, high: float, bounds: tuple[float, float]):
    with pytest.raises(ValueError, match="'x': range"):
        Parameter("x", "m", low, low, high, "set", bounds=bounds)
