"""RobotSpec and Scene -> mujoco.MjModel, from the files and the rigid bodies that PyBullet simulates. No state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from envs.objects import Thing
from envs.state import PARKED, Link, Scene
from envs.terrain import CELL
from robots.spec import Fingers, Loop, RobotSpec, Servo, Suction, Vector3

ROBOT, THING, GROUND = 1, 2, 4  # what a geom is; a robot's links do not touch each other, as in PyBullet
WHEEL = 1e4  # [kg m^2] inertia of what a servo pushes against: it shall not notice a physics step of that
PAYLOAD, PAD = "payload", "suction pad"
HULL = 64  # vertices of a mesh's convex hull, at most
ON_TERRAIN = 5  # steps of MuJoCo within a physics step: what sinks deep into a height field is thrown out sideways


def wheel(joint: str) -> str:
    """The flywheel that a servo couples `joint` to: a body and its joint. Its speed is the one asked for."""
    return f"{joint} wheel"


def clutch(joint: str) -> str:
    """The tendon between `joint` and its flywheel. Its friction is the most that the servo can push with."""
    return f"{joint} clutch"


def grasp(thing: str) -> str:
    """The equality between suction pad and thing: active while it is held."""
    return f"{thing} grasp"


def build(spec: RobotSpec, scene: Scene, links: Mapping[str, Link], folder: Path) -> mujoco.MjModel:
    """The robot on the ground, with the scene's objects parked; bodies and joints keep their names.

    links: the rigid bodies by link; URDFs state impossible inertias, and PyBullet takes its own instead.
    folder: where URDFs are that are not found from here (pybullet_data).
    A floating base has a free joint with its link's name, and an object one with its own. The ground is the geom
    "ground"; its friction holds for all that stands on it but objects, whose own holds wherever they touch.

    If payloads may be off-centre, there is a massless body PAYLOAD, to be moved by body_pos and given mass and inertia.
    A suction pad is the geom PAD, which touches nothing, and a `grasp` for each object.

    PD drives are forces (qfrc_applied). A servo, or a finger, is a `clutch` to a `wheel`: before each step, set the
    wheel's qvel to the speed that the joint shall have. That is the velocity constraint of bounded torque by which
    PyBullet's motors act; a MuJoCo actuator is stiff, or bounded, but chatters when it is both.
    On terrain, a physics step is `steps` of MuJoCo's.
    A parked object has neither contacts nor weight: to bring it into play, set its geoms' contype to THING and its
    body's gravcomp to 0.
    Raises ValueError if the URDF lacks a joint or a link, or a mesh is missing or in a format that MuJoCo cannot read.
    """
    model = _load(find(spec.urdf, folder), spec.name)
    _check(spec, model, links)
    model.option.timestep = step = 1 / (spec.physics_hz * steps(scene))
    model.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    model.option.impratio = 10  # or what is gripped creeps
    # Other integrators damp joints after the constraints are solved, and so undo what servos do to light joints.
    model.option.integrator = mujoco.mjtIntegrator.mjINT_DISCRETE
    model.option.disableflags = mujoco.mjtDisableBit.mjDSBL_AUTORESET  # what diverges shall be seen
    # From 60 degrees of freedom on MuJoCo 4.0 works sparsely, and then finds wrong forces for tendons between trees.
    model.option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    bodies = {body.name: body for body in model.bodies}
    if scene.payload_at:
        carrier = bodies[spec.tool_link or model.worldbody.first_body().name]
        carrier.add_body(name=PAYLOAD, mass=1e-6, inertia=[1e-9] * 3, explicitinertial=True)
    for body in bodies.values():
        for geom in body.geoms:
            geom.contype, geom.conaffinity = ROBOT, THING | GROUND
        if body.name in links:
            mass, inertia, place, (x, y, z, w) = links[body.name]
            body.mass, body.inertia, body.ipos, body.iquat = mass, inertia, place, (w, x, y, z)
            body.explicitinertial = True
    for joint in model.joints:
        joint.frictionloss = 0
        joint.solref_limit, joint.solimp_limit = _hard(step)
        joint.solref_friction, joint.solimp_friction = _at_once(step)
    if spec.floating:
        root = model.worldbody.first_body()
        root.add_freejoint(name=root.name)
    for name, position in spec.held.items():
        lock = model.add_equality(type=mujoco.mjtEq.mjEQ_JOINT, name1=name, data=[position] + [0.0] * 10)
        lock.solref, lock.solimp = _hard(step)
    if isinstance(spec.drive, Servo):
        for joint in spec.joints:
            _servo(model, joint.name, joint.effort, step)
    if isinstance(spec.gripper, Fingers):
        for name in spec.gripper.joints:
            _servo(model, name, spec.gripper.effort, step)
    for loop in spec.loops:
        _close(model, bodies, loop, step)
    if isinstance(spec.gripper, Suction):
        beyond = spec.tool if bodies[spec.tool_link].joints else (0.0, 0.0, 0.0)  # on a flange
        bodies[spec.tool_link].add_geom(name=PAD, pos=beyond, size=[1e-4, 0, 0], contype=0, conaffinity=0)
    for index, thing in enumerate(scene.objects):
        _park(model, thing, folder, (2.0 * index, 0, PARKED))
        if isinstance(spec.gripper, Suction):
            model.add_equality(
                name=grasp(thing.name), type=mujoco.mjtEq.mjEQ_CONNECT, objtype=mujoco.mjtObj.mjOBJ_BODY,
                name1=spec.tool_link, name2=thing.name, active=False,
            )  # fmt: skip
    _lay_ground(model, scene)
    for geom in model.geoms:
        geom.solref, geom.solimp = _hard(step)
    return model.compile()


def steps(scene: Scene) -> int:
    """How many steps of MuJoCo a physics step is."""
    return 1 if scene.terrain is None else ON_TERRAIN


def find(urdf: str, folder: Path) -> Path:
    """A URDF as PyBullet finds it: from here, or else in `folder`. Raises ValueError if it is in neither."""
    for path in (Path(urdf), folder / urdf):
        if path.is_file():
            return path
    raise ValueError(f"there is no file {urdf!r}, neither from here nor in {folder}")


def _load(urdf: Path, what: str) -> mujoco.MjSpec:
    """A URDF without what is not simulated, in MuJoCo's terms; each convex part of a mesh is one of its own."""
    root = ElementTree.parse(urdf).getroot()
    assets: dict[str, bytes] = {}
    hulls: dict[Path, list[str]] = {}
    for link in root.iter("link"):
        for part in [*link.findall("visual"), *link.findall("inertial")]:
            link.remove(part)
        for collision in link.findall("collision"):
            mesh = collision.find("geometry/mesh")
            if mesh is None:
                continue
            link.remove(collision)
            file = _find_mesh(urdf, mesh.attrib["filename"])
            if file not in hulls:
                stem, kind = f"{what} {len(hulls)}", file.suffix.lower()
                parts = {f"{stem}.{number}{kind}": part for number, part in enumerate(_parts(file))}
                hulls[file] = list(parts)
                assets |= parts
            for name in hulls[file]:
                mesh.set("filename", name)
                link.append(ElementTree.fromstring(ElementTree.tostring(collision)))
    for joint in root.iter("joint"):
        for part in joint.findall("mimic"):  # PyBullet has none
            joint.remove(part)
    options = {"fusestatic": "false", "discardvisual": "false", "strippath": "false"}
    ElementTree.SubElement(ElementTree.SubElement(root, "mujoco"), "compiler", options)
    try:
        model = mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"), assets=assets)
    except ValueError as error:
        raise ValueError(f"{what}: MuJoCo cannot read {urdf} ({error})") from error
    for mesh in model.meshes:
        mesh.maxhullvert = HULL
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL  # MuJoCo wants one, and flat meshes have no volume
    return model


