"""Legged robots: constants only. Legs stand in the order FR, FL, RR, RL; of the base, x is forward, y left, z up."""

from math import cos, pi, sin

from robots.kinematics import leg
from robots.spec import PD, JointSpec, Leg, Loop, RobotSpec

SIDES = {"FR": (1, -1), "FL": (1, 1), "RR": (-1, -1), "RL": (-1, 1)}  # front or rear, right or left

# Geometry and limits: a1.urdf. Torques and velocities: Unitree's a1_description (unitree_ros), or the URDF's if less.
_A1 = tuple(
    joint
    for name, (front, left) in SIDES.items()
    for joint in (
        JointSpec(f"{name}_hip_joint", (front * 0.183, left * 0.047, 0), (0, 0, 0), -0.802, 0.802, 21, 20, (1, 0, 0)),
        JointSpec(f"{name}_upper_joint", (0, left * 0.08505, 0), (0, 0, 0), -1.047, 4.188, 21, 33.5, (0, 1, 0)),
        JointSpec(f"{name}_lower_joint", (0, 0, -0.2), (0, 0, 0), -2.696, -0.917, 21, 33.5, (0, 1, 0)),
    )
)
A1 = RobotSpec(
    name="a1",
    urdf="a1/a1.urdf",
    joints=_A1,
    nominal_pose=(0, 0.9, -1.8) * 4,
    control_hz=50,
    physics_hz=200,
    drive=PD(stiffness=80, damping=0.6),
    height=0.269,
    mass=12.46,
    payload=5,
    legs=tuple(leg(_A1[i : i + 3], i, (0, 0, -0.2), (0, 0.9, -1.8)) for i in range(0, 12, 3)),
)

# Geometry: laikago_toes_zup.urdf, whose zero pose has bent legs. Limits: laikago_toes_limits.urdf. Torques and
# velocities: Unitree's laikago_description (unitree_ros).
_LAIKAGO = tuple(
    joint
    for name, (front, left) in SIDES.items()
    for joint in (
        JointSpec(
            f"{name}_hip_motor_2_chassis_joint", (front * 0.218645 - 0.01955, left * 0.0817145, -0.03),
            (1.57079, 0, 1.57079), -0.873, 1.0472, 27, 18.954, (0, 0, left),
        ),
        JointSpec(
            f"{name}_upper_leg_2_hip_motor_joint", (0.055855 if left > 0 else -0.053565, 0, 0), (0, 0, 0),
            -1.3, 3.4, 12.794, 40, (1, 0, 0),
        ),
        JointSpec(
            f"{name}_lower_leg_2_upper_leg_joint", (-left * 0.02069, -0.20833, -0.1422), (0, 0, 0),
            -2.164, 0, 12.794, 40, (1, 0, 0),
        ),
    )
)  # fmt: skip
LAIKAGO = RobotSpec(
    name="laikago",
    urdf="laikago/laikago_toes_zup.urdf",
    joints=_LAIKAGO,
    nominal_pose=(0.1, 0.1, -0.89) * 4,
    control_hz=50,
    physics_hz=200,
    drive=PD(stiffness=200, damping=1.5),
    height=0.439,
    mass=25.57,
    payload=8,
    legs=tuple(leg(_LAIKAGO[i : i + 3], i, (0, -0.25, -0.022), (0.1, 0.1, -0.89)) for i in range(0, 12, 3)),
)

# Geometry: mini_cheetah.urdf, which states no limits. Torque and velocity: 17 N m and 40 rad/s at each joint (Katz, Di
# Carlo and Kim, Mini Cheetah, ICRA 2019). Angles: what keeps the knees bent backwards and the legs off the trunk.
_MINI_CHEETAH = tuple(
    joint
    for name, (front, left) in zip(("fr", "fl", "hr", "hl"), SIDES.values(), strict=True)
    for joint in (
        JointSpec(
            f"torso_to_abduct_{name}_j", (front * 0.19, left * 0.049, 0), (0, 0, 0), -0.8, 0.8, 40, 17, (1, 0, 0)
        ),
        JointSpec(f"abduct_{name}_to_thigh_{name}_j", (0, left * 0.062, 0), (0, 0, 0), -2.5, 1.5, 40, 17, (0, -1, 0)),
        JointSpec(f"thigh_{name}_to_knee_{name}_j", (0, 0, -0.209), (0, 0, 0), 0.3, 2.7, 40, 17, (0, -1, 0)),
    )
)
MINI_CHEETAH = RobotSpec(
    name="mini_cheetah",
    urdf="mini_cheetah/mini_cheetah.urdf",
    joints=_MINI_CHEETAH,
    nominal_pose=(-0.1, -0.8, 1.6, 0.1, -0.8, 1.6) * 2,
    control_hz=50,
    physics_hz=200,
    drive=PD(stiffness=60, damping=0.7),
    height=0.278,
    mass=8.85,
    payload=2,
    legs=tuple(
        leg(_MINI_CHEETAH[i : i + 3], i, (0, 0, -0.18), (0.1 if i % 2 else -0.1, -0.8, 1.6)) for i in range(0, 12, 3)
    ),
)

# Geometry: minitaur.urdf. Each foot hangs on two motors by two rods of 0.115 m, level in the nominal pose, and two of
# 0.2 m that meet at the foot; by its kinematics a motor turns by (up -+ 0.7028 forward) / 0.115 m. The legs' planes are
# 5 deg from upright, which the gain leaves out. Torque: where pybullet_envs' model of its motors saturates.
_MINITAUR = tuple(zip(("front_right", "front_left", "back_right", "back_left"), SIDES.values(), strict=True))
_TILT, _LEVEL, _RODS = 0.0872665, pi / 2, {"L": 1, "R": -1}
MINITAUR = RobotSpec(
    name="minitaur",
    urdf="quadruped/minitaur.urdf",
    joints=tuple(
        JointSpec(
            f"motor_{name}{rod}_joint",
            (front * 0.21, left * 0.1 + y * cos(_TILT), y * left * sin(_TILT)),
            (1.57075 - turn * left * _TILT, 0, pi if turn > 0 else 0),
            -left * _LEVEL - 1, -left * _LEVEL + 1, 100, 3.5,
        )
        for name, (front, left) in _MINITAUR
        for rod, turn in _RODS.items()
        for y in (turn * 0.0325 - left * 0.0075,)
    ),
    nominal_pose=tuple(-left * _LEVEL for _, left in SIDES.values() for _ in _RODS),
    control_hz=50,
    physics_hz=200,
    drive=PD(stiffness=20, damping=0.15),
    height=0.168,
    mass=6.0,
    payload=0.5,
    legs=tuple(
        Leg(
            (2 * i, 2 * i + 1),
            (front * 0.21, left * 0.107, -0.1636),
            tuple((-turn * 0.7028 / 0.115, 0, left / 0.115) for turn in _RODS.values()),
        )
        for i, (front, left) in enumerate(SIDES.values())
    ),
    free={f"knee_{name}{rod}_link": left * 2.1834 for name, (_, left) in _MINITAUR for rod in _RODS},
    loops=tuple(
        Loop(f"lower_leg_{name}R_link", (0, 0.005, 0.2), f"lower_leg_{name}L_link", (0, 0.01, 0.2))
        for name, _ in _MINITAUR
    ),
)  # fmt: skip
