"""Two thousand tampered bundles: each is refused, or still answers as it did; no other error, no crash, no hang."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from toy_driver import BOUNDS, LIMITS, TABLE

from export.bundle import Adaptation, Contents, write
from export.device.adapter import OUTPUTS
from export.device.manifest import Collect
from export.graphs import export_graph

ROOT = Path(__file__).parents[2]


def linear(theta: torch.Tensor, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tanh(observation @ theta[:8].view(2, 4).T), theta[8:10]


def adapt(theta: torch.Tensor, step: torch.Tensor, *batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
    def loss(theta: torch.Tensor, observation: torch.Tensor, action: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        error = (linear(theta, observation)[0] - action).square().sum(-1)
        return (error * mask).sum() / mask.sum()

    gradient, value = torch.func.grad_and_value(loss)(theta, *batch)
    moved = theta - 0.1 * gradient
    return moved, value, gradient.square().sum().sqrt(), torch.isfinite(moved).all() & (step >= 0)


def bundle(path: Path) -> Path:
    rng = np.random.default_rng(0)
    theta = rng.normal(0, 0.5, 10).astype(np.float32)
    batch = {
        "observation": rng.normal(size=(3, 5, 4)).astype(np.float32),
        "action": rng.uniform(-1, 1, (3, 5, 2)).astype(np.float32),
        "mask": np.ones((3, 5), np.float32),
    }
    tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
    example = {"theta": torch.from_numpy(theta), "step": torch.tensor(0), **tensors}
    axes = {name: {0: "episode", 1: "time"} for name in batch}
    graph = export_graph(adapt, example, OUTPUTS, axes)
    act = export_graph(linear, {"theta": torch.zeros(10), "observation": torch.zeros(4)}, ("mean", "log_std"))
    adaptation = Adaptation(graph, "demonstration", np.full((2, 10), 0.1, np.float32), Collect("guided", 3, 5), batch)
    observations = rng.normal(size=(4, 4)).astype(np.float32)
    contents = Contents(TABLE, 12, "maml", act, theta, observations, LIMITS, adaptation, bounds=BOUNDS)
    write(path, contents)
    return path


def test_tampered_bundles_are_refused(tmp_path):
    command = [sys.executable, "scripts/fuzz_bundles.py", "--bundles", str(bundle(tmp_path / "toy.zip"))]
    command += ["--count", "2000", "--json", str(tmp_path / "counts.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-3000:]
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert (counts["bundles"], counts["failures"]) == (2000, [])
    reached = {stage for stage, by in counts["stages"].items() if by["mended"]}
    assert reached >= {"zip", "manifest", "names", "inspection", "arrays", "runtime", "golden"}
