"""The World protocol and its PyBullet engine. The only file that calls pybullet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pybullet
import pybullet_data
from numpy.typing import NDArray

from robots.spec import Array, RobotSpec

Marker = tuple[Array, tuple[float, float, float, float]]  # position [3] (m, world frame) and RGBA


class World(Protocol):
    """One robot in one engine, loaded once. Joint vectors are in the RobotSpec's order, SI units, world frame."""

    def randomize(self, payload: float, damping: float) -> None:
        """Set engine values from stored nominals: payload [kg] added at the tool's mount, joint damping [N m s/rad]."""

    def place(self, angles: Array) -> None:
        """Put the robot at rest at `angles` [n] with no memory of what was before."""

    def lead(self, path: Array) -> Array:
        """Place the robot at each pose of `path` [time, n] in turn; the true joint positions found there."""

    def joints(self) -> tuple[Array, Array]:
        """True joint positions and velocities [n]."""

    def tool(self) -> Array:
        """Tool position [3]."""

    def drive(self, target: Array, effort: Array) -> None:
        """Let the drives pull to joint positions `target` [n] with at most `effort` [n], until told otherwise."""

    def advance(self, steps: int) -> None:
        """Simulate `steps` physics steps."""

    def render(self, markers: Sequence[Marker]) -> NDArray[np.uint8]:
        """A picture [height, width, 3] with a ball at each marker."""

    def close(self) -> None:
        """Free the engine; closing twice is allowed."""


