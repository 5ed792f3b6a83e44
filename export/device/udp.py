"""A driver in another process or machine: the protocol, the device's end of it, and a server for any driver.

    python -m export.device.udp --driver pybullet --option env=metarl/A1Walk-v0 --port 9870

Every packet is one datagram, little-endian: magic "S2AD", version u8, kind u8, session u32, sequence u32, payload,
CRC-32 of all before it. The device asks, the robot answers with the same kind, session and sequence; an error answers
as kind ERROR with its text. Payloads, of float64 unless said otherwise:

| kind | asked | answered |
|---|---|---|
| HELLO | nothing | the spec, as JSON |
| READ | nothing | time, valid, then every field in the spec's order |
| WRITE | target [n], grip (NaN: none), action size, action, phase | target [n], grip, then as READ |
| HOLD, RELAX, BEGIN, CLOSE | nothing | as READ; CLOSE: nothing |
| GUIDED | u32 fragment | u32 fragments, u32 rows, then the fragment's bytes of rows x fields |

A request that was answered before is answered again from memory, so that a repeated WRITE never steps a simulation
twice; an older one is dropped. A session is one device's: another may take over only when that one has been silent for
SILENT seconds. A robot in motion whose device falls silent holds after DEADMAN seconds, and goes limp after LIMP. There
is no secrecy: bind to 127.0.0.1, or to a network that is the robot's own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import struct
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from typing import NamedTuple

import numpy as np

from export.device.driver import Applied, Driver, NotMeasuredError, Sample, Spec, connect
from export.device.strict import fits, parse, record
from robots.actions import Command
from robots.spec import Array

MAGIC, VERSION = b"S2AD", 1
HEAD = struct.Struct("<4sBBII")
HELLO, READ, WRITE, HOLD, RELAX, BEGIN, GUIDED, CLOSE, ERROR = range(9)
FRAGMENT = 1200  # bytes of a guided motion in one packet: less than any network's largest
LARGEST = 65_000  # of any packet [bytes]
AGAIN = 0.05  # [s] after which is asked again
PATIENCE, MOVING = 5.0, 60.0  # [s] until it is given up; where a robot has to get to a start, or is led by hand
DEADMAN, LIMP, SILENT = 0.5, 5.0, 2.0  # [s]


class Packet(NamedTuple):
    kind: int
    session: int
    sequence: int
    payload: bytes


def encode(packet: Packet) -> bytes:
    body = HEAD.pack(MAGIC, VERSION, packet.kind, packet.session, packet.sequence) + packet.payload
    return body + struct.pack("<I", zlib.crc32(body))


def decode(data: bytes) -> Packet | None:
    """A packet of this protocol, or None for anything else."""
    if not HEAD.size + 4 <= len(data) <= LARGEST:
        return None
    body, (check,) = data[:-4], struct.unpack("<I", data[-4:])
    magic, version, kind, session, sequence = HEAD.unpack(body[: HEAD.size])
    if (magic, version, zlib.crc32(body)) != (MAGIC, VERSION, check) or kind > ERROR:
        return None
    return Packet(kind, session, sequence, body[HEAD.size :])


class UdpDriver:
    """The robot at HOST:PORT. A packet that is lost is asked for again where the robot waits (a simulation); where time
    runs, it is given up, which the guard takes for a fault. lost, stale: how many were lost, or came too late.
    Raises ValueError for an address that is none, or from which nobody answers.
    """

    def __init__(self, address: str, timeout: float | str = 5.0) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise ValueError(f"address is {address!r}, expected HOST:PORT, such as 127.0.0.1:9870")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((host, int(port)))
        self._session = int.from_bytes(os.urandom(4), "little")
        self._sequence = self.lost = self.stale = 0
        self._last: Sample | None = None  # came with the answer to a command
        self._realtime = False
        deadline, said = time.monotonic() + float(timeout), None
        while said is None:
            try:
                said = self._ask(HELLO, b"", AGAIN)
            except OSError as error:
                if time.monotonic() > deadline:
                    self._socket.close()
                    raise ValueError(
                        f"nobody answers at {address} within {timeout} s ({error}); start the robot's end: python -m "
                        "export.device.udp --driver NAME"
                    ) from error
                time.sleep(0.05)
        self.spec = _spec(said)
        self._realtime = self.spec.realtime

    def read(self) -> Sample:
        if self._last is not None and not self._realtime:  # where time runs, it is a control step old by now
            sample, self._last = self._last, None
            return sample
        return self._sample(self._ask(READ, b""))

    def write(self, command: Command) -> Applied:
        grip = math.nan if command.grip is None else command.grip
        numbers = [*command.target, grip, len(command.action), *command.action, command.phase]
        answer = self._ask(WRITE, struct.pack(f"<{len(numbers)}d", *numbers))
        count = len(self.spec.joints)
        applied = np.frombuffer(answer[: 8 * (count + 1)])
        self._keep(answer[8 * (count + 1) :])
        return Applied(applied[:count].copy(), None if math.isnan(applied[count]) else float(applied[count]))

    def hold(self) -> None:
        self._keep(self._ask(HOLD, b""))

    def relax(self) -> None:
        self._keep(self._ask(RELAX, b""))

    def begin_attempt(self) -> None:
        self._ask(BEGIN, b"", MOVING)
        self._last = None

    def guided(self) -> dict[str, Array]:
        parts, count, rows = b"", 1, 0
        for fragment in range(1 << 16):
            if fragment >= count:
                break
            answer = self._ask(GUIDED, struct.pack("<I", fragment), MOVING)
            count, rows = struct.unpack("<II", answer[:8])
            parts += answer[8:]
        width = sum(self.spec.fields.values())
        if len(parts) != 8 * rows * width:
            raise ValueError(f"the guided motion has {len(parts)} bytes, expected {rows} rows of {width} numbers")
        motion = _split(np.frombuffer(parts).reshape(rows, width).copy(), self.spec.fields)
        return {name: value for name, value in motion.items() if not np.isnan(value).all()}

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            with suppress(OSError, ValueError):  # it holds by itself when nobody speaks any more
                self._ask(CLOSE, b"")
            self._socket.close()

    def _ask(self, kind: int, payload: bytes, patience: float | None = None) -> bytes:
        """The answer's payload, asked for again and again; where time runs, once, for half a control step.

        Raises TimeoutError without one, and what the robot's end says as ValueError.
        """
        self._sequence += 1
        data = encode(Packet(kind, self._session, self._sequence, payload))
        once = self._realtime and patience is None
        patience = patience or (0.5 / self.spec.control_hz if once else PATIENCE)
        end, again = time.monotonic() + patience, -math.inf
        while (now := time.monotonic()) < end:
            if now >= again:
                self.lost += again > 0
                self._socket.send(data)
                again = math.inf if once else now + AGAIN
            self._socket.settimeout(max(1e-4, min(end, again) - now))
            try:
                found = decode(self._socket.recv(LARGEST))
            except TimeoutError:
                continue
            if found is None or (found.session, found.sequence) != (self._session, self._sequence):
                self.stale += 1
                continue
            if found.kind == ERROR:
                raise _error(found.payload.decode(errors="replace"))
            return found.payload
        self.lost += 1
        raise TimeoutError(f"no answer within {patience} s")

    def _keep(self, payload: bytes) -> None:
        self._last = self._sample(payload)

    def _sample(self, payload: bytes) -> Sample:
        width = sum(self.spec.fields.values())
        if len(payload) != 8 * (2 + width):
            raise ValueError(f"a sample has {len(payload)} bytes, expected {8 * (2 + width)}")
        numbers = np.frombuffer(payload).copy()
        return Sample(_split(numbers[2:], self.spec.fields), float(numbers[0]), numbers[1] == 1.0)


class Server:
    """Puts a driver behind a socket, and answers until `stop`. address: where it is bound, with the port it got."""

    def __init__(self, driver: Driver, host: str = "127.0.0.1", port: int = 0) -> None:
        self._driver = driver
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self._socket.settimeout(0.05)
        self.address = f"{self._socket.getsockname()[0]}:{self._socket.getsockname()[1]}"
        self._owner: int | None = None
        self._sequence, self._answer = 0, b""
        self._heard = -math.inf
        self._moving = self._stopped = False
        self._motion: tuple[int, bytes] = (0, b"")

    def serve(self) -> None:
        """Until `stop`, from another thread."""
        with closing(self._driver), self._socket:
            while not self._stopped:
                try:
                    data, sender = self._socket.recvfrom(LARGEST)
                except TimeoutError:
                    self._mind()
                    continue
                except ConnectionError:  # of an answer that nobody took
                    continue
                packet = decode(data)
                if packet is not None and (answer := self._serve(packet)) is not None:
                    self._socket.sendto(answer, sender)
                self._mind()

    def stop(self) -> None:
        self._stopped = True

    def _mind(self) -> None:
        """A robot in motion whose device has fallen silent holds, then goes limp. A simulation's time stands still."""
        silence = time.monotonic() - self._heard
        if self._moving and self._driver.spec.realtime and silence > DEADMAN:
            (self._driver.relax if silence > LIMP else self._driver.hold)()

    def _serve(self, packet: Packet) -> bytes | None:
        """The answer to a packet; None for one that is answered by nobody."""
        now = time.monotonic()
        if packet.session != self._owner:
            if packet.kind != HELLO or now - self._heard < SILENT:
                return None
            self._owner, self._sequence, self._answer, self._moving = packet.session, 0, b"", False
        self._heard = now
        if packet.sequence == self._sequence:
            return self._answer
        if packet.sequence < self._sequence:
            return None
        self._sequence = packet.sequence
        try:
            payload, kind = self._do(packet), packet.kind
        except NotMeasuredError as error:
            payload, kind = f"NotMeasuredError {error}".encode(), ERROR
        except Exception as error:  # whatever the driver raises: the device must hear of it
            payload, kind = f"{type(error).__name__} {error}".encode()[:FRAGMENT], ERROR
        self._answer = encode(Packet(kind, packet.session, packet.sequence, payload))
        return self._answer

    def _do(self, packet: Packet) -> bytes:
        driver, kind = self._driver, packet.kind
        if kind == HELLO:
            return json.dumps(vars(driver.spec)).encode()
        if kind == GUIDED:
            return self._guided(packet.payload)
        head = b""
        if kind == WRITE:
            applied = driver.write(_command(packet.payload, len(driver.spec.joints)))
            grip = math.nan if applied.grip is None else applied.grip
            head, self._moving = struct.pack(f"<{len(applied.target) + 1}d", *applied.target, grip), True
        elif kind == CLOSE:
            if self._moving:
                driver.hold()
            self._moving, self._heard = False, -math.inf  # the next device need not wait
            return b""
        elif kind in (HOLD, RELAX, BEGIN):
            {HOLD: driver.hold, RELAX: driver.relax, BEGIN: driver.begin_attempt}[kind]()
            self._moving = self._moving and kind != RELAX  # nothing stiffens a robot that went limp
        sample = driver.read()
        fields = [np.asarray(sample.values[name], np.float64).ravel() for name in driver.spec.fields]
        return head + np.concatenate([(sample.time, float(sample.valid)), *fields]).tobytes()

    def _guided(self, payload: bytes) -> bytes:
        (fragment,) = struct.unpack("<I", payload)
        if fragment == 0:
            motion, fields = self._driver.guided(), self._driver.spec.fields
            rows = len(next(iter(motion.values())))
            # What nobody measures while a hand leads, a reward say, is not a number.
            parts = [motion.get(name, np.full((rows, size), np.nan)) for name, size in fields.items()]
            self._motion = rows, np.concatenate(parts, axis=1, dtype=np.float64).tobytes()
        count, data = self._motion
        pieces = max(1, math.ceil(len(data) / FRAGMENT))
        return struct.pack("<II", pieces, count) + data[fragment * FRAGMENT : (fragment + 1) * FRAGMENT]


