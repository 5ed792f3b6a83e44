"""The legged robots in bare PyBullet: constants against their URDFs; they stand and trot under their PD drives."""

from collections.abc import Iterator

import numpy as np
import pybullet
import pybullet_data
import pytest

from robots import kinematics
from robots.gait import Gait
from robots.legged import A1, LAIKAGO, MINI_CHEETAH, MINITAUR
from robots.spec import Chain, RobotSpec

FEET = {  # links, in the order of legs
    "a1": [f"{leg}_toe" for leg in ("FR", "FL", "RR", "RL")],
    "laikago": [f"toe{leg}" for leg in ("FR", "FL", "RR", "RL")],
    "mini_cheetah": [f"toe_{leg}" for leg in ("fr", "fl", "hr", "hl")],
}
GAITS = {  # frequency [Hz], height [m]
    "a1": (2.5, 0.06),
    "laikago": (2.5, 0.06),
    "mini_cheetah": (2.5, 0.06),
    "minitaur": (4.0, 0.03),
}


class Robot:
    """A robot on a plane in PyBullet, put there in its nominal pose."""

    def __init__(self, spec: RobotSpec) -> None:
        self.spec, self.client = spec, pybullet.connect(pybullet.DIRECT)
        client = self.client
        pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), physicsClientId=client)
        pybullet.setGravity(0, 0, -9.81, physicsClientId=client)
        pybullet.setTimeStep(1 / spec.physics_hz, physicsClientId=client)
        self.plane = pybullet.loadURDF("plane.urdf", physicsClientId=client)
        self.body = body = pybullet.loadURDF(spec.urdf, physicsClientId=client)
        infos = [pybullet.getJointInfo(body, index, client) for index in range(pybullet.getNumJoints(body, client))]
        self.joint = {info[1].decode(): info[0] for info in infos}
        self.link = {info[12].decode(): info[0] for info in infos}
        self.movable = [info[1].decode() for info in infos if info[2] != pybullet.JOINT_FIXED]
        self.joints = [self.joint[name] for name in spec.joint_names]
        everything = [self.joint[name] for name in self.movable]
        pybullet.setJointMotorControlArray(
            body, everything, pybullet.VELOCITY_CONTROL, forces=[0] * len(everything), physicsClientId=client
        )
        pybullet.resetBasePositionAndOrientation(body, (0, 0, spec.height), (0, 0, 0, 1), physicsClientId=client)
        self.pose(spec.nominal)
        for loop in spec.loops:
            pybullet.createConstraint(
                body,
                self.link[loop.link],
                body,
                self.link[loop.other_link],
                pybullet.JOINT_POINT2POINT,
                (0, 0, 0),
                loop.point,
                loop.other_point,
                physicsClientId=client,
            )

    def pose(self, angles: np.ndarray) -> None:
        for joint, angle in zip(self.joints, angles, strict=True):
            pybullet.resetJointState(self.body, joint, angle, physicsClientId=self.client)
        for name, angle in self.spec.free.items():
            pybullet.resetJointState(self.body, self.joint[name], angle, physicsClientId=self.client)

    @property
    def mass(self) -> float:
        links = range(-1, len(self.link))
        return sum(pybullet.getDynamicsInfo(self.body, link, self.client)[0] for link in links)

    def base(self) -> tuple[np.ndarray, np.ndarray]:
        """Place [3] (m) and roll, pitch, yaw [3] (rad)."""
        place, turn = pybullet.getBasePositionAndOrientation(self.body, self.client)
        return np.array(place), np.array(pybullet.getEulerFromQuaternion(turn))

    def place(self, link: str, point: tuple = (0, 0, 0)) -> np.ndarray:
        """Of a link's point, in the base's link frame, while that is upright."""
        state = pybullet.getLinkState(
            self.body, self.link[link], computeForwardKinematics=1, physicsClientId=self.client
        )
        found, _ = pybullet.multiplyTransforms(state[4], state[5], point, (0, 0, 0, 1))
        inertial = pybullet.getDynamicsInfo(self.body, -1, self.client)[3]
        return found - self.base()[0] + inertial

    def run(self, target: np.ndarray) -> None:
        """One control step under the PD drives."""
        drive, effort = self.spec.drive, self.spec.effort
        for _ in range(self.spec.substeps):
            states = pybullet.getJointStates(self.body, self.joints, self.client)
            angle, speed = np.array([state[:2] for state in states]).T
            torque = np.clip(drive.stiffness * (target - angle) - drive.damping * speed, -effort, effort)
            pybullet.setJointMotorControlArray(
                self.body, self.joints, pybullet.TORQUE_CONTROL, forces=torque.tolist(), physicsClientId=self.client
            )
            pybullet.stepSimulation(self.client)


@pytest.fixture(params=(A1, LAIKAGO, MINI_CHEETAH, MINITAUR), ids=lambda spec: spec.name)
def robot(request: pytest.FixtureRequest) -> Iterator[Robot]:
    robot = Robot(request.param)
    yield robot
    pybullet.disconnect(robot.client)


def test_every_movable_joint_is_accounted_for(robot: Robot):
    spec = robot.spec
    assert sorted(robot.movable) == sorted([*spec.joint_names, *spec.free])
    assert sorted(index for leg in spec.legs for index in leg.joints) == list(range(len(spec.joints)))
    forward, left, _ = np.sign(np.transpose([leg.foot for leg in spec.legs]))
    assert forward.tolist() == [1, 1, -1, -1]
    assert left.tolist() == [-1, 1, -1, 1]


