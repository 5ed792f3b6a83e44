"""The pool of things: their sizes are true, they stand, and some are held out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pybullet_data
import pytest

from envs.frames import upright
from envs.objects import HELDOUT, POOL, PUCK, UNKNOWN, Thing, choice, pool
from envs.state import Physics, Pose, Scene, Start
from envs.world import PyBulletWorld
from robots.arms import PANDA

THINGS = (*POOL, PUCK)
MESHES = [thing for thing in POOL if thing.shape == "mesh"]


@pytest.fixture(scope="module")
def world() -> Iterator[PyBulletWorld]:
    world = PyBulletWorld(PANDA, Scene(THINGS))
    yield world
    world.close()


def test_things_have_their_own_names_and_fit_a_hand():
    assert len({thing.name for thing in THINGS}) == len(THINGS)
    assert all(min(thing.size[:2]) <= 0.06 for thing in THINGS)


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.name)
def test_a_thing_stands_where_it_is_put(world: PyBulletWorld, thing: Thing):
    world.randomize(Physics(object=THINGS.index(thing)))
    pose = Pose(*thing.standing(0.5, 0.2, 0.5))
    world.place(Start(PANDA.nominal, object=pose))
    np.testing.assert_array_equal(world.read().object[0], pose.position)
    world.advance(200)
    after = world.read().object
    np.testing.assert_allclose(after.position, pose.position, atol=0.004)
    assert upright(after.quaternion) == pytest.approx(upright(pose.quaternion), abs=0.01)


@pytest.mark.parametrize("thing", MESHES, ids=lambda thing: thing.name)
def test_the_sizes_of_meshes_are_those_of_their_files(thing: Thing):
    file = (Path(pybullet_data.getDataPath()) / thing.path).with_suffix(".obj")
    lines = [line.split() for line in file.read_text().splitlines()]
    corners = np.array([line[1:4] for line in lines if line[:1] == ["v"]], dtype=float) * 0.015 * thing.scale
    np.testing.assert_allclose(np.ptp(corners, axis=0), thing.size, atol=1e-4)
    assert thing.rest == pytest.approx(-corners[:, 2].min(), abs=2e-4)


@pytest.mark.parametrize("thing", [POOL[0], POOL[3], MESHES[0]], ids=lambda thing: thing.name)
def test_a_parked_thing_stays_and_comes_back(world: PyBulletWorld, thing: Thing):
    index = THINGS.index(thing)
    ends = []
    for other in (None, (index + 1) % len(THINGS)):
        world.randomize(Physics(object=other))
        world.place(Start(PANDA.nominal, object=Pose((0.5, -0.2, 0.2))))
        world.advance(100)
        assert (world.read().object is None) == (other is None)
        world.randomize(Physics(object=index, object_mass=0.3))
        world.place(Start(PANDA.nominal, object=Pose((0.5, 0.2, 0.2))))
        world.advance(100)
        ends.append(world.read().object)
    assert ends[0] == ends[1]


def test_a_pool_is_of_known_names():
    assert pool() == POOL
    assert pool("puck", "ball") == (PUCK, POOL[5])
    with pytest.raises(ValueError, match=r"objects \['teapot'\] are unknown, expected some of \['box'"):
        pool("box", "teapot")


def test_training_never_sees_what_is_held_out():
    things = choice(POOL)
    rng = np.random.default_rng(0)
    drawn = {split: {things.options[int(things.sample(rng, split)[0])] for _ in range(300)} for split in
             ("train", "heldout", "extrapolation")}  # fmt: skip
    assert drawn["train"] | drawn["heldout"] == set(things.options)
    assert drawn["heldout"] == drawn["extrapolation"] == set(things.heldout)
    assert set(things.heldout) == {thing.name for thing in MESHES if thing.name >= f"mesh_{HELDOUT}"}
    assert not drawn["train"] & drawn["heldout"]


def test_an_oracle_is_told_kind_and_size():
    things = choice(POOL)
    codes = np.array([things.encode(np.array([index])) for index in range(len(POOL))])
    assert (np.abs(codes) <= 1).all()
    assert len(np.unique(codes, axis=0)) == len(POOL)
    assert things.code == 8


def test_one_thing_alone_or_one_that_is_held_out_can_be_a_pool():
    assert choice((PUCK,)).heldout == ()
    assert choice(pool("mesh_905")).heldout == ()


def test_what_is_unknown_of_a_thing_is_nominal_in_the_engine():
    assert {name: parameter.nominal for name, parameter in UNKNOWN.items()} == {
        "object_mass": 0.2, "object_friction": Physics().object_friction, "object_restitution": 0.0,
    }  # fmt: skip
