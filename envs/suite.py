"""Worlds that are hard for a fixed policy, by name: what learners are compared in. Constants only."""

from __future__ import annotations

from typing import Any

from envs import legged
from envs.robot_env import RobotEnv
from envs.tasks import Parameter

LEGS = 12  # joints of a quadruped
UNEVEN = {"ground": ("rough", "slope_up", "slope_down"), "level": 0.35, "lift": (0.02, 0.15)}


def a1_uneven(render_mode: str | None = None, engine: str = "pybullet", **asked: Any) -> RobotEnv:
    """A1 on rough ground and slopes, its joint zeros up to ±0.2 rad off, with up to 5 kg on it and one weak motor.

    What is `asked` are fields of `envs.legged.Walk`, in place of those here.
    """
    given: dict[str, Any] = {
        "unknown": (
            Parameter("joint_zero", "rad", 0.0, -0.2, 0.2, "add", LEGS),
            Parameter("payload", "kg", 0.0, 0.0, 5.0, "add", bounds=(0.0, 10.0)),
            "weak_joint",
            Parameter("weak_strength", "1", 1.0, 0.3, 0.8, "scale", bounds=(0.0, 1.0)),
            "friction",
        ),
        **UNEVEN,
        "forward": (0.3, 0.6),
        "left": (-0.1, 0.1),
        "yaw_rate": (-0.3, 0.3),
        "horizon": 150,
    }
    return legged.build("a1", render_mode, engine, **{**given, **asked})


def a1_field(render_mode: str | None = None, engine: str = "pybullet", **asked: Any) -> RobotEnv:
    """A1 with all that misleads its senses or tires its legs, at once; on flat ground, unless asked otherwise.

    What is `asked` are fields of `envs.legged.Walk`, in place of those here.
    """
    weak = Parameter("weak_strength", "1", 1.0, 0.3, 0.8, "scale", bounds=(0.0, 1.0))
    unknown = ("payload", "friction", "weak_joint", weak, "delay")
    return legged.build("a1", render_mode, engine, **{**_field(*unknown), **asked})


def a1_field_uneven(render_mode: str | None = None, engine: str = "pybullet", **asked: Any) -> RobotEnv:
    """The same on rough ground and slopes."""
    return a1_field(render_mode, engine, **{**UNEVEN, **asked})


def a1_field_turn(render_mode: str | None = None, engine: str = "pybullet", **asked: Any) -> RobotEnv:
    """The same, turning at up to 0.8 rad/s while it walks slowly, if at all."""
    return a1_field(render_mode, engine, **{"forward": (0.0, 0.3), "yaw_rate": (-0.8, 0.8), **asked})


def mini_cheetah_field(render_mode: str | None = None, engine: str = "pybullet", **asked: Any) -> RobotEnv:
    """Mini Cheetah on flat ground with a battery that sags and a load that may sit aside, among all else, at once.

    What is `asked` are fields of `envs.legged.Walk`, in place of those here.
    """
    unknown = ("payload", "payload_at", "battery", "friction", "delay")
    return legged.build("mini_cheetah", render_mode, engine, **{**_field(*unknown), **asked})


def _field(*unknown: str | Parameter) -> dict[str, Any]:
    """A quadruped's walk on flat ground with senses that are off, and what else is unknown."""
    return {
        "unknown": (Parameter("joint_zero", "rad", 0.0, -0.3, 0.3, "add", LEGS), "imu_mount", *unknown),
        "forward": (0.3, 0.6),
        "left": (-0.1, 0.1),
        "yaw_rate": (-0.3, 0.3),
        "horizon": 200,
    }
