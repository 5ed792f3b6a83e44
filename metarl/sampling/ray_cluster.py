"""The sampler on a Ray cluster: actors hold worlds, parameters travel through the object store, episodes come whole.

Ray moves values between machines by pickle: a cluster, like the code on it, is one's own.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from envs.robot_env import make
from metarl.benchmarks.machine import machine
from metarl.episodes import Episodes, Float
from metarl.sampling.ledger import EPISODE_SECONDS, START_SECONDS, TRIES, Ledger, SamplingError, log
from metarl.sampling.worker import Actor, Trial, Worker

POLL_SECONDS = 0.5  # between looks at deadlines
RECRUIT_SECONDS = 1.0  # between looks at how many cores there are
CONNECT_SECONDS = 5.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # how every gRPC connection begins (RFC 9113)
ROOMS = ("robots", "envs", "metarl", "export")


@dataclass(frozen=True)
class Cluster:
    """Where to simulate. address: the head's HOST:PORT, or "auto": the cluster that runs on this machine, or else one
    that is started for the run and has this machine alone. actors: at most so many; by default one for each core.
    """

    address: str = "auto"
    actors: int | None = None

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise ValueError(f"workers is {self.actors}, expected 1 or more on a cluster")
        host, _, port = self.address.rpartition(":")
        if self.address != "auto" and not (host and "/" not in host and port.isdigit() and int(port) < 2**16):
            raise ValueError(
                f"--ray is {self.address!r}, expected 'auto' or the head's HOST:PORT, such as 10.0.0.1:6379"
            )


class _Simulator:
    """An actor: one world, in a process of Ray's."""

    def load(self, arguments: tuple[str, Mapping[str, Actor], Mapping[str, Any]]) -> dict[str, str]:
        """Loads the world, and says what its machine computes with."""
        self._worker = Worker(*arguments)
        return computes_with()

    def run(self, trial: Trial, theta: Float | None) -> Episodes:
        return self._worker.run(replace(trial, theta=theta))


@dataclass(eq=False)
class _Member:
    actor: Any
    doing: Any  # reference to what it is at
    ready: bool = False


def computes_with() -> dict[str, str]:
    """Everything that numbers may depend on: versions, processor, and this project's code as a checksum."""
    code, root = sha256(), Path(__file__).parents[2]
    for room in ROOMS:
        for file in sorted((root / room).rglob("*.py")):
            code.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    names = ("processor", "python", "numpy", "onnxruntime", "pybullet", "mujoco")
    return {**{name: machine()[name] for name in names}, "code": code.hexdigest()[:12]}


