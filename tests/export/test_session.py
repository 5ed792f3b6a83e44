"""The device's loop on a toy robot: collecting, adapting, the control rate, and the command line."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from export.device import Device
from export.device.__main__ import main
from export.device.adapter import Field
from export.device.collect import Episode, Explorer, attempt, batch, feedback, guided
from export.device.driver import connect
from export.device.guard import Guard
from export.device.loop import Loop
from export.device.manifest import Collect
from export.device.run import run
from export.device.session import Event

HERE = Path(__file__).parent
DRIVER = "toy_driver:Toy"


@pytest.fixture(params=["demonstration", "reward"])
def device(request, bundles) -> Device:
    return Device.load(bundles[request.param])


def looped(device: Device, driver) -> Loop:
    return Loop(device, Guard(driver, device.interface, device.manifest.limits))


def exploring(seed: int) -> Explorer:
    return Explorer(2, Collect("attempts", 1, 5, 0.5, 2.5), np.random.default_rng(seed))


def test_an_attempt_commands_what_the_interface_says(device):
    driver = connect(DRIVER)
    episode = attempt(looped(device, driver), 12)
    assert (episode.observation.shape, episode.action.shape, episode.reward.shape) == ((12, 4), (12, 2), (12,))
    np.testing.assert_array_equal(episode.action[3], device.act(episode.observation[3]))
    commands = np.array(driver.commands)
    np.testing.assert_allclose(np.diff(commands, axis=0), 0.1 * np.clip(episode.action[1:], -1, 1), atol=1e-6)
    np.testing.assert_allclose(episode.observation[1:, :2] * 0.5, commands[:-1], atol=1e-6)


def test_exploring_attempts_are_repeatable_and_differ_by_seed(device):
    made = [attempt(looped(device, connect(DRIVER)), 5, exploring(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(made[0].action, made[1].action)
    assert not np.array_equal(made[0].action, made[2].action)


def test_guided_motions_are_labelled_by_their_readings(device):
    episode = guided(device, looped(device, connect(DRIVER)).guard)
    assert (episode.observation.shape, episode.action.shape) == ((10, 4), (10, 2))
    readings = episode.observation[:, :2] * 0.5
    np.testing.assert_allclose(np.diff(readings, axis=0), 0.1 * episode.action[:-1], atol=1e-6)
    assert np.isnan(episode.reward).all()


def episodes(*lengths: int) -> list[Episode]:
    return [
        Episode(np.ones((n, 4), np.float32), np.ones((n, 2), np.float32), np.arange(n, dtype=np.float32))
        for n in lengths
    ]


def test_a_batch_is_padded_and_masked():
    fields = [Field("reward", ("episode", "time")), Field("action", ("episode", "time", 2)), Field("mask", ())]
    made = batch(episodes(2, 4), fields)
    assert list(made) == ["reward", "action", "mask"]
    np.testing.assert_array_equal(made["mask"], [[1, 1, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(made["reward"], [[0, 1, 0, 0], [0, 1, 2, 3]])
    assert made["action"].shape == (2, 4, 2)
    assert all(value.dtype == np.float32 for value in made.values())


def test_a_batch_that_cannot_be_made_is_refused(device):
    with pytest.raises(ValueError, match="reads 'next_observation', expected one of"):
        batch(episodes(2), [Field("next_observation", ())])
    with pytest.raises(ValueError, match="there are 0 episodes"):
        batch([], [Field("mask", ())])
    with pytest.raises(ValueError, match="'reward' was not measured"):
        batch([guided(device, looped(device, connect(DRIVER)).guard)], [Field("reward", ())])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nonsense", {}, r"driver is 'nonsense', expected one of \[.*\] or MODULE:CLASS"),
        ("no_such_module:X", {}, "cannot be imported"),
        ("toy_driver:Nobody", {}, "cannot be imported"),
        (DRIVER, {"colour": "red"}, "it takes the options"),
    ],
)
def test_an_unknown_driver_or_option_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        connect(name, **options)


def test_a_session_reports_every_step(device):
    events: list[Event] = []
    returns = run(device, connect(DRIVER), attempts=2, restore=True, report=events.append)
    collected = device.manifest.collect
    kinds = [event.kind for event in events]
    assert (kinds[:2], kinds[-1]) == (["evaluated", "collected"], "restored")
    after = dict(zip(kinds, [*kinds[1:], ""], strict=True))
    assert (after["collected"], after["evaluated"] in ("promoted", "rolled_back")) == ("adapted", True)
    for event, following in zip(events, kinds[1:], strict=False):
        if event.kind == "adapted" and event.figures["accepted"]:
            assert following == "evaluated"
    assert len(returns) == 4
    samples = [event.figures["samples"] for event in events if event.kind == "collected"]
    assert set(samples) == {collected.episodes * 10}
    adapted = [event for event in events if event.kind == "adapted"]
    assert all(event.figures["accepted"] == (event.figures["change"] > 0) for event in adapted)
    assert sum(event.figures["accepted"] for event in adapted) >= 2
    assert device.theta.tobytes() == device.base.tobytes()


def test_guided_steps_descend_on_one_batch(bundle):
    events: list[Event] = []
    device = Device.load(bundle)
    run(device, connect(DRIVER), steps=5, attempts=0, report=events.append)
    kinds = [event.kind for event in events]
    taken = [event.figures for event in events if event.kind == "adapted"]
    first = [figures["loss"] for figures in taken[: kinds[: kinds.index("collected", 2)].count("adapted")]]
    assert first == sorted(first, reverse=True)  # of one batch
    refused = [figures for figures in taken if not figures["accepted"]]
    assert all(figures["left_out_loss_after"] >= figures["left_out_loss_before"] for figures in refused)
    assert device.theta.tobytes() != device.base.tobytes()


def test_a_broken_sensor_stops_the_session(device):
    driver = connect(DRIVER, fault="nan")
    with pytest.raises(ValueError, match=r"not one of 12 control steps could be observed \(the guard says finite"):
        run(device, driver)
    assert driver.commands == []
    assert driver.closed


def test_nothing_moves_if_the_session_cannot_be_held(device):
    driver = connect(DRIVER)
    with pytest.raises(ValueError, match="steps is -1"):
        run(device, driver, steps=-1)
    assert driver.commands == []


@pytest.fixture
def rememberer(memory_bundle) -> Device:
    return Device.load(memory_bundle)


class Listening(Device):
    """Notes the feedback of every call."""

    def __init__(self, bundle):
        super().__init__(bundle)
        self.heard: list[np.ndarray] = []

    def _decide(self, observation, feedback):
        self.heard.append(feedback)
        return super()._decide(observation, feedback)


@pytest.mark.parametrize("exploring", [False, True])
def test_feedback_tells_of_the_step_before_across_attempts_of_a_trial(memory_bundle, exploring):
    device = Listening.load(memory_bundle)
    loop, made = looped(device, connect(DRIVER)), []
    noise = Explorer(2, Collect("attempts", 1, 5, 0.0, 9.0), np.random.default_rng(0)) if exploring else None
    for _ in range(3):
        made.append(attempt(loop, 5, noise, previous=made[-1] if made else None))
    heard = np.stack(device.heard)
    np.testing.assert_array_equal(heard[0], 0)
    np.testing.assert_array_equal(heard[1:, :2], np.concatenate([one.action for one in made])[:-1])
    np.testing.assert_array_equal(heard[1:, 2], np.concatenate([one.reward for one in made])[:-1])
    np.testing.assert_array_equal(heard[:, 3], [*[0] * 5, 1, *[0] * 4, 1, *[0] * 4])
    assert not exploring or np.abs(heard[:, :2]).max() > 1  # unclipped, as sampled
    device.heard.clear()
    attempt(loop, 1)
    np.testing.assert_array_equal(device.heard, [[0] * 4])


def test_an_attempt_without_one_before_begins_a_trial(rememberer):
    loop = looped(rememberer, connect(DRIVER, still=True))
    first = attempt(loop, 6)
    again = attempt(loop, 6)
    after = attempt(loop, 6, previous=again)
    np.testing.assert_array_equal(first.action, again.action)
    assert not np.allclose(first.action, after.action, atol=1e-3)


def test_feedback_of_a_reward_that_is_not_finite_is_refused():
    np.testing.assert_array_equal(feedback(np.array([3.0, -4.0], np.float32), 0.5, True), [3, -4, 0.5, 1])
    with pytest.raises(ValueError, match="reward of the step before is nan, expected a finite one"):
        feedback(np.zeros(2, np.float32), float("nan"), False)


def test_a_trial_is_lived_attempt_by_attempt(rememberer, memory_bundle):
    events: list[Event] = []
    driver = connect(DRIVER, still=True)
    returns = run(rememberer, driver, attempts=1, report=events.append)
    assert [(event.kind, event.step) for event in events] == [("evaluated", place) for place in range(3)]
    assert [event.line.split(":")[0] for event in events] == ["after 0 attempts", "after 1 attempt", "after 2 attempts"]
    assert returns == [event.figures["return"] for event in events]
    assert len(driver.commands) == 3 * 12
    made: list[Episode] = []
    other = Device.load(memory_bundle)
    again = looped(other, connect(DRIVER, still=True))
    for _ in range(3):
        made.append(attempt(again, 12, previous=made[-1] if made else None))
    assert returns == [float(one.reward.sum()) for one in made]
    np.testing.assert_array_equal(rememberer.memory, other.memory)


def test_several_trials_are_each_from_no_memory_and_averaged_by_place(rememberer):
    events: list[Event] = []
    once = run(rememberer, connect(DRIVER, still=True), attempts=1)
    many = run(rememberer, connect(DRIVER, still=True), attempts=4, report=events.append)
    assert len(set(once)) == 3
    np.testing.assert_allclose(many, once, rtol=1e-6)  # where every trial is alike
    assert [event.kind for event in events] == ["lived"] * 3 + ["evaluated"] * 3
    assert all(event.figures["attempts"] == 4 for event in events[3:])
    assert events[0].line.startswith("trial 1 of 4: returns -")
    events.clear()
    driver = connect(DRIVER)
    found = run(rememberer, driver, attempts=2, report=events.append)
    assert len(driver.commands) == 2 * 3 * 12
    assert found[0] == pytest.approx((events[0].figures["first"] + last_return(events, 0)) / 2, rel=1e-5)


def last_return(events: list[Event], place: int) -> float:
    """Of the second of two trials, from the mean and the deviation of both."""
    figures = [event.figures for event in events if event.kind == "evaluated"][place]
    first = events[0].figures["first"]
    return first + 2 * figures["return_std"] * (1 if figures["return"] > first else -1)


def test_more_attempts_than_it_was_trained_on_may_be_lived_and_none_may_be_judged(rememberer):
    events: list[Event] = []
    driver = connect(DRIVER, still=True)
    assert len(run(rememberer, driver, steps=5, attempts=1)) == 6
    driver.commands.clear()
    returns = run(rememberer, driver, steps=2, attempts=0, report=events.append)
    assert [event.kind for event in events] == ["lived"]
    assert len(driver.commands) == 2 * 12
    assert np.isfinite(returns[:2]).all()
    assert np.isnan(returns[2])
    assert rememberer.memory.any()  # ready to go on
    assert np.isnan(run(rememberer, driver, steps=0, attempts=0)).tolist() == [True]
    assert len(driver.commands) == 2 * 12


def test_restoring_forgets(rememberer):
    run(rememberer, connect(DRIVER), attempts=1, restore=True)
    assert not rememberer.memory.any()


@pytest.mark.parametrize("kind", ["memory", "climb", "estimate"])
def test_without_a_reward_nothing_moves(memory_bundle, search_bundles, kind):
    device, driver = Device.load({"memory": memory_bundle, **search_bundles}[kind]), connect(DRIVER, fault="blind")
    with pytest.raises(ValueError, match="the driver measures no reward"):
        run(device, driver)
    assert driver.commands == []


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("memory", "reward of the step before is nan"),
        ("climb", "round 1: attempt 1 or one before it has the return nan"),
        ("estimate", "round 1: attempt 2 or one before it has the return nan"),
    ],
)
def test_a_reward_that_lapses_is_an_error_and_leaves_theta(memory_bundle, search_bundles, kind, message):
    device = Device.load({"memory": memory_bundle, **search_bundles}[kind])
    driver = connect(DRIVER, fault="lapse", at=4 if kind == "memory" else 28)  # behind the evaluation
    with pytest.raises(ValueError, match=message):
        run(device, driver, attempts=int(kind == "memory"))
    assert device.theta.tobytes() == device.base.tobytes()


def test_climbing_improves_a_robot_that_stands_still(search_bundles):
    events: list[Event] = []
    device = Device.load(search_bundles["climb"])
    returns = run(device, connect(DRIVER, still=True), steps=10, attempts=1, report=events.append)
    assert returns == sorted(returns)
    assert returns[-1] > 0.7 * returns[0]  # of a negative sum of distances
    found = [event.figures for event in events if event.kind == "searched"]
    assert len(found) == 10
    assert [figures["before"] for figures in found] == returns[:-1]
    for figures, after in zip(found, returns[1:], strict=True):
        assert figures["attempts"] == 9
        assert after == max(figures["before"], figures["best"])
        assert figures["accepted"] == (figures["best"] > figures["before"]) == (figures["change"] > 0)
    assert sum(figures["accepted"] for figures in found) > 0


def test_estimating_improves_a_robot_that_stands_still(search_bundles):
    device = Device.load(search_bundles["estimate"])
    returns = run(device, connect(DRIVER, still=True), steps=10, attempts=1)
    assert returns[-1] > 0.9 * returns[0]


class Tried(Device):
    """Notes the parameters and the action of every call."""

    def __init__(self, bundle):
        super().__init__(bundle)
        self.calls: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def act(self, observation, feedback=None):
        action = super().act(observation, feedback)
        self.calls.append((self.theta.copy(), observation, action))
        return action


def test_a_pair_is_tried_one_after_the_other_and_shares_everything_but_the_sign(search_bundles):
    device = Tried.load(search_bundles["estimate"])
    run(device, connect(DRIVER, still=True), steps=1, attempts=0)
    device.calls = device.calls[24:-24]  # without the evaluations
    thetas = np.stack([theta for theta, *_ in device.calls]).reshape(6, 2, 24, 60)  # pair, sign, 2 attempts of 12 steps
    assert (thetas == thetas[:, :, :1]).all()
    plus, minus = thetas[:, 0, 0] - device.base, thetas[:, 1, 0] - device.base
    np.testing.assert_allclose(plus, -minus, atol=1e-6)
    assert np.abs(plus).max() > 0.05
    starts = np.stack([observation for _, observation, _ in device.calls]).reshape(24, 12, 4)[:, 0]
    assert (starts == starts[0]).all()
    for theta, observation, action in device.calls[::12]:  # by the mean: nothing else is drawn
        device.theta = theta
        np.testing.assert_array_equal(Device.act(device, observation), action)


@pytest.mark.parametrize("kind", ["climb", "estimate"])
def test_a_search_is_repeatable_and_differs_by_seed(search_bundles, kind):
    found = []
    for seed in (1, 1, 2):
        device = Device.load(search_bundles[kind])
        returns = run(device, connect(DRIVER), steps=2, attempts=1, seed=seed)
        found.append((returns, device.theta.tobytes()))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_a_search_takes_the_rounds_it_was_trained_for_and_restores(search_bundles):
    device, events = Device.load(search_bundles["climb"]), []
    run(device, connect(DRIVER, still=True), attempts=0, restore=True, report=events.append)
    kinds = [event.kind for event in events]
    assert (kinds.count("searched"), kinds[-1]) == (5, "restored")
    assert device.theta.tobytes() == device.base.tobytes()


def test_a_realtime_driver_is_paced(device):
    start = time.monotonic()
    loop = looped(device, connect(DRIVER, realtime=True))
    attempt(loop, 5)
    loop.guard.close()
    assert time.monotonic() - start >= 5 / 50


def test_the_command_line(bundles, capsys):
    for name, path in bundles.items():
        assert main([str(path), "--driver", DRIVER, "--attempts", "2", "--option", "still=true", "--restore"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        lines = out.splitlines()
        assert lines[0].startswith(f"loaded {path}: maml on toy, 60 parameters, 50 Hz, objective {name}; golden")
        assert [line for line in lines if line.startswith("after 2 steps: return -")]
        assert sum(", accepted, theta moved by " in line for line in lines) >= 2
        assert lines[-1] == "back at the initial parameters"


def test_the_policy_works_for_a_while_in_real_time(bundle, tmp_path, capsys):
    log = tmp_path / "work.mcap"
    arguments = [str(bundle), "--driver", DRIVER, "--option", "realtime=true", "--seconds", "1", "--log", str(log)]
    assert main([*arguments, "--priority", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "real-time" in lines[1]  # granted, or why not
    assert lines[-1].startswith("worked for 1 s: ticks 50, miss_rate")
    assert log.stat().st_size > 10_000
    assert main([*arguments[:-2], "--every", "1"]) == 2
    assert "adapts by demonstration, expected 'prediction'" in capsys.readouterr().err


def test_the_command_line_with_memory(memory_bundle, capsys):
    assert main([str(memory_bundle), "--driver", DRIVER, "--attempts", "2", "--restore"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].endswith("50 Hz, memory of 3 numbers over 3 attempts; golden vectors replayed")
    assert lines[1].startswith("trial 1 of 2: returns -")
    for line, start in zip(lines[2:5], ("after 0 attempts", "after 1 attempt", "after 2 attempts"), strict=True):
        assert line.startswith(f"{start}: return -")
        assert line.endswith("(2 trials)")
    assert lines[5:] == ["back at the initial parameters"]


def test_the_command_line_with_search(search_bundles, capsys):
    ways = {
        "climb": "search (climb) by 8 tries of 1 attempts in each round",
        "estimate": "search (estimate) by 6 pairs of 2 attempts in each round",
    }
    for kind, path in search_bundles.items():
        assert main([str(path), "--driver", DRIVER, "--attempts", "1", "--steps", "2"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert ways[kind] in lines[0]
        found = [line.split(":")[0] for line in lines[1:]]
        assert found[:2] == ["after 0 rounds", "round 1"]
        assert "round 2" in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--driver", "nonsense"], "driver is 'nonsense'"),
        (["--driver", DRIVER, "--option", "fault=nan"], "could be observed (the guard says finite"),
        (["--driver", DRIVER, "--steps", "-1"], "steps is -1"),
    ],
)
def test_expected_errors_are_one_line_and_exit_code_2(bundle, capsys, arguments, message):
    assert main([str(bundle), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_reward_that_is_not_measured_is_said_so(bundles, capsys):
    blind = ["--driver", DRIVER, "--option", "fault=blind"]
    assert main([str(bundles["demonstration"]), *blind]) == 0
    out = capsys.readouterr().out
    assert "after 1 step: reward not measured" in out
    assert "step 1 kept: reward not measured" in out
    assert main([str(bundles["reward"]), *blind]) == 2
    assert "the driver measures no reward" in capsys.readouterr().err


def module(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", "export.device", *map(str, arguments)]
    return subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False)


def test_it_runs_as_a_module(bundle):
    done = module(bundle, "--driver", DRIVER, "--steps", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "after 1 step: return" in done.stdout


def test_a_bad_bundle_is_one_line_and_exit_code_2(bundle, tmp_path):
    (tmp_path / "cut.zip").write_bytes(bundle.read_bytes()[:-40])
    done = module(tmp_path / "cut.zip", "--driver", DRIVER)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
