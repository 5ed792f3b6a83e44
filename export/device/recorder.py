"""The black box: every tick and every event, in one MCAP file that Foxglove and PlotJuggler open, and that a killed
process leaves readable. Needs the extra `log`.

| topic | message (JSON) |
|---|---|
| /tick | a control step: see `loop.Tick`; arrays are lists, what there is none of is null |
| /event | what happened to the parameters: see `session.Event` |
| /theta | parameters, once for every digest that acted: hexadecimal of float32, little-endian |

The manifest travels in a metadata record "bundle". Times are the device's monotonic clock [ns].
"""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from export.device.device import Device
from export.device.loop import Tick
from export.device.policy import Vector
from export.device.session import Event

FLUSHED = 0.5  # [s] between writes to the disk: no more than this is lost with a killed process
WAITING = 4096  # messages between the control loop and the disk
NUMBERS = {"type": "array", "items": {"type": "number"}}
MAYBE = {"anyOf": [NUMBERS, {"type": "null"}]}
TICK = {
    "type": "object",
    "properties": {
        "index": {"type": "integer"},
        "sample_time": {"type": "number"},
        "valid": {"type": "boolean"},
        "values": {"type": "object", "additionalProperties": NUMBERS},
        "observation": MAYBE,
        "sampled": MAYBE,
        "applied": MAYBE,
        "target": MAYBE,
        "limits": {"type": "array", "items": {"type": "string"}},
        **{name: {"type": "string"} for name in ("state", "mode", "slot", "digest")},
        **{name: {"type": ["number", "null"]} for name in ("reward", "late", "work")},
    },
}
EVENT = {
    "type": "object",
    "properties": {
        "kind": {"type": "string"},
        "step": {"type": "integer"},
        "line": {"type": "string"},
        "figures": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
    },
}
THETA = {"type": "object", "properties": {"digest": {"type": "string"}, "float32": {"type": "string"}}}


class Recorder:
    """Writes from a thread of its own: `tick` and `event` only put something into a queue. dropped: what found it full.

    Raises ValueError without the extra `log`, and for a file that is there already: it may be all that is left of a
    fault. OSError where the file cannot be written. Close it, or lose FLUSHED.
    """

    def __init__(self, path: Path, device: Device) -> None:
        try:
            from mcap.writer import Writer
        except ImportError as error:
            raise ValueError("recordings need the package 'mcap': pip install 'sim2adapt[log]'") from error
        self.dropped = 0
        self._device, self._known = device, set[str]()
        self._queue: queue.Queue[tuple[str, int, dict[str, Any]] | None] = queue.Queue(WAITING)
        try:
            self._stream = path.open("xb")
        except FileExistsError as error:
            raise ValueError(f"{path} is there already: record to another file, or move that one away") from error
        # Without chunks: what has been written can be read, wherever the file ends.
        self._writer = Writer(self._stream, use_chunking=False)
        self._writer.start(library="sim2adapt")
        manifest = {"bundle": device.bundle, "manifest": device.manifest.to_json().decode()}
        self._writer.add_metadata("bundle", manifest)
        self._channels = {}
        for topic, schema in (("tick", TICK), ("event", EVENT), ("theta", THETA)):
            number = self._writer.register_schema(f"sim2adapt.{topic}", "jsonschema", json.dumps(schema).encode())
            self._channels[topic] = self._writer.register_channel(f"/{topic}", "json", number)
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def tick(self, tick: Tick) -> None:
        if tick.digest not in self._known:
            theta = {"digest": tick.digest, "float32": self._device.theta.tobytes().hex()}
            if self._put("theta", tick.time, theta):
                self._known.add(tick.digest)
        values = {name: np.ravel(value).tolist() for name, value in tick.sample.values.items()}
        self._put(
            "tick",
            tick.time,
            {
                "index": tick.index,
                "sample_time": tick.sample.time,
                "valid": tick.sample.valid,
                "values": values,
                "observation": _listed(tick.observation),
                "sampled": _listed(tick.sampled),
                "applied": _listed(tick.applied),
                "target": _listed(tick.target),
                "limits": list(tick.limits),
                "state": tick.state,
                "mode": tick.mode,
                "slot": tick.slot,
                "digest": tick.digest,
                "reward": tick.reward,
                "late": tick.late,
                "work": tick.work,
            },
        )

    def event(self, event: Event) -> None:
        self._put("event", time.monotonic(), {**vars(event), "figures": dict(event.figures)})

    def close(self) -> None:
        """Write what waits, and finish the file. Raises OSError if the disk refused something meanwhile."""
        self._queue.put(None)
        self._thread.join()
        try:
            if self._failed is None:
                self._writer.finish()  # type: ignore[no-untyped-call]
        finally:
            self._stream.close()
        if self._failed is not None:
            raise OSError(f"the recording is not whole: {self._failed}") from self._failed

    def _put(self, topic: str, seconds: float, message: dict[str, Any]) -> bool:
        try:
            self._queue.put_nowait((topic, int(seconds * 1e9), message))
        except queue.Full:
            self.dropped += 1
            return False
        return True

    def _write(self) -> None:
        flushed, sequence = time.monotonic(), 0
        while True:
            try:
                found = self._queue.get(timeout=FLUSHED)
                if found is None:
                    return
                topic, stamp, message = found
                text = json.dumps(_finite(message), allow_nan=False).encode()
                sequence += 1
                self._writer.add_message(self._channels[topic], stamp, text, stamp, sequence)
            except queue.Empty:
                pass
            except Exception as error:  # a full disk, say: the robot goes on, and `close` tells
                self._failed = self._failed or error
            if time.monotonic() - flushed >= FLUSHED and self._failed is None:
                self._stream.flush()
                flushed = time.monotonic()


def read(path: Path) -> tuple[dict[str, str], Iterator[tuple[str, dict[str, Any]]]]:
    """The record of the bundle, and topic and message of everything else in order, as far as the file is whole.

    Raises ValueError for a file that is no recording, and without the extra `log`.
    """
    try:
        from mcap.exceptions import McapError
        from mcap.records import Channel, McapRecord, Message, Metadata
        from mcap.stream_reader import StreamReader
    except ImportError as error:
        raise ValueError("recordings need the package 'mcap': pip install 'sim2adapt[log]'") from error
    topics: dict[int, str] = {}

    def records() -> Iterator[McapRecord]:
        with path.open("rb") as stream:
            try:
                yield from StreamReader(stream).records
            except (McapError, EOFError, ValueError):  # cut off where the process was killed
                return

    about = next((record.metadata for record in records() if isinstance(record, Metadata)), None)
    if about is None or set(about) != {"bundle", "manifest"}:
        raise ValueError(f"{path} is no recording of this project, expected an MCAP file with a record of its bundle")

    def messages() -> Iterator[tuple[str, dict[str, Any]]]:
        for record in records():
            if isinstance(record, Channel):
                topics[record.id] = record.topic.removeprefix("/")
            elif isinstance(record, Message):
                yield topics[record.channel_id], json.loads(record.data)

    return about, messages()


def theta_of(message: dict[str, Any]) -> Vector:
    """The parameters float32[P] in a message of the topic "theta"."""
    return np.frombuffer(bytes.fromhex(message["float32"]), "<f4").astype(np.float32)


def _listed(value: Any) -> list[float] | None:
    return None if value is None else np.asarray(value).tolist()


def _finite(value: Any) -> Any:
    """The same as JSON can hold it: what is not finite is null."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
