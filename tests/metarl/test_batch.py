"""The sampler of rows: the same numbers in any company, one memory per trial, and worlds that stay the trial's own."""

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from envs.classic import Bandit, Binding, Classic, Maze, PointNavigation, Sinusoid, TabularMDP
from metarl.episodes import Episodes
from metarl.gru import GRUMemory
from metarl.learners.memory import unrolled
from metarl.memory import Memory
from metarl.networks import MLP
from metarl.sampling.batch import BatchSampler
from metarl.sampling.worker import Trial, draw_tasks

JOBS: dict[str, Classic] = {
    "bandit": Bandit(3),
    "mdp": TabularMDP(states=4, actions=3, horizon=5),
    "maze": Maze(size=3, horizon=6),
    "point": PointNavigation(horizon=6, speed=0.5),
    "sinusoid": Sinusoid(),
}
KINDS = ("plain", "memory", "oracle")


def actors(job: Classic) -> dict[str, MLP | Memory]:
    sizes = (job.observation_size, job.action_size)
    return {
        "plain": MLP(*sizes, (6,), job.discrete),
        "memory": GRUMemory(*sizes, job.discrete, hidden=6),
        "oracle": MLP(sizes[0] + job.space.size, sizes[1], (6,), job.discrete),
    }


def theta_of(network: MLP | Memory, seed: int = 2) -> np.ndarray:
    """Far from rest, so that what it sees and remembers matters; of a seed whose greedy choices differ, and not so far
    that rounding grows from step to step.
    """
    generator = torch.Generator().manual_seed(seed)
    return (network.initial(generator) + 0.3 * torch.randn(network.size, generator=generator)).numpy()


def make_trials(job: Classic, actor: str, mode: str = "explore", count: int = 4, episodes: int = 3) -> list[Trial]:
    theta = theta_of(actors(job)[actor])
    tasks = draw_tasks(job.space, "train", (5, 0), count)
    return [Trial(task, (0, 0, index, 0), episodes, mode, actor, theta) for index, task in enumerate(tasks)]


def sampler(job: Classic) -> BatchSampler:
    return BatchSampler(job, actors(job), ("oracle",))


def same(a: Episodes, b: Episodes) -> bool:
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(Episodes))


def close(a: Episodes, b: Episodes) -> None:
    """Equal but for rounding: matrix products of other sizes may add up in another order."""
    for field in fields(Episodes):
        np.testing.assert_allclose(getattr(a, field.name), getattr(b, field.name), atol=1e-5, err_msg=field.name)


@pytest.mark.parametrize("actor", KINDS)
@pytest.mark.parametrize("name", JOBS)
def test_numbers_do_not_depend_on_company_or_order(name: str, actor: str):
    job = JOBS[name]
    trials = make_trials(job, actor)
    together = sampler(job).sample(trials)
    order = [2, 0, 3, 1]
    for index, found in zip(order, sampler(job).sample([trials[at] for at in order]), strict=True):
        close(found, together[index])
    for trial, found in zip(trials, together, strict=True):
        (alone,) = sampler(job).sample([trial])
        close(alone, found)
    assert all(same(*pair) for pair in zip(together, sampler(job).sample(trials), strict=True))


@pytest.mark.parametrize("actor", ["plain", "memory"])
@pytest.mark.parametrize("name", ["bandit", "mdp", "point", "sinusoid"])
def test_another_key_gives_other_numbers(name: str, actor: str):
    job = JOBS[name]
    (trial,) = make_trials(job, actor, count=1, episodes=20)
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    found = sampler(job).sample([replace(trial, key=key) for key in keys])
    assert len({one.action.tobytes() for one in found}) == len(keys)
    first = {row.tobytes() for row in found[0].action}
    assert len(first) > 1  # nor do episodes of one trial repeat each other


