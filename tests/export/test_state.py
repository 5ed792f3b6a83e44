"""What a restart finds is what had proved itself, whole, or nothing at all."""

import os
import random
import signal
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_driver import Toy

from export.device import BundleError, Device
from export.device.run import run
from export.device.state import load, save

THETA = np.arange(60, dtype=np.float32)


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "state"
    assert load(path, "b" * 64, 60) is None
    save(path, "b" * 64, THETA, 3)
    theta, taken = load(path, "b" * 64, 60)
    np.testing.assert_array_equal(theta, THETA)
    assert (theta.dtype, taken) == (np.float32, 3)
    assert list(tmp_path.iterdir()) == [path]


def test_another_bundles_state_is_refused_naming_both(tmp_path):
    save(tmp_path / "state", "b" * 64, THETA, 3)
    with pytest.raises(BundleError, match="is of the bundle bbbbbbbbbbbb with 60 parameters, expected cccccccccccc"):
        load(tmp_path / "state", "c" * 64, 60)
    with pytest.raises(BundleError, match="with 60 parameters, expected bbbbbbbbbbbb with 61"):
        load(tmp_path / "state", "b" * 64, 61)


@given(st.data())
def test_a_damaged_state_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "state"
    save(path, "b" * 64, THETA, 3)
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at, mask = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
        broken = whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :]
    path.write_bytes(broken)
    with pytest.raises(BundleError, match="is damaged or no state"):
        load(path, "b" * 64, 60)


def test_a_save_that_is_killed_leaves_the_old_state_or_the_new_one(tmp_path):
    """Two hundred kills at random moments of a loop of saves: the state is always whole; at most one file is left."""
    rng, path, seen = random.Random(0), tmp_path / "state", set()
    save(path, "b" * 64, np.full(5000, 0, np.float32), 0)
    for _ in range(200):
        ready, saved = os.pipe()
        child = os.fork()
        if child == 0:  # as a fresh process, without the half second that Python takes to start
            number = 0
            while True:
                number += 1
                save(path, "b" * 64, np.full(5000, number, np.float32), number)
                os.write(saved, b".")
        os.read(ready, 1)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(saved)
        theta, taken = load(path, "b" * 64, 5000)
        assert (theta == taken).all()
        seen.add(taken)
    assert len(seen) > 1  # saves were really going on
    assert {file.name for file in tmp_path.iterdir()} <= {"state", ".state.new"}


def test_a_session_goes_on_from_what_proved_itself(bundle, tmp_path):
    path, events = tmp_path / "state", []
    first = Device.load(bundle)
    run(first, Toy(still=True), steps=1, state=path)
    assert load(path, first.bundle, 60)[1] == 1
    second = Device.load(bundle)
    run(second, Toy(still=True), steps=0, state=path, report=events.append)
    assert events[0].kind == "loaded"
    assert events[1].step == 1
    assert second.theta.tobytes() == first.theta.tobytes() != first.base.tobytes()


def test_a_trial_is_never_what_is_kept(bundle, tmp_path):
    """The robot dies during probation: the file has nothing of the trial."""
    path, device = tmp_path / "state", Device.load(bundle)

    def report(event):
        if event.kind == "adapted":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(device, Toy(still=True), steps=1, state=path, report=report)
    assert not path.exists()
    assert device.theta.tobytes() == device.base.tobytes()