def test_feet_touch_the_ground_at_the_height_given(robot: Robot):
    """And nothing above the shanks, whose meshes may reach as low, comes near it."""
    lowest = {
        name: min(contact[8] for contact in contacts)
        for name, link in [("base", -1), *robot.link.items()]
        if (contacts := pybullet.getClosestPoints(robot.body, robot.plane, 1, link, -1, physicsClientId=robot.client))
    }
    feet = FEET.get(robot.spec.name, [name for name in lowest if name.startswith("lower_leg")])
    np.testing.assert_allclose([lowest[foot] for foot in feet], 0, atol=3e-3)
    shanks = ("lower", "shank")
    assert min(gap for name, gap in lowest.items() if name not in feet and not any(s in name for s in shanks)) > 0.05


@pytest.mark.parametrize("robot", [A1, LAIKAGO, MINI_CHEETAH], indirect=True, ids=lambda spec: spec.name)
def test_serial_legs_agree_with_the_engine(robot: Robot):
    spec = robot.spec
    for angles in [spec.nominal, *np.random.default_rng(0).uniform(spec.lower, spec.upper, (20, len(spec.joints)))]:
        robot.pose(angles)
        for leg, foot in zip(spec.legs, FEET[spec.name], strict=True):
            shank = tuple(spec.joints[i] for i in leg.joints)
            state = pybullet.getJointInfo(robot.body, robot.link[foot], robot.client)
            inside = np.subtract(state[14], 0)  # of the foot in its parent's inertial frame
            inertial = pybullet.getDynamicsInfo(robot.body, state[16], robot.client)[3]
            place, _ = kinematics.forward(Chain(shank, tuple(inside + inertial)), angles[list(leg.joints)])
            np.testing.assert_allclose(robot.place(foot), place, atol=2e-6)
            if angles is spec.nominal:
                np.testing.assert_allclose(place, leg.foot, atol=2e-6)


@pytest.mark.parametrize("robot", [MINITAUR], indirect=True, ids=lambda spec: spec.name)
def test_the_five_bar_legs_close_and_move_as_their_gain_says(robot: Robot):
    """A foot is where two rods of 0.2 m meet, which hang on what the motors turn."""
    spec = robot.spec

    def motors_of(leg: int) -> list[str]:
        return [spec.joint_names[i].removesuffix("_joint").removeprefix("motor_") for i in spec.legs[leg].joints]

    def foot(leg: int) -> np.ndarray:
        one, other = (robot.place(f"lower_leg_{motor}_link") for motor in motors_of(leg))
        middle, half = (one + other) / 2, (one - other) / 2
        half[1] = 0.0  # the rods lie side by side
        down = np.sqrt(0.2**2 - half @ half) * np.array([half[2], 0, -half[0]]) / np.linalg.norm(half)
        return middle + down * -np.sign(down[2])

    for index, leg in enumerate(spec.legs):
        loop = spec.loops[index]
        robot.pose(spec.nominal)
        np.testing.assert_allclose(
            robot.place(loop.link, loop.point), robot.place(loop.other_link, loop.other_point), atol=1e-3
        )
        before = foot(index)
        np.testing.assert_allclose(before, leg.foot, atol=0.015)  # the legs' planes are tilted by 5 deg
        for step in ((0.01, 0, 0), (0, 0, 0.01), (-0.02, 0, 0.02)):
            angles = spec.nominal.copy()
            angles[list(leg.joints)] += np.array(leg.gain) @ step
            robot.pose(angles)
            np.testing.assert_allclose((foot(index) - before)[[0, 2]], np.array(step)[[0, 2]], atol=3e-3)


def test_it_stands_still(robot: Robot):
    spec = robot.spec
    for _ in range(spec.control_hz):
        robot.run(spec.nominal)
    assert spec.mass == pytest.approx(robot.mass, abs=0.01)
    settled, _ = robot.base()
    for _ in range(spec.control_hz):
        robot.run(spec.nominal)
    place, turn = robot.base()
    assert abs(place[2] - spec.height) < 0.02  # the drives give way a little
    assert np.abs(turn[:2]).max() < 0.03
    # The engine's solver, at its default 50 iterations, lets the closed loops of a Minitaur creep.
    creep = 0.01 if spec.loops else 0.005
    assert np.linalg.norm(place - settled) < creep


def test_it_trots(robot: Robot):
    """Open loop, at 0.3 m/s, off which it is by less than a quarter."""
    spec = robot.spec
    gait, (frequency, height) = Gait.trot(spec), GAITS[spec.name]
    tilts = []
    for step in range(4 * spec.control_hz):
        time = step / spec.control_hz
        speed = 0.3 * min(1.0, 2 * time)
        steps = gait.steps(frequency * time, (speed, 0, 0), frequency, height, 0.65)
        robot.run(spec.nominal + gait.offsets(steps))
        place, turn = robot.base()
        tilts.append(np.abs(turn[:2]).max())
        if step == 2 * spec.control_hz:
            halfway = place
    assert max(tilts) < 0.25
    assert abs(place[2] - spec.height) < 0.02
    velocity = (place - halfway) / 2.0
    assert abs(velocity[0] - 0.3) < 0.075
    assert abs(velocity[1]) < 0.05
