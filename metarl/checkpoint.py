"""The run folder: config, checkpoints and curve. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.optim import Optimizer

from metarl.config import Config
from metarl.files import write_atomic, write_json

KEEP = 3  # checkpoints


def optimizer_state(optimizer: Optimizer, prefix: str) -> dict[str, Tensor]:
    """The optimizer's moments as named tensors; `load_optimizer` reverses it."""
    moments = optimizer.state_dict()["state"].items()
    return {f"{prefix}.{index}.{name}": value for index, state in moments for name, value in state.items()}


def load_optimizer(optimizer: Optimizer, state: Mapping[str, Tensor], prefix: str) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith(f"{prefix}."):
            index, moment = name.removeprefix(f"{prefix}.").split(".")
            moments.setdefault(int(index), {})[moment] = value.clone()
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})


def load_theta(folder: Path) -> NDArray[np.float32]:
    """The policy's parameters [P] in a folder that scripts/learn.py wrote. Raises ValueError if there are none."""
    try:
        return load((folder / "theta.safetensors").read_bytes())["theta"].numpy()
    except (OSError, SafetensorError, KeyError) as error:
        raise ValueError(f"{folder} holds no learned policy ({error}); make one with scripts/learn.py") from error


class Run:
    """A run folder that exists. Raises ValueError if it is not one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        file = path / "config.json"
        try:
            self.config = Config.from_dict(json.loads(file.read_text()))
        except FileNotFoundError:
            found = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else "nothing"
            raise ValueError(
                f"{path} is not a run folder: found {found}, expected config.json; make one with scripts/train.py"
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{file} is not a run's configuration: {error}; train again into a new folder") from error

    @classmethod
    def create(cls, path: Path, config: Config) -> Run:
        """A new run folder. Raises ValueError if something is there already."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ValueError(f"{path} exists already; add --resume to go on with it, or choose another folder")
        write_json(path / "config.json", config.to_dict())
        return cls(path)

    @property
    def iteration(self) -> int:
        """Iterations done at the newest checkpoint; 0 without one."""
        file = self.path / "checkpoints" / "latest.json"
        try:
            return int(json.loads(file.read_text())["iteration"])
        except FileNotFoundError:
            return 0
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(file, error) from error

    def save(self, iteration: int, state: Mapping[str, Tensor], curve: Sequence[Mapping[str, float]]) -> None:
        """Write a checkpoint, then name it the newest; older ones beyond KEEP go."""
        folder = self.path / "checkpoints"
        name = f"{iteration:06d}.safetensors"
        write_atomic(folder / name, save({key: value.contiguous() for key, value in state.items()}))
        write_json(self.path / "curve.json", list(curve))
        write_json(folder / "latest.json", {"file": name, "iteration": iteration})
        for old in sorted(folder.glob("*.safetensors"))[:-KEEP]:
            old.unlink()

    def load(self) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
        """State and curve at the newest checkpoint. Raises ValueError if there is none or it is damaged."""
        if not self.iteration:
            raise ValueError(f"{self.path} has no checkpoint yet; train it with scripts/train.py --resume")
        file = self.path / "checkpoints" / f"{self.iteration:06d}.safetensors"
        try:
            state = load(file.read_bytes())
        except (OSError, SafetensorError) as error:
            raise _damaged(file, error) from error
        file = self.path / "curve.json"
        try:
            curve = [entry for entry in json.loads(file.read_text()) if entry["iteration"] <= self.iteration]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _damaged(file, error) from error
        return state, curve


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} cannot be read ({type(error).__name__}: {error}); train again into a new folder")
