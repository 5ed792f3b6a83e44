"""The ground robots walk on, as heights on a grid. Pure numpy; no engine, no robot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robots.spec import Array

# The order is part of every tile's seed: append, do not rearrange.
KINDS = ("flat", "rough", "slope_up", "slope_down", "stairs_up", "stairs_down", "stones", "waves", "obstacles")
CELL = 0.1  # [m] between samples, as in legged_gym
TILE = 12.0  # [m] edge of a tile; a robot starts in its middle and may walk 5 m in any direction
SAMPLES = round(TILE / CELL)  # along an edge; the middle lies between the two middle ones
LEVELS = 10  # of the curriculum: difficulty = level / (LEVELS - 1)
PLATFORM = 0.7  # [m] half the edge of the flat square in the middle
REACH = 5.5  # [m] half the edge of the square that is terrain; beyond it the tile is level
TREAD = 0.3  # [m] depth of a stair; legged_gym's 0.31 m, on its grid
FADE = 0.5  # [m] over which rough ground and waves grow from nothing, at the platform and at the rim
HIGHEST = 3.2  # [m] no tile rises higher or falls deeper: the top of the hardest stairs


def row(difficulty: float) -> int:
    """The level nearest to a difficulty in [0, 1]."""
    return round(difficulty * (LEVELS - 1))


def heights(kind: str, difficulty: float, rng: np.random.Generator) -> Array:
    """Heights [SAMPLES, SAMPLES] (m) of one tile; index [i, j] is x, y. Difficulty in [0, 1] goes linearly through:

    kind          what grows with difficulty               0        1     drawn by rng
    flat          nothing                                                 nothing
    rough         noise, uniform within +-, grain 0.2 m    0.005 m  0.08  every grain
    slope_up      rise over run, outward; slope_down: fall 0        0.4   nothing
    stairs_up     riser, treads 0.3 m; stairs_down: drop   0.02 m   0.20  nothing
    stones        depth of the pits between square stones  0.02 m   0.30  how the rows of stones are shifted
                  gap between stones                       0.1 m    0.2
                  edge of a stone (shrinks)                0.8 m    0.3
    waves         amplitude, length 2 m along x and y      0.01 m   0.15  phases
    obstacles     50 blocks and pits, 0.4 to 1.6 m wide    0.02 m   0.25  places, sizes, +- half or all the height

    The kinds and ranges are those of legged_gym (Rudin et al. 2021) and its descendants, from an easier start. The
    PLATFORM is at 0. Slopes and stairs are pyramids around it, in square rings: the rim is at the height reached
    (up to 1.92 m and HIGHEST); every other rim is at 0. Edges lean over one CELL: a height field has no vertical wall.
    Raises ValueError for an unknown kind or a difficulty out of range.
    """
    _check(kind)
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty is {difficulty!r}, expected a number in [0, 1]: level / (LEVELS - 1)")

    def grown(easy: float, hard: float) -> float:
        return easy + (hard - easy) * difficulty

    index = np.arange(SAMPLES)
    x = np.abs(index - (SAMPLES - 1) / 2) * CELL
    radius = np.maximum(x[:, None], x)
    ring = np.clip(radius, PLATFORM, REACH) - PLATFORM
    fade = np.clip(np.minimum(radius - PLATFORM, REACH - radius) / FADE, 0.0, 1.0)
    outward = -1.0 if kind.endswith("_down") else 1.0
    field: Array = np.zeros((SAMPLES, SAMPLES))
    if kind == "rough":
        field = grown(0.005, 0.08) * fade * _noise(rng, grain=round(0.2 / CELL))
    elif kind in ("slope_up", "slope_down"):
        field = outward * grown(0.0, 0.4) * ring
    elif kind in ("stairs_up", "stairs_down"):
        field = outward * grown(0.02, 0.2) * np.ceil((ring / TREAD).round(6))  # rounded: 16 treads must not be 17
    elif kind == "stones":
        stone, gap = round(grown(0.8, 0.3) / CELL), round(grown(0.1, 0.2) / CELL)
        row, across = np.divmod(index + rng.integers(stone + gap), stone + gap)
        along = (index + rng.integers(stone + gap, size=row[-1] + 1)[row][:, None]) % (stone + gap)
        pit = (across[:, None] >= stone) | (along >= stone)
        field = np.where(pit & (fade > 0), -grown(0.02, 0.3), 0.0)
    elif kind == "waves":
        wave = np.sin(2 * np.pi * CELL / 2.0 * index + rng.uniform(0, 2 * np.pi, (2, 1)))
        field = grown(0.01, 0.15) * fade * (wave[0][:, None] + wave[1]) / 2
    elif kind == "obstacles":
        for size in rng.integers(round(0.4 / CELL), round(1.6 / CELL), size=(50, 2), endpoint=True):
            i, j = rng.integers(SAMPLES - size)
            field[i : i + size[0], j : j + size[1]] = rng.choice((-1.0, -0.5, 0.5, 1.0))
        field *= grown(0.02, 0.25) * (fade > 0)
    return field


def _check(*kinds: str) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"terrain kind is {kind!r}, expected one of {KINDS}")


def _noise(rng: np.random.Generator, grain: int) -> Array:
    """Noise in [-1, 1], drawn at every `grain`-th sample and interpolated between [SAMPLES, SAMPLES]."""
    noise = rng.uniform(-1, 1, (SAMPLES // grain + 2,) * 2)
    node, rest = np.divmod(np.arange(SAMPLES), grain)
    share = (rest / grain)[:, None]
    for _ in range(2):  # along x, then along y
        noise = ((1 - share) * noise[node] + share * noise[node + 1]).T
    return noise


@dataclass(frozen=True, eq=False)
class Grid:
    """A field of tiles, centred on the world's origin: along x the LEVELS, along y the kinds.

    kinds: distinct ones out of KINDS. heights: [LEVELS * SAMPLES, len(kinds) * SAMPLES] (m), index x, y, every CELL;
    kept as a read-only copy. Where slopes or stairs meet another tile there may be a cliff at the seam, 0.5 m
    beyond the REACH of either. Raises ValueError for other kinds or heights; its methods, for a tile it has not got.
    """

    kinds: tuple[str, ...]
    heights: Array

    def __post_init__(self) -> None:
        _check(*self.kinds)
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"terrain kinds are {self.kinds}, expected at least one, and each only once")
        field = np.array(self.heights, dtype=np.float64)
        shape = (LEVELS * SAMPLES, len(self.kinds) * SAMPLES)
        if field.shape != shape:
            raise ValueError(f"terrain heights have shape {field.shape}, expected {shape}; make them with terrain.grid")
        if not np.isfinite(field).all():
            at = tuple(np.argwhere(~np.isfinite(field))[0].tolist())
            raise ValueError(f"terrain height at {at} is {field[at]}, expected finite heights in m")
        field.flags.writeable = False
        object.__setattr__(self, "heights", field)

    def _first(self, kind: str, level: int) -> tuple[int, int]:
        """Indices of a tile's first sample."""
        if kind not in self.kinds:
            raise ValueError(f"terrain kind is {kind!r}, expected one of this grid's {self.kinds}")
        if level not in range(LEVELS):
            raise ValueError(f"terrain level is {level!r}, expected an integer from 0 to {LEVELS - 1}")
        return int(level) * SAMPLES, self.kinds.index(kind) * SAMPLES

    def _place(self, index: Array) -> Array:
        """World xy [..., 2] (m) of sample indices [..., 2]."""
        return (index - (np.array(self.heights.shape) - 1) / 2) * CELL

    def centre(self, kind: str, level: int) -> Array:
        """World xy [2] (m) of a tile's middle."""
        return self._place(np.array(self._first(kind, level)) + (SAMPLES - 1) / 2)

    def height(self, x: float, y: float) -> float:
        """Height (m) at world x, y (m), bilinear between samples; outside the grid, that of the nearest edge.

        Raises ValueError for a place that is not a number.
        """
        # Scalars throughout, and no min or max: robots ask for one point at a time, thousands of times a second.
        field = self.heights
        rows, columns = field.shape
        u, v = float(x) / CELL + 0.5 * (rows - 1), float(y) / CELL + 0.5 * (columns - 1)
        u = 0.0 if u < 0.0 else rows - 1.0 if u > rows - 1.0 else u
        v = 0.0 if v < 0.0 else columns - 1.0 if v > columns - 1.0 else v
        i, j = int(u), int(v)
        i, j = i - (i == rows - 1), j - (j == columns - 1)
        u, v, item = u - i, v - j, field.item
        near = (1.0 - v) * item(i, j) + v * item(i, j + 1)
        far = (1.0 - v) * item(i + 1, j) + v * item(i + 1, j + 1)
        return float((1.0 - u) * near + u * far)

    def tile(self, kind: str, level: int) -> tuple[Array, Array]:
        """A tile's heights [SAMPLES, SAMPLES] (m), read-only, and the world xy [2] (m) of its first sample."""
        i, j = self._first(kind, level)
        return self.heights[i : i + SAMPLES, j : j + SAMPLES], self._place(np.array((i, j)))

    def mesh(self, kind: str, level: int, stride: int = 2) -> tuple[list[list[float]], list[int]]:
        """A tile for a picture: vertices [x, y, z] (world, m) at every `stride`-th sample, three indices a triangle.

        Counter-clockwise from above. It reaches to its neighbours' first samples, so that their meshes leave no slit.
        """
        if stride not in range(1, SAMPLES + 1):
            raise ValueError(f"stride is {stride!r}, expected an integer from 1 to {SAMPLES}")
        edge = np.array([*range(0, SAMPLES, stride), SAMPLES])
        corner, size = self._first(kind, level), self.heights.shape
        i, j = (np.unique(np.minimum(first + edge, end - 1)) for first, end in zip(corner, size, strict=True))
        index = np.stack(np.meshgrid(i, j, indexing="ij"), axis=-1)
        vertices = np.concatenate([self._place(index), self.heights[i][:, j, None]], axis=-1).reshape(-1, 3)
        number = np.arange(len(vertices)).reshape(len(i), len(j))
        a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
        return vertices.tolist(), np.stack([a, b, c, a, c, d], axis=-1).ravel().tolist()


def grid(kinds: Sequence[str] = ("flat",), seed: int = 0) -> Grid:
    """One row of LEVELS tiles for each kind. A tile depends on its kind, its level and the seed alone."""
    _check(*kinds)
    field = np.empty((LEVELS, SAMPLES, len(kinds), SAMPLES))
    for column, kind in enumerate(kinds):
        for level in range(LEVELS):
            rng = np.random.default_rng([seed, KINDS.index(kind), level])
            field[level, :, column] = heights(kind, level / (LEVELS - 1), rng)
    return Grid(tuple(kinds), field.reshape(LEVELS * SAMPLES, -1))
