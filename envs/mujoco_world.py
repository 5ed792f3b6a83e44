"""The World protocol on MuJoCo: the world that nobody trained in. docs/engines.md says where the engines differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf, log, pi, sqrt
from pathlib import Path

import numpy as np
import pybullet_data
from numpy.typing import NDArray

from envs.frames import Quaternion, out_of
from envs.payload import REACH
from envs.state import ABOVE, ROLLING, Drive, Marker, Motion, Physics, Pose, Scene, Start, State
from envs.world import PyBulletWorld
from robots import actuation
from robots.spec import PD, Array, Fingers, JointSpec, RobotSpec, Servo, Suction, Vector3

try:
    import mujoco

    from envs import mujoco_model
    from envs.mujoco_model import GROUND, PAD, PAYLOAD, ROBOT, THING, clutch, grasp, wheel
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}; the second engine is an extra: pip install 'sim2adapt[sim2sim]'", name=error.name
    ) from error

FINGERS = 0.1  # share of their error that PyBullet's fingers, driven as `envs.world` drives them, close in a step
SUNK, LIFTS = 1e-3, 10  # [m] in the ground that is left as it is; how often a robot is lifted at most
Indices = NDArray[np.intp]


class MujocoWorld:
    """World on MuJoCo. It takes the rigid bodies, and pictures of them, from PyBulletWorld.

    Raises ValueError if the URDF cannot be loaded or lacks a joint or link that the spec names.
    """

    def __init__(self, spec: RobotSpec, scene: Scene = Scene()) -> None:  # noqa: B008 (frozen)
        self._spec, self._scene = spec, scene
        bullet = PyBulletWorld(spec)
        links = bullet.links()
        bullet.close()
        self._model = model = mujoco_model.build(spec, scene, links, Path(pybullet_data.getDataPath()))
        self._steps = mujoco_model.steps(scene)
        self._data = data = mujoco.MjData(model)
        self._aside = mujoco.MjData(model)  # MuJoCo's derived constants are computed in passing through a state
        self._qpos, self._qvel = data.qpos, data.qvel
        self._at, self._dof = self._addresses(spec.joint_names)
        fingers = spec.gripper.joints if isinstance(spec.gripper, Fingers) else ()
        servos = spec.joint_names if isinstance(spec.drive, Servo) else ()
        self._servos = len(servos)
        self._moved, _ = self._addresses([*servos, *fingers])
        _, self._wheels = self._addresses(map(wheel, [*servos, *fingers]))
        self._clutches = np.array([model.tendon(clutch(name)).id for name in servos], dtype=np.intp)
        time = spec.drive.time if isinstance(spec.drive, Servo) else inf
        self._rate = np.array([1 / time] * len(servos) + [FINGERS * spec.physics_hz] * len(fingers))
        self._fastest = np.full(len(self._rate), inf)
        self._half_open = spec.gripper.opening / 2 if isinstance(spec.gripper, Fingers) else 0.0
        self._rest = {**spec.held, **spec.free, **dict.fromkeys(fingers, self._half_open)}
        self._resting, _ = self._addresses(self._rest)
        bodies = [model.body(name).id for name in links]
        self._bodies = np.array([body for body in bodies if model.body_mass[body] > 0])
        self._mass, self._inertia = model.body_mass[self._bodies], model.body_inertia[self._bodies]
        self._damping = model.dof_damping[self._dof]
        self._tool = model.body(spec.tool_link).id if spec.tool_link else None
        # The tool may lie beyond the frame of the link that the last joint moves, as on a flange.
        self._beyond = np.array(spec.tool) * (self._tool is not None and model.body_jntnum[self._tool] > 0)
        self._mount = self._find_mount()
        self._limbs = set(bodies) - {0}
        self._base = int(model.body_jntadr[self._mount]) if spec.floating else None
        self._centre = Pose(*links[model.body(self._mount).name][2:])  # of mass: what PyBullet calls the base's pose
        self._ground = model.geom("ground").id
        self._things = [model.body(thing.name).id for thing in scene.objects]
        self._unit = [model.body_inertia[body] / model.body_mass[body] for body in self._things]
        self._physics = Physics()
        self._held: int | None = None  # the equality that holds an object to the suction pad
        self._picture: PyBulletWorld | None = None
        self._park_all()
        self.randomize(self._physics)
        self.place(Start(spec.nominal, Pose((0, 0, spec.height)) if spec.floating else None))

    def _addresses(self, joints: Iterable[str]) -> tuple[Indices, Indices]:
        """Where joints stand in qpos and in qvel."""
        found = [self._model.joint(name) for name in joints]
        return (
            np.array([joint.qposadr[0] for joint in found], dtype=np.intp),
            np.array([joint.dofadr[0] for joint in found], dtype=np.intp),
        )

    def _find_mount(self) -> int:
        """The base of a legged robot; on an arm, the heaviest link beyond the last joint, the hand."""
        model = self._model
        if self._spec.floating:
            return int(model.body_rootid[self._bodies[0]])
        last = int(model.jnt_bodyid[model.joint(self._spec.joint_names[-1]).id])
        tail = {last}
        for body in range(last + 1, model.nbody):
            if model.body_parentid[body] in tail:
                tail.add(body)
        return max(tail, key=lambda body: float(model.body_mass[body]))

    def randomize(self, physics: Physics) -> None:
        model, scale, payload = self._model, physics.mass_scale, physics.payload
        model.body_mass[self._bodies] = scale * self._mass
        model.body_inertia[self._bodies] = scale * self._inertia
        if self._scene.payload_at:
            # PyBullet's four corners, each with its share, as the one body that they make up.
            x, y = physics.payload_at
            carried = model.body(PAYLOAD).id
            model.body_pos[carried] = x, y, ABOVE
            model.body_mass[carried] = payload = max(payload, 1e-6)
            spread = REACH**2 - y**2, REACH**2 - x**2
            model.body_inertia[carried] = payload * (np.array([*spread, sum(spread)]) + 1e-4)
        else:
            model.body_mass[self._mount] += payload
        model.dof_damping[self._dof] = self._damping + physics.damping
        model.dof_frictionloss[self._dof] = physics.joint_friction
        model.geom_friction[self._ground, 0] = physics.friction
        model.geom_solref[self._ground] = _bounce(physics.restitution, model.opt.timestep)
        model.opt.gravity = physics.gravity
        if physics.object != self._physics.object:
            self._park_all()
        if physics.object is not None:
            self._bring(self._things[physics.object], self._unit[physics.object], physics)
        self._physics = physics
        mujoco.mj_setConst(model, self._aside)

    def _geoms(self, body: int) -> slice:
        first = self._model.body_geomadr[body]
        return slice(first, first + self._model.body_geomnum[body])

    def _park_all(self) -> None:
        """Objects out of play have neither contacts nor weight, so that the engine need not move them."""
        model = self._model
        self._release()
        for body in self._things:
            geoms, joint = self._geoms(body), model.body_jntadr[body]
            model.geom_contype[geoms], model.geom_conaffinity[geoms] = 0, 0
            model.body_gravcomp[body] = 1
            at, dof = model.jnt_qposadr[joint], model.jnt_dofadr[joint]
            self._qpos[at : at + 7], self._qvel[dof : dof + 6] = model.qpos0[at : at + 7], 0

    def _bring(self, body: int, unit: Array, physics: Physics) -> None:
        """Bring an object, of inertia `unit` [3] at 1 kg, into play."""
        model, geoms = self._model, self._geoms(body)
        model.geom_contype[geoms], model.geom_conaffinity[geoms] = THING, ROBOT | THING | GROUND
        model.body_gravcomp[body] = 0
        model.body_mass[body], model.body_inertia[body] = physics.object_mass, physics.object_mass * unit
        model.geom_friction[geoms] = physics.object_friction, ROLLING, ROLLING
        model.geom_solref[geoms] = _bounce(physics.object_restitution, model.opt.timestep)

    def place(self, start: Start) -> None:
        before = self._qpos.copy()
        mujoco.mj_resetData(self._model, self._data)
        self._held = None
        self._qpos[self._resting] = list(self._rest.values())
        self._qpos[self._at] = start.joints
        for joint, pose, centre in (
            (self._base, start.base, self._centre),
            (self._thing(), start.object, Pose((0, 0, 0))),
        ):
            if joint is not None:
                at = slice(self._model.jnt_qposadr[joint], self._model.jnt_qposadr[joint] + 7)
                self._qpos[at] = before[at] if pose is None else _frame(pose, centre)
        self._torques = [0.0] * len(self._at)
        self._target, self._effort = start.joints.tolist(), self._spec.effort.tolist()
        self._velocity = self._spec.velocity.tolist()
        self._goals = np.full(len(self._moved), self._half_open)
        self._goals[: self._servos] = start.joints[: self._servos]
        if start.base is not None and self._scene.terrain is not None:
            self._lift()

    def _lift(self) -> None:
        """Out of the ground, into which joints that are off may have put the feet: a height field throws them aside."""
        up = self._model.jnt_qposadr[self._base] + 2
        for _ in range(LIFTS):
            mujoco.mj_fwdPosition(self._model, self._data)
            contact = self._data.contact
            deep = -contact.dist[(contact.geom == self._ground).any(1)].min(initial=0)
            if deep < SUNK:
                return
            self._qpos[up] += deep

    def lead(self, path: Array) -> Array:
        found = np.empty_like(path)
        for index, angles in enumerate(path):
            self.place(Start(angles))
            found[index] = self._qpos[self._at]
        return found

    def read(self) -> State:
        tool = None
        if self._tool is not None:
            mujoco.mj_kinematics(self._model, self._data)  # a step leaves places as they were at its start
            tool = self._mouth()
        return State(
            self._qpos[self._at],
            self._qvel[self._dof],
            np.array(self._torques),
            tool,
            self._motion(self._base, self._centre),
            self._motion(self._thing(), Pose((0, 0, 0))),
        )

    def _mouth(self) -> Array:
        place: Array = self._data.xpos[self._tool] + self._data.xmat[self._tool].reshape(3, 3) @ self._beyond
        return place

    def _thing(self) -> int | None:
        """The free joint of the object in play."""
        played = self._physics.object
        return None if played is None else int(self._model.body_jntadr[self._things[played]])

    def _motion(self, joint: int | None, centre: Pose) -> Motion | None:
        """The motion of a free body's centre of mass."""
        if joint is None:
            return None
        at, dof = self._model.jnt_qposadr[joint], self._model.jnt_dofadr[joint]
        a, b, c, w, x, y, z = self._qpos[at : at + 7].tolist()
        p, q, r, *spin = self._qvel[dof : dof + 6].tolist()
        turn = (x, y, z, w)
        d, e, f = out_of(turn, centre.position)
        k, m, n = angular = out_of(turn, spin)  # MuJoCo's is in the body's frame
        velocity = p + m * f - n * e, q + n * d - k * f, r + k * e - m * d
        return Motion((a + d, b + e, c + f), _times(turn, centre.quaternion), velocity, angular)

    def drive(self, drive: Drive) -> None:
        gripper = self._spec.gripper
        self._target, self._effort = drive.target.tolist(), drive.effort.tolist()
        self._velocity = drive.velocity.tolist()
        if self._servos:
            self._goals[: self._servos], self._fastest[: self._servos] = drive.target, drive.velocity
            self._model.tendon_frictionloss[self._clutches] = drive.effort
        if drive.grip is None:
            return
        if isinstance(gripper, Fingers):
            self._goals[self._servos :] = gripper.opening * (1 - drive.grip)
        elif isinstance(gripper, Suction):
            self._suck(gripper, drive.grip > 0.5)

    def advance(self, steps: int) -> None:
        model, data, qpos, qvel = self._model, self._data, self._qpos, self._qvel
        drive, step = self._spec.drive, mujoco.mj_step
        for _ in range(steps):
            if isinstance(drive, PD):
                states = list(zip(qpos[self._at].tolist(), qvel[self._dof].tolist(), strict=True))
                self._torques = actuation.torques(drive, self._target, self._effort, self._velocity, states)
                data.qfrc_applied[self._dof] = self._torques
            for _ in range(self._steps):
                if len(self._wheels):
                    speeds = self._rate * (self._goals - qpos[self._moved])
                    qvel[self._wheels] = np.minimum(np.maximum(speeds, -self._fastest), self._fastest)
                step(model, data)
            data.xfrc_applied[self._mount] = 0
            if self._held is not None and self._pull() > self._spec.gripper.force:  # type: ignore[union-attr]
                self._release()

    def push(self, impulse: Vector3) -> None:
        self._data.xfrc_applied[self._mount, :3] = np.array(impulse) * self._spec.physics_hz

    def _suck(self, pad: Suction, on: bool) -> None:
        model, data, thing = self._model, self._data, self._physics.object
        if not on or thing is None:
            return self._release()
        mujoco.mj_kinematics(model, data)
        body = self._things[thing]
        mouth, centre = self._mouth(), data.xpos[body]
        turn = data.xmat[body].reshape(3, 3)
        if self._held is not None:
            if np.linalg.norm(mouth - centre - turn @ model.eq_data[self._held, 3:6]) > pad.reach:
                self._release()
            elif self._pull() < pad.force / 2:
                model.eq_data[self._held, :3] += 0.2 * (self._beyond - model.eq_data[self._held, :3])  # draw it in
            return None
        ends, nearest = np.empty(6), pad.reach
        for geom in range(model.ngeom)[self._geoms(body)]:
            distance = mujoco.mj_geomDistance(model, data, model.geom(PAD).id, geom, pad.reach, ends)
            if distance < nearest:
                nearest = distance
                self._held = model.equality(grasp(self._scene.objects[thing].name)).id
                inside = data.xmat[self._tool].reshape(3, 3).T @ (ends[3:] - mouth)
                model.eq_data[self._held, :3] = self._beyond + inside
                model.eq_data[self._held, 3:6] = turn.T @ (ends[3:] - centre)
                data.eq_active[self._held] = True
        return None

    def _pull(self) -> float:
        """The force [N] that holds the object to the pad."""
        data = self._data
        rows = (data.efc_type == mujoco.mjtConstraint.mjCNSTR_EQUALITY) & (data.efc_id == self._held)
        return float(np.linalg.norm(data.efc_force[rows]))

    def _release(self) -> None:
        if self._held is not None:
            self._data.eq_active[self._held] = False
            self._held = None

    def render(self, markers: Sequence[Marker]) -> NDArray[np.uint8]:
        model, state = self._model, self.read()
        hinges = [j for j in range(model.njnt) if model.jnt_bodyid[j] in self._limbs and j != self._base]
        if self._picture is None:
            self._picture = PyBulletWorld(_puppet(self._spec, [model.joint(j).name for j in hinges]), self._scene)
        self._picture.randomize(Physics(object=self._physics.object, tile=self._physics.tile))
        base, thing = (None if motion is None else Pose(*motion[:2]) for motion in (state.base, state.object))
        self._picture.place(Start(self._qpos[model.jnt_qposadr[hinges]], base, thing))
        return self._picture.render(markers)

    def close(self) -> None:
        if self._picture is not None:
            self._picture.close()


