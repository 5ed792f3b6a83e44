"""What a bundle says of itself: the manifest as a value, and as strict JSON. No files, no graphs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from export.device.adapter import Field
from export.device.plan import Plan
from export.device.search import Search
from export.device.slots import Bounds
from export.device.strict import BundleError, fits, numbers, parse, positive, record
from robots.actions import KINDS as KINDS_OF_ACTION
from robots.interface import Interface
from robots.limits import Limits

T = TypeVar("T")
SCHEMA = 5
KINDS = ("guided", "attempts")
ACT_GOLDEN = ("observation", "mean", "log_std")
MEMORY_GOLDEN = ("observation", "feedback", "mean", "log_std", "memory_next")
ADAPT_GOLDEN = ("theta_next", "loss", "gradient_norm")


@dataclass(frozen=True)
class Collect:
    """How a batch comes about: so many episodes of so many control steps each.

    kind "guided": motions by hand, collected once and used for every step. "attempts": the policy explores, anew
    before every step. correlation: of the exploration noise from one control step to the next, 0 is white. cap: the
    most of it, in standard deviations.
    """

    kind: str
    episodes: int
    steps: int
    correlation: float = 0.0
    cap: float = 3.0


@dataclass(frozen=True)
class StepSizes:
    """The learned step sizes [count, parameters], per step their least, mean and greatest."""

    count: int
    beyond: str  # which step size serves after `count` steps: "last"
    minimum: tuple[float, ...]
    mean: tuple[float, ...]
    maximum: tuple[float, ...]


@dataclass(frozen=True)
class Recurrence:
    """The memory of a policy that adapts by living: `size` numbers, zeros where a trial starts.

    episodes: attempts of the trials it was trained on; the memory lasts over all attempts of a trial.
    """

    size: int
    reset: str  # when the memory is zeroed: "trial"
    episodes: int


@dataclass(frozen=True)
class Entry:
    """One file within the bundle: its size [bytes] and sha256 (hexadecimal)."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything about a bundle but its numbers.

    horizon: control steps of one attempt. parameters: length of theta. A policy adapts in one way at most: by
    gradient steps (batch, objective, collect, step_sizes), by memory, or by search; what belongs to the others is
    None, and batch empty. plan: when it adapts while it works, if it was trained for that. limits: of what reaches the
    motors. bounds: of what adaptation may change, None where parameters never change. provenance, evaluation: as the
    exporter was given them.
    """

    interface: Interface
    horizon: int
    learner: str
    objective: str | None
    parameters: int
    collect: Collect | None
    batch: tuple[Field, ...]
    step_sizes: StepSizes | None
    memory: Recurrence | None
    search: Search | None
    plan: Plan | None
    limits: Limits
    bounds: Bounds | None
    versions: dict[str, str]
    provenance: dict[str, Any]
    evaluation: dict[str, Any] | None
    entries: dict[str, Entry]

    @property
    def adapts(self) -> Literal["gradient", "memory", "search"] | None:
        """The way in which the policy adapts."""
        if self.batch:
            return "gradient"
        if self.memory is not None:
            return "memory"
        return None if self.search is None else "search"

    @property
    def steps(self) -> int:
        """Adaptation steps it was trained for: gradient steps, rounds of search, or attempts before the last one."""
        if self.step_sizes is not None:
            return self.step_sizes.count
        if self.memory is not None:
            return self.memory.episodes - 1
        return 0 if self.search is None else self.search.rounds

    @property
    def way(self) -> str:
        """`adapts` in words."""
        if self.memory is not None:
            return f"memory of {self.memory.size} numbers over {self.memory.episodes} attempts"
        if self.search is not None:
            tried = f"{self.search.tries} {'tries' if self.search.kind == 'climb' else 'pairs'}"
            return f"search ({self.search.kind}) by {tried} of {self.search.episodes} attempts in each round"
        return f"objective {self.objective or 'none'}"

    @property
    def suggestions(self) -> dict[str, Any]:
        """Options for a simulated robot: the environment that the policy was trained in, if the exporter told."""
        config = self.provenance.get("config")
        env = config.get("env") if isinstance(config, dict) else None
        return {"env": env} if isinstance(env, str) else {}

    def golden(self) -> dict[str, list[str]]:
        """Names of the golden vectors' files, for each graph."""
        names = MEMORY_GOLDEN if self.memory else ACT_GOLDEN
        files = {"act": [f"golden/act.{name}.npy" for name in names]}
        if self.batch:
            files["adapt"] = [f"golden/adapt.{name}.npy" for name in (*(f.name for f in self.batch), *ADAPT_GOLDEN)]
        return files

    def files(self) -> list[str]:
        """Names of all files that `entries` must list."""
        graphs = ["act.onnx", "adapt.onnx"] if self.batch else ["act.onnx"]
        return [*graphs, "theta.npy", *(name for names in self.golden().values() for name in names)]

    def to_json(self) -> bytes:
        values = {
            "schema": SCHEMA,
            "robot": self.interface.robot,
            "joints": _joints(self.interface),
            "control_hz": self.interface.control_hz,
            "interface": self.interface.to_dict(),
            "horizon": self.horizon,
            "learner": self.learner,
            "objective": self.objective,
            "parameters": self.parameters,
            "collect": self.collect and asdict(self.collect),
            "batch": [{"name": field.name, "dtype": "float32", "axes": field.axes} for field in self.batch],
            "step_sizes": self.step_sizes and asdict(self.step_sizes),
            "memory": self.memory and asdict(self.memory),
            "search": self.search and asdict(self.search),
            "plan": self.plan and asdict(self.plan),
            "limits": asdict(self.limits),
            "bounds": self.bounds and asdict(self.bounds),
            "golden": self.golden(),
            "versions": self.versions,
            "provenance": self.provenance,
            "evaluation": self.evaluation,
            "entries": {name: asdict(entry) for name, entry in self.entries.items()},
        }
        return json.dumps(values, indent=1, allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Reverses `to_json`. Raises BundleError naming the first thing that is not as it must be."""
        values = parse(data, "manifest.json")
        found = values.get("schema") if isinstance(values, dict) else None
        if type(found) is not int or found != SCHEMA:
            raise BundleError(
                f"manifest.json has schema {found!r}, expected {SCHEMA}; install the version that wrote the bundle, "
                "or export it again with this one"
            )
        text, optional = (str,), (dict, type(None))
        values = record(
            values,
            "manifest",
            schema=int,
            robot=str,
            joints=list,
            control_hz=int,
            interface=dict,
            horizon=int,
            learner=str,
            objective=(str, type(None)),
            parameters=int,
            collect=optional,
            batch=list,
            step_sizes=optional,
            memory=optional,
            search=optional,
            plan=optional,
            limits=dict,
            bounds=optional,
            golden=dict,
            versions=dict,
            provenance=dict,
            evaluation=optional,
            entries=dict,
        )
        record(values["versions"], "manifest.versions", **dict.fromkeys(values["versions"], text))
        manifest = cls(
            interface=_interface(values["interface"]),
            horizon=positive(values["horizon"], "manifest.horizon"),
            learner=values["learner"],
            objective=values["objective"],
            parameters=positive(values["parameters"], "manifest.parameters"),
            collect=_collect(values["collect"]),
            batch=tuple(_field(entry) for entry in values["batch"]),
            step_sizes=_step_sizes(values["step_sizes"]),
            memory=_memory(values["memory"]),
            search=_search(values["search"]),
            plan=values["plan"] and _made(values["plan"], Plan, "manifest.plan"),
            limits=_made(values["limits"], Limits, "manifest.limits"),
            bounds=values["bounds"] and _made(values["bounds"], Bounds, "manifest.bounds"),
            versions=values["versions"],
            provenance=values["provenance"],
            evaluation=values["evaluation"],
            entries={name: _entry(name, entry) for name, entry in values["entries"].items()},
        )
        manifest._check(values)
        return manifest

    def _check(self, values: Mapping[str, Any]) -> None:
        """What the manifest says in two places must agree."""
        interface = self.interface
        for key, found, expected in (
            ("robot", values["robot"], interface.robot),
            ("joints", values["joints"], _joints(interface)),
            ("control_hz", values["control_hz"], interface.control_hz),
            ("golden", values["golden"], self.golden()),
            ("entries", sorted(self.entries), sorted(self.files())),
        ):
            if found != expected:
                raise BundleError(
                    f"manifest.{key} is {found}, expected {expected} from the rest of the manifest; "
                    "export the bundle again"
                )
        adapts = bool(self.batch)
        if {value is not None for value in (self.objective, self.collect, self.step_sizes)} != {adapts}:
            raise BundleError(
                f"manifest has {len(self.batch)} batch fields, objective {self.objective!r}, collect {self.collect} "
                "and step_sizes, expected all of them or none; export the bundle again"
            )
        if len(self.limits.lower) != len(interface.joints):
            raise BundleError(
                f"manifest.limits are of {len(self.limits.lower)} joints, expected {len(interface.joints)} as in the "
                "interface; export the bundle again"
            )
        ways = {"batch": adapts, "memory": self.memory is not None, "search": self.search is not None}
        if sum(ways.values()) > 1:
            raise BundleError(
                f"manifest has {' and '.join(name for name, found in ways.items() if found)}, expected one of them at "
                "most: a policy adapts in one way; export the bundle again"
            )
        if self.plan is not None and self.objective != "prediction":
            raise BundleError(
                f"manifest has a plan and the objective {self.objective!r}, expected 'prediction': nothing else is "
                "there while a robot works; export the bundle again"
            )
        changes = adapts or self.search is not None
        if changes != (self.bounds is not None):
            raise BundleError(
                f"manifest.bounds is {self.bounds}, expected {'some' if changes else 'none'}: parameters "
                f"{'change' if changes else 'never change'}; export the bundle again"
            )


def _joints(interface: Interface) -> list[dict[str, Any]]:
    limits = zip(interface.joints, interface.action.lower, interface.action.upper, strict=True)
    return [{"name": name, "unit": "rad", "lower": lower, "upper": upper} for name, lower, upper in limits]


def _interface(value: dict[str, Any]) -> Interface:
    record(value, "manifest.interface", robot=str, joints=list, control_hz=int, observation=list, action=dict)
    positive(value["control_hz"], "manifest.interface.control_hz")
    if not value["joints"] or any(type(name) is not str for name in value["joints"]):
        raise BundleError(f"manifest.interface.joints is {value['joints']}, expected names; export the bundle again")
    for index, term in enumerate(value["observation"]):
        where = f"manifest.interface.observation[{index}]"
        record(term, where, name=str, unit=str, frame=str, offset=list, scale=list)
        numbers(term["offset"], f"{where}.offset")
        numbers(term["scale"], f"{where}.scale")
    _action(value["action"])
    try:
        return Interface.from_dict(value)
    except (ValueError, TypeError) as error:
        raise BundleError(f"manifest.interface: {error}; export the bundle again") from error


def _action(value: dict[str, Any]) -> None:
    """Keys and JSON types of an action's dataclass; what its values may be, it checks itself."""
    where, values = "manifest.interface.action", dict(value)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS_OF_ACTION:
        raise BundleError(f"{where}.kind is {kind!r}, expected one of {sorted(KINDS_OF_ACTION)}; update the device")
    fits(values, KINDS_OF_ACTION[kind], where)


def _collect(value: dict[str, Any] | None) -> Collect | None:
    if value is None:
        return None
    fits(value, Collect, "manifest.collect")
    if value["kind"] not in KINDS:
        raise BundleError(
            f"manifest.collect.kind is {value['kind']!r}, expected one of {KINDS}; export the bundle again"
        )
    positive(value["episodes"], "manifest.collect.episodes")
    positive(value["steps"], "manifest.collect.steps")
    if not (0 <= value["correlation"] < 1 and 0 < value["cap"] <= 10):
        raise BundleError(
            f"manifest.collect has correlation {value['correlation']} and cap {value['cap']}, expected one in [0, 1) "
            "and one in (0, 10]; export the bundle again"
        )
    return Collect(**value)


def _field(value: Any) -> Field:
    record(value, "manifest.batch[]", name=str, dtype=str, axes=list)
    if value["dtype"] != "float32" or any(type(axis) not in (str, int) for axis in value["axes"]):
        raise BundleError(
            f"manifest.batch field {value['name']!r} has dtype {value['dtype']!r} and axes {value['axes']}, expected "
            "'float32' and names or sizes; export the bundle again"
        )
    return Field(value["name"], tuple(value["axes"]))


def _step_sizes(value: dict[str, Any] | None) -> StepSizes | None:
    if value is None:
        return None
    record(value, "manifest.step_sizes", count=int, beyond=str, minimum=list, mean=list, maximum=list)
    positive(value["count"], "manifest.step_sizes.count")
    parts = {key: numbers(value[key], f"manifest.step_sizes.{key}") for key in ("minimum", "mean", "maximum")}
    lengths = {len(part) for part in parts.values()}
    if lengths != {value["count"]} or value["beyond"] != "last":
        raise BundleError(
            f"manifest.step_sizes has count {value['count']}, beyond {value['beyond']!r} and figures for {lengths} "
            "steps, expected 'last' and one figure for each step; export the bundle again"
        )
    return StepSizes(count=value["count"], beyond=value["beyond"], **parts)


def _memory(value: dict[str, Any] | None) -> Recurrence | None:
    if value is None:
        return None
    record(value, "manifest.memory", size=int, reset=str, episodes=int)
    positive(value["size"], "manifest.memory.size")
    positive(value["episodes"], "manifest.memory.episodes")
    if value["reset"] != "trial":
        raise BundleError(f"manifest.memory.reset is {value['reset']!r}, expected 'trial'; export the bundle again")
    return Recurrence(**value)


def _search(value: dict[str, Any] | None) -> Search | None:
    if value is None:
        return None
    real = (int, float)
    record(value, "manifest.search", kind=str, sigma=real, rate=real, tries=int, episodes=int, rounds=int)
    try:
        return Search(**value | {"sigma": float(value["sigma"]), "rate": float(value["rate"])})
    except ValueError as error:
        raise BundleError(f"manifest.search: {error}; export the bundle again") from error


def _made(value: dict[str, Any], kind: type[T], where: str) -> T:
    """A dataclass of numbers and tuples of them, which checks itself what its values may be."""
    fits(value, kind, where)
    try:
        return kind(**{key: tuple(part) if isinstance(part, list) else part for key, part in value.items()})
    except ValueError as error:
        raise BundleError(f"{where}: {error}; export the bundle again") from error


def _entry(name: str, value: Any) -> Entry:
    record(value, f"manifest.entries[{name!r}]", size=int, sha256=str)
    return Entry(**value)
