"""Things that an arm may move: shapes, sizes, and how a task names them. Pure; no engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

from envs.frames import Quaternion, turned
from envs.tasks import Choice, Parameter
from robots.spec import Vector3

KINDS = ("box", "cylinder", "sphere", "capsule", "mesh")
BIGGEST = 0.1  # [m], of any edge


@dataclass(frozen=True)
class Thing:
    """A rigid object.

    shape: "box", "cylinder", "sphere", "capsule" (both round ones along z) or "mesh". size: full extents [m]. path: of
    a mesh, its URDF as PyBullet resolves it, loaded at `scale`; offset: of its frame above the middle of its height
    [m]. rolls: whether it meets friction against rolling and spinning, which takes the engine as long as the rest.
    """

    name: str
    shape: str
    size: Vector3
    path: str = ""
    scale: float = 1.0
    offset: float = 0.0
    rolls: bool = True

    @property
    def rest(self) -> float:
        """Height of its frame while it stands on the ground [m]; a capsule lies."""
        return (self.size[0] if self.shape == "capsule" else self.size[2]) / 2 + self.offset

    @property
    def radius(self) -> float:
        """Of the circle around it, seen from above while it stands [m]."""
        x, y, z = self.size
        if self.shape == "capsule":
            return z / 2
        return max(x, y) / 2 if self.shape != "box" else (x * x + y * y) ** 0.5 / 2

    def standing(self, x: float, y: float, yaw: float) -> tuple[Vector3, Quaternion]:
        """Its pose on the ground, its longest horizontal edge turned by `yaw` [rad] from the x axis."""
        if self.shape == "capsule":
            return (x, y, self.rest), turned(0.0, pi / 2, yaw)
        across = pi / 2 if self.size[1] > self.size[0] else 0.0
        return (x, y, self.rest), turned(0.0, 0.0, yaw + across)

    @property
    def features(self) -> tuple[float, ...]:
        """Its kind, one-hot, and its size: 8 numbers in [-1, 1]."""
        kind = (1.0 if self.shape == kind else -1.0 for kind in KINDS)
        return (*kind, *(2 * edge / BIGGEST - 1 for edge in self.size))


def _mesh(index: int, scale: float, size: Vector3, offset: float) -> Thing:
    number = f"{index:03d}"
    return Thing(f"mesh_{number}", "mesh", size, f"random_urdfs/{number}/{number}.urdf", scale, offset)


PUCK = Thing("puck", "cylinder", (0.06, 0.06, 0.03), rolls=False)
# All fit a hand that opens by 8 cm, and stand. Of PyBullet's thousand random meshes, those from 900 on are held out.
HELDOUT = 900
POOL = (
    Thing("box", "box", (0.05, 0.05, 0.05), rolls=False),
    Thing("brick", "box", (0.08, 0.04, 0.04), rolls=False),
    Thing("tower", "box", (0.04, 0.04, 0.07), rolls=False),
    Thing("tin", "cylinder", (0.06, 0.06, 0.04)),
    Thing("can", "cylinder", (0.04, 0.04, 0.07)),
    Thing("ball", "sphere", (0.05, 0.05, 0.05)),
    Thing("capsule", "capsule", (0.04, 0.04, 0.08)),
    _mesh(4, 0.54, (0.0503, 0.0499, 0.0662), -0.0063),
    _mesh(9, 0.98, (0.0317, 0.0903, 0.0308), 0.0001),
    _mesh(28, 0.54, (0.0659, 0.0504, 0.0504), -0.0001),
    _mesh(41, 0.55, (0.0498, 0.0506, 0.0500), 0.0),
    _mesh(180, 0.55, (0.0503, 0.0511, 0.0503), -0.0002),
    _mesh(198, 0.54, (0.0498, 0.0504, 0.0504), -0.0026),
    _mesh(905, 0.54, (0.0500, 0.0662, 0.0500), -0.0025),
    _mesh(953, 0.55, (0.0499, 0.0677, 0.0502), 0.0002),
    _mesh(977, 0.55, (0.0497, 0.0506, 0.0497), 0.0035),
    _mesh(993, 0.54, (0.0500, 0.0498, 0.0501), -0.0070),
)


def pool(*names: str) -> tuple[Thing, ...]:
    """The named things of POOL and PUCK; all of POOL without names. Raises ValueError for an unknown name."""
    known = {thing.name: thing for thing in (*POOL, PUCK)}
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"objects {unknown} are unknown, expected some of {list(known)}")
    return tuple(known[name] for name in names) or POOL


def choice(things: Sequence[Thing]) -> Choice:
    """Which of these is in play. Held out: meshes from HELDOUT on, where there is something else to train on."""
    heldout = tuple(thing.name for thing in things if thing.name >= f"mesh_{HELDOUT}" and thing.shape == "mesh")
    return Choice(
        "object",
        tuple(thing.name for thing in things),
        heldout=heldout if len(heldout) < len(things) else (),
        features={thing.name: thing.features for thing in things},
    )


UNKNOWN = {
    parameter.name: parameter
    for parameter in (
        Parameter("object_mass", "kg", 0.2, 0.05, 0.5, "set", bounds=(0.01, 2.0)),
        Parameter("object_friction", "1", 0.5, 0.3, 1.0, "set", bounds=(0.01, 2.0)),
        Parameter("object_restitution", "1", 0.0, 0.0, 0.3, "set", bounds=(0.0, 1.0)),
    )
}