def _puppet(spec: RobotSpec, joints: Sequence[str]) -> RobotSpec:
    """The same machine with every movable joint among its joints, so that all of them can be placed."""
    loose = tuple(JointSpec(name, (0, 0, 0), (0, 0, 0), -inf, inf, 0, 0) for name in joints)
    return replace(
        spec, joints=loose, nominal_pose=(0.0,) * len(loose), drive=PD(0, 0), held={}, free={}, loops=(), gripper=None
    )


def _bounce(restitution: float, step: float) -> tuple[float, float]:
    """solref of a contact as stiff as the step allows, that returns this share of a body's speed; at most 0.7."""
    if restitution == 0:
        return 2 * step, 1.0
    loss = -log(restitution)
    # Of a damped spring to critical damping; the integrator adds to it (figures found by trial, within 0.03).
    ratio = max((loss / sqrt(pi**2 + loss**2) - 0.11) / 0.75, 0.01)
    return 4 * step / ratio, ratio


def _frame(pose: Pose, centre: Pose) -> list[float]:
    """A free joint's qpos, from the pose of the body's centre of mass, which is at `centre` in the body."""
    x, y, z, w = centre.quaternion
    turn = _times(pose.quaternion, (-x, -y, -z, w))
    place = [a - b for a, b in zip(pose.position, out_of(turn, centre.position), strict=True)]
    return [*place, turn[3], *turn[:3]]


def _times(a: Quaternion, b: Quaternion) -> Quaternion:
    (x, y, z, w), (p, q, r, s) = a, b
    return (
        w * p + x * s + y * r - z * q,
        w * q - x * r + y * s + z * p,
        w * r + x * q - y * p + z * s,
        w * s - x * p - y * q - z * r,
    )
