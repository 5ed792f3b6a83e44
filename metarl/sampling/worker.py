"""One worker: holds a world and exported policies, lives through trials. Needs no torch.

Every random draw is a function of the trial's key and the episode's index, never of who computes it or of
what was computed before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Literal

import numpy as np

from envs.robot_env import RobotEnv, make
from envs.tasks import Split, Task, TaskSpace
from export.device.adapter import Adapter
from export.device.plan import Plan
from export.device.policy import Policy, RecurrentPolicy, open_policy
from metarl.episodes import Episodes, Float
from metarl.sampling.history import History
from metarl.sampling.point import PointController
from robots.interface import Interface
from robots.spec import Array

Act = Callable[[Float], tuple[Float, Float]]  # observation -> mean and log standard deviation of the action

Watch = Callable[[RobotEnv, int, bool], None]  # the world, control steps lived, and whether this was the end


class Stream(IntEnum):
    """Independent streams of random numbers under one run seed."""

    TASK = 0
    WORLD = 1
    ACTION = 2
    GUIDE = 3
    PARAMETERS = 4
    CHANGE = 5


def seed(stream: Stream, key: tuple[int, ...]) -> np.random.SeedSequence:
    """The stream's seed at a key (run seed, iteration, task, inner step[, episode])."""
    return np.random.SeedSequence([key[0], int(stream), *key[1:]])


def draw_tasks(space: TaskSpace, split: Split, key: tuple[int, int], count: int) -> list[Task]:
    """Tasks of a split, each drawn at the key (run seed, iteration, index)."""
    rngs = [np.random.default_rng(seed(Stream.TASK, (*key, index))) for index in range(count)]
    return [space.sample(rng, split) for rng in rngs]


@dataclass(frozen=True)
class Actor:
    """An exported policy. A privileged one sees the encoded task after the observation; one with a history, its last
    so many observations and actions (see `History`); one with an `adapt` graph takes steps by it while it acts, as
    `plan` says.
    """

    graph: bytes
    privileged: bool = False
    history: int = 0
    adapt: bytes = b""
    plan: Plan | None = None


@dataclass(frozen=True)
class Trial:
    """Some episodes on one task: guided motions, or attempts by a policy that explores or acts by its mean.

    actor names the worker's policy, theta [P] its parameters; or point controls (a map from what the camera
    sees to where the arm should feel itself). key: (run seed, iteration, task, inner step). then: when in each attempt
    (s) the task becomes which other. after: the parameters from then on, if they are others.
    """

    task: Task
    key: tuple[int, ...]
    episodes: int
    mode: Literal["guided", "explore", "mean"]
    actor: str = ""
    theta: Float | None = None
    point: tuple[Array, Array] | None = None
    then: tuple[float, Task] | None = None
    after: Float | None = None

    def __post_init__(self) -> None:
        if self.after is not None and not self.then:
            raise ValueError("a trial's parameters change with its task, expected `then` beside `after`")
        if self.then and self.mode == "guided":
            raise ValueError("a trial's task changes under way, expected none in guided motions")


class Remembering:
    """A policy with memory over the attempts of one trial; before it acts again it is told how the last step went."""

    def __init__(self, policy: RecurrentPolicy, theta: Float) -> None:
        self._policy, self._theta = policy, theta
        self._memory = np.zeros(policy.memory_size, np.float32)
        self._feedback = np.zeros(policy.feedback_size, np.float32)

    def __call__(self, observation: Float) -> tuple[Float, Float]:
        mean, log_std, self._memory = self._policy(self._theta, self._memory, observation, self._feedback)
        return mean, log_std

    def feel(self, action: Float, reward: float, done: bool) -> None:
        self._feedback = np.array([*action, reward, done], np.float32)


class Recalling:
    """A policy that sees the last so many observations and actions of one attempt."""

    def __init__(self, policy: Policy, theta: Float, length: int, interface: Interface) -> None:
        self._policy, self._theta = policy, theta
        self._history = History(length, interface.observation_size, interface.action_size)
        self._history.start()

    def __call__(self, observation: Float) -> tuple[Float, Float]:
        return self._policy(self._theta, self._history.see(observation))

    def feel(self, action: Float, reward: float, done: bool) -> None:
        self._history.act(action)


class Adapting:
    """A policy that adapts while it acts: every now and then from its latest motion, always from theta itself."""

    def __init__(self, policy: Policy, theta: Float, adapter: Adapter, plan: Plan, interface: Interface) -> None:
        self._policy, self._base, self._adapter, self._steps = policy, theta, adapter, plan.steps
        first, every, self._length = (round(t * interface.control_hz) for t in (plan.start, plan.every, plan.window))
        self._theta, self._every, self._left = theta, every, first
        self._observations: deque[Float] = deque(maxlen=self._length)
        self._actions: deque[Float] = deque(maxlen=self._length)

    def __call__(self, observation: Float) -> tuple[Float, Float]:
        if self._left == 0:
            self._adapt()
            self._left = self._every
        self._left -= 1
        self._observations.append(observation)
        return self._policy(self._theta, observation)

    def feel(self, action: Float, reward: float, done: bool) -> None:
        self._actions.append(action)

    def _adapt(self) -> None:
        observation, action = np.array([self._observations]), np.array([self._actions])
        batch = {"observation": observation, "action": action, "mask": np.ones(action.shape[:2], np.float32)}
        theta = self._base
        for step in range(self._steps):
            taken = self._adapter.step(theta, step, batch)
            if not taken.finite:
                return
            theta = taken.theta
        self._theta = theta


