"""What a meta-gradient costs: beside learn2learn's MAML, beside bare matrix products, and in memory."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from metarl.benchmarks.machine import clocked, in_turn, ratio
from metarl.console import Show
from metarl.metagradient import meta_gradient
from metarl.networks import LOG_STD, MLP, log_probability
from metarl.objectives import Batch

SINUSOID, SINUSOID_TASKS, SHOTS, SINUSOID_STEP = MLP(1, 1, (40, 40)), 25, 10, 0.01
POLICY, POLICY_TASKS, SAMPLES, POLICY_STEP = MLP(48, 12, (64, 64)), 40, 2000, 0.1
SINUSOID_REPEATS, POLICY_REPEATS = 25, 7
MEMORY_STEPS = (1, 2, 4, 8)
KINDS = ("forward", "backward", "weights")
STAGES = 7  # at which bench_meta shows something

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]  # observation -> mean, log standard deviation
Work = Callable[[], Tensor]  # returns the gradient in theta


def bench_meta(show: Show) -> dict[str, float]:
    """Ratios to learn2learn's time for the same gradient (above one: faster than it), medians over turns.

    sinusoid: 25 tasks of 10 shots, 1-40-40-1. rl: 40 tasks of 2000 samples, 48-64-64-12, a policy gradient inside and
    outside. gemm_fraction: the rate in FLOP/s of rl_k1 on one thread, in which only the matrix products that a
    meta-gradient cannot do without count (see `_shapes`), over the rate of these very products alone.
    memory_growth_k: the largest of peak(K) / (K peak(1)) over K > 1; up to one, memory is at most linear in K.
    gradient_difference: the largest norm of the difference to learn2learn over the gradient's norm, in float64.

    Raises ValueError if learn2learn is not installed.
    """
    before = torch.get_num_threads()
    maml, found = _learn2learn(), {}
    try:
        torch.set_num_threads(1)
        found["meta.gradient_difference"] = max(_difference(maml, steps) for steps in (1, 3))
        show(1, f"difference to learn2learn {found['meta.gradient_difference']:.1e}")
        for done, steps in enumerate((1, 5), 2):
            found[f"meta.over_learn2learn.sinusoid_k{steps}"] = _ratio(
                show, done, SINUSOID_REPEATS, *_sinusoid(maml, steps)
            )
        for done, steps in enumerate((1, 3), 4):
            works = _policy(maml, steps, POLICY_TASKS, SAMPLES)
            for threads in (1, 2):
                torch.set_num_threads(threads)
                key = f"meta.over_learn2learn.rl_k{steps}_{threads}thread{'s' * (threads > 1)}"
                found[key] = _ratio(show, done, POLICY_REPEATS, *works)
            torch.set_num_threads(1)
        found["meta.gemm_fraction"] = _gemm_fraction(_policy(maml, 1, POLICY_TASKS, SAMPLES)[1])
        show(6, f"gemm fraction {found['meta.gemm_fraction']:.2f}")
        peaks = {steps: _peak(steps) for steps in MEMORY_STEPS}
        found["meta.memory_growth_k"] = max(peaks[steps] / (steps * peaks[1]) for steps in MEMORY_STEPS[1:])
        show(STAGES, "peak memory " + ", ".join(f"K={steps} {peak:.1f} MB" for steps, peak in peaks.items()))
    finally:
        torch.set_num_threads(before)
    return found


def _ratio(show: Show, done: int, repeats: int, theirs: Work, ours: Work) -> float:
    theirs(), ours()
    their, our = in_turn(repeats, partial(clocked, theirs), partial(clocked, ours))
    show(done, f"learn2learn {1e3 * median(their):.1f} ms, ours {1e3 * median(our):.1f} ms")
    return ratio(their, our)


def _learn2learn() -> Any:
    """learn2learn.algorithms.MAML, without what else `import learn2learn` asks for (gym, torchvision, qpth, ...)."""
    spec = find_spec("learn2learn") if "learn2learn" not in sys.modules else sys.modules["learn2learn"].__spec__
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "learn2learn is not installed, expected it for comparison: its data package no longer compiles and is not "
            "needed, so install it without compiling: CC=true LDSHARED=true pip install --no-deps learn2learn==0.2.0"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "learn2learn"}
    for name, path in (("learn2learn", root), ("learn2learn.algorithms", root / "algorithms")):
        package = ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package
    try:
        return importlib.import_module("learn2learn.algorithms.maml").MAML
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "learn2learn"]:
            del sys.modules[name]
        sys.modules.update(kept)


class _Module(nn.Module):
    """A network as learn2learn's users write it. `log_std` is there where a loss reads it."""

    def __init__(self, network: MLP, theta: Tensor, spread: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in network.layers:
            layers += [nn.Linear(inputs, outputs), nn.Tanh()]
        self.layers = nn.Sequential(*layers[:-1]).to(theta.dtype)
        nn.utils.vector_to_parameters(theta[: -network.action].clone(), self.layers.parameters())
        self.log_std = nn.Parameter(theta[-network.action :].clone()) if spread else None

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.layers(observation)
        return mean, mean.new_empty(0) if self.log_std is None else self.log_std.clamp(*LOG_STD)

    def gradient(self) -> Tensor:
        """In theta's order."""
        parameters = [*self.layers.parameters(), *([] if self.log_std is None else [self.log_std])]
        return torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])


def _squared_error(forward: Forward, batch: Batch) -> Tensor:
    return (forward(batch["observation"])[0] - batch["action"]).square().mean()


def _policy_gradient(forward: Forward, batch: Batch) -> Tensor:
    """The likelihood ratio against a stopped gradient, times a given advantage."""
    logp = log_probability(*forward(batch["observation"]), batch["action"])
    return -(torch.exp(logp - logp.detach()) * batch["advantage"]).mean()


