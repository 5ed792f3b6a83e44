"""The World protocol and its PyBullet engine. The only file that calls pybullet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import dist
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import numpy as np
import pybullet
import pybullet_data
from numpy.typing import NDArray

from envs.objects import Thing
from envs.payload import CORNER, shares, with_corners
from envs.state import (
    PARKED,
    ROLLING,
    UPRIGHT,
    Drive,
    Link,
    Marker,
    Motion,
    Physics,
    Pose,
    Scene,
    Start,
    State,
)
from envs.terrain import CELL, HIGHEST, SAMPLES, Grid
from robots import actuation
from robots.spec import PD, Array, Fingers, RobotSpec, Servo, Suction, Vector3


class World(Protocol):
    """One robot in one engine, loaded once. Joint vectors are in the RobotSpec's order, SI units, world frame."""

    def randomize(self, physics: Physics) -> None:
        """Set the engine's values, always from stored nominals."""

    def place(self, start: Start) -> None:
        """Put everything at rest with no memory of what was before."""

    def lead(self, path: Array) -> Array:
        """Put the robot's joints at each pose of `path` [time, n] in turn; the true joint positions found there."""

    def read(self) -> State:
        """What is true now."""

    def drive(self, drive: Drive) -> None:
        """Let the drives follow, until told otherwise."""

    def advance(self, steps: int) -> None:
        """Simulate `steps` physics steps."""

    def push(self, impulse: Vector3) -> None:
        """Strike the payload's mount with an impulse [N s] in the next physics step."""

    def render(self, markers: Sequence[Marker]) -> NDArray[np.uint8]:
        """A picture [height, width, 3] with a ball at each marker; the camera follows a legged robot."""

    def close(self) -> None:
        """Free the engine; closing twice is allowed."""


