"""Ray: the same bytes as anywhere else, whatever dies or joins; and what is said where there is no cluster."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from metarl import trainer
from metarl.checkpoint import Run
from metarl.sampling import ray_cluster
from metarl.sampling.ledger import SamplingError
from metarl.sampling.opening import workers_of
from metarl.sampling.ray_cluster import Cluster, RaySampler, connect
from metarl.sampling.serial import SerialSampler
from metarl.sampling.worker import Trial
from metarl.trainer import train

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[cluster]'")


def parameters(run: Run) -> bytes:
    return (run.path / "checkpoints" / f"{run.config.iterations:06d}.safetensors").read_bytes()


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"--ray needs Ray: pip install '.\[cluster\]'"):
        connect(Cluster())


def test_command_lines_name_processes_or_a_cluster():
    assert workers_of(None, None) == 2
    assert workers_of(0, None) == 0
    assert workers_of(3, "10.0.0.1:6379") == Cluster("10.0.0.1:6379", 3)
    assert workers_of(None, "auto") == Cluster()


@pytest.mark.parametrize("address", ["", "head", "ray://head:10001", "head:", "head:x", ":6379", "head:99999"])
def test_what_is_no_address_is_refused(address: str):
    with pytest.raises(ValueError, match=r"expected 'auto' or the head's HOST:PORT"):
        Cluster(address)
    with pytest.raises(ValueError, match="workers is 0, expected 1 or more on a cluster"):
        Cluster("auto", 0)


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_where_no_cluster_answers_it_says_so_soon(monkeypatch: pytest.MonkeyPatch, answer: bytes | None):
    """Nobody there; someone who says nothing; someone else."""
    monkeypatch.setattr(ray_cluster, "CONNECT_SECONDS", 1.0)
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve() -> None:
            end, _ = server.accept()
            with end:
                end.sendall(answer or b"")
                time.sleep(0 if answer else 2)

        if answer is None:
            server.close()
        else:
            threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(ConnectionError, match=f"no Ray cluster answers at {address} .*; start its head with: ray"):
            connect(Cluster(address))
    assert time.monotonic() - started < 5


def test_a_run_without_its_cluster_leaves_nothing(tiny, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ConnectionError, match=address):
        train(tiny("demonstration"), tmp_path / "run", Cluster(address))
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def nodes() -> Iterator[object]:
    """Two nodes of one core each, on this machine."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    connect(Cluster(nodes.address))
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def simulators(nodes) -> list[int]:
    """Processes of these nodes' actors, and of no other cluster's on this machine."""
    raylets = {one.process.pid for node in nodes.list_all_nodes() for one in node.all_processes["raylet"]}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, parent = (
                (folder / "cmdline").read_bytes(),
                (folder / "stat").read_text().rpartition(")")[2].split()[1],
            )
        except OSError:
            continue
        if name.startswith(b"ray::_Simulator") and int(parent) in raylets:
            found.append(int(folder.name))
    return sorted(found)


def test_bytes_survive_killed_actors_killed_nodes_and_new_ones(
    nodes, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    config = tiny("reward", iterations=40, tasks=4)
    whole = train(config, tmp_path / "whole", workers=0)
    run = Run.create(tmp_path / "run", config)

    def until(iteration: int) -> None:
        while run.iteration < iteration and thread.is_alive():
            time.sleep(0.02)

    # Ray wants its nodes made and removed in the main thread.
    thread = threading.Thread(target=lambda: train(config, run.path, Cluster(nodes.address), resume=True))
    thread.start()
    until(2)
    assert len(simulators(nodes)) == 2
    os.kill(simulators(nodes)[0], signal.SIGKILL)
    until(4)
    node = nodes.add_node(num_cpus=1)
    while len(simulators(nodes)) < 3 and thread.is_alive():
        time.sleep(0.05)
    until(run.iteration + 2)  # the third is at work
    nodes.remove_node(node, allow_graceful=False)
    assert run.iteration < config.iterations
    thread.join()
    assert "its actor or node was lost" in caplog.text
    assert parameters(run) == parameters(whole)
    assert (run.path / "curve.json").read_bytes() == (whole.path / "curve.json").read_bytes()


def test_a_world_that_fails_names_its_task(nodes):
    broken = Trial(trial_task(), (0, 0, 0, 0), 1, "mean", "nobody", np.zeros(3, np.float32))
    fine = Trial(trial_task(), (0, 0, 0, 0), 2, "guided")
    with closing(SerialSampler("metarl/PandaReach-v0", {})) as serial:
        (expected,) = serial.sample([fine])
    with closing(RaySampler("metarl/PandaReach-v0", {}, Cluster(nodes.address, 1), {})) as sampler:
        (found,) = sampler.sample([fine])
        assert found.observation.tobytes() == expected.observation.tobytes()
        assert sampler.actors == 1
        with pytest.raises(SamplingError, match=r"\(KeyError: 'nobody'\), try 3 of 3, on the task {\"camera_yaw\""):
            sampler.sample([broken])


def trial_task():
    from envs.robot_env import make

    env = make("metarl/PandaReach-v0")
    env.close()
    return env.task_space.nominal
