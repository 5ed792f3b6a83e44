"""Sampling: the same numbers whoever computes them, in whatever order, and every draw from its own key."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from envs.arm import Reach, Seek
from envs.legged import Walk
from metarl.config import DEFAULTS
from metarl.episodes import Episodes
from metarl.graphs import act_graph
from metarl.gru import GRUMemory
from metarl.learners.memory import unrolled
from metarl.networks import MLP
from metarl.sampling.processes import make_sampler
from metarl.sampling.serial import Sampler, SerialSampler
from metarl.sampling.worker import Actor, Stream, Trial, draw_tasks, seed
from robots.arms import PANDA
from robots.legged import A1

ENV = "metarl/PandaReach-v0"
JOB = Reach(PANDA)
TASKS = [JOB.space.sample(np.random.default_rng(index)) for index in range(2)]
NETS = {
    "policy": MLP(JOB.interface.observation_size, 7, (8,)),
    "oracle": MLP(JOB.interface.observation_size + JOB.space.size, 7, (8,)),
}
THETAS = {name: net.initial(torch.Generator().manual_seed(4)) for name, net in NETS.items()}
POINT = (np.eye(3), np.zeros(3))
KEY = (0, 0, 0, 0)


def by(actor: str, key: tuple[int, ...] = KEY, mode: str = "mean", task: int = 0) -> Trial:
    return Trial(TASKS[task], key, 2, mode, actor, THETAS[actor].numpy())


TRIALS = [
    Trial(TASKS[0], KEY, 3, "guided"),
    by("policy"),
    by("policy", mode="explore"),
    by("policy", mode="explore", task=1),
    by("oracle", mode="explore", task=1),
    Trial(TASKS[1], KEY, 2, "mean", point=POINT),
    replace(by("oracle"), then=(0.2, TASKS[1])),
]


@pytest.fixture(scope="module")
def actors() -> dict[str, Actor]:
    return {name: Actor(act_graph(net), privileged=name == "oracle") for name, net in NETS.items()}


@pytest.fixture(scope="module")
def serial(actors: dict[str, Actor]) -> Iterator[Sampler]:
    with closing(SerialSampler(ENV, actors)) as sampler:
        yield sampler


def same(a: Episodes, b: Episodes) -> bool:
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(Episodes))


@pytest.mark.parametrize("workers", [1, 2])
def test_numbers_do_not_depend_on_who_computed_them(serial: Sampler, actors: dict[str, Actor], workers: int):
    expected = serial.sample(TRIALS)
    order = np.random.default_rng(workers).permutation(len(TRIALS))
    with closing(make_sampler(ENV, actors, workers)) as sampler:
        found = sampler.sample([TRIALS[index] for index in order])
    assert all(same(episodes, expected[index]) for episodes, index in zip(found, order, strict=True))


@pytest.mark.parametrize("trial", TRIALS)
def test_another_key_gives_other_numbers(serial: Sampler, trial: Trial):
    keys = [KEY, (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    found = serial.sample([replace(trial, key=key) for key in keys])
    starts = {tuple(row) for episodes in found for row in episodes.observation[:, 0].tolist()}
    assert len(starts) == len(keys) * trial.episodes
    ends = {tuple(row) for episodes in found for row in episodes.action[:, 0].tolist()}
    assert len(ends) == len(starts)


def test_streams_at_one_key_are_independent():
    assert len({tuple(seed(stream, KEY).generate_state(4)) for stream in Stream}) == len(Stream)


def test_fewer_episodes_are_the_first_ones(serial: Sampler):
    for trial in TRIALS:
        few, all_ = serial.sample([replace(trial, episodes=1), trial])
        assert same(few, all_.map(lambda array: array[:1]))


def test_all_who_act_meet_the_same_world(serial: Sampler):
    task = TASKS[1]
    seen = [
        JOB.interface.field("camera_target", episodes.observation)
        for episodes in serial.sample(
            [by("policy", task=1), by("oracle", task=1), Trial(task, KEY, 2, "mean", point=POINT)]
        )
    ]
    assert seen[0].std(axis=1).max() > 1e-5  # a new draw of noise at each step
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])


def test_a_world_may_change_under_way_and_an_oracle_is_told(serial: Sampler):
    for actor in ("policy", "oracle"):
        before, changed = serial.sample([by(actor), replace(by(actor), then=(0.2, TASKS[1]))])
        same = (changed.action == before.action).all(-1)[0]
        assert same[:5].all()  # 0.2 s
        assert not same[6:].any()
    told, never = NETS["oracle"], torch.from_numpy(by("oracle").theta)
    code = np.tile(JOB.space.encode(TASKS[1]).astype(np.float32), (4, 1))
    mean, _ = told(never, torch.from_numpy(np.concatenate([changed.observation[0, 10:14], code], -1)))
    np.testing.assert_allclose(changed.action[0, 10:14], mean.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="changes under way, expected none in guided motions"):
        replace(TRIALS[0], then=(0.2, TASKS[1]))


def test_parameters_may_change_with_the_world(serial: Sampler):
    trial = replace(by("policy"), then=(0.2, TASKS[1]))
    renewed = replace(trial, after=trial.theta * np.float32(1.5))
    before, after = serial.sample([trial, renewed])
    np.testing.assert_array_equal(after.action[0, :4], before.action[0, :4])
    mean, _ = NETS["policy"](torch.from_numpy(renewed.after), torch.from_numpy(after.observation[0, 4:]))
    np.testing.assert_allclose(after.action[0, 4:], mean.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="expected `then` beside `after`"):
        replace(TRIALS[0], after=trial.theta)


def test_exploration_is_the_policys_own_gaussian(serial: Sampler):
    (episodes,) = serial.sample([replace(by("policy", mode="explore"), episodes=4)])
    mean, log_std = NETS["policy"](THETAS["policy"], torch.from_numpy(episodes.observation))
    noise = ((torch.from_numpy(episodes.action) - mean) / log_std.exp()).numpy()
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1) < 0.1
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.1
    (calm,) = serial.sample([by("policy")])
    mean, _ = NETS["policy"](THETAS["policy"], torch.from_numpy(calm.observation))
    np.testing.assert_allclose(calm.action, mean, atol=1e-6)


def test_a_point_is_reached_in_the_nominal_world(serial: Sampler):
    nominal = JOB.space.nominal
    seen, fixed = serial.sample(
        [
            Trial(nominal, KEY, 3, "mean", point=POINT),
            Trial(nominal, KEY, 3, "mean", point=(np.zeros((3, 3)), np.array([0.5, 0.1, 0.3]))),
        ]
    )
    assert seen.error[:, -1].max() < JOB.measure.tolerance
    assert fixed.error[:, -1].min() > JOB.measure.tolerance


def test_an_episode_ends_where_the_robot_falls():
    """A1 under violent random actions: what was lived, then zeros; and the error stays."""
    walk = Walk(A1)
    network = MLP(walk.interface.observation_size, walk.interface.action_size, (4,))
    theta = network.initial(torch.Generator().manual_seed(0))
    theta[-walk.interface.action_size :] = 1.0
    with closing(SerialSampler("metarl/A1Walk-v0", {"walker": Actor(act_graph(network))})) as sampler:
        trials = [
            Trial(walk.space.nominal, (seed, 0, 0, 0), 2, "explore", "walker", theta.numpy()) for seed in range(2)
        ]
        first, second = sampler.sample(trials)
        (again,) = sampler.sample(trials[:1])
    assert same(first, again)
    assert not same(first, second)
    for lived, reward, observation, error in zip(first.mask, first.reward, first.observation, first.error, strict=True):
        count = int(lived.sum())
        assert lived.shape == (walk.horizon,)
        assert 5 < count < walk.horizon
        np.testing.assert_array_equal(lived, np.arange(walk.horizon) < count)
        assert reward[:count].all()
        assert not reward[count:].any()
        assert observation[:count].any(axis=1).all()
        assert not observation[count:].any()
        assert (error[count:] == error[count - 1]).all()


def test_training_tasks_do_not_repeat():
    config = replace(DEFAULTS["reward"], tasks=20)
    drawn = [draw_tasks(JOB.space, "train", (seed, i), config.tasks) for seed in range(2) for i in range(5)]
    assert len({str(task.values) for tasks in drawn for task in tasks}) == 2 * 5 * 20
    assert drawn[0] == draw_tasks(JOB.space, "train", (0, 0), config.tasks)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unknown_environment_is_refused(workers: int):
    with pytest.raises(ValueError, match="environment 'metarl/Nothing-v0' is unknown, expected one of"):
        make_sampler("metarl/Nothing-v0", {}, workers)


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="workers is -1, expected 0"):
        make_sampler(ENV, {}, -1)


SEEK = Seek(PANDA)
REMEMBERING = GRUMemory(SEEK.interface.observation_size, SEEK.interface.action_size, discrete=False, hidden=8)


@pytest.fixture(scope="module")
def remembered() -> tuple[list[Trial], list[Episodes]]:
    """Trials of a policy with memory, exploring and by its mean, and their episodes."""
    generator = torch.Generator().manual_seed(0)
    theta = REMEMBERING.initial(generator) + 0.3 * torch.randn(REMEMBERING.size, generator=generator)
    tasks = [SEEK.space.sample(np.random.default_rng(index)) for index in range(2)]
    trials = [
        Trial(task, (0, 0, index, 0), 3, mode, "one", theta.numpy())
        for index, task in enumerate(tasks)
        for mode in ("explore", "mean")
    ]
    with closing(SerialSampler("metarl/PandaSeek-v0", {"one": Actor(act_graph(REMEMBERING))})) as sampler:
        return trials, sampler.sample(trials)


def test_trials_of_a_memory_do_not_depend_on_who_computed_them(remembered: tuple[list[Trial], list[Episodes]]):
    trials, expected = remembered
    order = [2, 0, 3, 1]
    with closing(make_sampler("metarl/PandaSeek-v0", {"one": Actor(act_graph(REMEMBERING))}, workers=1)) as sampler:
        found = sampler.sample([trials[index] for index in order])
    assert all(same(episodes, expected[index]) for episodes, index in zip(found, order, strict=True))


def test_a_memory_lasts_over_a_trials_episodes_and_no_longer(remembered: tuple[list[Trial], list[Episodes]]):
    """Recomputed from zero memory over a whole trial, in torch, the means come out; from an episode's start, not."""
    trials, lived = remembered
    theta = torch.from_numpy(trials[0].theta)
    data = {name: torch.from_numpy(value) for name, value in unrolled(Episodes.stack(lived)).items()}
    found = REMEMBERING.sequence(theta, data["observation"], data["feedback"])
    calm = [index for index, trial in enumerate(trials) if trial.mode == "mean"]
    torch.testing.assert_close(data["action"][calm], found.mean[calm], atol=1e-4, rtol=0)
    loud = [index for index, trial in enumerate(trials) if trial.mode == "explore"]
    noise = (data["action"] - found.mean)[loud] / found.log_std.exp()
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1) < 0.1
    length = SEEK.horizon
    assert data["done"][0].nonzero().flatten().tolist() == [length - 1, 2 * length - 1, 3 * length - 1]
    parts = {name: value[calm, length : 2 * length] for name, value in data.items()}
    forgot = REMEMBERING.sequence(theta, parts["observation"], torch.zeros_like(parts["feedback"]))
    assert (forgot.mean[:, 0] - parts["action"][:, 0]).abs().max() > 1e-3
    assert (forgot.mean - parts["action"]).abs().max() > 1e-2


def test_what_a_memory_does_first_does_not_depend_on_the_length_of_its_trial(
    remembered: tuple[list[Trial], list[Episodes]],
):
    trials, expected = remembered
    with closing(SerialSampler("metarl/PandaSeek-v0", {"one": Actor(act_graph(REMEMBERING))})) as sampler:
        found = sampler.sample([replace(trial, episodes=2) for trial in trials])
    for few, all_ in zip(found, expected, strict=True):
        assert same(few, all_.map(lambda array: array[:2]))
