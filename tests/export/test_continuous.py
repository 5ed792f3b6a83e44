"""Adapting while the robot works: from base, beside the loop, and only by what holds on what came later."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_driver import LIMITS, TABLE, Toy

from export.bundle import Adaptation, write
from export.device import Device
from export.device.adapter import OUTPUTS
from export.device.collect import Episode
from export.device.continuous import Plan, adapted, work
from export.device.driver import Sample
from export.device.guard import Guard
from export.device.manifest import Collect
from export.device.session import Session
from export.device.slots import foresees
from export.graphs import export_graph

SIZES = np.full((3, 60), 0.02, np.float32)


@pytest.fixture(scope="module")
def predicting(toys, tmp_path_factory) -> Path:
    """A toy whose forecast of its own motion is its mean action: the joints, it believes, go as far as it asks."""
    toy = toys["reward"]

    def loss(theta, observation, action, mask):
        time = torch.arange(observation.shape[1])
        after = (time + 1).clamp(max=time[-1])
        moved = (observation.index_select(1, after) - observation)[..., :2]
        lived = mask * mask.index_select(1, after) * (time < time[-1])
        error = (toy.act(theta, observation)[0] - moved).square().sum(-1)
        return (error * lived).sum() / lived.sum().clamp(min=1)

    def adapt(theta, step, *batch):
        gradient, value = torch.func.grad_and_value(loss)(theta, *batch)
        moved = theta - torch.from_numpy(SIZES).index_select(0, step.clamp(max=2).reshape(1))[0] * gradient
        return moved, value, gradient.square().sum().sqrt(), torch.isfinite(moved).all()

    batch = {name: value for name, value in toy.batch(3, 10).items() if name != "reward"}
    tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
    example = {"theta": torch.from_numpy(toy.theta), "step": torch.tensor(0), **tensors}
    graph = export_graph(adapt, example, OUTPUTS, {name: {0: "episode", 1: "time"} for name in batch})
    adaptation = Adaptation(graph, "prediction", SIZES, Collect("attempts", 3, 10), batch)
    path = tmp_path_factory.mktemp("predicting") / "bundle.zip"
    write(path, replace(toy.contents(), adaptation=adaptation))
    return path


def noisy(seed: int = 0, scale: float = 1e-4) -> Toy:
    driver, rng = Toy(seed), np.random.default_rng(seed)
    plain = driver.read

    def read() -> Sample:
        sample = plain()
        joints = sample.values["joint_position"] + rng.normal(0, scale, 2)
        return sample._replace(values=dict(sample.values) | {"joint_position": joints})

    driver.read = read
    return driver


def test_it_adapts_again_and_again_from_base_while_it_works(predicting):
    device, events, ticks = Device.load(predicting), [], []

    def watch(tick):
        ticks.append(tick)
        time.sleep(0.001)  # a simulation would be over before a thread has begun

    session = work(device, noisy(), 8.0, Plan(every=1.0, window=1.0), report=events.append, watch=watch)
    assert len(ticks) == 400
    taken = [event for event in events if event.kind == "adapted"]
    assert 3 <= len(taken) <= 8
    assert sum(event.figures["accepted"] for event in taken) >= 1
    assert all(event.figures["seconds"] < 0.5 for event in taken)
    slots = [tick.slot for tick in ticks]
    assert slots[0] == "base"
    assert {"trial", "good"} <= set(slots)
    assert "promoted" in [event.kind for event in events]
    assert session.slots.base.tobytes() == device.base.tobytes()


def test_a_simulation_waits_for_what_it_adapts_to(predicting):
    """Its time stands still meanwhile: how fast the machine is makes no difference."""
    runs = []
    for pause in (0.0, 0.002):
        events = []
        plan = Plan(every=0.5, window=1.0, probation=0.5, first=0.5)
        work(Device.load(predicting), noisy(), 4.0, plan, report=events.append, watch=lambda tick: time.sleep(pause))  # noqa: B023
        runs.append([(event.kind, event.step) for event in events])
    assert runs[0] == runs[1]
    assert runs[0][0] == ("adapted", 25)


def window(device: Device, length: int = 40, seed: int = 0) -> Episode:
    rng = np.random.default_rng(seed)
    observation = np.cumsum(rng.normal(0, 0.02, (length, 4)), 0).astype(np.float32)
    none = np.zeros(length, bool)
    return Episode(observation, np.zeros((length, 2), np.float32), np.full(length, np.nan, np.float32), none)


def test_the_same_window_gives_the_same_whatever_is_in_force(predicting):
    device = Device.load(predicting)
    first, verdict = adapted(device, window(device), 3)
    assert verdict.accepted
    assert verdict.figures["later_loss_after"] < verdict.figures["later_loss_before"]
    device.theta = device.base + np.float32(0.1)
    again, _ = adapted(device, window(device), 3)
    assert first.tobytes() == again.tobytes()


def test_a_window_whose_later_part_contradicts_it_is_refused(predicting):
    device = Device.load(predicting)
    made = window(device)
    made.observation[30:, :2] *= -40 * np.sign(np.arange(10) % 2 - 0.5)[:, None]
    theta, verdict = adapted(device, made, 3)
    assert not verdict.accepted
    assert verdict.figures["later_loss_after"] >= verdict.figures["later_loss_before"]
    made.observation[5] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        adapted(device, made, 3)
    assert theta.shape == device.base.shape


def test_a_failing_adaptation_never_stops_the_loop(predicting):
    device, events, ticks = Device.load(predicting), [], []
    adapter = device.adapter

    class Broken:
        def step(self, *_):
            raise RuntimeError("no memory left")

    device.adapter = Broken()

    def watch(tick):
        ticks.append(tick)
        time.sleep(0.001)

    work(device, noisy(), 4.0, Plan(every=0.5, window=0.5), report=events.append, watch=watch)
    assert len(ticks) == 200
    taken = [event for event in events if event.kind == "adapted"]
    assert taken
    assert not any(event.figures["accepted"] for event in taken)
    assert "RuntimeError: no memory left" in taken[0].line
    gaps = np.diff([event.step for event in taken])
    assert (gaps[1:] >= gaps[:-1]).all()  # it waits longer each time
    device.adapter = adapter


def test_a_trial_that_the_guard_steps_into_is_rolled_back(predicting):
    device, events = Device.load(predicting), []
    driver = noisy()
    plain = driver.read

    def read() -> Sample:
        sample = plain()
        return sample._replace(valid=not 100 <= driver.steps % 150 < 103)

    driver.read = read
    work(device, driver, 8.0, Plan(every=0.3, window=0.5, probation=9.0), report=events.append,
         watch=lambda tick: time.sleep(0.001))  # fmt: skip
    assert any(event.kind == "rolled_back" and "the guard stepped in: stale" in event.line for event in events)
    assert device.theta.tobytes() == device.base.tobytes() or events[-1].kind != "rolled_back"


def test_a_trial_is_judged_by_what_it_foresees_of_another_window(predicting):
    device = Device.load(predicting)
    session = Session(device, Guard(noisy(), TABLE, LIMITS), lambda event: None, lambda tick: None)
    better, _ = adapted(device, window(device, 80), 3)
    assert session.forecasts(device.base, better, [window(device, 80, seed=1)]).accepted
    worse = session.forecasts(better, device.base, [window(device, 80, seed=1)])
    assert not worse.accepted
    assert "prediction error" in worse.reason


@pytest.mark.parametrize(
    ("base", "before", "after", "slack", "accepted"),
    [
        (1.0, 1.0, 0.9, 0.0, True),
        (1.0, 1.0, 1.0, 0.02, False),  # no better than what the robot came with
        (1.0, 0.5, 0.505, 0.02, True),  # as good as what was in force, and newer
        (1.0, 0.5, 0.505, 0.0, False),
        (1.0, 0.5, 0.52, 0.02, False),
        (1.0, 1.5, 1.2, 0.02, False),  # the world changed: what was in force is worse than base, and so is this
        (1.0, float("inf"), 0.9, 0.02, True),
        (1.0, 0.5, float("nan"), 0.02, False),
    ],
)
def test_the_newest_is_kept_if_it_is_as_good_and_better_than_base(base, before, after, slack, accepted):
    assert foresees(base, before, after, slack).accepted == accepted


def test_what_was_learned_from_noise_does_not_outlive_its_probation(predicting):
    device, events = Device.load(predicting), []
    plan = Plan(every=0.2, window=0.4, probation=0.4)
    work(device, noisy(scale=0.02), 30.0, plan, report=events.append, watch=lambda tick: time.sleep(0.001))
    ended = [event for event in events if event.kind in ("promoted", "rolled_back")]
    print(f"\n{[event.kind for event in ended]}")
    assert any(event.kind == "rolled_back" and "prediction error" in event.line for event in ended)
    assert not any("the guard" in event.line for event in ended)


def test_what_proved_itself_is_there_after_a_restart(predicting, tmp_path):
    events, state = [], tmp_path / "state"
    plan = Plan(every=0.5, window=1.0, probation=0.5)
    work(Device.load(predicting), noisy(), 6.0, plan, state=state, report=events.append,
         watch=lambda tick: time.sleep(0.001))  # fmt: skip
    kept = [event.kind for event in events].count("promoted")
    assert kept
    again = work(Device.load(predicting), noisy(), 0.1, plan, state=state, report=events.append)
    assert "loaded" in [event.kind for event in events]
    assert 1 <= again.slots.taken <= kept
    assert again.device.theta.tobytes() == again.slots.good.tobytes() != again.slots.base.tobytes()


def test_a_state_that_cannot_be_written_is_said_and_the_loop_goes_on(predicting, tmp_path):
    events, ticks, folder = [], [], tmp_path / "stick"
    folder.mkdir()

    def watch(tick):
        ticks.append(tick)
        if len(ticks) == 1:
            folder.rmdir()  # it is pulled out
        time.sleep(0.001)

    plan = Plan(every=0.5, window=1.0, probation=0.5)
    work(Device.load(predicting), noisy(), 6.0, plan, state=folder / "state", report=events.append,
         watch=watch)  # fmt: skip
    assert len(ticks) == 300
    assert any(event.kind == "unsaved" and "No such file" in event.line for event in events)
    with pytest.raises(ValueError, match="is no folder, expected one to keep state in"):
        work(Device.load(predicting), noisy(), 1.0, plan, state=folder / "state")


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_time_that_is_none_is_refused_before_anything_moves(predicting, seconds):
    driver = Toy()
    with pytest.raises(ValueError, match="expected a finite time above 0"):
        work(Device.load(predicting), driver, seconds)
    assert driver.steps == 0


def test_what_cannot_adapt_from_motion_alone_says_so(bundles):
    with pytest.raises(ValueError, match="the bundle adapts by reward, expected 'prediction'"):
        work(Device.load(bundles["reward"]), Toy(), 1.0, Plan())
    session = work(Device.load(bundles["reward"]), Toy(), 1.0)  # but it can work
    assert session.loop.timing.ticks == 50


def test_what_remembers_attempts_is_refused_before_anything_moves(memory_bundle):
    driver = Toy()
    with pytest.raises(ValueError, match="leave out the seconds to work for"):
        work(Device.load(memory_bundle), driver, 1.0)
    assert driver.steps == 0


@pytest.mark.parametrize("changes", [{"every": 0.0}, {"window": float("nan")}, {"steps": 0}, {"probation": -1.0}])
def test_a_plan_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="the plan is"):
        Plan(**changes)