def _works(
    maml: Any, network: MLP, loss: Callable[[Forward, Batch], Tensor], size: float, supports: list[Batch], query: Batch
) -> tuple[Work, Work]:
    """The gradient of one and the same meta-loss by learn2learn's loop over tasks, and by ours."""
    dtype, tasks, steps = query["action"].dtype, len(query["action"]), len(supports)
    theta = network.initial(torch.Generator().manual_seed(1)).to(dtype)
    module = _Module(network, theta, spread=loss is _policy_gradient)
    learner = maml(module, lr=size)

    def theirs() -> Tensor:
        module.zero_grad()
        total = torch.zeros((), dtype=dtype)
        for task in range(tasks):
            clone = learner.clone()
            for support in supports:
                clone.adapt(loss(clone, {name: field[task] for name, field in support.items()}))
            total = total + loss(clone, {name: field[task] for name, field in query.items()})
        (total / tasks).backward()  # type: ignore[no-untyped-call]
        return module.gradient()

    def one(at: Tensor, batch: Batch) -> Tensor:
        return loss(partial(network, at), batch)

    step_sizes = torch.full((steps, network.size), size, dtype=dtype)
    return theirs, lambda: meta_gradient(one, one, theta, step_sizes, supports, query).theta


def _sinusoid(maml: Any, steps: int) -> tuple[Work, Work]:
    generator = torch.Generator().manual_seed(0)

    def sample(phase: Tensor) -> Batch:
        x = 10 * torch.rand(SINUSOID_TASKS, SHOTS, 1, generator=generator) - 5
        return {"observation": x, "action": torch.sin(x + phase)}

    phase = torch.pi * torch.rand(SINUSOID_TASKS, 1, 1, generator=generator)
    support, query = sample(phase), sample(phase)
    return _works(maml, SINUSOID, _squared_error, SINUSOID_STEP, [support] * steps, query)


def _policy(maml: Any, steps: int, tasks: int, samples: int, dtype: torch.dtype = torch.float32) -> tuple[Work, Work]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"observation": (POLICY.observation,), "action": (POLICY.action,), "advantage": ()}

    def sample() -> Batch:
        return {
            name: torch.randn(tasks, samples, *size, generator=generator, dtype=dtype) for name, size in sizes.items()
        }

    return _works(maml, POLICY, _policy_gradient, POLICY_STEP, [sample() for _ in range(steps)], sample())


def _difference(maml: Any, steps: int) -> float:
    theirs, ours = (work() for work in _policy(maml, steps, 4, SAMPLES, torch.float64))
    return float((ours - theirs).norm() / theirs.norm())


def _shapes(network: MLP, samples: int) -> list[tuple[str, int, int, int]]:
    """Products (kind, samples, in, out) of one task's exact meta-gradient with one step, none of them avoidable.

    A layer's `forward` is x W, its `backward` d W^T, its `weights` x^T d. The inner and the outer gradient take one of
    each per layer; the product with the Hessian, derivative of the inner one, two of each, one per factor. The first
    layer's input is data: nothing is differentiated by it, which spares it what goes backward, and what multiplies
    the derivative of its input.
    """
    products = []
    for index, (inputs, outputs) in enumerate(network.layers):
        counts = {"forward": 3, "backward": 0, "weights": 3} if index == 0 else dict.fromkeys(KINDS, 4)
        products += [(kind, samples, inputs, outputs) for kind, count in counts.items() for _ in range(count)]
    return products


def _products(network: MLP, tasks: int, samples: int) -> Callable[[], None]:
    """The products of `_shapes` for every task, on as many buffers as a task's layers have, into ready memory."""
    generator = torch.Generator().manual_seed(0)
    widths = {width for layer in network.layers for width in layer}
    values = {width: torch.randn(samples, width, generator=generator) for width in widths}
    results = {width: torch.empty(samples, width) for width in widths}
    weights = {layer: torch.randn(layer, generator=generator) for layer in network.layers}
    gradients = {layer: torch.empty(layer) for layer in network.layers}

    def run() -> None:
        for kind, _, inputs, outputs in _shapes(network, samples) * tasks:
            layer = inputs, outputs
            if kind == "forward":
                torch.mm(values[inputs], weights[layer], out=results[outputs])
            elif kind == "backward":
                torch.mm(values[outputs], weights[layer].T, out=results[inputs])
            else:
                torch.mm(values[inputs].T, values[outputs], out=gradients[layer])

    return run


def _gemm_fraction(ours: Work) -> float:
    """Both do the same products, so the ratio of rates is that of times."""
    products = _products(POLICY, POLICY_TASKS, SAMPLES)
    ours(), products()
    return ratio(*in_turn(POLICY_REPEATS, partial(clocked, products), partial(clocked, ours)))


def _peak(steps: int) -> float:
    """Memory [MB] at the height of an update of rl's size, beyond its data, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_own_peak, steps).result()


def _own_peak(steps: int) -> float:
    torch.set_num_threads(1)
    _policy(_unused, 1, 1, 2)[1]()  # what a first call loads
    ours = _policy(_unused, steps, POLICY_TASKS, SAMPLES)[1]
    before = _high_water()
    ours()
    return _high_water() - before


def _unused(module: nn.Module, lr: float) -> None:
    """Stands where only our side of a comparison is wanted."""


def _high_water() -> float:
    """The most memory [MB] that this process has held. The kernel's own record: getrusage's outlives an exec."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise ValueError("there is no /proc/self/status, expected for the peak memory: measure on Linux")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return float(line.split()[1]) / 1024