@pytest.mark.parametrize("name", ["mdp", "maze", "point"])
def test_a_trials_memory_lasts_and_the_next_one_starts_from_none(name: str):
    """Recomputed from zero memory on the whole trial at once, every greedy action comes out again."""
    job = JOBS[name]
    network = actors(job)["memory"]
    trials = make_trials(job, "memory", "mean", count=40)
    lived = Episodes.stack(sampler(job).sample(trials))
    data = {key: torch.from_numpy(value) for key, value in unrolled(lived).items()}
    found = network.sequence(torch.from_numpy(trials[0].theta), data["observation"], data["feedback"])
    greedy = torch.nn.functional.one_hot(found.mean.argmax(-1), job.action_size) if job.discrete else found.mean
    there = data["mask"] > 0
    torch.testing.assert_close(data["action"][there], greedy[there].float(), atol=1e-5, rtol=0)
    # From zero memory in every episode, or without feedback, other actions come out.
    for change in ("memory", "feedback"):
        rows = lived.map(lambda field: field.reshape(-1, 1, *field.shape[2:])) if change == "memory" else lived
        cut = {key: torch.from_numpy(value) for key, value in unrolled(rows).items()}
        feedback = cut["feedback"] if change == "memory" else torch.zeros_like(cut["feedback"])
        other = network.sequence(torch.from_numpy(trials[0].theta), cut["observation"], feedback)
        here = cut["mask"] > 0
        if job.discrete:
            assert (other.mean.argmax(-1) != cut["action"].argmax(-1))[here].any()
        else:
            assert (other.mean - cut["action"])[here].abs().max() > 1e-2


@pytest.mark.parametrize("name", JOBS)
def test_explored_actions_have_the_probabilities_of_the_recomputed_policy(name: str):
    job = JOBS[name]
    network = actors(job)["memory"]
    (trial,) = make_trials(job, "memory", count=1, episodes=4)
    trials = [replace(trial, key=(0, 0, index, 0)) for index in range(1500)]
    data = {k: torch.from_numpy(v) for k, v in unrolled(Episodes.stack(sampler(job).sample(trials))).items()}
    found = network.sequence(torch.from_numpy(trial.theta), data["observation"], data["feedback"])
    there = data["mask"] > 0
    if job.discrete:
        surplus = (data["action"] - torch.softmax(found.mean, -1))[there]
        deviation = torch.softmax(found.mean, -1)[there].var(0).sqrt() + 0.5
        assert (surplus.mean(0).abs() < 4 * deviation / there.sum().sqrt()).all()
        assert (data["action"][there].sum(-1) == 1).all()
    else:
        noise = ((data["action"] - found.mean) / found.log_std.exp())[there]
        assert noise.mean(0).abs().max() < 0.06
        assert (noise.std(0) - 1).abs().max() < 0.06


@pytest.mark.parametrize("actor", KINDS)
@pytest.mark.parametrize("name", JOBS)
def test_fewer_episodes_are_the_first_ones(name: str, actor: str):
    trials = make_trials(JOBS[name], actor, episodes=3)
    few = [replace(trial, episodes=2) for trial in trials]
    for some, all_ in zip(sampler(JOBS[name]).sample(few), sampler(JOBS[name]).sample(trials), strict=True):
        close(some, all_.map(lambda field: field[:2]))


def test_the_task_stays_for_a_trial():
    """A bandit whose arms pay always or never: what paid once pays in all of a trial's episodes."""
    job = Bandit(3)
    trial = make_trials(job, "memory", count=1, episodes=40)[0]
    sure = replace(trial, task=replace(trial.task, values={"probability": (1.0, 0.0, 1.0)}))
    (lived,) = sampler(job).sample([sure])
    pulled = lived.action[:, 0].argmax(-1)
    assert set(pulled) == {0, 1, 2}
    np.testing.assert_array_equal(lived.reward[:, 0], (pulled != 1).astype(np.float32))
    np.testing.assert_array_equal(lived.error[:, 0], (pulled == 1).astype(np.float32))


def test_rows_that_ended_are_padded_and_remember_nothing_more():
    """In mazes of two by two some trials end at once: their next episode goes on from what the last step left."""
    job = Maze(size=2, horizon=8)
    trials = make_trials(job, "memory", count=30, episodes=3)
    together = sampler(job).sample(trials)
    lengths = np.stack([one.mask.sum(1) for one in together])
    assert lengths.min() < 4 < lengths.max()
    for one in together:
        for mask, observation, action, reward, error in zip(
            one.mask, one.observation, one.action, one.reward, one.error, strict=True
        ):
            count = int(mask.sum())
            np.testing.assert_array_equal(mask, np.arange(8) < count)
            for field in (observation, action, reward):
                assert not field[count:].any()
            assert (error[count - 1 :] == error[count - 1]).all()
            assert count == 8 or error[-1] == 0
    lived = Episodes.stack(together)
    data = {key: torch.from_numpy(value) for key, value in unrolled(lived).items()}
    network = actors(job)["memory"]
    again = sampler(job).sample([replace(trial, mode="mean") for trial in trials])
    data = {key: torch.from_numpy(value) for key, value in unrolled(Episodes.stack(again)).items()}
    found = network.sequence(torch.from_numpy(trials[0].theta), data["observation"], data["feedback"])
    there = data["mask"] > 0
    assert torch.equal(found.mean.argmax(-1)[there], data["action"].argmax(-1)[there])


