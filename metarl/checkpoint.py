"""The run folder: config, checkpoints and curve. No pickle."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
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
LOCK = ".lock"
log = logging.getLogger(__name__)


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
        self._told: set[Path] = set()  # damage that was told already
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
        """A new run folder. Raises ValueError if something is there already, OSError if it cannot be written."""
        taken = f"{path} exists already; add --resume to go on with it, or choose another folder"
        # Names with a dot: a trainer's that was killed before it had written its configuration.
        if path.exists() and (not path.is_dir() or any(entry.name[0] != "." for entry in path.iterdir())):
            raise ValueError(taken)
        with locked(path):
            if (path / "config.json").exists():
                raise ValueError(taken)
            write_json(path / "config.json", config.to_dict())
        return cls(path)

    @property
    def iteration(self) -> int:
        """Iterations done at the newest checkpoint that can be read; 0 without any checkpoint."""
        found = self._newest()
        return found[0] if found else 0

    def save(self, iteration: int, state: Mapping[str, Tensor], curve: Sequence[Mapping[str, float]]) -> None:
        """Write a checkpoint, then name it the newest; older ones beyond KEEP go, and any of a later iteration.

        Raises OSError if it cannot be written; the one before stays the newest then.
        """
        folder = self.path / "checkpoints"
        name = f"{iteration:06d}.safetensors"
        data = save({key: value.contiguous() for key, value in state.items()})
        write_atomic(folder / name, data)
        write_json(self.path / "curve.json", list(curve))
        kept = sorted(file.name for file in folder.glob("*.safetensors") if file.name <= name)[-KEEP:]
        sums = {**self._sums(), name: sha256(data).hexdigest()}
        sums = {key: sums[key] for key in kept if key in sums}
        write_json(folder / "latest.json", {"file": name, "iteration": iteration, "sha256": sums})
        for file in folder.glob("*.safetensors"):
            if file.name not in kept:
                file.unlink()

    def load(self) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
        """State and curve at the newest checkpoint that can be read.

        Raises ValueError if there is no checkpoint, or if all of them, or the curve, are damaged.
        """
        found = self._newest()
        if found is None:
            raise ValueError(f"{self.path} has no checkpoint yet; train it with scripts/train.py --resume")
        iteration, state = found
        file = self.path / "curve.json"
        try:
            curve = [entry for entry in json.loads(file.read_text()) if entry["iteration"] <= iteration]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _damaged(file, error) from error
        return state, curve

    def _newest(self) -> tuple[int, dict[str, Tensor]] | None:
        """The newest checkpoint that is whole; what it is chosen over is told once. None if there was never any.

        Raises ValueError if there are checkpoints but none is whole.
        """
        folder, sums = self.path / "checkpoints", self._sums()
        if not (folder / "latest.json").exists():
            return None
        names = sorted((file.name for file in folder.glob("*.safetensors")), reverse=True)
        if sums:  # a file that is named nowhere was being written when its trainer ended
            names = [name for name in names if name <= max(sums)]
            names = sorted({*names, max(sums)}, reverse=True)
        first: ValueError | None = None
        for name in names:
            file = folder / name
            try:
                data = file.read_bytes()
                if sums.get(name) not in (None, sha256(data).hexdigest()):
                    raise ValueError("its checksum differs from the one in latest.json")
                state = load(data)
            except (OSError, ValueError, SafetensorError) as error:
                first = first or _damaged(file, error)
                continue
            if first and file not in self._told:
                log.warning("%s, or go on: the one before it, %s, is whole and serves instead", first, file.name)
                self._told.add(file)
            return int(file.stem), state
        if first:
            raise first
        return None

    def _sums(self) -> dict[str, str | None]:
        """Checksums of checkpoints by name, as far as latest.json knows them; empty without a readable one."""
        file = self.path / "checkpoints" / "latest.json"
        try:
            told = json.loads(file.read_text())
            return {str(told["file"]): None, **told.get("sha256", {})}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            if file not in self._told:
                log.warning("%s cannot be read (%s); the newest whole checkpoint serves", file, error)
                self._told.add(file)
            return {}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have the run folder `path` to oneself, and clear away what a killed trainer had half written.

    The lock ends with the process, however that ends. Raises ValueError if another trainer has it, OSError if the
    folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / LOCK).open("a")
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error}); mend that, or choose another folder") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another trainer is at work in {path}; wait for it, stop it, or choose another folder"
            ) from None
        for folder in (path, path / "checkpoints"):
            for left in folder.glob(".*.[0-9]*"):
                left.unlink()
        yield


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} cannot be read ({type(error).__name__}: {error}); train again into a new folder")
