"""From a Task to a robot that differs from its nominal self. Idempotent: always from stored nominals."""

from __future__ import annotations

from dataclasses import dataclass

from envs.tasks import Parameter, Task
from envs.world import World
from robots.spec import Array, RobotSpec


def body_parameters(spec: RobotSpec) -> tuple[Parameter, ...]:
    """What may be off in the body itself, whatever the job."""
    return (
        Parameter("joint_zero", "rad", 0.0, -0.05, 0.05, "add", size=len(spec.joints)),
        Parameter("strength", "1", 1.0, 0.6, 1.0, "scale", bounds=(0.1, 1.0)),
        Parameter("delay", "s", 0.0, 0.0, 0.04, "add", bounds=(0.0, 0.5)),
        Parameter("damping", "N m s/rad", 0.0, 0.0, 1.0, "set", bounds=(0.0, 10.0)),
        Parameter("payload", "kg", 0.0, 0.0, 1.0, "add", bounds=(0.0, 3.0)),
    )


@dataclass(frozen=True)
class Drive:
    """The faults between command and joint: encoder zero offsets [n] (rad), share of torque, delay in physics steps."""

    zero: Array
    strength: float
    delay: int


def apply(task: Task, spec: RobotSpec, world: World) -> Drive:
    """Set the engine to `task` and return what acts outside the engine."""
    values = task.values
    world.randomize(payload=values["payload"][0], damping=values["damping"][0])
    return Drive(
        zero=task["joint_zero"],
        strength=values["strength"][0],
        delay=round(values["delay"][0] * spec.physics_hz),
    )
