"""Robot arms: constants only."""

from math import pi

from robots.spec import Fingers, JointSpec, RobotSpec, Servo, Suction

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
    control_hz=20,
    physics_hz=200,
    drive=Servo(time=0.05),
    tool_link="panda_grasptarget",
    tool=(0, 0, 0.212),
    payload=3,
    gripper=Fingers(("panda_finger_joint1", "panda_finger_joint2"), opening=0.04, effort=20),
)

# Geometry: kuka_iiwa/model.urdf; limits, torques and velocities: KUKA's data sheet of the LBR iiwa 14 R820, which lie
# within the URDF's. The URDF's last link begins 45 mm behind the face of its flange.
IIWA = RobotSpec(
    name="iiwa",
    urdf="kuka_iiwa/model.urdf",
    joints=(
        JointSpec("lbr_iiwa_joint_1", (0, 0, 0.1575), (0, 0, 0), -2.967, 2.967, 1.48, 300),
        JointSpec("lbr_iiwa_joint_2", (0, 0, 0.2025), (pi / 2, 0, pi), -2.094, 2.094, 1.48, 300),
        JointSpec("lbr_iiwa_joint_3", (0, 0.2045, 0), (pi / 2, 0, pi), -2.967, 2.967, 1.74, 176),
        JointSpec("lbr_iiwa_joint_4", (0, 0, 0.2155), (pi / 2, 0, 0), -2.094, 2.094, 1.3, 176),
        JointSpec("lbr_iiwa_joint_5", (0, 0.1845, 0), (-pi / 2, pi, 0), -2.967, 2.967, 2.26, 110),
        JointSpec("lbr_iiwa_joint_6", (0, 0, 0.2155), (pi / 2, 0, 0), -2.094, 2.094, 2.35, 40),
        JointSpec("lbr_iiwa_joint_7", (0, 0.081, 0), (-pi / 2, pi, 0), -3.054, 3.054, 2.35, 40),
    ),
    nominal_pose=(0, 0.562, 0, -1.818, 0, 0.7616, 0),
    control_hz=20,
    physics_hz=200,
    drive=Servo(time=0.05),
    tool_link="lbr_iiwa_link_7",
    tool=(0, 0, 0.045),
    payload=14,
    gripper=Suction(reach=0.01, force=50),
)

# xarm6_robot.urdf. The frame of its last link lies in the face of its flange.
XARM6 = RobotSpec(
    name="xarm6",
    urdf="xarm/xarm6_robot.urdf",
    joints=(
        JointSpec("joint1", (0, 0, 0.267), (0, 0, 0), -6.283, 6.283, 3.14, 50),
        JointSpec("joint2", (0, 0, 0), (-1.5708, 0, 0), -2.059, 2.094, 3.14, 50),
        JointSpec("joint3", (0.0535, -0.2845, 0), (0, 0, 0), -3.927, 0.191, 3.14, 32),
        JointSpec("joint4", (0.0775, 0.3425, 0), (-1.5708, 0, 0), -6.283, 6.283, 3.14, 32),
        JointSpec("joint5", (0, 0, 0), (1.5708, 0, 0), -1.692, 3.141, 3.14, 32),
        JointSpec("joint6", (0.076, 0.097, 0), (-1.5708, 0, 0), -6.283, 6.283, 3.14, 20),
    ),
    nominal_pose=(0, 0.175, -1.111, 0, 0.936, 0),
    control_hz=20,
    physics_hz=200,
    drive=Servo(time=0.05),
    tool_link="link6",
    payload=5,
    gripper=Suction(reach=0.01, force=50),
)