def _find_mesh(urdf: Path, name: str) -> Path:
    """A mesh, in the URDF's folder or one above, which is where PyBullet looks for packages, too."""
    name = name.removeprefix("package://")
    if Path(name).suffix.lower() not in (".obj", ".stl"):
        raise ValueError(f"{urdf}: MuJoCo cannot read the collision mesh {name}; convert it to .obj or .stl")
    for above in urdf.absolute().parents:
        if (above / name).is_file():
            return above / name
    raise ValueError(f"{urdf}: the mesh {name} is neither in its folder nor in one above")


def _parts(file: Path) -> Iterator[bytes]:
    """The objects of an .obj file, each as such a file: PyBullet makes each a convex hull, MuJoCo one of them all."""
    if file.suffix.lower() != ".obj":
        yield file.read_bytes()
        return
    corners: list[str] = []
    parts: list[list[list[int]]] = [[]]
    for line in file.read_text().splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind == "v":
            corners.append(line)
        elif kind in ("o", "g"):
            parts.append([])
        elif kind == "f":
            face = [int(corner.split("/")[0]) for corner in rest.split()]
            parts[-1].append([index - 1 if index > 0 else len(corners) + index for index in face])
    for part in filter(None, parts):
        number = {old: new for new, old in enumerate(sorted({index for face in part for index in face}), start=1)}
        faces = ("f " + " ".join(str(number[index]) for index in face) for face in part)
        yield "\n".join([*(corners[index] for index in number), *faces]).encode()