class Worker:
    """Lives through trials, one after the other, in one world that is loaded once."""

    def __init__(self, env_id: str, actors: Mapping[str, Actor], options: Mapping[str, Any]) -> None:
        self._env = make(env_id, **options)
        self._actors = actors
        self._policies = {name: open_policy(actor.graph) for name, actor in actors.items()}
        self._adapters = {name: Adapter(actor.adapt) for name, actor in actors.items() if actor.adapt}

    def run(self, trial: Trial, watch: Watch | None = None) -> Episodes:
        """All episodes of a trial, fields [episode, time, ...]. watch: called after every step of an attempt."""
        if trial.mode == "guided":
            return self._guided(trial)
        remembers = isinstance(self._policies.get(trial.actor), RecurrentPolicy)
        acts = [self._act(trial)] * trial.episodes if remembers else [self._act(trial) for _ in range(trial.episodes)]
        return Episodes.stack([self._attempt(trial, index, act, watch) for index, act in enumerate(acts)])

    def close(self) -> None:
        self._env.close()

    def _act(self, trial: Trial) -> Act:
        if trial.point is not None:
            return PointController(self._env.job.spec, self._env.interface, *trial.point)
        policy, theta = self._policies[trial.actor], trial.theta
        assert theta is not None, "a trial that acts by a policy carries its parameters"
        if isinstance(policy, RecurrentPolicy):
            return Remembering(policy, theta)
        actor = self._actors[trial.actor]
        if actor.adapt:
            assert actor.plan is not None, "who adapts has a plan of when"
            return Adapting(policy, theta, self._adapters[trial.actor], actor.plan, self._env.interface)
        if actor.history:
            return Recalling(policy, theta, actor.history, self._env.interface)
        if not actor.privileged:
            return lambda observation: policy(theta, observation)
        return lambda observation: policy(theta, np.concatenate([observation, self._known()]))

    def _known(self) -> Float:
        """What a privileged actor is told: the task of this moment."""
        return self._env.task_space.encode(self._env.task).astype(np.float32)

    def _attempt(self, trial: Trial, index: int, act: Act, watch: Watch | None) -> Episodes:
        env, key = self._env, (*trial.key, index)
        noise = np.zeros((env.job.horizon, env.interface.action_size), np.float32)
        if trial.mode == "explore":
            noise = np.random.default_rng(seed(Stream.ACTION, key)).standard_normal(noise.shape, np.float32)
        observations, actions, rewards, errors = [], [], [], []
        options: dict[str, Any] = {"task": trial.task, **({"then": trial.then} if trial.then else {})}
        observation, _ = env.reset(seed=_integer(seed(Stream.WORLD, key)), options=options)
        renewed = round(trial.then[0] * env.interface.control_hz) if trial.then and trial.after is not None else None
        for step in range(env.job.horizon):
            if step == renewed:
                act = self._act(replace(trial, theta=trial.after))
            mean, log_std = act(observation)
            action = mean + np.exp(log_std) * noise[step]
            observations.append(observation)
            observation, reward, ended, stopped, info = env.step(action)
            actions.append(action)
            rewards.append(reward)
            errors.append(info["error"])
            last = ended or stopped or step + 1 == env.job.horizon
            if isinstance(act, Remembering | Recalling | Adapting):
                act.feel(action, float(reward), last)
            if watch:
                watch(env, step + 1, ended)
            if last:
                break
        lived = np.ones(len(rewards), np.float32)
        episode = Episodes(
            np.array(observations),
            np.array(actions),
            np.array(rewards, np.float32),
            lived,
            np.array(errors, np.float32),
        )
        return episode.padded(env.job.horizon)

    def _guided(self, trial: Trial) -> Episodes:
        env, job, task = self._env, self._env.job, trial.task
        keys = [(*trial.key, index) for index in range(trial.episodes)]
        goals = [job.goal(task, np.random.default_rng(seed(Stream.GUIDE, key))) for key in keys]
        paths = job.guide(task, np.array(goals), np.random.default_rng(seed(Stream.GUIDE, trial.key)))
        motions = []
        for key, goal, path in zip(keys, goals, paths, strict=True):
            env.reset(seed=_integer(seed(Stream.WORLD, key)), options={"task": task, "goal": goal})
            sample = env.guided(path)
            observation = env.interface.observe({name: values[:-1] for name, values in sample.items()})
            none = np.zeros(len(observation), np.float32)
            action = env.interface.label(sample["joint_position"])
            motions.append(Episodes(observation, action, none, np.ones_like(none), none))
        return Episodes.stack(motions)


def _integer(sequence: np.random.SeedSequence) -> int:
    return int.from_bytes(sequence.generate_state(4).tobytes(), "little")
