"""Robot arms: constants only."""

from math import pi

from robots.spec import JointSpec, RobotSpec

# Geometry, efforts and velocities: panda.urdf; position limits: Franka's data sheet, which lie within the URDF's.
PANDA = RobotSpec(
    name="panda",
    urdf="franka_panda/panda.urdf",
    joints=(
        JointSpec("panda_joint1", (0, 0, 0.333), (0, 0, 0), -2.8973, 2.8973, 2.175, 87),
        JointSpec("panda_joint2", (0, 0, 0), (-pi / 2, 0, 0), -1.7628, 1.7628, 2.175, 87),
        JointSpec("panda_joint3", (0, -0.316, 0), (pi / 2, 0, 0), -2.8973, 2.8973, 2.175, 87),
        JointSpec("panda_joint4", (0.0825, 0, 0), (pi / 2, 0, 0), -3.0718, -0.0698, 2.175, 87),
        JointSpec("panda_joint5", (-0.0825, 0.384, 0), (-pi / 2, 0, 0), -2.8973, 2.8973, 2.61, 12),
        JointSpec("panda_joint6", (0, 0, 0), (pi / 2, 0, 0), -0.0175, 3.7525, 2.61, 12),
        JointSpec("panda_joint7", (0.088, 0, 0), (pi / 2, 0, 0), -2.8973, 2.8973, 2.61, 12),
    ),
    nominal_pose=(0, -0.2, 0, -2.2, 0, 2.0, 0.785),
    tool_link="panda_grasptarget",
    tool=(0, 0, 0.212),
    control_hz=20,
    physics_hz=200,
    servo_time=0.05,
    held={"panda_finger_joint1": 0.02, "panda_finger_joint2": 0.02},
)
