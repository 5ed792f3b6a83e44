"""The deployment suite: what may be wrong with a robot in the field, row by row. Fixed; constants, and how worlds come.

A job is judged in every row, whether adaptation has something to win there or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from envs.tasks import Choice, Parameter, Task, TaskSpace
from robots.spec import Array

Faults = Mapping[str, tuple[float, float]]
World = tuple[Task, tuple[float, Task] | None]  # how it is at first; when [s] it changes, and to what
ROOM, HELDOUT = 0, 1  # draws of the same rows: where the suite was chosen, and where it is judged


@dataclass(frozen=True)
class Row:
    """What is not nominal, and the range of its size; and what is not after the change, if there is one.

    Of what may go wrong in either direction the size is how far, and each element's direction is drawn. A choice has a
    range of options.
    """

    faults: Faults
    then: Faults | None = None


@dataclass(frozen=True)
class Deployment:
    """A job, and what may be wrong in it. seconds: of an attempt; a change comes half-way. options: of the world in
    which it is judged, beside those of training."""

    env: str
    says: str
    seconds: float
    rows: Mapping[str, Row]
    options: Mapping[str, Any] = field(default_factory=dict)


BEYOND = "beyond training: "
ZEROS: Faults = {"joint_zero": (0.15, 0.25)}  # [rad]
WEAK: Faults = {"weak_joint": (1, 12), "weak_strength": (0.3, 0.4)}
SAG: Faults = {"battery": (0.6, 0.65)}
# As in Song et al. 2020 ("Rapidly adaptable legged robots via evolutionary meta-learning"): voltage and a mass aside.
ES_MAML: Faults = {**SAG, "payload": (1, 2), "payload_at": (0.06, 0.1)}
SHIFTED: Faults = {"camera_shift": (0.08, 0.15)}  # [m]
TURNED: Faults = {"camera_yaw": (0.52, 1.04)}  # [rad]
ASKEW: Faults = {**SHIFTED, **TURNED}
LADEN: Faults = {"payload": (4, 5), **WEAK}
ROUGH: Faults = {"level": (0.25, 0.35)}
SLOPES: Faults = {**ROUGH, "ground": (1, 2)}
SAME_ROUGH: Faults = {"level": (0.3, 0.3)}  # before and after a change
SHAPES: Faults = {"object": (1, 12)}  # those of training, but the box
A1_ROWS = {
    "nominal": Row({}),
    "payload 4 to 5 kg": Row({"payload": (4, 5)}),
    "friction 0.4 to 0.5": Row({"friction": (0.4, 0.5)}),
    "a motor at 30 to 40 %": Row(WEAK),
    "delay 30 to 40 ms": Row({"delay": (0.03, 0.04)}),
    "joint zeros off by 0.1 to 0.2 rad": Row({"joint_zero": (0.1, 0.2)}),
    "joint zeros off by 0.2 to 0.3 rad": Row({"joint_zero": (0.2, 0.3)}),
    "IMU askew by 0.15 to 0.2 rad": Row({"imu_mount": (0.15, 0.2)}),
    "IMU and zeros": Row({"imu_mount": (0.15, 0.2), **ZEROS}),
    "zeros, payload and motor": Row({**ZEROS, **LADEN}),
    "all at once": Row({**ZEROS, **LADEN, "imu_mount": (0.1, 0.2), "friction": (0.4, 0.6), "delay": (0.02, 0.04)}),
    "nominal, then zeros": Row({}, ZEROS),
    "nominal, then payload and motor": Row({}, LADEN),
    f"{BEYOND}joint zeros off by 0.3 to 0.4 rad": Row({"joint_zero": (0.3, 0.4)}),
    f"{BEYOND}payload 5 to 6 kg and zeros": Row({"payload": (5, 6), **ZEROS}),
}
SUITE = {
    "a1": Deployment(
        "metarl/A1Field-v0",
        "A1 walks at 0.3 to 0.6 m/s on flat ground",
        seconds=8.0,
        rows=A1_ROWS,
    ),
    "a1-uneven": Deployment(
        "metarl/A1FieldUneven-v0",
        "A1 walks at 0.3 to 0.6 m/s on rough ground and slopes",
        seconds=8.0,
        options={"ground_seed": 1},  # training has another
        rows={
            "rough": Row(ROUGH),
            "slopes": Row(SLOPES),
            "rough, payload 4 to 5 kg": Row({**ROUGH, "payload": (4, 5)}),
            "rough, a motor at 30 to 40 %": Row({**ROUGH, **WEAK}),
            "rough, joint zeros off by 0.1 to 0.2 rad": Row({**ROUGH, "joint_zero": (0.1, 0.2)}),
            "slopes, joint zeros off by 0.1 to 0.2 rad": Row({**SLOPES, "joint_zero": (0.1, 0.2)}),
            "rough, IMU and zeros": Row({**ROUGH, "imu_mount": (0.15, 0.2), **ZEROS}),
            "rough, zeros, payload and motor": Row({**ROUGH, **ZEROS, **LADEN}),
            "rough, then zeros": Row(SAME_ROUGH, {**SAME_ROUGH, **ZEROS}),
            f"{BEYOND}rougher, and zeros": Row({"level": (0.39, 0.43), **ZEROS}),
        },
    ),
    "a1-turn": Deployment(
        "metarl/A1FieldTurn-v0",
        "A1 turns at up to 0.8 rad/s, at 0 to 0.3 m/s on flat ground",
        seconds=8.0,
        rows=A1_ROWS,
    ),
    "mini-cheetah": Deployment(
        "metarl/MiniCheetahField-v0",
        "Mini Cheetah walks at 0.3 to 0.6 m/s on flat ground",
        seconds=8.0,
        rows={
            "nominal": Row({}),
            "payload 1.6 to 2 kg": Row({"payload": (1.6, 2)}),
            "friction 0.4 to 0.5": Row({"friction": (0.4, 0.5)}),
            "battery at 60 to 65 %": Row(SAG),
            "battery at 60 to 65 %, payload aside": Row(ES_MAML),
            "delay 30 to 40 ms": Row({"delay": (0.03, 0.04)}),
            "joint zeros off by 0.1 to 0.2 rad": Row({"joint_zero": (0.1, 0.2)}),
            "joint zeros off by 0.2 to 0.3 rad": Row({"joint_zero": (0.2, 0.3)}),
            "IMU askew by 0.15 to 0.2 rad": Row({"imu_mount": (0.15, 0.2)}),
            "IMU and zeros": Row({"imu_mount": (0.15, 0.2), **ZEROS}),
            "zeros, battery, payload aside": Row({**ZEROS, **ES_MAML}),
            "nominal, then zeros": Row({}, ZEROS),
            "nominal, then battery, payload aside": Row({}, ES_MAML),
            f"{BEYOND}joint zeros off by 0.3 to 0.4 rad": Row({"joint_zero": (0.3, 0.4)}),
            f"{BEYOND}battery at 50 to 55 %, payload aside": Row({**ES_MAML, "battery": (0.5, 0.55)}),
        },
    ),
    "reach": Deployment(
        "metarl/PandaReach-v0",
        "Panda reaches through a camera that is mounted askew",
        seconds=4.0,
        rows={
            "nominal": Row({}),
            "joint zeros off by 0.02 to 0.05 rad": Row({"joint_zero": (0.02, 0.05)}),
            "payload 0.7 to 1 kg": Row({"payload": (0.7, 1)}),
            "camera shifted by 8 to 15 cm along each axis": Row(SHIFTED),
            "camera turned by 30 to 60°": Row(TURNED),
            "camera shifted and turned": Row(ASKEW),
            "camera, zeros and payload": Row({**ASKEW, "joint_zero": (0.02, 0.05), "payload": (0.7, 1)}),
            "nominal, then a knock at the camera": Row({}, ASKEW),
            f"{BEYOND}camera turned by 65 to 85°": Row({"camera_yaw": (1.13, 1.48)}),
        },
    ),
    "push": Deployment(
        "metarl/PandaPush-v0",
        "Panda pushes things of unknown mass, friction and shape",
        seconds=4.0,
        rows={
            "nominal": Row({}),
            "another shape": Row(SHAPES),
            "another shape of 0.4 to 0.5 kg": Row({**SHAPES, "object_mass": (0.4, 0.5)}),
            "friction of the thing 0.9 to 1": Row({"object_friction": (0.9, 1)}),
            "joint zeros off by 0.01 to 0.02 rad": Row({"joint_zero": (0.01, 0.02)}),
            "motors at 60 to 70 %": Row({"strength": (0.6, 0.7)}),
            "delay 30 to 40 ms": Row({"delay": (0.03, 0.04)}),
            "heavy and rough, zeros, motors": Row(
                {
                    "object_mass": (0.4, 0.5),
                    "object_friction": (0.9, 1),
                    "joint_zero": (0.01, 0.02),
                    "strength": (0.6, 0.7),
                }
            ),
            "nominal, then zeros and motors": Row({}, {"joint_zero": (0.01, 0.02), "strength": (0.6, 0.7)}),
            f"{BEYOND}0.5 to 0.6 kg": Row({"object_mass": (0.51, 0.6)}),
            f"{BEYOND}a shape never seen": Row({"object": (13, 16)}),
        },
    ),
    "slide": Deployment(
        "metarl/PandaSlide-v0",
        "Panda strikes a puck of unknown mass and friction out of its reach",
        seconds=3.0,
        rows={
            "nominal": Row({}),
            "puck of 0.3 to 0.4 kg": Row({"object_mass": (0.3, 0.4)}),
            "friction of the puck 0.05 to 0.055": Row({"object_friction": (0.05, 0.055)}),
            "friction of the puck 0.085 to 0.09": Row({"object_friction": (0.085, 0.09)}),
            "joint zeros off by 0.01 to 0.02 rad": Row({"joint_zero": (0.01, 0.02)}),
            "motors at 60 to 70 %": Row({"strength": (0.6, 0.7)}),
            "delay 30 to 40 ms": Row({"delay": (0.03, 0.04)}),
            "heavy and rough, zeros, motors": Row(
                {
                    "object_mass": (0.3, 0.4),
                    "object_friction": (0.08, 0.09),
                    "joint_zero": (0.01, 0.02),
                    "strength": (0.6, 0.7),
                }
            ),
            f"{BEYOND}friction of the puck 0.04 to 0.05": Row({"object_friction": (0.041, 0.049)}),
        },
    ),
}


def worlds(deployment: Deployment, space: TaskSpace, count: int, draw: int) -> dict[str, list[World]]:
    """Each row's worlds, so many: the same for everyone who asks. draw: ROOM or HELDOUT."""
    half = deployment.seconds / 2
    made: dict[str, list[World]] = {}
    for index, (name, row) in enumerate(deployment.rows.items()):
        keys = [[index, world, *([draw] if draw else [])] for world in range(count)]
        made[name] = [
            (drawn(space, row.faults, rng), None if row.then is None else (half, drawn(space, row.then, rng)))
            for rng in map(np.random.default_rng, keys)
        ]
    return made


def drawn(space: TaskSpace, faults: Faults, rng: np.random.Generator) -> Task:
    """A task with these faults, and nominal otherwise. Raises KeyError for one that the space does not have.

    A nominal value that training does not have, such as the full strength of a weak motor where none is weak, gives
    way to the nearest one, lest the oracle be told what it never heard.
    """
    known = {parameter.name: parameter for parameter in space.parameters}
    values = {name: _heard(parameter) for name, parameter in known.items()}
    for name, (low, high) in faults.items():
        values[name] = tuple(_sized(known[name], low, high, rng).tolist())
    task = Task(values)
    space.check(task)
    return task


def _heard(parameter: Parameter | Choice) -> tuple[float, ...]:
    if isinstance(parameter, Choice):
        return parameter.nominal_values
    return (min(max(parameter.nominal, parameter.low), parameter.high),) * parameter.size


def _sized(parameter: Parameter | Choice, low: float, high: float, rng: np.random.Generator) -> Array:
    if isinstance(parameter, Choice):
        return rng.integers(int(low), int(high), size=1, endpoint=True).astype(np.float64)
    size = rng.uniform(low, high, parameter.size)
    return size * rng.choice((-1.0, 1.0), parameter.size) if parameter.low == -parameter.high else size
