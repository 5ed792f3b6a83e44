"""The sampler on this machine's processes. A trial travels out and its episodes travel back, nothing in between."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from envs.robot_env import make
from metarl.episodes import Episodes
from metarl.sampling.ledger import EPISODE_SECONDS, START_SECONDS, TRIES, Ledger, SamplingError, log
from metarl.sampling.serial import Sampler, SerialSampler
from metarl.sampling.worker import Actor, Trial, Worker

POLL_SECONDS = 0.5  # between looks at deadlines


def _work(connection: Connection, env_id: str, actors: Mapping[str, Actor], options: Mapping[str, Any]) -> None:
    """A worker's life. It says once that it is ready; then for every trial its episodes, or else why not."""
    for number in (signal.SIGINT, signal.SIGTERM):  # these are the trainer's to answer; a worker ends with it
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    try:
        worker = Worker(env_id, actors, options)
        connection.send((None, ""))
        while True:
            connection.send((worker.run(connection.recv()), ""))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        connection.send((None, f"{type(error).__name__}: {error}"))


def end_with_parent() -> None:
    """Let this worker process end when its parent does: if that was killed, a pool's workers would wait forever."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclass(eq=False)
class _Member:
    process: BaseProcess
    connection: Connection
    started: float
    ready: bool = False

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class ProcessSampler:
    """`workers` processes, each with a world of its own.

    A process that dies, fails, or takes longer than `seconds` an episode is replaced, and what it held is computed
    anew; TRIES times at most, then SamplingError.
    """

    def __init__(
        self,
        env_id: str,
        actors: Mapping[str, Actor],
        workers: int,
        options: Mapping[str, Any],
        seconds: float = EPISODE_SECONDS,
    ) -> None:
        make(env_id, **options).close()  # a wrong id should fail here, not in every worker
        self._arguments, self._seconds = (env_id, actors, options), seconds
        self._lock, self._closed, self._stillborn = threading.Lock(), False, 0
        self._crew = [self._start() for _ in range(workers)]

    @property
    def processes(self) -> list[int]:
        """Their ids, now."""
        return [member.process.pid for member in self._crew if member.process.pid is not None]

    def sample(self, trials: Sequence[Trial]) -> list[Episodes]:
        ledger: Ledger[_Member] = Ledger(trials, self._seconds)
        try:
            while not ledger.finished:
                for member in list(self._crew):
                    self._feed(member, ledger)
                by_end = {member.connection: member for member in self._crew}
                for end in wait(list(by_end), POLL_SECONDS):
                    self._hear(by_end[end], ledger)  # type: ignore[index]
                now = time.monotonic()
                for member in ledger.late(now):
                    self._replace(member, ledger, f"an episode took longer than {self._seconds:g} s")
                for member in list(self._crew):
                    if not member.ready and now - member.started > START_SECONDS:
                        self._replace(member, ledger, f"not ready after {START_SECONDS:g} s")
        except BaseException:
            self.close()  # or episodes of these trials would arrive among those of the next
            raise
        return ledger.results

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for member in self._crew:
                member.end()
            self._crew = []

    def _start(self) -> _Member:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
        process.start()
        theirs.close()  # so that our end closes when the process does
        return _Member(process, ours, time.monotonic())

    def _feed(self, member: _Member, ledger: Ledger[_Member]) -> None:
        """Give an idle worker a trial. It waits in `recv`, so that sending does not block."""
        if member.ready and not ledger.holds(member) and (trial := ledger.take(member, time.monotonic())):
            try:
                member.connection.send(trial)
            except OSError:
                self._replace(member, ledger, "its process died")

    def _hear(self, member: _Member, ledger: Ledger[_Member]) -> None:
        try:
            episodes, why = member.connection.recv()
        except (EOFError, OSError):
            self._replace(member, ledger, "its process died, for want of memory perhaps")
            return
        if why:
            self._replace(member, ledger, why)
        elif not member.ready:
            member.ready, self._stillborn = True, 0
        else:
            ledger.give(member, episodes)

    def _replace(self, member: _Member, ledger: Ledger[_Member], why: str) -> None:
        with self._lock:
            if self._closed:
                raise SamplingError("the sampler was closed while it sampled")
            member.end()
            self._crew.remove(member)
            if not member.ready:
                self._stillborn += 1
                if self._stillborn >= TRIES:
                    raise SamplingError(f"simulating processes do not start: {why}, {TRIES} times in a row")
                log.warning("a simulating process did not start (%s); another one will", why)
            self._crew.append(self._start())
        ledger.lose(member, why)


def make_sampler(
    env_id: str, actors: Mapping[str, Actor], workers: int, options: Mapping[str, Any] | None = None
) -> Sampler:
    """A sampler with `workers` processes; with 0, in this process. options: fields of the environment's job."""
    if workers < 0:
        raise ValueError(f"workers is {workers}, expected 0 (in this process) or more")
    options = options or {}
    return ProcessSampler(env_id, actors, workers, options) if workers else SerialSampler(env_id, actors, options)
