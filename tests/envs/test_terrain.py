"""The ground: easy to hard, level where a robot starts, the same in every run; and what a grid of it answers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from envs import terrain
from envs.terrain import CELL, HIGHEST, KINDS, LEVELS, PLATFORM, REACH, SAMPLES, TILE, TREAD, Grid

GRIDS = {kinds: terrain.grid(kinds) for kinds in (("flat",), ("stairs_down", "stones"), ("rough", "flat", "slope_up"))}
X = (np.arange(SAMPLES) - (SAMPLES - 1) / 2) * CELL
RADIUS = np.maximum(np.abs(X)[:, None], np.abs(X))
OUTWARD = X > 0  # from the middle along x
LONG = LEVELS * SAMPLES  # samples of a grid along x
SEEDS = st.integers(0, 2**32 - 1)
DIFFICULTIES = st.floats(0, 1)
HARDEST = {  # what stands in the docstring: lowest and highest ground at difficulty 0 and at 1
    "flat": ((0.0, 0.0), (0.0, 0.0)),
    "rough": ((-0.005, 0.005), (-0.08, 0.08)),
    "slope_up": ((0.0, 0.0), (0.0, 1.92)),
    "slope_down": ((0.0, 0.0), (-1.92, 0.0)),
    "stairs_up": ((0.0, 0.32), (0.0, 3.2)),
    "stairs_down": ((-0.32, 0.0), (-3.2, 0.0)),
    "stones": ((-0.02, 0.0), (-0.3, 0.0)),
    "waves": ((-0.01, 0.01), (-0.15, 0.15)),
    "obstacles": ((-0.02, 0.02), (-0.25, 0.25)),
}


def made(kind: str, difficulty: float, seed: int = 0) -> np.ndarray:
    return terrain.heights(kind, difficulty, np.random.default_rng(seed))


@given(st.sampled_from(KINDS), DIFFICULTIES, SEEDS)
def test_a_tile_is_level_in_the_middle_and_at_the_rim(kind: str, difficulty: float, seed: int):
    field = made(kind, difficulty, seed)
    assert field.shape == (SAMPLES, SAMPLES)
    assert field.dtype == np.float64
    assert np.isfinite(field).all()
    assert np.abs(field).max() <= HIGHEST + 1e-9
    assert (field[RADIUS < PLATFORM] == 0).all()
    assert np.ptp(field[RADIUS > REACH]) == 0
    if not kind.startswith(("slope", "stairs")):
        assert (field[RADIUS > REACH] == 0).all()


@given(st.sampled_from(KINDS), st.tuples(DIFFICULTIES, DIFFICULTIES).map(sorted), SEEDS)
def test_what_is_harder_is_no_flatter(kind: str, difficulties: list[float], seed: int):
    easy, hard = (made(kind, difficulty, seed) for difficulty in difficulties)
    assert np.ptp(easy) <= np.ptp(hard) + 1e-12
    if kind != "stones":  # of one seed every place is as high or higher; smaller stones lie elsewhere
        assert (np.abs(easy) <= np.abs(hard) + 1e-12).all()


@given(st.sampled_from(KINDS), SEEDS)
def test_ranges_are_those_of_the_table(kind: str, seed: int):
    for difficulty, (low, high) in zip((0.0, 1.0), HARDEST[kind], strict=True):
        field = made(kind, difficulty, seed)
        assert low - 1e-9 <= field.min() <= 0.85 * low + 1e-9
        assert 0.85 * high - 1e-9 <= field.max() <= high + 1e-9


@given(DIFFICULTIES, st.sampled_from([("slope_up", 1), ("slope_down", -1)]))
def test_slopes_have_the_stated_gradient(difficulty: float, kind: tuple[str, int]):
    ramp = made(kind[0], difficulty)[OUTWARD & (X > PLATFORM) & (X < REACH), SAMPLES // 2]
    np.testing.assert_allclose(np.diff(ramp) / CELL, kind[1] * 0.4 * difficulty, atol=1e-9)


@given(DIFFICULTIES, st.sampled_from([("stairs_up", 1), ("stairs_down", -1)]))
def test_stairs_have_the_stated_risers_and_treads(difficulty: float, kind: tuple[str, int]):
    field = made(kind[0], difficulty)
    rises = np.diff(field[OUTWARD, SAMPLES // 2])
    (steps,) = np.nonzero(rises)
    np.testing.assert_allclose(rises[steps], kind[1] * (0.02 + 0.18 * difficulty), atol=1e-9)
    np.testing.assert_allclose(X[OUTWARD][steps] + CELL / 2, PLATFORM + TREAD * np.arange(16), atol=1e-9)
    for turned in (field.T, field[::-1], field[:, ::-1]):
        np.testing.assert_array_equal(turned, field)


def widths(mask: np.ndarray) -> set[float]:
    """Lengths (m) of the runs of True that end within `mask`."""
    edges = np.diff(mask.astype(int))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    ends = ends[ends > starts[0]]
    return {round(float(end - start) * CELL, 2) for start, end in zip(starts, ends, strict=False)}


@given(SEEDS)
def test_stones_and_gaps_have_the_stated_size(seed: int):
    for difficulty, stone, gap in ((0.0, 0.8, 0.1), (1.0, 0.3, 0.2)):
        beside = made("stones", difficulty, seed)[np.ix_((X > PLATFORM) & (X < REACH), np.abs(X) < REACH)]
        between = beside.max(axis=1) < 0  # nothing but pit: between two rows of stones
        assert widths(between) == {gap}
        assert widths(~between) == {stone}
        for row in beside[~between]:
            assert widths(row < 0) == {gap}
            assert widths(row == 0) == {stone}


def test_a_robots_reach_of_rough_ground_is_rough_all_over():
    for kind in ("rough", "waves"):
        field = made(kind, 1.0)
        band = (RADIUS > PLATFORM + terrain.FADE) & (RADIUS < REACH - terrain.FADE)
        assert (field[band] == 0).mean() < 0.01


def test_rough_ground_is_straight_within_a_grain():
    full = (X > PLATFORM + terrain.FADE) & (X < REACH - terrain.FADE)
    field = made("rough", 1.0)[np.ix_(full, full)]
    bend = [np.abs(np.diff(turned, 2, axis=0)).max(axis=1) for turned in (field, field.T)]
    for bends in bend:
        assert set(np.diff(np.flatnonzero(bends > 1e-9)) * CELL) == {0.2}


def test_the_grid_is_the_same_in_every_run_and_with_other_kinds_around():
    alone, among = terrain.grid(("stones",), 3), terrain.grid(("rough", "stones"), 3)
    assert terrain.grid(("rough", "stones"), 3).heights.tobytes() == among.heights.tobytes()
    for level in range(LEVELS):
        np.testing.assert_array_equal(alone.tile("stones", level)[0], among.tile("stones", level)[0])
    assert terrain.grid(("rough", "stones"), 4).heights.tobytes() != among.heights.tobytes()
    rng = np.random.default_rng([3, KINDS.index("stones"), 6])
    np.testing.assert_array_equal(alone.tile("stones", 6)[0], terrain.heights("stones", 6 / (LEVELS - 1), rng))


def test_tiles_lie_in_rows_around_the_origin():
    grid = GRIDS["rough", "flat", "slope_up"]
    np.testing.assert_allclose(grid.centre("flat", 0), [-4.5 * TILE, 0], atol=1e-9)
    np.testing.assert_allclose(grid.centre("slope_up", 9), [4.5 * TILE, TILE], atol=1e-9)
    np.testing.assert_allclose(grid.centre("rough", 5), [0.5 * TILE, -TILE], atol=1e-9)
    for kind in grid.kinds:
        field, first = grid.tile(kind, 7)
        np.testing.assert_allclose(first + (SAMPLES - 1) / 2 * CELL, grid.centre(kind, 7))
        assert grid.height(*grid.centre(kind, 7)) == 0
        assert grid.height(first[0] + 30 * CELL, first[1] + 9 * CELL) == pytest.approx(field[30, 9], abs=1e-9)
        assert not field.flags.writeable


@settings(max_examples=300)
@given(st.sampled_from(sorted(GRIDS)), st.floats(-70, 70), st.floats(-20, 20))
def test_height_is_bilinear_and_beyond_the_edge_that_of_the_edge(kinds: tuple[str, ...], x: float, y: float):
    grid = GRIDS[kinds]
    axes = [(np.arange(size) - (size - 1) / 2) * CELL for size in grid.heights.shape]
    peer = RegularGridInterpolator(axes, grid.heights)
    place = [np.clip(value, axis[0], axis[-1]) for value, axis in zip((x, y), axes, strict=True)]
    height = grid.height(x, y)
    assert type(height) is float
    assert height == pytest.approx(peer(place).item(), abs=1e-9)
    assert grid.height(np.float64(x), np.float64(y)) == height  # type: ignore[arg-type]


def test_height_at_the_ends_of_the_world():
    grid = GRIDS["stairs_down", "stones"]
    corner = np.array(grid.heights.shape) * CELL
    for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        signs = np.array([1 if index else -1 for index in (i, j)])
        for place in (signs * np.inf, signs * corner, signs * (corner - CELL) / 2):
            assert grid.height(*place) == pytest.approx(grid.heights[i, j], abs=1e-9)
    for place in ((np.nan, 0.0), (0.0, np.nan)):
        with pytest.raises(ValueError, match="NaN"):
            grid.height(*place)


@settings(max_examples=20)
@given(st.sampled_from(sorted(GRIDS)), st.integers(0, LEVELS - 1), st.integers(1, 60), st.data())
def test_a_mesh_lies_on_the_ground_and_faces_up(kinds: tuple[str, ...], level: int, stride: int, data: st.DataObject):
    grid, kind = GRIDS[kinds], data.draw(st.sampled_from(kinds))
    vertices, indices = grid.mesh(kind, level, stride)
    points = np.array(vertices)
    assert np.abs(points[:, :2] - grid.centre(kind, level)).max() <= TILE / 2 + CELL
    chosen = np.random.default_rng(0).integers(len(points), size=50)
    for x, y, z in points[chosen]:
        assert z == pytest.approx(grid.height(x, y), abs=1e-6)
    assert set(indices) == set(range(len(points)))
    triangles = points[np.array(indices).reshape(-1, 3)]
    upward = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])[:, 2]
    assert (upward > 0).all()
    assert upward.sum() / 2 == pytest.approx(np.ptp(points[:, 0]) * np.ptp(points[:, 1]))


def test_meshes_of_neighbours_meet():
    grid = GRIDS["rough", "flat", "slope_up"]
    middle, beyond = (np.array(grid.mesh("flat", level)[0]) for level in (4, 5))
    assert middle[:, 0].max() == beyond[:, 0].min()
    assert middle[:, 1].max() == np.array(grid.mesh("slope_up", 4)[0])[:, 1].min()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: made("lava", 0.5), "'lava'.*'flat'"),
        (lambda: made("flat", 1.01), r"difficulty is 1.01.*\[0, 1\]"),
        (lambda: made("flat", -0.01), "difficulty is -0.01"),
        (lambda: made("flat", np.nan), "difficulty is nan"),
        (lambda: terrain.grid(("flat", "lava")), "'lava'.*'flat'"),
        (lambda: terrain.grid(("flat", "flat")), "each only once"),
        (lambda: terrain.grid(()), "at least one"),
        (lambda: GRIDS["flat",].centre("flat", LEVELS), "level is 10.*0 to 9"),
        (lambda: GRIDS["flat",].tile("flat", -1), "level is -1"),
        (lambda: GRIDS["flat",].tile("rough", 0), r"'rough'.*this grid's \('flat',\)"),
        (lambda: GRIDS["flat",].mesh("flat", 0, stride=0), "stride is 0"),
        (lambda: Grid(("flat",), np.zeros((5, 5))), rf"shape \(5, 5\), expected \({LONG}, {SAMPLES}\)"),
        (lambda: Grid(("flat", "rough"), GRIDS["flat",].heights), rf"expected \({LONG}, {2 * SAMPLES}\)"),
    ],
)
def test_what_cannot_be_is_refused(call: Any, words: str):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_grid_keeps_its_own_finite_heights():
    field = GRIDS["flat",].heights.copy()
    grid = Grid(("flat",), field)
    field[7, 9] = np.inf
    assert grid.heights[7, 9] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.heights[0, 0] = 1.0
    with pytest.raises(ValueError, match=r"\(7, 9\) is inf"):
        Grid(("flat",), field)