def _check(spec: RobotSpec, model: mujoco.MjSpec, links: Mapping[str, Link]) -> None:
    fingers = spec.gripper.joints if isinstance(spec.gripper, Fingers) else ()
    named = {*spec.joint_names, *spec.held, *spec.free, *fingers}
    touched = {spec.tool_link, *(link for loop in spec.loops for link in (loop.link, loop.other_link))} - {""}
    joints, bodies = {joint.name for joint in model.joints}, {body.name for body in model.bodies[1:]}
    for kind, wanted, found in (("joint", named, joints), ("link", touched, bodies)):
        if missing := sorted(wanted - found):
            raise ValueError(f"{spec.urdf} has no {kind} {missing}; its {kind}s are {sorted(found)}")
    if missing := sorted(joints - named):
        raise ValueError(f"{spec.name}: nothing is said of the joints {missing}; name them in joints, held or free")
    if missing := sorted(bodies - set(links)):
        raise ValueError(f"{spec.name}: masses and inertias are given for {sorted(links)}, expected {missing}, too")


def _servo(model: mujoco.MjSpec, joint: str, effort: float, step: float) -> None:
    body = model.worldbody.add_body(name=wheel(joint), mass=1, inertia=[WHEEL] * 3, explicitinertial=True)
    body.add_joint(name=wheel(joint), type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1])
    tendon = model.add_tendon(name=clutch(joint), frictionloss=effort)
    tendon.wrap_joint(joint, 1)
    tendon.wrap_joint(wheel(joint), -1)
    tendon.solref_friction, tendon.solimp_friction = _at_once(step)


def _close(model: mujoco.MjSpec, bodies: Mapping[str, mujoco.MjsBody], loop: Loop, step: float) -> None:
    ends = f"{loop.link} end", f"{loop.other_link} end"
    bodies[loop.link].add_site(name=ends[0], pos=loop.point)
    bodies[loop.other_link].add_site(name=ends[1], pos=loop.other_point)
    pin = model.add_equality(
        type=mujoco.mjtEq.mjEQ_CONNECT, objtype=mujoco.mjtObj.mjOBJ_SITE, name1=ends[0], name2=ends[1]
    )
    pin.solref, pin.solimp = _hard(step)


def _park(model: mujoco.MjSpec, thing: Thing, folder: Path, place: Vector3) -> None:
    if thing.shape == "mesh":
        loaded = _load(find(thing.path, folder), thing.name)
        for mesh in loaded.meshes:
            mesh.scale *= thing.scale
            mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
        for geom in loaded.geoms:
            geom.pos, geom.size = geom.pos * thing.scale, geom.size * thing.scale
        model.assets = {**model.assets, **loaded.assets}
        body = model.worldbody.add_frame(pos=place).attach_body(loaded.worldbody.first_body(), f"{thing.name} ", "")
        body.name = thing.name
    else:
        x, y, z = np.array(thing.size) / 2
        kind, size = {
            "box": (mujoco.mjtGeom.mjGEOM_BOX, [x, y, z]),
            "cylinder": (mujoco.mjtGeom.mjGEOM_CYLINDER, [x, z, 0]),
            "capsule": (mujoco.mjtGeom.mjGEOM_CAPSULE, [x, z - x, 0]),
            "sphere": (mujoco.mjtGeom.mjGEOM_SPHERE, [x, 0, 0]),
        }[thing.shape]
        body = model.worldbody.add_body(name=thing.name, pos=place)
        body.add_geom(type=kind, size=size)
    body.gravcomp = 1
    body.add_freejoint(name=thing.name)
    for geom in body.geoms:
        geom.contype, geom.conaffinity, geom.priority = THING, ROBOT | THING | GROUND, 2
        geom.condim = 6 if thing.rolls else 3


def _lay_ground(model: mujoco.MjSpec, scene: Scene) -> None:
    ground = model.worldbody.add_geom(name="ground", contype=GROUND, conaffinity=0, priority=1)
    if scene.terrain is None:
        ground.type, ground.size = mujoco.mjtGeom.mjGEOM_PLANE, [0, 0, 1]
        return
    heights = scene.terrain.heights.T  # MuJoCo's rows run along y
    low, high = float(heights.min()), float(heights.max())
    half = [(samples - 1) * CELL / 2 for samples in heights.shape]
    model.add_hfield(
        name="ground", nrow=heights.shape[0], ncol=heights.shape[1], userdata=heights.ravel(),
        size=[half[1], half[0], max(high - low, 1e-3), 0.1],
    )  # fmt: skip
    ground.type, ground.hfieldname, ground.pos = mujoco.mjtGeom.mjGEOM_HFIELD, "ground", [0, 0, low]


def _hard(step: float) -> tuple[list[float], list[float]]:
    """solref and solimp of what must not give way."""
    return [2 * step, 1], [0.99, 0.999, 0.001, 0.5, 2]


def _at_once(step: float) -> tuple[list[float], list[float]]:
    """solref and solimp of friction that stops all motion within a step, if its force suffices."""
    return [0, -1e4 / step], [0.9999, 0.9999, 0.001, 0.5, 2]
