"""What the tests of learning share: padded batches out of thin air, tiny configurations, and runs trained once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.checkpoint import Run
from metarl.config import MEMORY, Config, default
from metarl.episodes import Episodes
from metarl.trainer import train

torch.set_num_threads(1)

MakeBatch = Callable[..., dict[str, Tensor]]
MakeEpisodes = Callable[..., Episodes]
Tiny = Callable[..., Config]


@pytest.fixture(scope="session")
def make_batch() -> MakeBatch:
    """A task's batch of random numbers in float64, episodes of the given lengths padded with zeros."""

    def batch(seed: int = 0, lengths: Sequence[int] = (5, 3, 4), observation: int = 3, action: int = 2) -> Any:
        generator = torch.Generator().manual_seed(seed)
        shape = (len(lengths), max(lengths))
        mask = (torch.arange(shape[1]) < torch.tensor(lengths)[:, None]).double()
        sizes = {"observation": (observation,), "action": (action,), "reward": ()}
        fields = {
            name: torch.randn(*shape, *size, generator=generator, dtype=torch.float64) for name, size in sizes.items()
        }
        masked = {name: value * mask.reshape(*shape, *[1] * (value.ndim - 2)) for name, value in fields.items()}
        return {**masked, "mask": mask}

    return batch


@pytest.fixture(scope="session")
def make_episodes() -> MakeEpisodes:
    """Episodes of random numbers with fields [*shape, ...], everything lived."""

    def episodes(seed: int, *shape: int, observation: int = 3, action: int = 2) -> Episodes:
        rng = np.random.default_rng(seed)
        sizes = {"observation": (observation,), "action": (action,), "reward": (), "error": ()}
        fields = {name: rng.standard_normal((*shape, *size), np.float32) for name, size in sizes.items()}
        return Episodes(**fields, mask=np.ones(shape, np.float32))

    return episodes


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """The smallest sensible run of an objective, and a learner if one is named, with some settings changed."""

    def config(objective: str, learner: str | None = None, **changes: Any) -> Config:
        small: dict[str, Any] = {"iterations": 3, "hidden": (16,), "tasks": 2}
        by_reward = {"episodes": 3, "query": 3, "inner_steps": 1, "passes": 2}
        small |= {"episodes": 2, "query": 2} if objective == "demonstration" else by_reward
        if learner == "es_maml":
            small |= {"hidden": (4,), "episodes": 1, "query": 1, "tries": 2}
        elif learner in MEMORY:
            small |= {"hidden": (8,), "episodes": 2, "batches": 2}
        return replace(default(learner, objective), **{**small, **changes})

    return config


@pytest.fixture(scope="session")
def trained(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The tiny run of an objective, trained in this process; not to be written to."""
    runs: dict[str, Run] = {}

    def run(objective: str) -> Run:
        if objective not in runs:
            folder: Path = tmp_path_factory.mktemp(objective) / "run"
            runs[objective] = train(tiny(objective), folder, workers=0)
        return runs[objective]

    return run
