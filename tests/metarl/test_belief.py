"""What is inferred from motion: windows and truths, the inner steps, and the same in training, sampling and export."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from envs.robot_env import make
from export.device import Device
from export.device.adapter import Adapter
from metarl.belief import Prior, imagine
from metarl.checkpoint import Run
from metarl.config import Config, default
from metarl.experience import Experience, Windows
from metarl.graphs import adapt_graph
from metarl.learners.belief import LIKELY, MOVES, Belief, Told, misbelief, unlikelihood
from metarl.learners.registry import make_learner
from metarl.pack import pack
from metarl.problem import Problem
from metarl.sampling.opening import actor_of, open_sampler
from metarl.sampling.serial import Sampler
from metarl.sampling.worker import draw_tasks
from metarl.trainer import train
from robots.mirror import Mirror

OPTIONS = {"horizon": 60, "unknown": ("payload", "delay", "joint_zero")}


def small(learner: str = "belief", **changes: object) -> Config:
    given = {"env": "metarl/A1Walk-v0", "options": OPTIONS, "hidden": (8,), "tasks": 3, "passes": 2, "batches": 2}
    return replace(default(learner), **{**given, "iterations": 2, "context": 4, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["belief", "rma"])
def learner(request: pytest.FixtureRequest) -> Belief:
    config = small(request.param)
    made = make_learner(config, Problem.of(config.env, config.options))
    assert isinstance(made, Belief)
    with torch.no_grad():  # what is at rest at first would agree with anything
        generator = torch.Generator().manual_seed(1)
        for part in (made._inferring.parameters["theta"], made._acting.parameters["policy"]):
            part += 0.1 * torch.randn(part.shape, generator=generator)
    return made


@pytest.fixture(scope="module")
def sampler(learner: Belief) -> Iterator[Sampler]:
    problem = Problem.of(learner.config.env, learner.config.options)
    with closing(open_sampler(problem, {"learner": actor_of(learner)}, 0)) as made:
        yield made


def gathered(learner: Belief, sampler: Sampler, iteration: int, tasks: int = 6) -> Told:
    space = Problem.of(learner.config.env, learner.config.options).space
    (batch,) = learner.gather(sampler, draw_tasks(space, "train", (0, iteration), tasks), (0, iteration))
    assert isinstance(batch, Told)
    return batch


@pytest.fixture(scope="module")
def told(learner: Belief, sampler: Sampler) -> Told:
    return gathered(learner, sampler, 0)


def experience(lengths: tuple[int, ...] = (30, 50), changed: tuple[int, ...] = (40, 40)) -> Experience:
    """Two codes an episode; observations count the steps of all episodes."""
    count = sum(lengths)
    observation = np.arange(count, dtype=np.float32)[:, None]
    truth = np.arange(4, dtype=np.float32).reshape(2, 2, 1)
    return Experience(observation, observation, np.array(lengths), truth, np.array(changed))


def test_elements_are_whitened_by_their_moments():
    env = make("metarl/A1Walk-v0", unknown=("payload", "joint_zero", "weak_joint", "weak_strength"))
    prior, rng = Prior.of(env.task_space), np.random.default_rng(5)
    truths = np.stack([prior.truth(env.task_space, env.task_space.sample(rng)) for _ in range(2000)])
    env.close()
    np.testing.assert_allclose(truths.mean(0), 0, atol=0.1)
    np.testing.assert_allclose(truths.std(0), 1, atol=0.15)


def test_windows_end_where_asked_and_are_padded():
    windows = experience().cut(np.array([0, 1]), np.array([20, 35]), np.array([30, 45]), 20)
    assert windows.mask.sum(1).tolist() == [10, 10]
    assert windows.observation[0, :10, 0].tolist() == list(range(20, 30))
    assert windows.observation[1, :10, 0].tolist() == list(range(65, 75))
    assert not windows.observation[:, 10:].any()
    assert windows.truth[:, 0].tolist() == [0, 3], "the second had changed by then"


def test_what_comes_after_ends_with_the_episode():
    after = experience().cut(np.array([0, 1]), np.array([25, 10]), None, 20)
    assert after.mask.sum(1).tolist() == [5, 20]


def test_drawn_windows_are_of_every_age_and_what_follows_begins_with_their_last_step():
    lived = experience((80, 90), (100, 100))
    support, query = lived.drawn(np.random.default_rng(0), 400, 40, 10)
    lengths = support.mask.sum(1).astype(int)
    assert lengths.min() == 20
    assert lengths.max() == 40
    last = support.observation[np.arange(400), lengths - 1, 0]
    np.testing.assert_array_equal(query.observation[:, 0, 0][query.mask[:, 0] > 0], last[query.mask[:, 0] > 0])


def test_mirrored_windows_are_images_of_those_that_are_chosen():
    symmetry = Problem.of("metarl/A1Walk-v0", OPTIONS).symmetry
    assert symmetry is not None
    seen, done, code = symmetry
    rng = np.random.default_rng(0)
    sizes = [(2, 4, len(seen.signs)), (2, 4, len(done.signs)), (2, len(code.signs))]
    observation, action, truth = (rng.normal(size=size).astype(np.float32) for size in sizes)
    windows = Windows(observation, action, np.ones((2, 4), np.float32), truth)
    turned = windows.mirrored(symmetry, np.array([True, False]))
    images = seen(observation), done(action), windows.mask, code(truth)
    for was, now, image in zip(windows, turned, images, strict=True):
        np.testing.assert_array_equal(now[0], image[0])
        np.testing.assert_array_equal(now[1], was[1])


def test_in_the_mirrored_world_the_policy_does_what_is_the_image_of_what_it_does(learner: Belief):
    problem = Problem.of(learner.config.env, learner.config.options)
    assert problem.symmetry is not None
    seen, done, code = problem.symmetry
    rng, theta = np.random.default_rng(0), learner.theta.detach()
    observation, belief = rng.normal(size=problem.observation), rng.uniform(0.1, 0.9, 2 * len(code.signs))
    both = Mirror.join((code, code.unsigned))

    def does(observation: np.ndarray, belief: np.ndarray) -> np.ndarray:
        own = learner.network.believing(theta, torch.from_numpy(belief).float())
        return learner.network(own, torch.from_numpy(observation).float())[0].numpy()

    here, there = does(observation, belief), does(seen(observation), both(belief))
    np.testing.assert_allclose(there, done(here), atol=0.02)  # units are measured, each on its own
    assert np.abs(there - here).max() > 0.1


@pytest.mark.parametrize("choice", [False, True])
def test_a_belief_is_best_if_as_sure_as_it_is_right(choice: bool):
    judged = partial(misbelief, choice=np.array([choice]))
    truth = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    ignorant = judged(torch.zeros_like(truth), torch.zeros_like(truth), truth)
    certainties = torch.tensor([0.5, 0.8, 0.95])
    noise = 0.2**0.5 * torch.randn(4000, 1, generator=torch.Generator().manual_seed(1))
    mean = 0.8 * (truth + 0.8**-0.5 * 0.5 * noise)
    error = (truth - mean).square().mean()
    losses = [judged(mean, torch.full_like(truth, float(k)), truth) for k in certainties]
    best = judged(mean, torch.full_like(truth, 1 - float(error)), truth)
    assert best < ignorant
    assert all(best <= loss for loss in losses)


def test_numbers_are_judged_by_how_far_a_belief_is_from_the_truth():
    """The ranked probability score is the integral of (F(x) - [x >= truth])^2."""
    mean, certainty, truth = torch.tensor([0.3]).double(), torch.tensor([0.4]).double(), torch.tensor([1.1]).double()
    x = torch.linspace(-12, 12, 400_001).double()
    below = torch.special.ndtr((x - mean) / (1 - certainty).sqrt())
    integral = torch.trapezoid((below - (x >= truth).double()).square(), x)
    rest = LIKELY * unlikelihood(mean, certainty, truth)
    found = misbelief(mean, certainty, truth, np.array([False])) - rest
    assert found.item() == pytest.approx(integral.item(), abs=1e-4)


def test_a_choice_is_judged_by_its_likelihood_and_weighs_as_one_number():
    truth, choice = torch.tensor([[2.0, -0.5, -0.5, -0.5]]), np.array([True] * 4)
    zeros = torch.zeros_like(truth)
    likely = unlikelihood(zeros, zeros, truth).mean()
    torch.testing.assert_close(misbelief(zeros, zeros, truth, choice), likely / 4)


def test_inner_steps_of_training_are_the_devices(learner: Belief, told: Told):
    lived = told.experience
    rows = np.flatnonzero(lived.length >= 40)[:2]
    window = lived.cut(rows, np.full(2, 5), np.full(2, 35), 30)
    support = {name: torch.from_numpy(value) for name, value in window._asdict().items()}
    theta = learner.theta.detach()
    contexts = learner.contexts(learner.network.pieces(theta), support, learning=False)
    adapter = Adapter(adapt_graph(learner))
    for index in range(2):
        batch = {name: getattr(window, name)[[index]] for name in learner.objective.fields}
        own = theta[: learner.network.context].numpy()
        for step, context in enumerate(contexts[1:]):
            own = adapter.step(own, step, batch).theta
            np.testing.assert_allclose(own, context[index].detach(), rtol=1e-3, atol=1e-5)


def test_an_inner_step_moves_the_context_alone_and_computes_no_other_gradient(learner: Belief, told: Told):
    theta = learner.theta.detach().requires_grad_()
    batch = {name: torch.from_numpy(getattr(told, name)[0]) for name in learner.objective.fields}
    (gradient,) = torch.autograd.grad(learner.objective.loss(learner.network, theta, batch), theta)
    assert gradient[: learner.network.context].all()
    assert not gradient[learner.network.context :].any()


def test_gradients_through_the_inner_steps_are_exact(learner: Belief, told: Told):
    lived = told.experience
    support, query = lived.drawn(np.random.default_rng(0), 3, 30, 10)
    double = [
        {name: torch.from_numpy(value).double() for name, value in windows._asdict().items()}
        for windows in (support, query)
    ]
    theta = learner.theta.detach().double().requires_grad_()

    def loss(at: torch.Tensor) -> torch.Tensor:
        return learner.inference_loss(learner.network.pieces(at), *double)[0]

    (gradient,) = torch.autograd.grad(loss(theta), theta)
    rng = torch.Generator().manual_seed(0)
    for _ in range(3):
        way = torch.randn(theta.shape, generator=rng, dtype=torch.float64)
        way[learner.network.place("scale")] = 0
        way /= way.norm()
        with torch.enable_grad():
            ahead, behind = (loss((theta + sign * 1e-5 * way).detach().requires_grad_()).item() for sign in (1, -1))
        assert (gradient @ way).item() == pytest.approx((ahead - behind) / 2e-5, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("iteration", [0, 2], ids=["imagined", "inferred"])
def test_training_knows_what_was_believed_when_it_was_lived(learner: Belief, sampler: Sampler, iteration: int):
    lived = gathered(learner, sampler, iteration)
    told = learner.told(lived)
    seen = torch.cat([torch.from_numpy(lived.observation[:, 0]), told], -1)
    with torch.no_grad():
        mean, log_std = learner.network.policy(learner._acting.parameters["policy"], seen)
    noise = ((torch.from_numpy(lived.action[:, 0]) - mean) / log_std.exp()).numpy()
    for task, length in enumerate(lived.mask[:, 0].sum(-1).astype(int)):
        key = np.random.SeedSequence([0, 2, iteration, task, 0, 0])
        drawn = np.random.default_rng(key).standard_normal((60, mean.shape[-1]), np.float32)
        np.testing.assert_allclose(noise[task, :length], drawn[:length], atol=2e-2)


def test_the_policy_is_told_the_truth_or_nothing_then_what_it_inferred_or_nothing(learner: Belief, sampler: Sampler):
    first, last = (gathered(learner, sampler, iteration, tasks=24) for iteration in (0, 2))
    code = learner.network.code
    unit = learner.network.pieces(learner.theta.detach())["unit"].numpy()
    blind = ~first.imagined.any(1)
    assert not first.inferring.any()
    assert 0 < blind.sum() < 12
    truths = np.repeat((first.truth[:, 0] * unit)[:, None], 60, 1)
    np.testing.assert_allclose(learner.told(first)[..., :code], truths * ~blind[:, None, None], atol=1e-5)
    assert 0 < (~last.inferring).sum() < 12
    assert not learner.told(last)[~last.inferring].any()
    moves = learner.told(last)[last.inferring][:, 30] - learner.told(last)[last.inferring][:, 0]
    assert moves.abs().max(-1).values.min() > 0
    assert (last.changed < 60).any()


def test_the_ground_stays_when_the_world_changes(tmp_path: Path):
    options = {**OPTIONS, "unknown": ("payload",), "ground": ("rough", "slope_up")}
    run = train(small(options=options, iterations=2, tasks=6), tmp_path, workers=0)
    assert run.iteration == 2


def test_who_is_told_believes_it_whatever_it_feels(learner: Belief):
    network, theta, rng = learner.network, learner.theta.detach(), np.random.default_rng(0)
    for nothing in (0.0, 1.0):
        (belief,) = imagine(rng.standard_normal((1, network.code)).astype(np.float32), nothing, rng)
        moved = network.believing(theta, torch.from_numpy(belief))
        moved[: network.context] += 1
        parts = network.pieces(moved)
        np.testing.assert_allclose(torch.cat(network.belief(parts, parts["context"])), belief, atol=1e-5)


def test_certainties_weigh_as_one_input(learner: Belief):
    network = learner.network
    told = network.told(network.pieces(learner.theta.detach()), torch.ones(2 * network.code))
    mean, certainty = told.split(network.code)
    assert certainty.norm() == pytest.approx(mean.norm() / network.code**0.5)


def test_without_steps_it_believes_nothing_at_first():
    config = small()
    made = make_learner(config, Problem.of(config.env, config.options))
    assert isinstance(made, Belief)
    parts = made.network.pieces(made.theta)
    mean, certainty = made.network.belief(parts, parts["context"])
    assert mean.abs().max() < 0.2
    assert certainty.max() < 0.1


@pytest.mark.parametrize(("rate", "grows"), [(1e-5, True), (1e-1, False)])
def test_the_rate_is_kept_to_what_moves_the_policy_evenly(rate: float, grows: bool):
    config = small(learning_rate=rate)
    problem = Problem.of(config.env, config.options)
    made = make_learner(config, problem)
    assert isinstance(made, Belief)
    with closing(open_sampler(problem, {"learner": actor_of(made)}, 0)) as sampler:
        figures = made.update(made.gather(sampler, draw_tasks(problem.space, "train", (0, 0), 3), (0, 0)), 0.0)
    assert (figures["divergence"] < MOVES[0]) == grows
    assert bool(made._rate > rate) == grows


def test_it_becomes_a_bundle_that_adapts_while_it_works(tmp_path: Path):
    run = train(small(tasks=2, iterations=1), tmp_path / "run", 0, console=Console(quiet=True))
    report = pack(Run(run.path), tmp_path / "bundle.zip")
    assert report.act < 1e-5
    manifest = Device.load(tmp_path / "bundle.zip").manifest
    assert manifest.parameters == 4, "the context alone"
    assert manifest.plan is not None
    assert (manifest.plan.first, manifest.plan.steps) == (0.5, 3)


def test_worlds_without_a_robot_are_refused():
    config = small(env="metarl/Bandit-v0", options={})
    with pytest.raises(ValueError, match=r"metarl/Bandit-v0 has no robot, .* use 'rl2'"):
        make_learner(config, Problem.of(config.env))