class PyBulletWorld:
    """World on PyBullet in DIRECT mode.

    Raises ValueError if the URDF cannot be loaded or lacks a joint or link that the spec names.
    """

    SIZE = (480, 360)

    def __init__(self, spec: RobotSpec, scene: Scene = Scene()) -> None:  # noqa: B008 (frozen)
        self._spec, self._scene = spec, scene
        self._client = client = pybullet.connect(pybullet.DIRECT)
        pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), physicsClientId=client)
        pybullet.setTimeStep(1 / spec.physics_hz, physicsClientId=client)
        # Contact order must not depend on history, or neither would trajectories.
        pybullet.setPhysicsEngineParameter(deterministicOverlappingPairs=1, physicsClientId=client)
        if scene.terrain is not None:  # in one step a foot would be through the surface, and triangles push it on
            pybullet.setPhysicsEngineParameter(numSubSteps=2, physicsClientId=client)
        self._ground = self._load_ground(scene.terrain)
        try:
            self._load_robot()
        except ValueError:
            self.close()
            raise
        self._objects = [_load_thing(thing, client) for thing in scene.objects]
        self._object_inertia = [pybullet.getDynamicsInfo(body, -1, client)[2] for body in self._objects]  # at 1 kg
        for thing in self._objects:
            self._park(thing)
        self._physics = Physics()
        self._held: int | None = None  # the constraint of an object that a suction pad holds
        self._anchor: Vector3 = (0.0, 0.0, 0.0)  # where the pad holds it, in its frame
        self._torques = [0.0] * len(spec.joints)
        self._states: Any = None  # the joints' last reading, while it holds
        self._balls: list[int] = []
        self._hills: tuple[Any, int] | None = None  # which tile has its visual twin, and the twin
        self.randomize(self._physics)
        self.place(Start(spec.nominal, Pose((0, 0, spec.height)) if spec.floating else None))

    def _load_ground(self, terrain: Grid | None) -> int:
        client = self._client
        if terrain is None:
            return int(pybullet.loadURDF("plane.urdf", physicsClientId=client))
        # One tile at a time: Bullet takes 2 kB for every sample. The first heights set the bounds of all that follow.
        level = np.zeros((SAMPLES, SAMPLES))
        level[0, 0], level[-1, -1] = -HIGHEST, HIGHEST
        self._field = self._shape_tile(level, {})
        ground = int(pybullet.createMultiBody(0, self._field, physicsClientId=client))
        # The renderer would draw these first heights for ever: `_show_hills` draws the tile.
        pybullet.changeVisualShape(ground, -1, rgbaColor=(0, 0, 0, 0), physicsClientId=client)
        return ground

    def _shape_tile(self, heights: Array, how: dict[str, int]) -> int:
        shape = pybullet.createCollisionShape(
            pybullet.GEOM_HEIGHTFIELD,
            meshScale=(CELL, CELL, 1),
            heightfieldData=heights.T.ravel().tolist(),
            numHeightfieldRows=SAMPLES,
            numHeightfieldColumns=SAMPLES,
            physicsClientId=self._client,
            **how,
        )
        return int(shape)

    def _lay(self, tile: tuple[int, int]) -> None:
        """Put a tile of the terrain where the robot is to walk."""
        terrain = self._scene.terrain
        assert terrain is not None, "only a world with terrain has tiles"
        kind = terrain.kinds[tile[0]]
        self._shape_tile(terrain.tile(kind, tile[1])[0], {"replaceHeightfieldIndex": self._field})
        x, y = terrain.centre(kind, tile[1]).tolist()
        pybullet.resetBasePositionAndOrientation(self._ground, (x, y, 0), UPRIGHT, physicsClientId=self._client)

    def _load_robot(self) -> None:
        spec, client = self._spec, self._client
        path = spec.urdf
        if not Path(path).is_file():
            path = str(Path(pybullet_data.getDataPath()) / spec.urdf)
        extended = ""
        try:
            extended = with_corners(path, spec.tool_link) if self._scene.payload_at else ""
            self._body = body = pybullet.loadURDF(
                extended or path, useFixedBase=not spec.floating, physicsClientId=client
            )
        except (pybullet.error, OSError, ElementTree.ParseError, LookupError, StopIteration) as error:
            raise ValueError(
                f"{spec.name}: PyBullet cannot load {spec.urdf!r} ({error}); give the path of a URDF, from here or "
                "within pybullet_data"
            ) from error
        finally:
            if extended:
                os.unlink(extended)
        infos = [pybullet.getJointInfo(body, j, client) for j in range(pybullet.getNumJoints(body, client))]
        joints = {info[1].decode(): info[0] for info in infos}
        links = {info[12].decode(): info[0] for info in infos}
        links[pybullet.getBodyInfo(body, client)[0].decode()] = -1
        fingers = spec.gripper.joints if isinstance(spec.gripper, Fingers) else ()
        tool = [spec.tool_link] if spec.tool_link else []
        looped = [name for loop in spec.loops for name in (loop.link, loop.other_link)]
        for kind, wanted, found in (
            ("joint", [*spec.joint_names, *spec.held, *spec.free, *fingers], joints),
            ("link", [*tool, *looped], links),
        ):
            if missing := [name for name in wanted if name not in found]:
                raise ValueError(f"{spec.urdf} has no {kind} {missing}; its {kind}s are {sorted(found)}")
        self._joints = [joints[name] for name in spec.joint_names]
        self._fingers = [joints[name] for name in fingers]
        half = spec.gripper.opening / 2 if isinstance(spec.gripper, Fingers) else 0.0
        rest = {**spec.held, **spec.free, **dict.fromkeys(fingers, half)}
        self._movable = [info[0] for info in infos if info[2] != pybullet.JOINT_FIXED]
        self._pose = [[rest.get(infos[j][1].decode(), 0.0)] for j in self._movable]
        self._still = [[0.0]] * len(self._movable)
        self._columns = [self._movable.index(j) for j in self._joints]
        self._tool = links[spec.tool_link] if tool else None
        # The tool may lie beyond the frame of the link that the last joint moves, as on a flange.
        self._beyond = spec.tool if self._tool == self._joints[-1] else (0.0, 0.0, 0.0)
        if isinstance(spec.gripper, Suction):
            self._pad = pybullet.createCollisionShape(pybullet.GEOM_SPHERE, radius=1e-4, physicsClientId=client)
        corners = [links[name] for name in sorted(links) if name.startswith(CORNER)]
        # An arm carries its payload on the heaviest link beyond the last joint: the hand.
        tail = [j for j in range(self._joints[-1], len(infos)) if j not in corners]
        self._mount = (
            -1 if spec.floating else max(tail, key=lambda link: pybullet.getDynamicsInfo(body, link, client)[0])
        )
        self._corners = corners
        self._links = [link for link in range(-1 if spec.floating else 0, len(infos)) if link not in corners]
        self._nominal = [pybullet.getDynamicsInfo(body, link, client) for link in self._links]
        self._damping = [infos[j][6] for j in self._joints]
        self._names = {index: name for name, index in links.items()}
        if isinstance(spec.drive, Servo):
            # Bullet's motor closes this share of the error in each physics step.
            self._gain = 1 / (spec.physics_hz * spec.drive.time)
        loose = [j for j in self._movable if j not in self._joints] if spec.floating else []
        if isinstance(spec.drive, PD):
            loose = [*self._joints, *(joints[name] for name in spec.free)]
        for joint in loose:  # Bullet brakes every joint unless told not to
            pybullet.setJointMotorControl2(body, joint, pybullet.VELOCITY_CONTROL, force=0, physicsClientId=client)
        held = [joints[name] for name in spec.held]
        if held:
            pybullet.setJointMotorControlArray(
                body, held, pybullet.POSITION_CONTROL, list(spec.held.values()), physicsClientId=client
            )
        self._half_open = half
        self._move_fingers(half)
        for loop in spec.loops:
            constraint = pybullet.createConstraint(
                body, links[loop.link], body, links[loop.other_link], pybullet.JOINT_POINT2POINT, (0, 0, 0),
                loop.point, loop.other_point, physicsClientId=client,
            )  # fmt: skip
            pybullet.changeConstraint(constraint, maxForce=1000, physicsClientId=client)
        if spec.floating:
            # What meets the ground has the ground's friction (Bullet multiplies), and falls without air.
            for link in self._links:
                pybullet.changeDynamics(
                    body, link, lateralFriction=1, spinningFriction=0, rollingFriction=0, restitution=1,
                    linearDamping=0, angularDamping=0, frictionAnchor=bool(spec.loops),
                    physicsClientId=client,
                )  # fmt: skip

    def links(self) -> dict[str, Link]:
        """Every link of the robot by name, with the mass and inertia that PyBullet computes with when nominal."""
        infos = {index: pybullet.getDynamicsInfo(self._body, index, self._client) for index in self._names}
        return {self._names[i]: Link(info[0], info[2], info[3], info[4]) for i, info in infos.items()}

    def randomize(self, physics: Physics) -> None:
        client, body, scale = self._client, self._body, physics.mass_scale
        on_mount = 0.0 if self._corners else physics.payload
        for link, nominal in zip(self._links, self._nominal, strict=True):
            # Bullet recomputes inertia from the collision shape unless it is given with the mass.
            pybullet.changeDynamics(
                body,
                link,
                mass=nominal[0] * scale + (on_mount if link == self._mount else 0.0),
                localInertiaDiagonal=[scale * value for value in nominal[2]],
                physicsClientId=client,
            )
        for corner, share in zip(self._corners, shares(physics.payload_at), strict=False):
            mass = max(physics.payload * share, 1e-6)
            pybullet.changeDynamics(
                body, corner, mass=mass, localInertiaDiagonal=(1e-4 * mass,) * 3, physicsClientId=client
            )
        for joint, nominal_damping in zip(self._joints, self._damping, strict=True):
            pybullet.changeDynamics(body, joint, jointDamping=nominal_damping + physics.damping, physicsClientId=client)
        if isinstance(self._spec.drive, PD):  # a velocity motor at rest with little force is dry friction
            for joint in self._joints:
                pybullet.setJointMotorControl2(
                    body, joint, pybullet.VELOCITY_CONTROL, force=physics.joint_friction, physicsClientId=client
                )
        pybullet.changeDynamics(
            self._ground, -1, lateralFriction=physics.friction, restitution=physics.restitution, physicsClientId=client
        )
        pybullet.setGravity(*physics.gravity, physicsClientId=client)
        if physics.tile is not None and physics.tile != self._physics.tile:
            self._lay(physics.tile)
        if self._physics.object not in (None, physics.object):
            self._park(self._objects[self._physics.object])
        if physics.object is not None:
            inertia = self._object_inertia[physics.object]
            rolling = ROLLING if self._scene.objects[physics.object].rolls else 0.0
            pybullet.changeDynamics(
                self._objects[physics.object],
                -1,
                mass=physics.object_mass,
                localInertiaDiagonal=[physics.object_mass * value for value in inertia],
                lateralFriction=physics.object_friction,
                rollingFriction=rolling,
                spinningFriction=rolling,
                restitution=physics.object_restitution,
                linearDamping=0,
                angularDamping=0,
                physicsClientId=client,
            )
        self._physics = physics

    def place(self, start: Start) -> None:
        client, body = self._client, self._body
        self._release()
        self._states = None
        if start.base is not None:
            # Cached contacts would keep the friction of the episode before: lift the robot out of them.
            pybullet.resetBasePositionAndOrientation(body, (0, 0, 500), UPRIGHT, physicsClientId=client)
            pybullet.performCollisionDetection(client)
            pybullet.resetBasePositionAndOrientation(body, *start.base, physicsClientId=client)
            pybullet.resetBaseVelocity(body, (0, 0, 0), (0, 0, 0), physicsClientId=client)
        positions = list(self._pose)
        for column, angle in zip(self._columns, start.joints.tolist(), strict=True):
            positions[column] = [angle]
        pybullet.resetJointStatesMultiDof(body, self._movable, positions, self._still, physicsClientId=client)
        if self._physics.object is not None and start.object is not None:
            thing = self._objects[self._physics.object]
            # Contacts are remembered from step to step: out of the way first, so that these are forgotten.
            pybullet.resetBasePositionAndOrientation(thing, (thing, 0, PARKED), UPRIGHT, physicsClientId=client)
            pybullet.performCollisionDetection(client)
            pybullet.resetBasePositionAndOrientation(thing, *start.object, physicsClientId=client)
            pybullet.resetBaseVelocity(thing, (0, 0, 0), (0, 0, 0), physicsClientId=client)
        if self._half_open:
            self._move_fingers(self._half_open)
        self._torques = [0.0] * len(self._joints)

    def lead(self, path: Array) -> Array:
        found = np.empty_like(path)
        for index, angles in enumerate(path):
            self.place(Start(angles))
            found[index] = self.read().joints
        return found

    def read(self) -> State:
        client, body = self._client, self._body
        states = self._states = pybullet.getJointStates(body, self._joints, client)
        tool = base = thing = None
        if self._tool is not None:
            link = pybullet.getLinkState(body, self._tool, computeForwardKinematics=1, physicsClientId=client)
            tool = np.array(self._at_tool(link)[0])
        if self._spec.floating:
            base = self._motion(body)
        if self._physics.object is not None:
            thing = self._motion(self._objects[self._physics.object])
        joints, speeds = np.array([state[0] for state in states]), np.array([state[1] for state in states])
        return State(joints, speeds, np.array(self._torques), tool, base, thing)

    def _at_tool(self, link: Any) -> tuple[Vector3, Any]:
        """The tool's pose, from its link's state."""
        if any(self._beyond):
            pose: tuple[Vector3, Any] = pybullet.multiplyTransforms(link[4], link[5], self._beyond, UPRIGHT)
            return pose
        return link[4], link[5]

    def _motion(self, body: int) -> Motion:
        client = self._client
        return Motion(*pybullet.getBasePositionAndOrientation(body, client), *pybullet.getBaseVelocity(body, client))

    def drive(self, drive: Drive) -> None:
        spec = self._spec
        self._target, self._effort = drive.target.tolist(), drive.effort.tolist()
        self._velocity = drive.velocity.tolist()
        if isinstance(spec.drive, Servo):
            friction = self._physics.joint_friction
            # One call per joint: only these take a velocity limit, and changeDynamics sets one for the whole body.
            for joint, position, effort, velocity in zip(
                self._joints, self._target, self._effort, self._velocity, strict=True
            ):
                pybullet.setJointMotorControl2(
                    self._body,
                    joint,
                    pybullet.POSITION_CONTROL,
                    targetPosition=position,
                    force=max(effort - friction, 0.0),
                    positionGain=self._gain,
                    maxVelocity=velocity,
                    physicsClientId=self._client,
                )
        if drive.grip is None:
            return
        if isinstance(spec.gripper, Fingers):
            self._move_fingers(spec.gripper.opening * (1 - drive.grip))
        elif isinstance(spec.gripper, Suction):
            self._suck(spec.gripper, drive.grip > 0.5)

    def _move_fingers(self, opening: float) -> None:
        for finger in self._fingers:
            pybullet.setJointMotorControl2(
                self._body,
                finger,
                pybullet.POSITION_CONTROL,
                targetPosition=opening,
                force=self._spec.gripper.effort,  # type: ignore[union-attr]
                physicsClientId=self._client,
            )

    def advance(self, steps: int) -> None:
        client, drive = self._client, self._spec.drive
        step = pybullet.stepSimulation
        if isinstance(drive, Servo):
            for _ in range(steps):
                step(client)
            return
        body, joints = self._body, self._joints
        read, send, torque = pybullet.getJointStates, pybullet.setJointMotorControlArray, pybullet.TORQUE_CONTROL
        states, self._states = self._states, None
        for _ in range(steps):
            if states is None:
                states = read(body, joints, client)
            self._torques = actuation.torques(drive, self._target, self._effort, self._velocity, states)
            send(body, joints, torque, forces=self._torques, physicsClientId=client)
            step(client)
            states = None

    def push(self, impulse: Vector3) -> None:
        client, mount = self._client, self._mount
        if mount < 0:
            place = pybullet.getBasePositionAndOrientation(self._body, client)[0]
        else:
            place = pybullet.getLinkState(self._body, mount, physicsClientId=client)[0]
        force = [self._spec.physics_hz * part for part in impulse]
        pybullet.applyExternalForce(self._body, mount, force, place, pybullet.WORLD_FRAME, physicsClientId=client)

    def _park(self, thing: int) -> None:
        """Out of the way, and without mass, so that the engine need not move it."""
        pybullet.resetBasePositionAndOrientation(thing, (thing, 0, PARKED), UPRIGHT, physicsClientId=self._client)
        pybullet.resetBaseVelocity(thing, (0, 0, 0), (0, 0, 0), physicsClientId=self._client)
        pybullet.changeDynamics(
            thing, -1, mass=0, localInertiaDiagonal=(0, 0, 0), lateralFriction=0, rollingFriction=0,
            spinningFriction=0, restitution=0, linearDamping=0, angularDamping=0, physicsClientId=self._client,
        )  # fmt: skip

    def _suck(self, pad: Suction, on: bool) -> None:
        client, thing = self._client, self._physics.object
        if not on or thing is None or self._tool is None:
            return self._release()
        body, other = self._body, self._objects[thing]
        link = pybullet.getLinkState(body, self._tool, computeForwardKinematics=1, physicsClientId=client)
        mouth, turn = self._at_tool(link)
        pose = pybullet.getBasePositionAndOrientation(other, client)
        if self._held is not None:
            if dist(mouth, pybullet.multiplyTransforms(*pose, self._anchor, UPRIGHT)[0]) > pad.reach:
                self._release()
            return None
        near = pybullet.getClosestPoints(
            -1, other, pad.reach, collisionShapeA=self._pad, collisionShapePositionA=mouth,
            collisionShapeOrientationA=turn, physicsClientId=client,
        )  # fmt: skip
        if not near:
            return None
        touched = min(near, key=itemgetter(8))[6]
        self._anchor = pybullet.multiplyTransforms(*pybullet.invertTransform(*pose), touched, UPRIGHT)[0]
        inside = pybullet.multiplyTransforms(*pybullet.invertTransform(link[0], link[1]), mouth, UPRIGHT)[0]
        self._held = pybullet.createConstraint(
            body, self._tool, other, -1, pybullet.JOINT_POINT2POINT, (0, 0, 0), inside, self._anchor,
            physicsClientId=client,
        )  # fmt: skip
        pybullet.changeConstraint(self._held, maxForce=pad.force, physicsClientId=client)
        return None

    def _release(self) -> None:
        if self._held is not None:
            pybullet.removeConstraint(self._held, physicsClientId=self._client)
            self._held = None

    def render(self, markers: Sequence[Marker]) -> NDArray[np.uint8]:
        client = self._client
        while len(self._balls) < len(markers):
            shape = pybullet.createVisualShape(pybullet.GEOM_SPHERE, radius=0.025, physicsClientId=client)
            self._balls.append(pybullet.createMultiBody(baseVisualShapeIndex=shape, physicsClientId=client))
        for ball, (position, color) in zip(self._balls, markers, strict=True):
            pybullet.resetBasePositionAndOrientation(ball, position.tolist(), UPRIGHT, physicsClientId=client)
            pybullet.changeVisualShape(ball, -1, rgbaColor=color, physicsClientId=client)
        width, height = self.SIZE
        at, distance, pitch = (0.35, 0.0, 0.3), 1.25, -25
        if self._spec.floating:
            at, distance, pitch = self._motion(self._body).position, 4.5 * self._spec.height, -20
            self._show_hills()
        view = pybullet.computeViewMatrixFromYawPitchRoll(at, distance, 60, pitch, 0, 2)
        projection = pybullet.computeProjectionMatrixFOV(50, width / height, 0.05, 20)
        # A low sun shows the shape of the ground.
        light: dict[str, Any] = {"lightDirection": (2, 1, 1), "lightAmbientCoeff": 0.35, "lightDiffuseCoeff": 0.65}
        image = pybullet.getCameraImage(
            width, height, view, projection, renderer=pybullet.ER_TINY_RENDERER, physicsClientId=client,
            **(light if self._hills else {}),
        )[2]  # fmt: skip
        return np.reshape(np.asarray(image, dtype=np.uint8), (height, width, 4))[..., :3]

    def _show_hills(self) -> None:
        """The renderer does not draw heightfields: show the tile as a mesh."""
        terrain, tile = self._scene.terrain, self._physics.tile
        if terrain is None or tile is None:
            return
        if self._hills is not None and self._hills[0] != tile:
            pybullet.removeBody(self._hills[1], physicsClientId=self._client)
            self._hills = None
        if self._hills is None:
            vertices, indices = terrain.mesh(terrain.kinds[tile[0]], tile[1], stride=1)
            # Three corners and one normal for every triangle: the renderer shades by normals, and edges should show.
            corners = np.array(vertices)[np.reshape(indices, (-1, 3))]
            normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            shape = pybullet.createVisualShape(
                pybullet.GEOM_MESH, vertices=corners.reshape(-1, 3).tolist(), indices=list(range(3 * len(corners))),
                normals=np.repeat(normals, 3, axis=0).tolist(), rgbaColor=(0.75, 0.7, 0.6, 1),
                physicsClientId=self._client,
            )  # fmt: skip
            self._hills = tile, pybullet.createMultiBody(baseVisualShapeIndex=shape, physicsClientId=self._client)

    def close(self) -> None:
        if self._client >= 0:
            pybullet.disconnect(self._client)
            self._client = -1


def _load_thing(thing: Thing, client: int) -> int:
    """One object of the pool, 1 kg heavy."""
    if thing.shape == "mesh":
        body = int(pybullet.loadURDF(thing.path, globalScaling=thing.scale, physicsClientId=client))
        pybullet.changeDynamics(body, -1, mass=1, physicsClientId=client)
        return body
    x, y, z = thing.size
    size: dict[str, Any] = {
        "box": {"shapeType": pybullet.GEOM_BOX, "halfExtents": (x / 2, y / 2, z / 2)},
        "cylinder": {"shapeType": pybullet.GEOM_CYLINDER, "radius": x / 2, "height": z},
        "capsule": {"shapeType": pybullet.GEOM_CAPSULE, "radius": x / 2, "height": z - x},
        "sphere": {"shapeType": pybullet.GEOM_SPHERE, "radius": x / 2},
    }[thing.shape]
    shape = pybullet.createCollisionShape(**size, physicsClientId=client)
    if "height" in size:
        size["length"] = size.pop("height")  # the same thing under another name
    visual = pybullet.createVisualShape(**size, rgbaColor=(0.85, 0.45, 0.15, 1), physicsClientId=client)
    return int(pybullet.createMultiBody(1, shape, visual, physicsClientId=client))
