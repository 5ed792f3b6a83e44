"""The plan of the house, enforced: which room may import what, and what no room may use."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("robots", "envs", "metarl", "export", "scripts")
BELOW = {  # what each room may import of the others
    "robots": {"robots"},
    "envs": {"envs", "robots"},
    "metarl": {"metarl", "envs", "export", "robots"},
    "export": {"export", "robots"},
    "export.device": {"export.device", "robots"},
    "scripts": set(ROOMS),
}
OUTSIDE = {  # where a room may not use every library: what it may, beside the standard library
    "robots": {"numpy"},
    "export.device": {"numpy", "onnxruntime"},
}
ENGINE = {  # the only files that may import an engine, or the robots that come with it
    "pybullet": {"envs/world.py"},
    "pybullet_data": {"envs/world.py", "envs/mujoco_world.py"},
    "mujoco": {"envs/mujoco_world.py", "envs/mujoco_model.py"},
}
LAZY = {  # what a device may do without: imported inside functions, and there alone
    "cryptography": {"export/device/signing.py"},
    "mcap": {"export/device/recorder.py"},
}
PURE = (
    "tasks",
    "state",
    "faults",
    "sensors",
    "frames",
    "rewards",
    "terrain",
    "objects",
    "options",
    "payload",
    "classic",
)
FORBIDDEN = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml", "ruamel"}
FILES = [path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def imported(path: Path, tree: ast.AST) -> Iterator[str]:
    """Every module that `tree`, the file at `path`, imports anywhere; for `from a import b` that is `a.b`."""
    package = path.parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = ast.unparse(node.func).split(".")[-1]
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def faults(path: Path, source: str) -> list[str]:
    """What the file at `path` (relative to the root) does against the plan."""
    tree, found = ast.parse(source), []
    room = "export.device" if path.parts[:2] == ("export", "device") else path.parts[0]
    below = BELOW[room] | ({"export.device"} if path == Path("envs/drivers.py") else set())
    for module in imported(path, tree):
        top = module.split(".")[0]
        if top in FORBIDDEN or module == "torch.load":
            found.append(f"uses {module}")
        if top in ENGINE and path.as_posix() not in ENGINE[top]:
            found.append(f"imports {module}: only {sorted(ENGINE[top])} may")
        if top in (*ROOMS, "tests"):
            if not any(within(module, package) for package in below):
                found.append(f"imports {module}: {room} may import {sorted(below)} only")
        elif top in LAZY and path.as_posix() in LAZY[top]:
            if any(isinstance(node, ast.Import | ast.ImportFrom) and top in ast.unparse(node) for node in tree.body):
                found.append(f"imports {module} at its top: a device may lack it")
        elif room in OUTSIDE and top not in OUTSIDE[room] | sys.stdlib_module_names:
            found.append(f"imports {module}: {room} may use {sorted(OUTSIDE[room])} only")
    names = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    aliases = {alias.asname: alias.name for alias in names if alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in ("eval", "exec"):
            found.append(f"uses {node.id}")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{aliases.get(node.value.id, node.value.id)}.{node.attr}"
            if name in ("torch.load", "builtins.eval", "builtins.exec"):
                found.append(f"uses {name}")
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            found.append("uses allow_pickle")
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_file_keeps_to_the_plan(path: Path):
    assert faults(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("robots/arms.py", "import scipy"),
        ("robots/arms.py", "from envs import tasks"),
        ("envs/arm.py", "def f():\n    import metarl.episodes"),
        ("envs/arm.py", "from export.device import Device"),
        ("envs/arm.py", "import pybullet"),
        ("envs/state.py", "import pybullet_data"),
        ("envs/robot_env.py", "def f():\n    import mujoco"),
        ("envs/mujoco_model.py", "import pybullet"),
        ("envs/world.py", "import mujoco"),
        ("envs/drivers.py", "import export.bundle"),
        ("envs/drivers.py", "from export import bundle"),
        ("metarl/trainer.py", "from scripts import train"),
        ("metarl/trainer.py", "import importlib\nimportlib.import_module('pybullet')"),
        ("export/bundle.py", "from metarl.networks import mlp"),
        ("export/bundle.py", "from envs.tasks import Task"),
        ("export/device/policy.py", "import torch"),
        ("export/device/policy.py", "def f():\n    import mcap"),
        ("export/device/recorder.py", "import mcap"),
        ("export/device/policy.py", "import gymnasium"),
        ("export/device/policy.py", "import onnx"),
        ("export/device/policy.py", "from export import graphs"),
        ("export/device/policy.py", "from .. import graphs"),
        ("export/device/policy.py", "from ..graphs import trace"),
        ("metarl/checkpoint.py", "import pickle"),
        ("metarl/checkpoint.py", "from torch import load"),
        ("metarl/checkpoint.py", "import torch\ntorch.load('x')"),
        ("metarl/checkpoint.py", "import torch as t\nt.load('x')"),
        ("metarl/checkpoint.py", "import numpy\nnumpy.load('x', allow_pickle=True)"),
        ("scripts/train.py", "import yaml"),
        ("scripts/train.py", "eval('1')"),
        ("scripts/train.py", "exec('1')"),
    ],
)
def test_a_breach_is_noticed(path: str, source: str):
    assert faults(Path(path), source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("robots/arms.py", "import math\nimport numpy as np\nfrom robots.spec import Array"),
        ("envs/drivers.py", "from export.device import Device\nfrom export.device.driver import Driver"),
        ("export/device/policy.py", "import onnxruntime\nfrom robots import interface\nfrom .bundle import load"),
        ("export/bundle.py", "from export import graphs\nfrom export.device.bundle import inspect"),
        ("metarl/trainer.py", "import torch\nimport envs\nfrom export.device import Device\nmodel.eval()"),
        ("scripts/train.py", "from metarl import trainer\nimport envs"),
    ],
)
def test_what_the_plan_allows_passes(path: str, source: str):
    assert faults(Path(path), source) == []


def loaded_by(module: str) -> set[str]:
    """Top-level names that a fresh interpreter loads for `import module`, beyond the standard library."""
    code = (
        "import sys; before = set(sys.modules)\n"
        f"import {module}\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split()) - sys.stdlib_module_names


def test_the_interface_loads_only_numpy():
    assert loaded_by("robots.interface") == {"numpy", "robots"}


def test_actions_load_only_numpy():
    assert loaded_by("robots.actions") == {"numpy", "robots"}


def test_what_is_pure_loads_no_engine():
    assert not loaded_by(", ".join(f"envs.{name}" for name in PURE)) & set(ENGINE)


def test_without_mujoco_nothing_else_misses_it():
    assert "mujoco" not in loaded_by("envs.robot_env, envs.arm, envs.legged, envs.drivers")


def test_the_device_loads_no_training_library():
    assert not loaded_by("export.device") & {"torch", "pybullet", "gymnasium", "onnx", "metarl", "envs"}


def test_a_sampling_worker_does_not_load_torch():
    assert "torch" not in loaded_by("metarl.sampling.worker")
