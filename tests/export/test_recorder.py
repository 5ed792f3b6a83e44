"""The black box: what went in comes out, also of a process that was killed, and a replay finds every difference."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from toy_driver import Toy

from export.device import Device
from export.device.playback import Playback
from export.device.recorder import Recorder, read, theta_of
from export.device.run import run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recording(bundle, tmp_path) -> Path:
    device, path = Device.load(bundle), tmp_path / "toy.mcap"
    recorder = Recorder(path, device)
    run(device, Toy(), steps=2, attempts=2, report=recorder.event, watch=recorder.tick)
    recorder.close()
    assert recorder.dropped == 0
    return path


def test_what_went_in_comes_out(recording, bundle):
    device = Device.load(bundle)
    about, messages = read(recording)
    assert about["bundle"] == device.bundle
    assert about["manifest"] == device.manifest.to_json().decode()
    found = list(messages)
    topics = [topic for topic, _ in found]
    assert topics[:2] == ["theta", "tick"]
    ticks = [message for topic, message in found if topic == "tick"]
    assert [tick["index"] for tick in ticks] == list(range(len(ticks)))
    assert len(ticks) == 12 * 2 * topics.count("theta")
    thetas = {message["digest"]: theta_of(message) for topic, message in found if topic == "theta"}
    np.testing.assert_array_equal(thetas[ticks[0]["digest"]], device.base)
    events = [message["kind"] for topic, message in found if topic == "event"]
    assert events[:3] == ["evaluated", "collected", "adapted"]
    assert set(ticks[0]) >= {
        "values",
        "observation",
        "sampled",
        "applied",
        "target",
        "limits",
        "reward",
        "late",
        "work",
    }


def replay(recording: Path, bundle: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/replay.py", str(recording), str(bundle), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_replay_equals_what_was_done_or_says_where_not(recording, bundle, bundles):
    same = replay(recording, bundle)
    assert (same.returncode, same.stderr) == (0, "")
    assert "actions differ by at most 0" in same.stdout
    data = recording.read_bytes()
    at = data.index(b'"sampled": [') + len(b'"sampled": [')
    digit = data.index(b".", at) + 2
    edited = recording.with_name("edited.mcap")
    edited.write_bytes(data[:digit] + (b"1" if data[digit : digit + 1] != b"1" else b"2") + data[digit + 1 :])
    other = replay(edited, bundle)
    assert other.returncode == 1
    assert "first beyond 1e-05: step 0 at" in other.stdout
    wrong = replay(recording, bundles["reward"])
    assert wrong.returncode == 2
    assert "give the bundle that acted" in wrong.stderr


def test_a_recording_plays_back_as_a_robot(recording, bundle):
    """The same bundle, shown the same readings, writes what it wrote then."""
    device, driver = Device.load(bundle), Playback(recording)
    run(device, driver, steps=0, attempts=1)
    assert len(driver.written) == 12
    np.testing.assert_array_equal(np.array(driver.written), np.array(driver.recorded[:12]))


def test_a_recording_is_never_overwritten(recording, bundle):
    before = recording.read_bytes()
    with pytest.raises(ValueError, match="is there already: record to another file"):
        Recorder(recording, Device.load(bundle))
    assert recording.read_bytes() == before


def test_an_action_that_was_no_number_differs(recording, bundle):
    data = recording.read_bytes()
    at = data.index(b'"sampled": [') + len(b'"sampled": [')
    end = data.index(b",", at)
    broken = recording.with_name("broken.mcap")
    broken.write_bytes(data[:at] + b"null".ljust(end - at) + data[end:])
    found = replay(broken, bundle)
    assert (found.returncode, found.stderr) == (1, "")
    assert "actions differ by at most inf" in found.stdout


def test_what_is_no_recording_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="is no recording of this project"):
        read(tmp_path / "x")


RECORDS = """
import sys
from pathlib import Path
from toy_driver import Toy
from export.device import Device
from export.device.recorder import Recorder
from export.device.run import run
device = Device.load(sys.argv[1])
recorder = Recorder(Path(sys.argv[2]), device)
def watch(tick):
    recorder.tick(tick)
    if tick.index % 10 == 0:
        print(tick.index, flush=True)
run(device, Toy(realtime=True), steps=0, attempts=1000, watch=watch)
"""


def test_a_process_that_is_killed_leaves_a_readable_file(bundle, tmp_path):
    path = tmp_path / "killed.mcap"
    child = subprocess.Popen(
        [sys.executable, "-c", RECORDS, str(bundle), str(path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    seen = 0
    deadline = time.monotonic() + 20
    while seen < 90 and time.monotonic() < deadline:
        seen = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    ticks = [message["index"] for topic, message in read(path)[1] if topic == "tick"]
    assert ticks == list(range(len(ticks)))
    assert len(ticks) >= seen - 60  # at 50 Hz, no more than a second is lost
    assert len(ticks) >= 30
