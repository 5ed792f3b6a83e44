"""A robot in another process: the same bits as without a network, also by one that loses, repeats and mixes packets."""

import math
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_driver import Toy

from envs.drivers import SimulatedDriver
from export.device import Device
from export.device.driver import NotMeasuredError, connect
from export.device.run import run
from export.device.udp import DEADMAN, FRAGMENT, Packet, Server, UdpDriver, decode, encode, main
from robots.actions import Command


@contextmanager
def served(driver) -> Iterator[str]:
    server = Server(driver)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server.address
    finally:
        server.stop()
        thread.join()


@contextmanager
def lossy(address: str, seed: int, lost: float, repeated: float, late: float) -> Iterator[str]:
    """An address behind which packets to and from `address` get lost, come twice, come late, or are damaged."""
    rng, stop = random.Random(seed), threading.Event()
    host, port = address.split(":")
    front, back = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    front.bind(("127.0.0.1", 0))
    back.connect((host, int(port)))
    client = []

    def send(sock, data, *where):
        if rng.random() < lost:
            return
        if rng.random() < 0.02:
            data = data[:-1] + bytes([data[-1] ^ 1])
        for _ in range(1 + (rng.random() < repeated)):
            if rng.random() < late:
                threading.Timer(rng.uniform(0.001, 0.3), lambda: where or sock.send(data)).start()
            sock.sendto(data, *where) if where else sock.send(data)

    def pump(source, forward):
        source.settimeout(0.05)
        while not stop.is_set():
            try:
                data, sender = source.recvfrom(65536)
            except OSError:
                continue
            forward(data, sender)

    def to_robot(data, sender):
        client[:] = [sender]
        send(back, data)

    def to_device(data, sender):
        send(front, data, *client)

    threads = [threading.Thread(target=pump, args=pair) for pair in ((front, to_robot), (back, to_device))]
    for thread in threads:
        thread.start()
    try:
        yield f"127.0.0.1:{front.getsockname()[1]}"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        time.sleep(0.35)  # what is late
        front.close()
        back.close()


@given(st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_none(data):
    packet = decode(data)
    assert packet is None or encode(packet) == data


@given(st.integers(0, 8), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=200), st.data())
def test_packets_come_back_and_damaged_ones_do_not(kind, session, sequence, payload, data):
    packet = Packet(kind, session, sequence, payload)
    whole = encode(packet)
    assert decode(whole) == packet
    at = data.draw(st.integers(0, len(whole) - 1))
    assert decode(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]) is None
    assert decode(whole[:at]) is None


def test_a_session_over_udp_equals_one_without(bundle):
    found = []
    near, far = Device.load(bundle), Device.load(bundle)
    found.append(run(near, Toy(still=True), attempts=2))
    with served(Toy(still=True)) as address:
        found.append(run(far, connect(f"udp:{address}"), attempts=2))
    assert found[0] == found[1]
    assert near.theta.tobytes() == far.theta.tobytes()


def test_a_simulated_arm_over_udp_steps_bit_for_bit():
    near = SimulatedDriver("metarl/PandaReach-v0", seed=3)
    with served(SimulatedDriver("metarl/PandaReach-v0", seed=3)) as address:
        far = UdpDriver(address)
        assert vars(far.spec) == vars(near.spec)
        command = near.env.interface.start(near.read().values)
        for step in range(5):
            command = near.env.interface.command(np.full(7, 0.3 * math.sin(step)), command, near.read().values)
            applied = [driver.write(command) for driver in (near, far)]
            np.testing.assert_array_equal(applied[0].target, applied[1].target)
            ours, theirs = near.read(), far.read()
            assert (ours.time, ours.valid) == (theirs.time, theirs.valid)
            for name, value in ours.values.items():
                np.testing.assert_array_equal(value, theirs.values[name])
        for driver in (near, far):
            driver.hold()
        np.testing.assert_array_equal(near.read().values["joint_position"], far.read().values["joint_position"])
        ours, theirs = near.guided(), far.guided()
        assert ours["joint_position"].nbytes > FRAGMENT
        assert sorted(ours) == sorted(theirs)
        np.testing.assert_array_equal(ours["joint_position"], theirs["joint_position"])
        far.close()
        far.close()
    near.close()


def test_lost_repeated_and_late_packets_never_step_a_simulation_twice(bundle):
    wanted = run(Device.load(bundle), Toy(still=True), steps=1, attempts=1)
    toy = Toy(still=True)
    with served(toy) as address, lossy(address, 0, lost=0.05, repeated=0.2, late=0.1) as worse:
        driver = UdpDriver(worse)
        assert run(Device.load(bundle), driver, steps=1, attempts=1) == wanted
    assert len(toy.commands) == 2 * 12
    assert driver.lost > 0
    assert driver.stale > 0


def test_where_time_runs_a_lost_answer_is_an_invalid_reading_not_a_wait():
    toy = Toy(realtime=True)
    with served(toy) as address, lossy(address, 1, lost=0.2, repeated=0, late=0) as worse:
        driver = UdpDriver(worse)
        fails = 0
        for _ in range(40):
            start = time.monotonic()
            try:
                driver.read()
            except TimeoutError:
                fails += 1
            assert time.monotonic() - start < 0.1
        assert 0 < fails < 40


def test_a_robot_whose_device_falls_silent_holds():
    toy = Toy(realtime=True)
    with served(toy) as address:
        driver = UdpDriver(address)
        driver.write(Command(np.zeros(2), np.zeros(2)))
        time.sleep(DEADMAN + 0.2)
        assert toy.calls[-1] == "hold"


def test_a_robot_that_went_limp_is_not_stiffened_when_its_device_leaves_or_falls_silent():
    toy = Toy(realtime=True)
    with served(toy) as address:
        driver = UdpDriver(address)
        driver.write(Command(np.zeros(2), np.zeros(2)))
        driver.relax()
        time.sleep(DEADMAN + 0.2)
        driver.close()
        assert toy.calls == ["write", "relax"]


def test_where_time_runs_a_reading_is_of_when_it_is_asked_for():
    with served(Toy(realtime=True)) as address:
        driver = UdpDriver(address)
        driver.write(Command(np.zeros(2), np.zeros(2)))
        time.sleep(0.05)
        asked = time.monotonic()
        assert driver.read().time >= asked  # not what came with the answer to the command
        driver.close()


def test_one_device_at_a_time():
    with served(Toy()) as address:
        first = UdpDriver(address)
        with pytest.raises(ValueError, match="nobody answers at"):
            UdpDriver(address, timeout=0.6)
        first.close()
        UdpDriver(address, timeout=0.6).close()


def test_what_the_driver_says_travels():
    with served(SimulatedDriver("metarl/PandaSeek-v0")) as address:
        driver = UdpDriver(address)
        with pytest.raises(NotMeasuredError, match="Seek has no guided motions"):
            driver.guided()
        with pytest.raises(ValueError, match="the robot's end says: ValueError"):
            driver.write(Command(np.zeros(7), np.zeros(7))._replace(target=np.zeros(3)))
        driver.close()


@pytest.mark.parametrize("address", ["", "robot", "robot:", "robot:http", "robot:0", "robot:99999"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        UdpDriver(address)


def test_nobody_there_is_said(capsys):
    with pytest.raises(ValueError, match=r"nobody answers at 127.0.0.1:9 within 0.3 s"):
        UdpDriver("127.0.0.1:9", timeout=0.3)
    assert main(["--driver", "nonsense"]) == 2
    assert "driver is 'nonsense'" in capsys.readouterr().err
