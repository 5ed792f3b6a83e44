"""What a training run is made of: plain values with defaults that work, saved as JSON beside every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Config:
    """One run. The defaults of each objective are in DEFAULTS.

    iterations: outer steps. hidden: widths of the policy's layers. tasks: per iteration. episodes: per task and
    inner step. query: per task, for the outer loss. inner_steps: K. learning_rate: of the outer Adam. step_size: the
    inner step size at first, then learned per step and parameter at step_size_rate; both rates fall by a cosine to a
    fiftieth. passes, clip, divergence: for `reward`, how often an outer step reuses its data, PPO's clip of
    the ratio, and the largest mean KL [nat] by which an outer step may move the policy, before or after
    adaptation. first_order: drop second derivatives (FOMAML).
    """

    env: str
    objective: str
    iterations: int
    hidden: tuple[int, ...]
    tasks: int
    episodes: int
    query: int
    inner_steps: int
    learning_rate: float
    step_size: float
    step_size_rate: float
    learner: str = "maml"
    passes: int = 1
    clip: float = 0.2
    divergence: float = 0.03
    first_order: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "tasks", "episodes", "query", "inner_steps", "passes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.objective == "reward" and min(self.episodes, self.query) < 2:
            raise ValueError(
                f"episodes is {self.episodes} and query {self.query}, expected 2 or more: by reward, an attempt is "
                "judged against the others"
            )
        for name in ("learning_rate", "step_size", "step_size_rate", "clip", "divergence"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}, expected a positive number")
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {self.hidden}, expected widths of 1 or more")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Raises TypeError for unknown or missing keys."""
        return cls(**{**values, "hidden": tuple(values["hidden"])})


DEFAULTS = {
    "demonstration": Config(
        env="metarl/PandaReach-v0",
        objective="demonstration",
        iterations=1400,
        hidden=(128, 128),
        tasks=25,
        episodes=5,
        query=5,
        inner_steps=3,
        learning_rate=4e-3,
        step_size=0.05,
        step_size_rate=2e-2,
    ),
    "reward": Config(
        env="metarl/PandaSeek-v0",
        objective="reward",
        iterations=80,
        hidden=(64, 64),
        tasks=20,
        episodes=20,
        query=20,
        inner_steps=2,
        learning_rate=1e-3,
        step_size=0.1,
        step_size_rate=5e-3,
        passes=5,
    ),
}