class RaySampler:
    """One actor per core of the cluster, as nodes join and leave.

    An actor that dies (alone or with its node), fails, or takes longer than `seconds` an episode is replaced, and what
    it held is computed anew; TRIES times at most, then SamplingError. Raises ValueError without Ray, ConnectionError
    for a cluster that does not answer.
    """

    def __init__(
        self,
        env_id: str,
        actors: Mapping[str, Actor],
        cluster: Cluster,
        options: Mapping[str, Any],
        seconds: float = EPISODE_SECONDS,
    ) -> None:
        make(env_id, **options).close()  # a wrong id should fail here, not in every actor
        self._ray = import_ray()
        self._started = connect(cluster)
        self._cluster, self._seconds = cluster, seconds
        self._closed, self._at_work = False, threading.Lock()
        self._simulator = self._ray.remote(num_cpus=1, max_restarts=0)(_Simulator)
        self._arguments = self._ray.put((env_id, dict(actors), dict(options)))
        self._here = computes_with()
        self._crew: list[_Member] = []
        self._stillborn, self._counted = 0, -RECRUIT_SECONDS
        self._told: set[str] = set()
        self._recruit()

    @property
    def actors(self) -> int:
        """How many are ready."""
        return sum(member.ready for member in self._crew)

    def sample(self, trials: Sequence[Trial]) -> list[Episodes]:
        with self._at_work:
            return self._sample(trials)

    def _sample(self, trials: Sequence[Trial]) -> list[Episodes]:
        ray, ledger = self._ray, Ledger[_Member](trials, self._seconds)
        thetas: dict[bytes, Any] = {}  # each different one is put into the store once
        alone = time.monotonic()
        while not ledger.finished:
            if self._closed:
                raise SamplingError("the sampler was closed while it sampled")
            self._recruit()
            for member in self._crew:
                if member.ready and not ledger.holds(member) and (trial := ledger.take(member, time.monotonic())):
                    theta = None if trial.theta is None else self._stored(trial.theta, thetas)
                    member.doing = member.actor.run.remote(replace(trial, theta=None), theta)
            by_doing = {member.doing: member for member in self._crew if member.doing is not None}
            if not by_doing:
                time.sleep(POLL_SECONDS)
            elif ray.wait(list(by_doing), num_returns=1, timeout=POLL_SECONDS)[0]:
                for doing in ray.wait(list(by_doing), num_returns=len(by_doing), timeout=0)[0]:
                    self._hear(by_doing[doing], ledger)
            now = time.monotonic()
            for member in ledger.late(now):
                self._dismiss(member, ledger, f"an episode took longer than {self._seconds:g} s")
            if self.actors:
                alone = now
            elif now - alone > START_SECONDS:
                free = ray.available_resources().get("CPU", 0)
                raise SamplingError(f"no actor was ready for {START_SECONDS:g} s; the cluster has {free:g} free cores")
        return ledger.results

    def close(self) -> None:
        self._closed = True
        with self._at_work:
            for member in self._crew:
                self._ray.kill(member.actor)
            self._crew = []
            if self._started and self._ray.is_initialized():
                self._ray.shutdown()

    def _stored(self, theta: Float, thetas: dict[bytes, Any]) -> Any:
        key = sha256(theta.tobytes()).digest()
        if key not in thetas:
            thetas[key] = self._ray.put(theta)
        return thetas[key]

    def _recruit(self) -> None:
        """Ask for as many actors as there are cores; one that finds no free core waits for it, and we not for it."""
        if time.monotonic() - self._counted < RECRUIT_SECONDS:
            return
        self._counted = time.monotonic()
        cores = int(self._ray.cluster_resources().get("CPU", 0))
        for _ in range(min(self._cluster.actors or cores, cores) - len(self._crew)):
            actor = self._simulator.remote()
            self._crew.append(_Member(actor, actor.load.remote(self._arguments)))

    def _hear(self, member: _Member, ledger: Ledger[_Member]) -> None:
        from ray.exceptions import RayError, RayTaskError

        try:
            found = self._ray.get(member.doing, timeout=START_SECONDS)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            why = f"{type(cause).__name__}: {cause}"
            if not member.ready:
                self._stillborn += 1
                if self._stillborn >= TRIES:
                    raise SamplingError(f"actors cannot load the world: {why}, {TRIES} times in a row") from error
            self._dismiss(member, ledger, why)
        except RayError as error:
            self._dismiss(member, ledger, f"its actor or node was lost: {type(error).__name__}")
        else:
            member.doing = None
            if member.ready:
                ledger.give(member, found)
            else:
                self._compare(found)
                member.ready, self._stillborn = True, 0

    def _compare(self, there: Mapping[str, str]) -> None:
        """Raises SamplingError for a node on which numbers would come out otherwise."""
        differing = {name: (there[name], here) for name, here in self._here.items() if there[name] != here}
        kind = differing.pop("processor", None)
        if differing:
            what = ", ".join(f"{name} {other} instead of {here}" for name, (other, here) in differing.items())
            raise SamplingError(f"a node of the cluster has {what}; install the same on all of them")
        if kind and kind[0] not in self._told:
            self._told.add(kind[0])
            log.warning("a node has another processor (%s, here %s): last digits may depend on who computes", *kind)

    def _dismiss(self, member: _Member, ledger: Ledger[_Member], why: str) -> None:
        self._crew.remove(member)
        self._ray.kill(member.actor)
        self._counted = -RECRUIT_SECONDS
        if not member.ready:
            log.warning("an actor did not start (%s); another one will", why)
        ledger.lose(member, why)


def import_ray() -> Any:
    """Raises ValueError if Ray is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # tell nobody
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ValueError("--ray needs Ray: pip install '.[cluster]', on every machine of the cluster") from error
    return ray


def reach(cluster: Cluster) -> None:
    """Raises ValueError without Ray, ConnectionError unless something answers at the cluster's address."""
    if not import_ray().is_initialized() and cluster.address != "auto":
        _knock(cluster.address)


def connect(cluster: Cluster) -> bool:
    """Join the cluster unless this process is part of one; whether it was not.

    Raises ConnectionError within half a minute if none answers there.
    """
    reach(cluster)
    ray = import_ray()
    if ray.is_initialized():
        return False
    address = None if cluster.address == "auto" else cluster.address
    # If a cluster of one's own is started here: its actors have the priority of processes, where Ray would lower it.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        ray.init(
            address, include_dashboard=None if address else False, log_to_driver=False, logging_level=logging.ERROR
        )
    except (RuntimeError, OSError, ValueError, ray.exceptions.RayError) as error:
        raise ConnectionError(f"no cluster at {cluster.address}: {error}") from error
    return True


def _knock(address: str) -> None:
    """Raises ConnectionError unless something that speaks gRPC answers: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS) as end:
            end.settimeout(CONNECT_SECONDS)
            end.sendall(PREFACE)
            answer = end.recv(9)
        if answer[3:4] != b"\4":  # a frame of settings
            raise ConnectionError(f"it answers {answer!r}, which is no gRPC")
    except OSError as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({error}); start its head with: ray start --head --port {port}"
        ) from error