def _split(numbers: Array, fields: Mapping[str, int]) -> dict[str, Array]:
    """Fields [..., size], as views of numbers [..., all sizes]."""
    found, start = {}, 0
    for name, size in fields.items():
        found[name] = numbers[..., start : start + size]
        start += size
    return found


def _command(payload: bytes, joints: int) -> Command:
    numbers = np.frombuffer(payload)
    size = int(numbers[joints + 1]) if len(numbers) > joints + 1 and 0 <= numbers[joints + 1] < 1024 else -1
    if len(numbers) != joints + size + 3:
        raise ValueError(f"a command has {len(numbers)} numbers, expected {joints} joints, grip, action and phase")
    target, action = numbers[:joints].copy(), numbers[joints + 2 : -1].copy()
    grip = None if math.isnan(numbers[joints]) else float(numbers[joints])
    return Command(target, action, grip, float(numbers[-1]))


def _spec(payload: bytes) -> Spec:
    """Raises BundleError, a ValueError, for what is no spec."""
    where = "the robot's spec"
    values = record(
        parse(payload, where), where, robot=str, joints=list, control_hz=int, fields=dict, realtime=bool, restarts=bool,
        guided=bool,
    )  # fmt: skip
    fits(values["joints"], tuple[str, ...], f"{where}.joints")
    fits(list(values["fields"].values()), tuple[int, ...], f"{where}.fields")
    if not 0 < sum(values["fields"].values()) * 8 < LARGEST or min(values["fields"].values()) < 1:
        raise ValueError(f"the robot's fields are {values['fields']}, expected sizes that fit into one packet")
    return Spec(**{**values, "joints": tuple(values["joints"])})


def _error(text: str) -> Exception:
    name, _, words = text.partition(" ")
    return NotMeasuredError(words) if name == "NotMeasuredError" else ValueError(f"the robot's end says: {text}")


def main(arguments: Sequence[str] | None = None) -> int:
    from export.device.__main__ import option

    parser = argparse.ArgumentParser(
        prog="python -m export.device.udp",
        description="Put a robot's driver behind a UDP port, for a device in another process or machine.",
    )
    parser.add_argument("--driver", required=True, metavar="NAME", help="an installed driver, or MODULE:CLASS")
    parser.add_argument("--option", action="append", default=[], type=option, metavar="KEY=VALUE")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=9870, help="0 takes a free one (default: 9870)")
    chosen = parser.parse_args(arguments)
    try:
        server = Server(connect(chosen.driver, **dict(chosen.option)), chosen.host, chosen.port)
        print(f"listening at {server.address}", flush=True)
        server.serve()
    except (ValueError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