@pytest.mark.parametrize("actor", KINDS)
@pytest.mark.parametrize("name", ["mdp", "point"])
def test_mean_attempts_have_no_noise_of_their_own(name: str, actor: str):
    job = JOBS[name]
    trials = make_trials(job, actor, "mean")
    for index, lived in enumerate(sampler(job).sample(trials)):
        if actor == "memory":
            continue
        known = job.space.encode(trials[index].task).astype(np.float32)
        network = actors(job)[actor]
        observation = torch.from_numpy(lived.observation)
        if actor == "oracle":
            told = observation[..., job.observation_size :]
            torch.testing.assert_close(told[lived.mask > 0], torch.from_numpy(known).expand(int(lived.mask.sum()), -1))
        mean, _ = network(torch.from_numpy(trials[0].theta), observation)
        expected = torch.nn.functional.one_hot(mean.argmax(-1), job.action_size).float() if job.discrete else mean
        there = lived.mask > 0
        np.testing.assert_allclose(lived.action[there], expected.numpy()[there], atol=1e-5)
    if name == "point":  # a world without chance, too: whoever forgets does the same in every episode
        alike = [np.ptp(lived.action, axis=0).max() < 1e-5 for lived in sampler(job).sample(trials)]
        assert alike == [actor != "memory"] * 4


def test_each_trial_acts_by_its_own_theta():
    job = JOBS["point"]
    trials = make_trials(job, "plain", "mean")
    trials = [replace(trial, theta=theta_of(actors(job)["plain"], index)) for index, trial in enumerate(trials)]
    together = sampler(job).sample(trials)
    for trial, found in zip(trials, together, strict=True):
        close(sampler(job).sample([trial])[0], found)
    explored = [replace(trial, mode="explore") for trial in trials]
    for trial, found in zip(explored, sampler(job).sample(explored), strict=True):
        close(sampler(job).sample([trial])[0], found)
    ends = np.stack([lived.observation[0, -1] for lived in together])
    assert np.ptp(ends, axis=0).min() > 0.1


def test_guided_motions_are_the_demonstrations_of_each_task():
    job = JOBS["sinusoid"]
    trials = [replace(trial, mode="guided", episodes=6) for trial in make_trials(job, "plain")]
    for trial, lived in zip(trials, sampler(job).sample(trials), strict=True):
        (amplitude,), (phase,) = trial.task["amplitude"], trial.task["phase"]
        np.testing.assert_allclose(lived.action, amplitude * np.sin(lived.observation - phase), atol=1e-4)
        assert lived.mask.all()
        assert len(np.unique(lived.observation)) == 6
    with pytest.raises(ValueError, match="Maze has no demonstrations: use the objective 'reward'"):
        sampler(JOBS["maze"]).sample([replace(make_trials(JOBS["maze"], "plain")[0], mode="guided")])


@pytest.mark.parametrize(
    "change", [{"mode": "mean"}, {"episodes": 2}, {"actor": "memory"}], ids=lambda change: next(iter(change))
)
def test_trials_of_different_kinds_are_refused(change):
    first, second, *_ = make_trials(JOBS["mdp"], "plain")
    with pytest.raises(ValueError, match=r"trials differ in \(mode, actor, episodes\)"):
        sampler(JOBS["mdp"]).sample([first, replace(second, **change)])


def test_what_is_seen_of_a_binding_follows_its_task():
    """Keys that come up twice in a trial are answered alike: the world is the task's, episode after episode."""
    job = Binding(keys=3, values=4, size=5, horizon=12)
    (lived,) = sampler(job).sample(make_trials(job, "plain", count=1, episodes=4))
    answers: dict[bytes, set[int]] = {}
    for observation in lived.observation:
        for now, after in pairwise(observation):
            answers.setdefault(now[:5].tobytes(), set()).add(int(after[5:].argmax()))
    assert len(answers) == 3
    assert all(len(found) == 1 for found in answers.values())
