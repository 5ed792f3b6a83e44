"""The sensors that a robot has in its own body: encoders and, where it walks, an IMU. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.faults import Faults
from envs.frames import into
from envs.state import State
from robots.actuation import unwired
from robots.spec import Array, RobotSpec

NOISE = {  # one standard deviation, in the field's unit
    "joint_position": 0.001,  # [rad]
    "joint_velocity": 0.1,  # [rad/s]
    "angular_velocity": 0.03,  # [rad/s]
    "gravity": 0.01,  # [1]
}


def body(
    names: Sequence[str], spec: RobotSpec, state: State, faults: Faults, rng: np.random.Generator
) -> dict[str, Array]:
    """The body's sensor fields among `names`, in their order, with what is wrong about them.

    joint_position, joint_velocity [..., n]; angular_velocity [3] (rad/s) and gravity [3] (its direction), both in the
    frame that the IMU takes for the base's.
    """
    fields: dict[str, Array] = {}
    for name in names:
        if name == "joint_position":
            value = unwired(state.joints + faults.zero, faults.exchanged, faults.reversed, spec.nominal)
        elif name == "joint_velocity":
            value = unwired(state.speeds, faults.exchanged, faults.reversed, spec.still)
        elif name in ("angular_velocity", "gravity"):
            assert state.base is not None, "only a robot with a free base has an IMU"
            vector = into(state.base.quaternion, state.base.angular if name == "angular_velocity" else faults.down)
            value = np.array(vector if faults.imu is None else into(faults.imu, vector))
            if name == "angular_velocity":
                value += faults.gyro_bias
        else:
            continue
        noise = rng.standard_normal(value.shape)
        noise *= faults.noise * NOISE[name]
        noise += value
        fields[name] = noise
    return fields
