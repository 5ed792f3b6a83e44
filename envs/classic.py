"""The papers' own little worlds as batched numpy: pure functions on rows. No engine, no torch, no gymnasium."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from envs import options
from envs.tasks import Measure, Parameter, Task, TaskSpace
from robots.spec import Array

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
State = Any  # a NamedTuple of arrays with leading axis rows; every family has its own
FAR = 1e6  # the squared error of a prediction that has run away
EDGE = 2.0**-53  # quantiles stay this far from 0 and 1, so that what they are mapped to is finite


class Outcome(NamedTuple):
    """What a step did to every row: what is seen next [rows, o], and reward, end of the MDP and error [rows].

    ended: nothing follows in this episode, so nothing is to be bootstrapped; running out of the horizon is not that.
    """

    observation: Floats
    reward: Floats
    ended: NDArray[np.bool_]
    error: Floats


class Classic(Protocol):
    """A family of tiny tasks, as pure functions on rows: each row is a world of its own.

    Whoever calls counts steps, starts rows anew that ended or have gone `horizon` steps, and draws the numbers: nothing
    here is random. Actions [rows, action_size] are one-hot where `discrete` (the largest element counts), otherwise
    continuous, clipped to ±1 inside unless the family says otherwise; `action_limit` is the range that policies with a
    bounded action space need. observation_limit: no observation is larger, in training tasks or elsewhere. draws:
    uniform numbers in [0, 1) that `start` and each `step` may consume per row. guided: whether `demonstrate` works.
    """

    @property
    def space(self) -> TaskSpace: ...
    @property
    def horizon(self) -> int: ...
    @property
    def observation_size(self) -> int: ...
    @property
    def observation_limit(self) -> float: ...
    @property
    def action_size(self) -> int: ...
    @property
    def action_limit(self) -> float: ...
    @property
    def discrete(self) -> bool: ...
    @property
    def draws(self) -> int: ...
    @property
    def measure(self) -> Measure: ...
    @property
    def guided(self) -> bool: ...

    def start(self, values: Array, draws: Array) -> tuple[State, Floats]:
        """States and observations at the start of an episode of the tasks `values` [rows, width], as from `stacked`.

        draws: [rows, draws]. Raises ValueError for values of another width.
        """

    def step(self, state: State, action: NDArray[Any], draws: Array) -> tuple[State, Outcome]:
        """One step of every row. Raises ValueError for actions of another size."""

    def demonstrate(self, values: Array, draws: Array) -> tuple[Floats, Floats]:
        """Observations [rows, T, o] and right actions [rows, T, a]. Raises ValueError where not `guided`."""


def stacked(space: TaskSpace, tasks: Sequence[Task]) -> Array:
    """The tasks' values [rows, width], raw and in the order of the space's parameters.

    Raises ValueError for a task without one of them, or with another number of values.
    """
    names = [parameter.name for parameter in space.parameters]
    width = sum(len(parameter.nominal_values) for parameter in space.parameters)
    values = chain.from_iterable(task.values[name] for task in tasks for name in names)
    try:
        flat = np.fromiter(values, np.float64)
    except KeyError as error:
        raise ValueError(f"a task lacks the parameter {error}, expected {names}") from error
    if flat.size != width * len(tasks):
        raise ValueError(f"{len(tasks)} tasks hold {flat.size} values, expected {width} each")
    return flat.reshape(len(tasks), width)


class BanditState(NamedTuple):
    probability: Array  # [rows, arms]


@dataclass(frozen=True)
class Bandit:
    """Bernoulli bandits whose arms pay 1 with probabilities drawn from U(0, 1) (RL2, arXiv 1611.02779).

    An episode is one pull, so a trial of n pulls has n episodes. Observed is a constant 0: only action and reward, fed
    back, tell anything. Error: the regret, the best arm's probability minus the pulled arm's.
    """

    arms: int = 5
    horizon: ClassVar[int] = 1
    observation_size: ClassVar[int] = 1
    observation_limit: ClassVar[float] = 1.0
    action_limit: ClassVar[float] = 1.0
    discrete: ClassVar[bool] = True
    draws: ClassVar[int] = 1
    measure: ClassVar[Measure] = Measure("regret", "", 0.05)
    guided: ClassVar[bool] = False

    def __post_init__(self) -> None:
        options.whole("arms", self.arms, 2)

    @cached_property
    def space(self) -> TaskSpace:
        return TaskSpace((Parameter("probability", "", 0.5, 0.0, 1.0, "set", self.arms, (0.0, 1.0)),))

    @property
    def action_size(self) -> int:
        return self.arms

    def start(self, values: Array, draws: Array) -> tuple[BanditState, Floats]:
        _expect("values", values, self.arms)
        return BanditState(values), np.zeros((len(values), 1), np.float32)

    def step(self, state: BanditState, action: NDArray[Any], draws: Array) -> tuple[BanditState, Outcome]:
        chance = _picked(state.probability, _chosen(action, self.arms))
        reward = (draws[:, 0] < chance).astype(np.float32)
        regret = (state.probability.max(1) - chance).astype(np.float32)
        return state, Outcome(np.zeros((len(chance), 1), np.float32), reward, np.ones(len(chance), bool), regret)

    def demonstrate(self, values: Array, draws: Array) -> tuple[Floats, Floats]:
        raise _unguided(self)


class TabularState(NamedTuple):
    transition: Array  # [rows, states, actions, states], quantiles
    mean: Array  # [rows, states, actions], quantiles
    place: Integers  # [rows]


@dataclass(frozen=True)
class TabularMDP:
    """Small random MDPs (RL2, arXiv 1611.02779, compared with PSRL, arXiv 1306.0940).

    Transitions of every state and action from a flat Dirichlet, rewards N(mean, 1), means N(1, 1); every episode
    begins in state 0, as in the authors' environment. A task holds the quantiles of all that: with u uniform, -log u
    normalised over the next states is Dirichlet, and 1 + ndtri(u) is N(1, 1). Observed is the state, one-hot. Error:
    by how much the best mean reward in the state exceeds that of the action (what the next state is worth is left out).
    """

    states: int = 10
    actions: int = 5
    horizon: int = 10
    observation_limit: ClassVar[float] = 1.0
    action_limit: ClassVar[float] = 1.0
    discrete: ClassVar[bool] = True
    draws: ClassVar[int] = 2
    measure: ClassVar[Measure] = Measure("gap", "", 0.05)
    guided: ClassVar[bool] = False

    def __post_init__(self) -> None:
        options.whole("states", self.states, 2)
        options.whole("actions", self.actions, 2)
        options.whole("horizon", self.horizon, 1)

    @cached_property
    def space(self) -> TaskSpace:
        pairs = self.states * self.actions
        return TaskSpace((_quantiles("transition", pairs * self.states), _quantiles("mean", pairs)))

    @property
    def width(self) -> int:
        """Values of a task."""
        return self.states * self.actions * (self.states + 1)

    @property
    def observation_size(self) -> int:
        return self.states

    @property
    def action_size(self) -> int:
        return self.actions

    def start(self, values: Array, draws: Array) -> tuple[TabularState, Floats]:
        pairs = self.states * self.actions
        _expect("values", values, self.width)
        shape = (len(values), self.states, self.actions)
        transition = values[:, : pairs * self.states].reshape(*shape, self.states)
        mean = values[:, pairs * self.states :].reshape(shape)
        return self._at(TabularState(transition, mean, np.zeros(len(values), np.int64)))

    def step(self, state: TabularState, action: NDArray[Any], draws: Array) -> tuple[TabularState, Outcome]:
        # Quantiles are mapped here, for the visited pairs alone: an episode visits fewer than there are.
        rows, chosen = np.arange(len(state.place)), _chosen(action, self.actions)
        means = 1 + _normal(state.mean[rows, state.place])
        mean = _picked(means, chosen)
        weight = -np.log(_inside(state.transition[rows, state.place, chosen]))
        reached = weight.cumsum(1)
        place = (reached[:, :-1] <= draws[:, :1] * reached[:, -1:]).sum(1)
        moved, observation = self._at(state._replace(place=place))
        reward = (mean + _normal(draws[:, 1])).astype(np.float32)
        error = (means.max(1) - mean).astype(np.float32)
        return moved, Outcome(observation, reward, np.zeros(len(rows), bool), error)

    def demonstrate(self, values: Array, draws: Array) -> tuple[Floats, Floats]:
        raise _unguided(self)

    def _at(self, state: TabularState) -> tuple[TabularState, Floats]:
        return state, _one_hot(state.place, self.states)


class NavigationState(NamedTuple):
    goal: Array  # [rows, 2]
    position: Array  # [rows, 2]


@dataclass(frozen=True)
class PointNavigation:
    """A point that must find a goal it is not shown (MAML, arXiv 1703.03400).

    It starts at the origin and moves by `speed` times the action, clipped to ±1 in each axis: the original's velocity
    in ±0.1. The reward of a step is minus the distance to the goal, uniform in ±0.5 in each axis; the episode ends when
    both coordinates are within 0.01 of it, as in the authors' environment and its re-implementations. Observed is
    the position. Error: the distance; whoever has ended is within the tolerance.
    """

    horizon: int = 100
    speed: float = 0.1
    observation_size: ClassVar[int] = 2
    action_size: ClassVar[int] = 2
    action_limit: ClassVar[float] = 1.0
    discrete: ClassVar[bool] = False
    draws: ClassVar[int] = 0
    measure: ClassVar[Measure] = Measure("distance", "", 0.02)
    guided: ClassVar[bool] = False
    REACH: ClassVar[float] = 0.01

    def __post_init__(self) -> None:
        options.whole("horizon", self.horizon, 1)
        options.number("speed", self.speed, 1e-3, 1.0)

    @cached_property
    def space(self) -> TaskSpace:
        return TaskSpace((Parameter("goal", "", 0.0, -0.5, 0.5, "set", 2),))

    @property
    def observation_limit(self) -> float:
        return 1.001 * self.speed * self.horizon

    def start(self, values: Array, draws: Array) -> tuple[NavigationState, Floats]:
        _expect("values", values, 2)
        return NavigationState(values, np.zeros(values.shape)), np.zeros(values.shape, np.float32)

    def step(self, state: NavigationState, action: NDArray[Any], draws: Array) -> tuple[NavigationState, Outcome]:
        _expect("action", action, 2)
        position = state.position + self.speed * np.clip(action, -1, 1)
        away = position - state.goal
        error = np.hypot(away[:, 0], away[:, 1]).astype(np.float32)
        ended = np.abs(away).max(1) < self.REACH
        return state._replace(position=position), Outcome(position.astype(np.float32), -error, ended, error)

    def demonstrate(self, values: Array, draws: Array) -> tuple[Floats, Floats]:
        raise _unguided(self)


class RotatedState(NamedTuple):
    turn: Array  # [rows, 2, 2]
    position: Array  # [rows, 2]


@dataclass(frozen=True)
class RotatedPoint:
    """A point whose actions are turned by an unknown angle on their way (NoRML, arXiv 1903.01063).

    It starts at the origin, its goal is always (1, 0). The action, clipped to ±1 in each axis, is the displacement
    before it is turned by the task's rotation, uniform in ±pi; the point cannot leave the square of ±2. The reward is
    minus the distance after the step; an episode lasts its ten steps, goal or no goal. So it is in the authors'
    configuration with dense reward, but that they do not clip to their action space. Observed is the position. Error:
    the distance, with the tolerance of their configuration with sparse reward.
    """

    horizon: int = 10
    observation_size: ClassVar[int] = 2
    observation_limit: ClassVar[float] = 2.0
    action_size: ClassVar[int] = 2
    action_limit: ClassVar[float] = 1.0
    discrete: ClassVar[bool] = False
    draws: ClassVar[int] = 0
    measure: ClassVar[Measure] = Measure("distance", "", 0.1)
    guided: ClassVar[bool] = False
    GOAL: ClassVar[tuple[float, float]] = (1.0, 0.0)

    def __post_init__(self) -> None:
        options.whole("horizon", self.horizon, 1)

    @cached_property
    def space(self) -> TaskSpace:
        return TaskSpace((Parameter("rotation", "rad", 0.0, -np.pi, np.pi, "set", bounds=(-np.pi, np.pi)),))

    def start(self, values: Array, draws: Array) -> tuple[RotatedState, Floats]:
        _expect("values", values, 1)
        cos, sin = np.cos(values[:, 0]), np.sin(values[:, 0])
        turn = np.stack([cos, -sin, sin, cos], 1).reshape(-1, 2, 2)
        return RotatedState(turn, np.zeros((len(values), 2))), np.zeros((len(values), 2), np.float32)

    def step(self, state: RotatedState, action: NDArray[Any], draws: Array) -> tuple[RotatedState, Outcome]:
        _expect("action", action, 2)
        moved = (state.turn * np.clip(action, -1, 1)[:, None, :]).sum(2)
        position = np.clip(state.position + moved, -2, 2)
        away = position - self.GOAL
        error = np.hypot(away[:, 0], away[:, 1]).astype(np.float32)
        observation = position.astype(np.float32)
        return state._replace(position=position), Outcome(observation, -error, np.zeros(len(error), bool), error)

    def demonstrate(self, values: Array, draws: Array) -> tuple[Floats, Floats]:
        raise _unguided(self)


class SinusoidState(NamedTuple):
    curve: Array  # [rows, 2], amplitude and phase
    x: Array  # [rows]


@dataclass(frozen=True)
class Sinusoid:
    """Regression of y = amplitude sin(x - phase) (MAML, arXiv 1703.03400; the sign is that of its authors' code).

    Amplitude in 0.1 to 5, phase in 0 to pi, x uniform in ±5, seen as it is. The action is the predicted y and is NOT
    limited to ±1, nor clipped; `action_limit` only bounds the action space of policies that need bounds. An episode is
    one prediction; reward: minus the squared error, which is the error, at most FAR. `demonstrate` gives one (x, y)
    per row.
    """

    horizon: ClassVar[int] = 1
    observation_size: ClassVar[int] = 1
    observation_limit: ClassVar[float] = 5.0
    action_size: ClassVar[int] = 1
    action_limit: ClassVar[float] = 10.0
    discrete: ClassVar[bool] = False
    draws: ClassVar[int] = 1
    measure: ClassVar[Measure] = Measure("squared error", "", 0.1)
    guided: ClassVar[bool] = True

    @cached_property
    def space(self) -> TaskSpace:
        amplitude = Parameter("amplitude", "", 1.0, 0.1, 5.0, "set", bounds=(0.0, np.inf))
        return TaskSpace((amplitude, Parameter("phase", "rad", 0.0, 0.0, np.pi, "set")))

    def start(self, values: Array, draws: Array) -> tuple[SinusoidState, Floats]:
        _expect("values", values, 2)
        x = 10 * draws[:, 0] - 5
        return SinusoidState(values, x), x[:, None].astype(np.float32)

    def step(self, state: SinusoidState, action: NDArray[Any], draws: Array) -> tuple[SinusoidState, Outcome]:
        _expect("action", action, 1)
        with np.errstate(over="ignore"):
            error = np.square(action[:, 0].astype(np.float64) - self._height(state))
        error = np.nan_to_num(error, nan=FAR, posinf=FAR).clip(max=FAR).astype(np.float32)
        return state, Outcome(state.x[:, None].astype(np.float32), -error, np.ones(len(error), bool), error)

    def demonstrate(self, values: Array, draws: Array) -> tuple[Floats, Floats]:
        state, x = self.start(values, draws)
        return x[:, None], self._height(state)[:, None, None].astype(np.float32)

    def _height(self, state: SinusoidState) -> Array:
        height: Array = state.curve[:, 0] * np.sin(state.x - state.curve[:, 1])
        return height


class BindingState(NamedTuple):
    keys: Floats  # [rows, keys, size], ±1
    answers: Integers  # [rows, keys]
    shown: Integers  # [rows], which key the agent looks at


@dataclass(frozen=True)
class Binding:
    """Recall of values by their keys, labels one step late (the protocol of MANN, arXiv 1605.06065, without images).

    A task binds `keys` keys of `size` random ±1 bits, each to one of `values` classes. At every step the agent sees a
    key, drawn at random, together with the right answer to the one before (one-hot; zeros at first), and names a class:
    reward 1 if it is right. A key seen for the first time can only be guessed, so someone with a perfect memory gets
    horizon - (1 - 1/values) x (different keys seen) on average. Error: 1 for a wrong answer, 0 for a right one.

    The keys of a task differ: the i-th quantile picks among the 2^size - i codes that are not taken yet.
    """

    keys: int = 8
    values: int = 8
    size: int = 8
    horizon: int = 40
    observation_limit: ClassVar[float] = 1.0
    action_limit: ClassVar[float] = 1.0
    discrete: ClassVar[bool] = True
    draws: ClassVar[int] = 1
    measure: ClassVar[Measure] = Measure("wrong", "", 0.0)
    guided: ClassVar[bool] = False

    def __post_init__(self) -> None:
        options.whole("keys", self.keys, 1)
        options.whole("values", self.values, 2)
        options.whole("size", self.size, 1)
        options.whole("horizon", self.horizon, 1)
        options.number("size", self.size, 1, 32)  # a quantile has room for no more
        if self.keys > 2**self.size:
            raise ValueError(
                f"keys is {self.keys}, expected at most {2**self.size}: {self.size} bits tell no more apart"
            )

    @cached_property
    def space(self) -> TaskSpace:
        return TaskSpace((_quantiles("key", self.keys), _quantiles("answer", self.keys)))

    @property
    def observation_size(self) -> int:
        return self.size + self.values

    @property
    def action_size(self) -> int:
        return self.values

    def start(self, values: Array, draws: Array) -> tuple[BindingState, Floats]:
        _expect("values", values, 2 * self.keys)
        codes = self._codes(values[:, : self.keys])
        bits = (codes[:, :, None] >> np.arange(self.size)) & 1
        answers = _index(values[:, self.keys :], self.values)
        state = BindingState((2 * bits - 1).astype(np.float32), answers, _index(draws[:, 0], self.keys))
        return state, self._seen(state, np.zeros((len(values), self.values), np.float32))

    def step(self, state: BindingState, action: NDArray[Any], draws: Array) -> tuple[BindingState, Outcome]:
        answer = _picked(state.answers, state.shown)
        right = (_chosen(action, self.values) == answer).astype(np.float32)
        following = state._replace(shown=_index(draws[:, 0], self.keys))
        observation = self._seen(following, _one_hot(answer, self.values))
        return following, Outcome(observation, right, np.zeros(len(right), bool), 1 - right)

    def demonstrate(self, values: Array, draws: Array) -> tuple[Floats, Floats]:
        raise _unguided(self)

    def _codes(self, quantiles: Array) -> Integers:
        """Different numbers below 2^size [rows, keys]."""
        codes = np.empty(quantiles.shape, np.int64)
        for index in range(self.keys):
            taken = np.sort(codes[:, :index], axis=1)
            code = _index(quantiles[:, index], 2**self.size - index)
            for lower in taken.T:  # ascending: each that is not above moves it up by one
                code += code >= lower
            codes[:, index] = code
        return codes

    def _seen(self, state: BindingState, before: Floats) -> Floats:
        return np.concatenate([state.keys[np.arange(len(before)), state.shown], before], axis=1)


class MazeState(NamedTuple):
    doors: NDArray[np.bool_]  # [rows, cells, 4], whether one can leave a cell to the north, east, south, west
    left: Floats  # [rows, cells], steps to the goal
    place: Integers  # [rows]


@dataclass(frozen=True)
class Maze:
    """A grid maze with a map, a start and a goal of its own per task: SNAIL's visual navigation in small.

    (RL2, arXiv 1611.02779; SNAIL, arXiv 1707.03141.) Observed are the four walls of the cell (north, east,
    south, west: 1 wall, 0 door), neither map nor place nor goal. Actions: a step north, east, south or west. Reward:
    -step_cost a step, -bump_cost more against a wall, +1 at the goal, where the episode ends: whoever remembers the way
    is faster in the trial's next episode. Error: steps left along a shortest path, 0 at the goal.

    The map is a spanning tree of the grid: walls fall in the order of their quantiles unless what they part is
    connected already (Kruskal), so that every cell can be reached; of the walls that stay, those with a quantile above
    1 - loops fall too.
    """

    size: int = 5
    horizon: int = 40
    loops: float = 0.1
    step_cost: float = 0.01
    bump_cost: float = 0.001
    observation_size: ClassVar[int] = 4
    observation_limit: ClassVar[float] = 1.0
    action_size: ClassVar[int] = 4
    action_limit: ClassVar[float] = 1.0
    discrete: ClassVar[bool] = True
    draws: ClassVar[int] = 0
    measure: ClassVar[Measure] = Measure("steps left", "", 0.0)
    guided: ClassVar[bool] = False

    def __post_init__(self) -> None:
        options.whole("size", self.size, 2)
        options.whole("horizon", self.horizon, 1)
        options.number("loops", self.loops, 0.0, 1.0)
        options.number("step_cost", self.step_cost, 0.0)
        options.number("bump_cost", self.bump_cost, 0.0)

    @cached_property
    def space(self) -> TaskSpace:
        return TaskSpace((_quantiles("wall", len(self._parted)), _quantiles("start", 1), _quantiles("goal", 1)))

    @cached_property
    def _parted(self) -> Integers:
        """The cells on both sides of every wall [walls, 2]: first walls between columns, then between rows."""
        cells = np.arange(self.size**2).reshape(self.size, self.size)
        beside = np.stack([cells[:, :-1], cells[:, 1:]], -1).reshape(-1, 2)
        return np.concatenate([beside, np.stack([cells[:-1], cells[1:]], -1).reshape(-1, 2)])

    def start(self, values: Array, draws: Array) -> tuple[MazeState, Floats]:
        _expect("values", values, len(self._parted) + 2)
        place = _index(values[:, -2], self.size**2)
        goal = _index(values[:, -1], self.size**2 - 1)
        goal += goal >= place  # among the other cells
        n, gone = self.size, self._gone(values[:, :-2])
        beside = gone[:, : n * (n - 1)].reshape(-1, n, n - 1)
        below = gone[:, n * (n - 1) :].reshape(-1, n - 1, n)
        doors = np.zeros((len(values), n, n, 4), bool)
        doors[:, 1:, :, 0] = doors[:, :-1, :, 2] = below
        doors[:, :, :-1, 1] = doors[:, :, 1:, 3] = beside
        state = MazeState(doors.reshape(len(values), -1, 4), self._left(beside, below, goal), place)
        return state, self._seen(state)

    def step(self, state: MazeState, action: NDArray[Any], draws: Array) -> tuple[MazeState, Outcome]:
        chosen = _chosen(action, 4)
        free = state.doors[np.arange(len(chosen)), state.place, chosen]
        place = state.place + np.where(free, np.array([-self.size, 1, self.size, -1])[chosen], 0)
        moved = state._replace(place=place)
        error = _picked(state.left, place)
        reward = (error == 0) - self.step_cost - self.bump_cost * ~free
        return moved, Outcome(self._seen(moved), reward.astype(np.float32), error == 0, error)

    def demonstrate(self, values: Array, draws: Array) -> tuple[Floats, Floats]:
        raise _unguided(self)

    def _seen(self, state: MazeState) -> Floats:
        return 1 - state.doors[np.arange(len(state.place)), state.place].astype(np.float32)

    def _gone(self, quantiles: Array) -> NDArray[np.bool_]:
        """Which walls have fallen [rows, walls]."""
        rows, gone = np.arange(len(quantiles)), quantiles > 1 - self.loops
        room = np.tile(np.arange(self.size**2, dtype=np.int16), (len(rows), 1))  # connected cells share a number
        for wall in np.argsort(quantiles, axis=1, kind="stable").T:
            one, other = room[rows, self._parted[wall, 0]], room[rows, self._parted[wall, 1]]
            gone[rows, wall] |= one != other
            np.copyto(room, one[:, None], where=room == other[:, None])
        return gone

    def _left(self, beside: NDArray[np.bool_], below: NDArray[np.bool_], goal: Integers) -> Floats:
        """Steps to the goal [rows, cells], by relaxation until nothing changes."""
        left = np.full((len(goal), self.size**2), np.inf, np.float32)
        left[np.arange(len(goal)), goal] = 0
        grid = left.reshape(-1, self.size, self.size)
        across, along = (np.where(gone, np.float32(1), np.float32(np.inf)) for gone in (beside, below))
        west, east, north, south = grid[:, :, :-1], grid[:, :, 1:], grid[:, :-1], grid[:, 1:]
        before = np.zeros_like(grid)
        while not np.array_equal(before, grid):
            before = grid.copy()
            for near, far, cost in (
                (west, east, across),
                (east, west, across),
                (north, south, along),
                (south, north, along),
            ):
                np.minimum(near, far + cost, out=near)
        return left


JOBS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Bandit, TabularMDP, PointNavigation, RotatedPoint, Sinusoid, Binding, Maze)
}


def _quantiles(name: str, size: int) -> Parameter:
    return Parameter(name, "quantile", 0.5, 0.0, 1.0, "set", size, (0.0, 1.0))


def _inside(quantiles: Array) -> Array:
    return np.clip(quantiles, EDGE, 1 - EDGE)


def _normal(quantiles: Array) -> Array:
    """N(0, 1) of uniform numbers, finite at 0 and 1 too."""
    normal: Array = ndtri(_inside(quantiles))
    return normal


def _index(quantiles: Array, count: int) -> Integers:
    """One of `count` indices of each uniform number; 1 itself belongs to the last."""
    return np.minimum((quantiles * count).astype(np.int64), count - 1)


def _one_hot(index: Integers, size: int) -> Floats:
    hot = np.zeros((len(index), size), np.float32)
    hot[np.arange(len(index)), index] = 1
    return hot


def _picked(table: NDArray[Any], index: Integers) -> NDArray[Any]:
    """One element of each row."""
    picked: NDArray[Any] = table[np.arange(len(index)), index]
    return picked


def _chosen(action: NDArray[Any], size: int) -> Integers:
    """The indices of one-hot actions."""
    _expect("action", action, size)
    chosen: Integers = action.argmax(1)
    return chosen


def _expect(name: str, array: NDArray[Any], width: int) -> None:
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"{name} has the shape {array.shape}, expected [rows, {width}]")


def _unguided(job: Classic) -> ValueError:
    return ValueError(f"{type(job).__name__} has no demonstrations: use the objective 'reward'")
