"""What a training run is made of: plain values with defaults that work, saved as JSON beside every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

OBJECTIVES = ("demonstration", "reward", "prediction")
APPLIES = {  # which objectives each learner can learn by, and what stands in the way of the others
    "maml": OBJECTIVES,
    "fomaml": OBJECTIVES,
    "metasgd": OBJECTIVES,
    "promp": ("reward", "prediction"),  # its outer loss is a clipped ratio of action probabilities
    "cavia": OBJECTIVES,
    "reptile": ("demonstration", "reward"),  # it has no outer loss that would tell a policy what to predict for
    "es_maml": ("reward",),  # it sees returns alone
    "belief": ("prediction",),  # its policy is made already; it learns what its robot's motion says of the task
    "rma": ("prediction",),
    "rl2": ("reward",),  # memory learners are told the reward, step by step
    "mann": ("reward",),
    "snail": ("reward",),
}


MEMORY = ("rl2", "mann", "snail")
ONLINE = ("belief", "rma")  # adapt while they act, in training too


@dataclass(frozen=True)
class Config:
    """One run. `default` has the defaults of each learner and objective.

    env, options: id, and fields of its job. start: a folder with a policy to begin with, as scripts/learn.py writes it.
    iterations: outer steps. hidden, activation: of the policy's layers; a memory learner's first width is that of its
    memory and the layers around it, and the others are those of the policy below it, where there is a `start`. tasks:
    per iteration. episodes: per task and inner step; for memory learners, of a trial; of each candidate for es_maml.
    query: per task, for the outer loss. inner_steps: K; for es_maml, rounds of its search. learning_rate: of the outer
    Adam, or Reptile's epsilon; it falls by a cosine to a fiftieth. step_size: of the first inner step; step_decay: of
    each further one, trained or not, over the one before. metasgd starts there and learns one per step and parameter at
    step_size_rate. every_step: the outer loss is the mean of those after each inner step, not the last one's alone.

    By demonstration: passes, how often the motions are learned from; the first pass alone simulates any.
    By reward: discount; passes, how often an outer step reuses its data; clip, PPO's of the ratio; divergence, the
    largest mean KL [nat] by which an outer step may move the policy, before or after adaptation.
    context: length of cavia's, belief's and rma's. Memory learners: gae_lambda, entropy (its bonus), recall (weight of
    telling rewards from memory, see metarl/recall.py), batches (of trials, in a pass), slots (mann's). belief and rma
    act by PPO: learning_rate (at first), discount, passes, clip, gae_lambda, batches (of steps, in a pass), divergence
    (that ends the passes). es_maml: sigma (of perturbations), tries (candidates of a round), climb (or estimate a
    gradient).
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
    learner: str = "maml"
    options: Mapping[str, Any] = field(default_factory=dict)
    activation: Literal["tanh", "relu"] = "tanh"
    step_decay: float = 1.0
    step_size_rate: float = 5e-3
    every_step: bool = False
    start: str | None = None
    discount: float = 0.95
    passes: int = 1
    clip: float = 0.2
    divergence: float = 0.03
    context: int = 8
    gae_lambda: float = 0.9
    entropy: float = 0.0
    recall: float = 0.0
    batches: int = 1
    slots: int = 16
    sigma: float = 0.1
    tries: int = 4
    climb: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.learner not in APPLIES:
            raise ValueError(f"learner {self.learner!r} is unknown, expected one of {sorted(APPLIES)}")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective {self.objective!r} is unknown, expected one of {OBJECTIVES}")
        if self.objective not in APPLIES[self.learner]:
            others = [name for name, objectives in APPLIES.items() if self.objective in objectives]
            raise ValueError(
                f"learner {self.learner!r} cannot learn by objective {self.objective!r}, expected one of "
                f"{APPLIES[self.learner]}; or use one of {others}, which can"
            )
        counts = ("iterations", "tasks", "episodes", "query", "inner_steps", "passes", "context", "batches", "slots")
        for name in (*counts, "tries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        judged = self.objective == "reward" and APPLIES[self.learner] != ("reward",)
        if judged and min(self.episodes, self.query) < 2:
            raise ValueError(
                f"episodes is {self.episodes} and query {self.query}, expected 2 or more: by reward, an attempt is "
                "judged against the others"
            )
        for name in ("learning_rate", "step_size", "step_decay", "step_size_rate", "clip", "divergence", "sigma"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}, expected a positive number")
        for name in ("discount", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a share in [0, 1]")
        for name in ("entropy", "recall"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")
        if self.learner in MEMORY and not self.hidden:
            raise ValueError(f"hidden is (), expected a width at least for the memory of {self.learner!r}")
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {self.hidden}, expected widths of 1 or more")
        if self.activation not in ("tanh", "relu"):
            raise ValueError(f"activation is {self.activation!r}, expected 'tanh' or 'relu'")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")

    @property
    def episodes_per_iteration(self) -> int:
        """How many an outer step costs."""
        if self.learner in (*MEMORY, *ONLINE):
            return self.tasks * self.episodes
        if self.learner == "es_maml":
            each = self.tries + 1 if self.climb else 2 * self.tries
            return 2 * self.tasks * (self.inner_steps * each * self.episodes + self.query)
        rounds = 1 if self.objective == "demonstration" else self.inner_steps
        return self.tasks * (rounds * self.episodes + self.query)

    @property
    def fresh(self) -> int:
        """Iterations that simulate anything."""
        return -(-self.iterations // self.passes) if self.objective == "demonstration" else self.iterations

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Raises TypeError for unknown or missing keys."""
        return cls(**{**tuples(values), "options": tuples(values["options"])})


def tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """A job's fields as they were before JSON."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


_BY_DEMONSTRATION = Config(
    env="metarl/PandaReach-v0",
    objective="demonstration",
    learner="metasgd",
    iterations=1400,
    hidden=(128, 128),
    tasks=25,
    episodes=5,
    query=5,
    inner_steps=3,
    learning_rate=4e-3,
    step_size=0.05,
    step_size_rate=2e-2,
)
_BY_REWARD = Config(
    env="metarl/PandaSeek-v0",
    objective="reward",
    learner="metasgd",
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
)
DEFAULTS = {
    "demonstration": _BY_DEMONSTRATION,
    "reward": _BY_REWARD,
    "prediction": replace(_BY_REWARD, objective="prediction"),
}
_MEMORY: dict[str, Any] = {"hidden": (64,), "tasks": 64, "episodes": 5, "iterations": 300, "passes": 4, "batches": 4}
_ONLINE: dict[str, Any] = {
    "env": "metarl/A1Field-v0",
    "hidden": (128, 128),
    "tasks": 25,
    "episodes": 1,
    "query": 1,
    "iterations": 450,
    "passes": 8,
    "batches": 10,
    "discount": 0.98,
    "gae_lambda": 0.95,
    "divergence": 0.3,
    "context": 64,
    "learning_rate": 5e-4,
    "step_size": 10.0,
}
_OWN: dict[str, dict[str, Any]] = {
    "cavia": {"step_size": 1.0},
    "reptile": {"learning_rate": 0.5, "step_size": 1e-2, "inner_steps": 4},
    "es_maml": {"learning_rate": 1e-2, "hidden": (16,), "episodes": 1, "query": 1, "inner_steps": 1},
    "belief": {**_ONLINE, "inner_steps": 3},
    "rma": {**_ONLINE, "inner_steps": 1},
    "rl2": _MEMORY,
    "mann": _MEMORY,
    "snail": {**_MEMORY, "hidden": (32,)},
}


def default(learner: str | None = None, objective: str | None = None) -> Config:
    """The settings of a learner by an objective; what is not named is chosen to go with the other.

    Raises ValueError for a pair that cannot work.
    """
    if objective is None:
        objective = APPLIES.get(learner or "metasgd", OBJECTIVES)[0]
    base = DEFAULTS.get(objective, _BY_REWARD)
    learner = learner or base.learner
    return replace(base, **{"learner": learner, "objective": objective, **_OWN.get(learner, {})})
