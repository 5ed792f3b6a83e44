"""Task spaces: draws in range, splits that differ, encodings, checks, and the way through JSON."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.arm import Reach, Seek
from envs.tasks import SPLITS, Choice, Parameter, Task, TaskSpace
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


FEATURES = {"cube": (1.0, 0.0), "ball": (-1.0, 0.5), "can": (0.0, 0.0)}
THINGS = Choice("thing", ("cube", "ball", "can"), heldout=("ball",), nominal="can", features=FEATURES)
GROUND = Choice("ground", ("flat", "rough", "stairs"))


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    options = tuple(f"o{index}" for index in range(draw(st.integers(1, 6))))
    heldout = draw(st.lists(st.sampled_from(options), unique=True, max_size=len(options) - 1))
    return Choice("c", options, tuple(heldout), draw(st.sampled_from(("", *options))))


@given(choices(), SEEDS)
def test_training_never_sees_heldout_options_and_the_others_see_them_alone(choice: Choice, seed: int):
    space, rng = TaskSpace((choice, Parameter("p", "m", 0.0, 0.0, 1.0, "set"))), np.random.default_rng(seed)
    rest = set(choice.options) - set(choice.heldout)
    for split in SPLITS:
        tasks = [space.sample(rng, split) for _ in range(10)]
        drawn = {choice.options[int(task.values["c"][0])] for task in tasks}
        assert drawn <= (rest if split == "train" or not choice.heldout else set(choice.heldout))
        for task in tasks:
            space.check(task)
            assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task


def test_every_option_of_a_split_comes_up():
    rng = np.random.default_rng(0)
    for choice, split, wanted in (
        (GROUND, "train", {0, 1, 2}),
        (GROUND, "heldout", {0, 1, 2}),
        (THINGS, "train", {0, 2}),
    ):
        assert {choice.sample(rng, split)[0] for _ in range(100)} == wanted  # type: ignore[arg-type]


def test_an_oracle_is_told_features_or_which_one_it_is():
    space = TaskSpace((THINGS, GROUND, Parameter("p", "m", 0.0, 0.0, 1.0, "set")))
    assert (THINGS.code, GROUND.code, space.size) == (2, 3, 6)
    for index, name in enumerate(THINGS.options):
        code = space.encode(Task({"thing": (float(index),), "ground": (1.0,), "p": (1.0,)}))
        np.testing.assert_allclose(code, [*FEATURES[name], -1, 1, -1, 1])


def test_of_nothing_unknown_an_oracle_is_told_nothing():
    space = TaskSpace(())
    code = space.encode(space.sample(np.random.default_rng(0)))
    assert (code.shape, code.dtype, space.size) == ((0,), np.float64, 0)


def test_the_nominal_option_is_the_first_unless_given():
    assert (THINGS.nominal_values, GROUND.nominal_values) == ((2.0,), (0.0,))
    space = TaskSpace((THINGS, GROUND))
    space.check(space.nominal)


def test_choices_alone_cannot_be_extrapolated():
    with pytest.raises(ValueError, match="nothing to extrapolate to"):
        TaskSpace((THINGS, GROUND)).sample(np.random.default_rng(0), "extrapolation")


@pytest.mark.parametrize("values", [(3.0,), (-1.0,), (0.5,), (float("nan"),), (float("inf"),), (), (0.0, 1.0)])
def test_check_wants_the_index_of_an_option(values: tuple[float, ...]):
    with pytest.raises(ValueError, match=r"'ground' is .*, expected one index below 3 into \('flat', 'rough'"):
        TaskSpace((GROUND,)).check(Task({"ground": values}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"options": ()}, r"'x' has the options \(\), expected different ones"),
        ({"options": ("a", "a")}, r"options \('a', 'a'\), expected different ones"),
        ({"heldout": ("c",)}, r"'x': heldout \['c'\] is not among its options"),
        ({"nominal": "c"}, r"'x': nominal \['c'\] is not among its options"),
        ({"heldout": ("a", "b")}, "'x': all options are held out"),
        ({"features": {"a": (1.0,)}}, r"'x' needs features of each of \('a', 'b'\)"),
        ({"features": {"a": (1.0,), "b": (1.0, 0.0)}}, r"'x' needs features of each of .*, equally many"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(change: dict, says: str):
    with pytest.raises(ValueError, match=says):
        Choice(**{"name": "x", "options": ("a", "b"), **change})


def test_names_are_used_once():
    with pytest.raises(ValueError, match=r"parameters \['thing'\] occur more than once"):
        TaskSpace((THINGS, THINGS))
