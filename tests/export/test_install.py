"""A real device: an environment with the base install alone adapts robots that live in another process, over UDP."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from metarl.checkpoint import Run
from metarl.config import default
from metarl.pack import pack
from metarl.trainer import train

ROOT = Path(__file__).parents[2]
ABSENT = ("torch", "pybullet", "gymnasium", "onnx", "mujoco", "cryptography", "mcap")
PLAIN = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV", "PYTEST"))}


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of a fresh environment with `pip install .`, and nothing of this checkout on its path."""
    folder = tmp_path_factory.mktemp("device")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    made = folder / "venv" / "bin" / "python"
    install = [made, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT)]
    subprocess.run(install, check=True, capture_output=True, cwd=folder)
    return made


def device(python: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(python), *map(str, arguments)]
    return subprocess.run(
        command, cwd=python.parent, env=PLAIN, capture_output=True, text=True, check=False, timeout=300
    )


@contextmanager
def robot(env: str, seed: int) -> Iterator[str]:
    """A simulated robot in a held-out world behind a port, in a process of its own with everything installed."""
    command = [sys.executable, "-m", "export.device.udp", "--driver", "pybullet", "--port", "0"]
    command += ["--option", f"env={env}", "--option", f"seed={seed}"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(server.stdout.readline, "")
        yield next(line.split()[-1] for line in lines if line.startswith("listening at"))
    finally:
        server.kill()
        server.wait()


def exported(folder: Path, **changes: object) -> Path:
    config = replace(default(changes.pop("learner"), changes.pop("objective")), **changes)
    train(config, folder / "run", 0, False, Console(quiet=True))
    pack(Run(folder / "run"), folder / "bundle.zip")
    return folder / "bundle.zip"


def returns(output: str) -> list[float]:
    return [float(found) for found in re.findall(r"^after \d+ \w+: return (\S+)", output, re.MULTILINE)]


def test_nothing_but_the_base_is_there(python):
    code = f"""
import importlib.util, sys
from pathlib import Path
from export.device import Device
assert not [name for name in {ABSENT} if importlib.util.find_spec(name)]
lines = Path("/proc/self/status").read_text().splitlines()
resident = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
size = sum(file.stat().st_size for file in Path(sys.prefix).rglob("*") if file.is_file() and "pip" not in file.parts)
print(f"{{size / 2**20:.0f}} MB installed beside pip, {{resident:.0f}} MB resident")
assert resident < 120
"""
    done = device(python, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    print(f"\n{done.stdout}")


def test_an_arm_in_another_process_adapts(python, tmp_path):
    bundle = exported(tmp_path, learner="metasgd", objective="demonstration", iterations=40)
    with robot("metarl/PandaReach-v0", seed=1) as address:
        done = device(
            python, "-m", "export.device", bundle, "--driver", f"udp:{address}", "--state", tmp_path / "state"
        )
    assert (done.returncode, done.stderr) == (0, "")
    found = returns(done.stdout)
    print(f"\nPanda, returns after each step that was tried: {found}")
    assert "step 1 kept" in done.stdout
    assert max(found[1:]) > 0.75 * found[0]  # of a negative return: a quarter of what was missing is gained
    assert (tmp_path / "state").exists()


def test_a_walker_in_another_process_adapts(python, tmp_path):
    """A bare gait that rough ground stops: a gradient estimated from 80 attempts makes it walk, in this world."""
    bundle = exported(
        tmp_path, learner="es_maml", objective="reward", env="metarl/A1Uneven-v0", hidden=(), tasks=1, iterations=1,
        sigma=0.1, tries=40, step_size=0.002,
    )  # fmt: skip
    with robot("metarl/A1Uneven-v0", seed=4) as address:
        done = device(
            python, "-m", "export.device", bundle, "--driver", f"udp:{address}", "--steps", 2, "--attempts", 8
        )
    assert (done.returncode, done.stderr) == (0, "")
    found = returns(done.stdout)
    print(f"\nA1, returns after each step that was tried: {found}")
    assert re.search(r"^round \d kept", done.stdout, re.MULTILINE)
    assert max(found[1:]) > found[0] + 20


def test_another_robots_bundle_is_refused_naming_both(python, tmp_path):
    bundle = exported(tmp_path, learner="metasgd", objective="demonstration", iterations=1)
    with robot("metarl/XArm6Reach-v0", seed=0) as address:
        done = device(python, "-m", "export.device", bundle, "--driver", f"udp:{address}")
    assert done.returncode == 2
    assert "the driver's robot is 'xarm6', expected 'panda'" in done.stderr