class PyBulletWorld:
    """World on PyBullet in DIRECT mode, with a ground plane and gravity.

    Raises ValueError if the URDF cannot be loaded or lacks a joint or link that the spec names.
    """

    SIZE = (480, 360)

    def __init__(self, spec: RobotSpec) -> None:
        self._client = client = pybullet.connect(pybullet.DIRECT)
        pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), physicsClientId=client)
        pybullet.setGravity(0, 0, -9.81, physicsClientId=client)
        pybullet.setTimeStep(1 / spec.physics_hz, physicsClientId=client)
        # Contact order must not depend on history, or neither would trajectories.
        pybullet.setPhysicsEngineParameter(deterministicOverlappingPairs=1, physicsClientId=client)
        pybullet.loadURDF("plane.urdf", physicsClientId=client)
        try:
            self._body = body = pybullet.loadURDF(spec.urdf, useFixedBase=True, physicsClientId=client)
        except pybullet.error as error:
            self.close()
            raise ValueError(
                f"{spec.name}: PyBullet cannot load {spec.urdf!r} ({error}); give a path that exists, from here or "
                "within pybullet_data"
            ) from error
        infos = [pybullet.getJointInfo(body, j, client) for j in range(pybullet.getNumJoints(body, client))]
        joints = {info[1].decode(): info[0] for info in infos}
        links = {info[12].decode(): info[0] for info in infos}
        for kind, wanted, found in (
            ("joint", [*spec.joint_names, *spec.held], joints),
            ("link", [spec.tool_link], links),
        ):
            if missing := [name for name in wanted if name not in found]:
                self.close()
                raise ValueError(f"{spec.urdf} has no {kind} {missing}; its {kind}s are {sorted(found)}")
        self._joints = [joints[name] for name in spec.joint_names]
        self._held = [joints[name] for name in spec.held]
        self._movable = [info[0] for info in infos if info[2] != pybullet.JOINT_FIXED]
        self._pose = [[spec.held.get(infos[j][1].decode(), 0.0)] for j in self._movable]
        self._still = [[0.0]] * len(self._movable)
        self._columns = [self._movable.index(j) for j in self._joints]
        self._tool = links[spec.tool_link]
        # A payload sits on the heaviest link beyond the last joint: the hand.
        tail = range(self._joints[-1], len(infos))
        self._mount = max(tail, key=lambda link: pybullet.getDynamicsInfo(body, link, client)[0])
        mount = pybullet.getDynamicsInfo(body, self._mount, client)
        self._mount_mass, self._mount_inertia = mount[0], mount[2]
        # Bullet's motor closes this share of the error in each physics step.
        self._gain = 1 / (spec.physics_hz * spec.servo_time)
        self._velocities = [joint.velocity for joint in spec.joints]
        if self._held:
            pybullet.setJointMotorControlArray(
                body, self._held, pybullet.POSITION_CONTROL, list(spec.held.values()), physicsClientId=client
            )
        self._balls: list[int] = []
        self.randomize(payload=0.0, damping=0.0)
        self.place(spec.nominal)

    def randomize(self, payload: float, damping: float) -> None:
        # Bullet recomputes inertia from the collision shape unless it is given with the mass.
        pybullet.changeDynamics(
            self._body,
            self._mount,
            mass=self._mount_mass + payload,
            localInertiaDiagonal=self._mount_inertia,
            physicsClientId=self._client,
        )
        for joint in self._joints:
            pybullet.changeDynamics(self._body, joint, jointDamping=damping, physicsClientId=self._client)

    def place(self, angles: Array) -> None:
        positions = list(self._pose)
        for column, angle in zip(self._columns, angles.tolist(), strict=True):
            positions[column] = [angle]
        pybullet.resetJointStatesMultiDof(
            self._body, self._movable, positions, self._still, physicsClientId=self._client
        )

    def lead(self, path: Array) -> Array:
        found = np.empty_like(path)
        for index, angles in enumerate(path):
            self.place(angles)
            found[index], _ = self.joints()
        return found

    def joints(self) -> tuple[Array, Array]:
        states = pybullet.getJointStates(self._body, self._joints, self._client)
        return np.array([state[0] for state in states]), np.array([state[1] for state in states])

    def tool(self) -> Array:
        link = pybullet.getLinkState(self._body, self._tool, computeForwardKinematics=1, physicsClientId=self._client)
        return np.array(link[4])

    def drive(self, target: Array, effort: Array) -> None:
        # One call per joint: only these take a velocity limit, and changeDynamics sets one limit for the whole body.
        for joint, position, force, velocity in zip(
            self._joints, target.tolist(), effort.tolist(), self._velocities, strict=True
        ):
            pybullet.setJointMotorControl2(
                self._body,
                joint,
                pybullet.POSITION_CONTROL,
                targetPosition=position,
                force=force,
                positionGain=self._gain,
                maxVelocity=velocity,
                physicsClientId=self._client,
            )

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            pybullet.stepSimulation(self._client)

    def render(self, markers: Sequence[Marker]) -> NDArray[np.uint8]:
        client = self._client
        while len(self._balls) < len(markers):
            shape = pybullet.createVisualShape(pybullet.GEOM_SPHERE, radius=0.025, physicsClientId=client)
            self._balls.append(pybullet.createMultiBody(baseVisualShapeIndex=shape, physicsClientId=client))
        for ball, (position, color) in zip(self._balls, markers, strict=True):
            pybullet.resetBasePositionAndOrientation(ball, position.tolist(), (0, 0, 0, 1), physicsClientId=client)
            pybullet.changeVisualShape(ball, -1, rgbaColor=color, physicsClientId=client)
        width, height = self.SIZE
        view = pybullet.computeViewMatrixFromYawPitchRoll((0.35, 0, 0.3), 1.25, 60, -25, 0, 2)
        projection = pybullet.computeProjectionMatrixFOV(50, width / height, 0.05, 5)
        image = pybullet.getCameraImage(
            width, height, view, projection, renderer=pybullet.ER_TINY_RENDERER, physicsClientId=client
        )[2]
        return np.reshape(np.asarray(image, dtype=np.uint8), (height, width, 4))[..., :3]

    def close(self) -> None:
        if self._client >= 0:
            pybullet.disconnect(self._client)
            self._client = -1
