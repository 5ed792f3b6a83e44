"""What the device's work costs beside torch, and how well a loop keeps its rate while it adapts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from export.device import Device
from export.device.adapter import OUTPUTS, Adapter
from export.device.collect import Episode
from export.device.collect import batch as gathered
from export.device.loop import Pace, undisturbed
from export.device.policy import Policy
from export.graphs import export_graph
from metarl.adaptation import inner_step
from metarl.benchmarks.machine import clocked, in_turn, ratio
from metarl.console import Show
from metarl.graphs import act_graph
from metarl.networks import MLP
from metarl.objectives import Demonstration

NETWORK = (48, 12, (128, 128))  # observation, action, hidden
EPISODES, STEPS = 20, 50  # a batch of 1000 samples
RATES = (50, 200, 500)  # [Hz]
SIZE = 0.01
ACTS, TURNS = 20_000, 15
WALKER, SECONDS = "zoo:a1-walk", 4.0  # who adapts while it works, and a motion twice as long as its plan asks for
STAGES = 4 + 2 * len(RATES)
RESIDENT = """
import sys
from pathlib import Path
from export.device import Device
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")))
assert not {"torch", "pybullet", "gymnasium", "onnx"} & set(sys.modules)
"""


def bench_device(show: Show, seconds: float = 10.0) -> dict[str, float]:
    """seconds: of each loop. Latencies in µs and ms, ratios of what was timed in the same turn."""
    torch.set_num_threads(1)
    network, theta, policy, adapter, batch = made()
    observation = np.random.default_rng(0).standard_normal(NETWORK[0]).astype(np.float32)
    found = _act(network, theta, policy, observation)
    show(1, f"act {found['device.act_us_p50']:.1f} us")
    found |= _adapt(network, theta, adapter, batch)
    show(2, f"adapt {found['device.adapt_ms_1000']:.2f} ms")
    found |= _walker()
    show(3, f"walker {found['device.walker_adapt_ms']:.2f} ms")
    done = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True)
    found["device.rss_mb"] = float(done.stdout)
    show(4)
    flat = theta.numpy()
    answer = policy.fixed(flat)
    for number, hz in enumerate(RATES):
        for adapting in (False, True):
            name = f"{hz}hz{'_adapting' if adapting else ''}"
            work = (lambda: adapter.step(flat, 0, batch)) if adapting else None
            kept = keep_rate(hz, seconds, lambda: answer(observation), work)
            found[f"device.miss_rate_{name}"] = kept["miss_rate"]
            found[f"device.late_ms_p99_{name}"] = kept["late_ms_p99"]
            show(5 + 2 * number + adapting, f"{name}: {kept['miss_rate']:.2e} missed")
    return found


def keep_rate(
    hz: int,
    seconds: float,
    act: Callable[[], object],
    work: Callable[[], object] | None = None,
    priority: int | None = None,
) -> dict[str, float]:
    """miss_rate, and late_ms at p50, p99 and the most, of a loop that acts, while `work` goes on in another thread.

    priority: as `undisturbed` takes it; raises PermissionError where the system refuses it.
    """
    late, missed, stop = np.zeros(round(seconds * hz)), 0, threading.Event()

    def beside() -> None:
        while not stop.is_set():
            assert work is not None
            work()
            time.sleep(0.02)

    thread = threading.Thread(target=beside, daemon=True) if work else None
    if thread:
        thread.start()
    with undisturbed(priority) as had:
        if priority is not None and os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_FIFO:
            raise PermissionError(f"the loop has {had}; run as root or with `ulimit -r {priority}`, or leave it out")
        pace = Pace(hz)
        for step in range(len(late)):
            late[step] = max(0.0, pace.late)
            act()
            missed += pace.wait()
    stop.set()
    if thread:
        thread.join()
    late *= 1e3
    return {
        "miss_rate": missed / (len(late) + missed),
        "late_ms_p50": float(np.median(late)),
        "late_ms_p99": float(np.quantile(late, 0.99)),
        "late_ms_max": float(late.max()),
    }


def _act(network: MLP, theta: torch.Tensor, policy: Policy, observation: np.ndarray) -> dict[str, float]:
    answer, eager = policy.fixed(theta.numpy()), torch.from_numpy(observation)

    def ours() -> list[float]:
        return [clocked(lambda: answer(observation)) for _ in range(ACTS // TURNS)]

    def theirs() -> list[float]:
        with torch.no_grad():
            return [clocked(lambda: network(theta, eager)) for _ in range(ACTS // TURNS)]

    ours(), theirs()
    turns = [(ours(), theirs()) for _ in range(TURNS)]
    all_ours = 1e6 * np.concatenate([mine for mine, _ in turns])
    p50, p99, p999 = np.quantile(all_ours, (0.5, 0.99, 0.999)).tolist()
    return {
        "device.act_us_p50": p50,
        "device.act_us_p99": p99,
        "device.act_us_p999": p999,
        "device.act_over_torch": float(np.median([np.median(mine) / np.median(other) for mine, other in turns])),
    }


def _adapt(network: MLP, theta: torch.Tensor, adapter: Adapter, batch: dict[str, np.ndarray]) -> dict[str, float]:
    flat, objective = theta.numpy(), Demonstration()
    tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
    own = theta.clone().requires_grad_()

    def eager() -> None:
        loss = objective.loss(network, own, tensors)
        (gradient,) = torch.autograd.grad(loss, own)
        with torch.no_grad():
            own - SIZE * gradient

    works: list[Callable[[], float]] = [lambda: clocked(lambda: adapter.step(flat, 0, batch)), lambda: clocked(eager)]
    for work in works:
        work()
    mine, theirs = in_turn(10 * TURNS, *works)
    return {
        "device.adapt_ms_1000": 1e3 * float(np.median(mine)),
        "device.adapt_over_torch": ratio(mine, theirs),
    }


def _walker() -> dict[str, float]:
    """An action of a bundle that adapts while it works, and all its gradient steps on one window."""
    device = Device.load(WALKER)
    plan, interface, adapter = device.manifest.plan, device.interface, device.adapter
    assert plan is not None
    assert adapter is not None
    ticks, rng = round(SECONDS * interface.control_hz), np.random.default_rng(2)
    observation = rng.standard_normal((ticks, interface.observation_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (ticks, interface.action_size)).astype(np.float32)
    motion = Episode(observation, action, np.zeros(ticks, np.float32), np.zeros(ticks, bool))
    data = gathered([motion], device.manifest.batch)

    def adapt() -> None:
        theta = device.base
        for step in range(plan.steps):
            theta = adapter.step(theta, step, data).theta

    adapt()
    acts = [clocked(partial(device.act, one)) for _ in range(TURNS) for one in observation]
    return {
        "device.walker_act_us_p50": 1e6 * float(np.median(acts)),
        "device.walker_adapt_ms": 1e3 * float(np.median([clocked(adapt) for _ in range(10 * TURNS)])),
    }


def made() -> tuple[MLP, torch.Tensor, Policy, Adapter, dict[str, np.ndarray]]:
    """A network, its parameters, its two graphs, and a batch of 1000 samples."""
    network = MLP(*NETWORK)
    theta, objective = network.initial(torch.Generator().manual_seed(0)), Demonstration()
    rng = np.random.default_rng(1)
    batch = {
        "observation": rng.standard_normal((EPISODES, STEPS, network.observation)).astype(np.float32),
        "action": rng.uniform(-1, 1, (EPISODES, STEPS, network.action)).astype(np.float32),
        "mask": np.ones((EPISODES, STEPS), np.float32),
    }
    sizes = torch.full((3, network.size), SIZE)

    def adapt(theta: torch.Tensor, step: torch.Tensor, *fields: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return inner_step(network, objective, theta, sizes, step, dict(zip(objective.fields, fields, strict=True)))

    example = {"theta": theta, "step": torch.tensor(0), **{k: torch.from_numpy(v) for k, v in batch.items()}}
    graph = export_graph(adapt, example, OUTPUTS, {name: {0: "episode", 1: "time"} for name in batch})
    return network, theta, Policy(act_graph(network)), Adapter(graph), batch
