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
from export.device.collect import Episode, attempt, batch, guided
from export.device.driver import connect
from export.device.pace import Pace
from export.device.run import Event, run

HERE = Path(__file__).parent
DRIVER = "toy_driver:Toy"


@pytest.fixture(autouse=True)
def _toy_driver_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture(params=["demonstration", "reward"])
def device(request, bundles) -> Device:
    return Device.load(bundles[request.param])


def test_an_attempt_commands_what_the_interface_says(device):
    driver = connect(DRIVER)
    episode = attempt(device, driver, 12)
    assert (episode.observation.shape, episode.action.shape, episode.reward.shape) == ((12, 4), (12, 2), (12,))
    np.testing.assert_array_equal(episode.action[3], device.act(episode.observation[3]))
    commands = np.array(driver.commands)
    np.testing.assert_allclose(np.diff(commands, axis=0), 0.1 * np.clip(episode.action[1:], -1, 1), atol=1e-6)
    np.testing.assert_allclose(episode.observation[1:, :2] * 0.5, commands[:-1], atol=1e-6)


def test_exploring_attempts_are_repeatable_and_differ_by_seed(device):
    made = [attempt(device, connect(DRIVER), 5, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(made[0].action, made[1].action)
    assert not np.array_equal(made[0].action, made[2].action)


def test_guided_motions_are_labelled_by_their_readings(device):
    episode = guided(device, connect(DRIVER))
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
        batch([guided(device, connect(DRIVER))], [Field("reward", ())])


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
    step = ["adapted", "evaluated"]
    steps = [*step, *step, *step] if collected.kind == "guided" else [*step, "collected", *step, "collected", *step]
    assert [event.kind for event in events] == ["evaluated", "collected", *steps, "restored"]
    assert len(returns) == 4
    samples = [event.figures["samples"] for event in events if event.kind == "collected"]
    assert set(samples) == {collected.episodes * 10}
    adapted = [event for event in events if event.kind == "adapted"]
    assert all(event.figures["accepted"] == 1 and event.figures["change"] > 0 for event in adapted)
    assert device.theta.tobytes() == device.base.tobytes()


def test_guided_steps_descend_on_one_batch(bundle):
    events: list[Event] = []
    device = Device.load(bundle)
    run(device, connect(DRIVER), steps=5, attempts=0, report=events.append)
    losses = [event.figures["loss"] for event in events if event.kind == "adapted"]
    assert losses == sorted(losses, reverse=True)
    assert device.theta.tobytes() != device.base.tobytes()


def test_a_broken_sensor_stops_the_session(device):
    with pytest.raises(ValueError, match=r"joint_position is .nan, nan., expected 2 finite angles in rad"):
        run(device, connect(DRIVER, fault="nan"))


def test_nothing_moves_if_the_session_cannot_be_held(device):
    driver = connect(DRIVER)
    with pytest.raises(ValueError, match="steps is -1"):
        run(device, driver, steps=-1)
    assert driver.commands == []


def test_the_control_rate_is_kept_by_deadlines_and_overruns_are_skipped():
    pace, start = Pace(100), time.monotonic()
    for _ in range(10):
        time.sleep(0.003)
        pace.wait()
    assert time.monotonic() - start >= 0.1
    skipped = pace.skipped
    time.sleep(0.055)
    pace.wait()
    assert pace.skipped >= skipped + 4
    due = (time.monotonic() - start) * 100
    assert due >= 15


def test_a_realtime_driver_is_paced(device):
    start = time.monotonic()
    attempt(device, connect(DRIVER, realtime=True), 5)
    assert time.monotonic() - start >= 5 / 50


def test_the_command_line(bundles, capsys):
    for name, path in bundles.items():
        assert main([str(path), "--driver", DRIVER, "--attempts", "2", "--option", "seed=3", "--restore"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        lines = out.splitlines()
        assert lines[0].startswith(f"loaded {path}: maml on toy, 60 parameters, 50 Hz, objective {name}; golden")
        assert [line for line in lines if line.startswith("after 3 steps: return -")]
        assert sum(", accepted, theta moved by " in line for line in lines) == 3
        assert lines[-1] == "back at the initial parameters"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--driver", "nonsense"], "driver is 'nonsense'"),
        (["--driver", DRIVER, "--option", "fault=nan"], "expected 2 finite angles"),
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
    assert "after 3 steps: reward not measured" in capsys.readouterr().out
    assert main([str(bundles["reward"]), *blind]) == 2
    assert "'reward' was not measured" in capsys.readouterr().err


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
