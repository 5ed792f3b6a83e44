"""The two engines against each other, where they must agree; and MuJoCo on its own, where only the outcome matters."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pybullet
import pybullet_data
import pytest

from envs.legged import Walk
from envs.objects import Thing
from envs.robot_env import RobotEnv
from envs.state import Drive, Physics, Pose, Scene, Start, State
from envs.terrain import grid
from envs.world import PyBulletWorld, World
from robots.arms import IIWA, PANDA, XARM6
from robots.legged import A1, LAIKAGO, MINI_CHEETAH, MINITAUR
from robots.spec import PD, RobotSpec, Suction

mujoco = pytest.importorskip("mujoco")
from envs import mujoco_model  # noqa: E402
from envs.mujoco_world import MujocoWorld  # noqa: E402

ARMS = (PANDA, IIWA, XARM6)
LEGGED = (A1, LAIKAGO, MINI_CHEETAH, MINITAUR)
FOLDER = Path(pybullet_data.getDataPath())
CUBE = Thing("cube", "box", (0.04, 0.04, 0.04))
THINGS = (
    CUBE,
    Thing("can", "cylinder", (0.05, 0.05, 0.08)),
    Thing("ball", "sphere", (0.05, 0.05, 0.05)),
    Thing("blob", "mesh", (0.03, 0.03, 0.06), "random_urdfs/000/000.urdf", 0.6),
    Thing("slick", "sphere", (0.05, 0.05, 0.05), rolls=False),
)
Pair = tuple[PyBulletWorld, MujocoWorld]


@pytest.fixture(scope="module")
def pair() -> Iterator[Callable[..., Pair]]:
    """Both worlds of a robot and a scene, nominal; they are kept for the next test that asks for them."""
    made: dict[tuple[str, int], Pair] = {}

    def worlds(spec: RobotSpec, scene: Scene = Scene()) -> Pair:  # noqa: B008 (frozen)
        key = spec.name, hash((scene.objects, scene.terrain, scene.payload_at))
        if key not in made:
            made[key] = PyBulletWorld(spec, scene), MujocoWorld(spec, scene)
        for world in made[key]:
            world.randomize(Physics())
        return made[key]

    yield worlds
    for worlds_ in made.values():
        for world in worlds_:
            world.close()


@pytest.fixture(scope="module", params=(*ARMS, *LEGGED), ids=lambda spec: spec.name)
def bodies(request: pytest.FixtureRequest) -> Iterator[tuple]:
    """The bare machine in both engines, bolted down: client, body, joints by name, model, data."""
    spec = request.param
    world = PyBulletWorld(spec)
    model = mujoco_model.build(spec, Scene(), world.links(), FOLDER)
    world.close()
    client = pybullet.connect(pybullet.DIRECT)
    pybullet.setGravity(0, 0, -9.81, physicsClientId=client)
    body = pybullet.loadURDF(str(FOLDER / spec.urdf), useFixedBase=True, physicsClientId=client)
    infos = [pybullet.getJointInfo(body, j, client) for j in range(pybullet.getNumJoints(body, client))]
    yield client, body, infos, model, mujoco.MjData(model)
    pybullet.disconnect(client)


def poses(infos: list, count: int = 10) -> np.ndarray:
    limits = np.array([info[8:10] if info[8] < info[9] else (-1.5, 1.5) for info in infos if info[2] != 4])
    return np.random.default_rng(0).uniform(limits[:, 0], limits[:, 1], (count, len(limits)))


def test_rigid_bodies_are_the_same(bodies: tuple):
    """At random poses and speeds: torques against gravity and gyration, and the inertia of the joints."""
    client, body, infos, model, data = bodies
    movable = [model.joint(info[1].decode()) for info in infos if info[2] != pybullet.JOINT_FIXED]
    at, dof = [joint.qposadr[0] for joint in movable], [joint.dofadr[0] for joint in movable]
    inertia = np.empty((model.nv, model.nv))
    for angles in poses(infos):
        speeds = np.random.default_rng(1).normal(size=len(angles))
        mujoco.mj_resetData(model, data)
        data.qpos[at], data.qvel[dof] = angles, speeds
        mujoco.mj_forward(model, data)
        mujoco.mj_fullM(model, data, inertia)
        torques = pybullet.calculateInverseDynamics(
            body, angles.tolist(), speeds.tolist(), [0.0] * len(angles), physicsClientId=client
        )
        np.testing.assert_allclose(data.qfrc_bias[dof], torques, rtol=1e-9, atol=1e-9)
        expected = pybullet.calculateMassMatrix(body, angles.tolist(), physicsClientId=client)
        np.testing.assert_allclose(inertia[np.ix_(dof, dof)], np.array(expected)[-len(dof) :, -len(dof) :], atol=1e-9)


def test_every_link_is_in_the_same_place(bodies: tuple):
    client, body, infos, model, data = bodies
    movable = [info for info in infos if info[2] != pybullet.JOINT_FIXED]
    at = [model.joint(info[1].decode()).qposadr[0] for info in movable]
    for angles in poses(infos):
        for info, angle in zip(movable, angles, strict=True):
            pybullet.resetJointState(body, info[0], angle, physicsClientId=client)
        mujoco.mj_resetData(model, data)
        data.qpos[at] = angles
        if model.joint(0).type == mujoco.mjtJoint.mjJNT_FREE:
            data.qpos[:3] = 0
        mujoco.mj_kinematics(model, data)
        for info in infos:
            link = pybullet.getLinkState(body, info[0], computeForwardKinematics=1, physicsClientId=client)
            found = data.body(info[12].decode())
            np.testing.assert_allclose(found.xpos, link[4], atol=1e-5)
            np.testing.assert_allclose(found.xmat, pybullet.getMatrixFromQuaternion(link[5]), atol=1e-5)


def follow(spec: RobotSpec, target: np.ndarray, grip: float | None = None) -> Drive:
    return Drive(target, spec.effort, spec.velocity, grip)


def apart(states: list[State], field: str) -> float:
    """The largest difference between two states' joints, speeds or tools."""
    return float(np.abs(getattr(states[0], field) - getattr(states[1], field)).max())


@pytest.mark.parametrize("spec", LEGGED, ids=lambda spec: spec.name)
def test_in_the_air_a_legged_robot_moves_alike(pair: Callable[..., Pair], spec: RobotSpec):
    """It falls, is struck, and moves its legs: drives, masses and momentum, without contacts."""
    worlds = pair(spec)
    for world in worlds:
        world.place(Start(spec.nominal, Pose((0.3, 0.2, 3.0), (0.1, 0.0, 0.0, 0.99498743710662))))
    rng = np.random.default_rng(0)
    for step in range(15):
        target = spec.nominal + rng.uniform(-0.2, 0.2, len(spec.joints))
        for world in worlds:
            world.drive(follow(spec, target))
            if step == 5:
                world.push((1.0, 2.0, 0.5))
            world.advance(spec.substeps)
    states = [world.read() for world in worlds]
    tolerance = 1e-3 if spec.loops else 1e-5  # PyBullet's loops open by millimetres
    assert apart(states, "joints") < tolerance
    assert apart(states, "torques") < 100 * tolerance
    for found, expected in zip(states[1].base, states[0].base, strict=True):
        np.testing.assert_allclose(found, expected, atol=max(tolerance, 1e-4) * (30 if spec.loops else 1))


@pytest.mark.parametrize(
    "physics",
    [
        Physics(payload=2.0, payload_at=(0.1, -0.05)),
        Physics(mass_scale=1.3),
        Physics(joint_friction=0.5),
        Physics(gravity=(1.0, -2.0, -9.0)),
    ],
    ids=["payload", "mass", "friction", "gravity"],
)
def test_what_is_randomized_means_the_same(pair: Callable[..., Pair], physics: Physics):
    worlds = pair(A1, Scene(payload_at=True))
    for world in worlds:
        world.randomize(physics)
        world.place(Start(A1.nominal, Pose((0, 0, 3.0))))
    rng = np.random.default_rng(0)
    for _ in range(5):
        target = A1.nominal + rng.uniform(-0.2, 0.2, 12)
        for world in worlds:
            world.drive(follow(A1, target))
            world.advance(A1.substeps)
    states = [world.read() for world in worlds]
    assert apart(states, "joints") < 1e-5
    np.testing.assert_allclose(states[1].base.angular, states[0].base.angular, atol=1e-4)
    np.testing.assert_allclose(states[1].base.velocity, states[0].base.velocity, atol=1e-4)


@pytest.mark.parametrize("spec", ARMS, ids=lambda spec: spec.name)
def test_servos_step_alike(pair: Callable[..., Pair], spec: RobotSpec):
    """Torque and speed saturate on the way; both engines stay within hundredths of a degree at its end."""
    worlds = pair(spec)
    goal = spec.nominal + np.linspace(-0.4, 0.4, len(spec.joints))
    for world in worlds:
        world.place(Start(spec.nominal))
        world.drive(follow(spec, goal))
    furthest = 0.0
    for _ in range(spec.physics_hz // 5):
        for world in worlds:
            world.advance(5)
        furthest = max(furthest, apart([world.read() for world in worlds], "joints"))
    states = [world.read() for world in worlds]
    assert furthest < 0.005
    assert apart(states, "joints") < 3e-4
    assert apart(states, "tool") < 3e-4
    np.testing.assert_allclose(states[1].joints, goal, atol=1e-4)


def test_an_arm_without_torque_falls_alike(pair: Callable[..., Pair]):
    """Of the arms, Panda's joints are the ones without damping, which PyBullet integrates explicitly."""
    worlds = pair(PANDA)
    for world in worlds:
        world.place(Start(PANDA.nominal))
        before = world.read().tool[2]
        world.drive(Drive(PANDA.nominal, np.zeros(7), PANDA.velocity))
        world.advance(40)
        assert world.read().tool[2] < before - 0.05
    assert apart([world.read() for world in worlds], "tool") < 0.002


@pytest.mark.parametrize("spec", LEGGED, ids=lambda spec: spec.name)
def test_it_stands_as_high(pair: Callable[..., Pair], spec: RobotSpec):
    worlds = pair(spec)
    for world in worlds:
        world.place(Start(spec.nominal, Pose((0, 0, spec.height))))
        world.drive(follow(spec, spec.nominal))
        world.advance(2 * spec.physics_hz)
    heights = [world.read().base.position[2] for world in worlds]
    assert heights[1] == pytest.approx(heights[0], abs=0.004)
    assert heights[1] == pytest.approx(spec.height, abs=0.03)


@pytest.mark.parametrize("spec", [A1, MINITAUR, PANDA], ids=lambda spec: spec.name)
def test_trajectories_do_not_depend_on_what_was_before(spec: RobotSpec):
    start = Start(spec.nominal, Pose((0, 0, spec.height)) if spec.floating else None)

    def roll(world: MujocoWorld, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        world.place(start)
        rows = []
        for _ in range(20):
            world.drive(follow(spec, spec.nominal + rng.uniform(-0.3, 0.3, len(spec.joints))))
            world.advance(spec.substeps)
            rows.append(np.concatenate(world.read()[:3]))
        return np.array(rows)

    world = MujocoWorld(spec)
    first = roll(world, 0)
    world.randomize(Physics(payload=1.0, friction=0.3, damping=0.1))
    roll(world, 1)
    world.randomize(Physics())
    np.testing.assert_array_equal(roll(world, 0), first)
    np.testing.assert_array_equal(roll(MujocoWorld(spec), 0), first)


@pytest.mark.parametrize("index", range(len(THINGS)), ids=[thing.name for thing in THINGS])
def test_objects_fall_and_rest_alike(pair: Callable[..., Pair], index: int):
    worlds = pair(PANDA, Scene(THINGS))
    heights = []
    for world in worlds:
        world.randomize(Physics(object=index, object_mass=0.2))
        world.place(Start(PANDA.nominal, object=Pose((0.5, 0.2, 0.2))))
        world.advance(20)
        falling = world.read().object
        world.advance(380)
        resting = world.read().object
        heights.append((falling.position[2], falling.velocity[2], resting.position[2]))
        np.testing.assert_allclose(resting.velocity, 0, atol=0.01)
    np.testing.assert_allclose(heights[1][:2], heights[0][:2], atol=1e-3)
    assert heights[1][2] == pytest.approx(heights[0][2], abs=0.002)


def test_only_the_object_in_play_is_there(pair: Callable[..., Pair]):
    _, world = pair(PANDA, Scene(THINGS))
    for index in (0, 1, None):
        world.randomize(Physics(object=index))
        world.place(Start(PANDA.nominal, object=Pose((0.5, 0.2, 0.05))))
        world.advance(50)
        places = np.array([world._data.body(thing.name).xpos for thing in THINGS])
        assert (places[:, 2] > -1).tolist() == [i == index for i in range(len(THINGS))]
    assert world.read().object is None


@pytest.mark.parametrize(("friction", "speed"), [(0.5, 0.0), (0.3, 0.5 * 9.81 * (0.4 - 0.3))])
def test_friction_is_the_objects_own(pair: Callable[..., Pair], friction: float, speed: float):
    """A cube under gravity tilted by 0.4 : 1, after half a second."""
    for world in pair(PANDA, Scene(THINGS)):
        world.randomize(Physics(object=0, object_friction=friction, gravity=(0, 0.4 * 9.81, -9.81)))
        world.place(Start(PANDA.nominal, object=Pose((0.5, 0.2, 0.02))))
        world.advance(100)
        assert world.read().object.velocity[1] == pytest.approx(speed, abs=0.05)


@pytest.mark.parametrize(("index", "speed"), [(2, 0.0), (4, 5 / 7 * 0.5 * 9.81 * 0.04)])
def test_only_some_things_meet_friction_against_rolling(pair: Callable[..., Pair], index: int, speed: float):
    """A ball under gravity tilted by 0.04 : 1, after half a second."""
    for world in pair(PANDA, Scene(THINGS)):
        world.randomize(Physics(object=index, gravity=(0, 0.04 * 9.81, -9.81)))
        world.place(Start(PANDA.nominal, object=Pose((0.5, 0.2, 0.025))))
        world.advance(100)
        assert world.read().object.velocity[1] == pytest.approx(speed, abs=0.001)


@pytest.mark.parametrize(("friction", "slides"), [(0.6, False), (0.1, True)])
def test_the_grounds_friction_holds_for_feet(pair: Callable[..., Pair], friction: float, slides: bool):
    """A standing robot under gravity tilted forward by 0.25 : 1, after a second."""
    for world in pair(A1):
        world.randomize(Physics(friction=friction, gravity=(0.25 * 9.81, 0, -9.81)))
        world.place(Start(A1.nominal, Pose((0, 0, A1.height))))
        world.drive(follow(A1, A1.nominal))
        world.advance(A1.physics_hz)
        assert (world.read().base.position[0] > 0.3) == slides


def test_a_bouncing_ball_keeps_its_share_of_speed(pair: Callable[..., Pair]):
    _, world = pair(PANDA, Scene(THINGS))
    for restitution in (0.2, 0.5):
        world.randomize(Physics(object=2, object_restitution=restitution))
        world.place(Start(PANDA.nominal, object=Pose((0.5, 0.2, 0.4))))
        speeds = []
        for _ in range(100):
            world.advance(1)
            speeds.append(world.read().object.velocity[2])
        assert max(speeds) / -min(speeds) == pytest.approx(restitution, abs=0.1)


GRASP = np.array([0.1554, 0.4992, 0.0343, -2.3249, -0.0526, 2.8235, 1.0208])  # hand down, at 0.5, 0.1, 0.02


def test_fingers_lift_what_they_hold(pair: Callable[..., Pair]):
    raised = GRASP - np.array([0, 0.5, 0, 0, 0, 0, 0])
    for world in pair(PANDA, Scene(THINGS)):
        world.randomize(Physics(object=0, object_friction=0.8))
        world.place(Start(GRASP, object=Pose((0.5, 0.1, 0.02))))
        for grip, target in [(0.0, GRASP)] * 5 + [(1.0, GRASP)] * 5:
            world.drive(follow(PANDA, target, grip))
            world.advance(10)
        for share in np.linspace(0, 1, 20):
            world.drive(follow(PANDA, GRASP + share * (raised - GRASP), 1.0))
            world.advance(10)
        assert world.read().object.position[2] > 0.15
        world.drive(follow(PANDA, raised, 0.0))
        world.advance(200)
        assert world.read().object.position[2] < 0.05


@pytest.mark.parametrize(("mass", "grip", "holds"), [(0.3, 1.0, True), (0.3, 0.0, False), (30.0, 1.0, False)])
def test_a_suction_pad_holds_what_it_can(mass: float, grip: float, holds: bool):
    """A cube below the pad of an arm that points down; it is lost when it weighs more than the pad's force."""
    spec = replace(XARM6, gripper=Suction(reach=0.01, force=50))
    scene = Scene((CUBE,))
    for world in (PyBulletWorld(spec, scene), MujocoWorld(spec, scene)):
        world.randomize(Physics(object=0, object_mass=mass, gravity=(0, 0, 0)))
        world.place(Start(spec.nominal))
        tool = world.read().tool
        world.place(Start(spec.nominal, object=Pose((tool[0], tool[1], tool[2] - 0.026))))
        world.drive(follow(spec, spec.nominal, grip))
        world.advance(4)
        world.randomize(Physics(object=0, object_mass=mass))
        for _ in range(25):
            world.drive(follow(spec, spec.nominal, grip))
            world.advance(4)
        state = world.read()
        assert (np.linalg.norm(state.tool - state.object.position) < 0.05) == holds
        world.close()


def test_terrain_is_where_the_array_says():
    terrain = grid(("slope_up", "waves", "stairs_up"))
    world = MujocoWorld(A1, Scene(terrain=terrain))
    world.place(Start(A1.nominal, Pose((0, 0, 60.0))))
    mujoco.mj_kinematics(world._model, world._data)
    rng = np.random.default_rng(0)
    misses = []
    for kind in terrain.kinds:
        for level in range(10):
            x, y = terrain.centre(kind, level) + rng.uniform(-5, 5, 2)
            down = np.array([x, y, 20.0]), np.array([0, 0, -1.0])
            hit = mujoco.mj_ray(world._model, world._data, *down, None, 1, -1, None)
            misses.append(abs(20 - hit - terrain.height(x, y)))
    # Between its samples, a field is triangles here and bilinear there, which matters on a stair's edge.
    assert np.median(misses) < 1e-3
    assert np.mean(np.array(misses) < 5e-3) > 0.8


def test_it_stands_on_terrain_alike(pair: Callable[..., Pair]):
    terrain = grid(("slope_up", "waves"))
    x, y = terrain.centre("waves", 5) + np.array((2.0, 0.5))
    states = []
    for world in pair(A1, Scene(terrain=terrain)):
        world.randomize(Physics(tile=(1, 5)))
        world.place(Start(A1.nominal, Pose((x, y, terrain.height(x, y) + A1.height + 0.03))))
        world.drive(follow(A1, A1.nominal))
        world.advance(A1.physics_hz)
        states.append(world.read())
    np.testing.assert_allclose(states[1].base.position, states[0].base.position, atol=0.02)
    np.testing.assert_allclose(states[1].base.quaternion, states[0].base.quaternion, atol=0.02)


def test_who_would_start_in_a_height_field_is_lifted_out_of_it():
    """From within, its prisms would throw the robot aside at metres per second."""
    terrain, rng = grid(("flat",)), np.random.default_rng(0)
    world = MujocoWorld(A1, Scene(terrain=terrain))
    x, y = terrain.centre("flat", 0)
    for _ in range(20):
        joints = A1.nominal + rng.uniform(-0.25, 0.25, 12)
        world.place(Start(joints, Pose((x, y, A1.height))))
        world.drive(follow(A1, joints))
        speeds = []
        for _ in range(20):
            world.advance(1)
            base = world.read().base
            speeds.append(np.abs((*base.velocity, *base.angular)).max())
        assert max(speeds) < 4  # m/s, rad/s: it tips onto its feet


@pytest.mark.parametrize("spec", [A1, LAIKAGO, MINI_CHEETAH], ids=lambda spec: spec.name)
def test_it_walks_on_flat_terrain_as_on_the_plane(monkeypatch: pytest.MonkeyPatch, spec: RobotSpec):
    """By its gait alone. Steps of MuJoCo are as short on both: they matter by themselves."""
    monkeypatch.setattr(mujoco_model, "steps", lambda scene: mujoco_model.ON_TERRAIN)
    errors, steps = [], 200
    for ground in ((), ("flat",)):
        env = RobotEnv(Walk(spec, ground=ground), engine="mujoco")
        found = []
        for seed in range(2):
            env.reset(seed=seed, options={"task": env.task_space.nominal, "goal": np.array([0.4, 0.0, 0.0])})
            for _ in range(steps):
                *_, fallen, _, info = env.step(np.zeros(env.interface.action_size))
                assert not fallen
                found.append(info["error"])
        errors.append(np.mean(found))
        env.close()
    assert errors[1] == pytest.approx(errors[0], abs=0.02)


def test_a_physics_step_on_terrain_is_as_long(pair: Callable[..., Pair]):
    """A push lasts for one; servos step as they do on the plane."""
    terrain = Scene(terrain=grid(("flat",)))
    worlds: tuple[World, World] = pair(A1, terrain)
    for world in worlds:
        world.place(Start(A1.nominal, Pose((0, 0, 3.0))))
        world.drive(follow(A1, A1.nominal))
        world.push((1.0, 2.0, 0.0))
        world.advance(20)
    states = [world.read() for world in worlds]
    np.testing.assert_allclose(states[1].base.velocity, states[0].base.velocity, atol=0.005)
    np.testing.assert_allclose(states[1].base.position, states[0].base.position, atol=0.005)
    worlds = MujocoWorld(PANDA), MujocoWorld(PANDA, terrain)
    for world in worlds:
        world.place(Start(PANDA.nominal))
        world.drive(follow(PANDA, PANDA.nominal + np.linspace(-0.4, 0.4, 7)))
        world.advance(100)
    assert apart([world.read() for world in worlds], "joints") < 1e-3


@pytest.mark.parametrize("spec", [PANDA, MINITAUR], ids=lambda spec: spec.name)
def test_its_pictures_show_what_is_there(pair: Callable[..., Pair], spec: RobotSpec):
    pictures = []
    for world in pair(spec, Scene((CUBE,)) if spec is PANDA else Scene()):
        world.randomize(Physics(object=0 if spec is PANDA else None))
        world.place(
            Start(
                spec.nominal,
                Pose((0, 0, 0.3)) if spec.floating else None,
                Pose((0.5, 0.1, 0.1)) if spec is PANDA else None,
            )
        )
        pictures.append(world.render([(np.array([0.3, 0.0, 0.4]), (1, 0, 0, 1))]).astype(float))
    assert pictures[1].shape == pictures[0].shape
    assert np.abs(pictures[1] - pictures[0]).mean() < 0.5


def test_mujoco_world_is_a_world():
    world: World = MujocoWorld(XARM6)
    path = XARM6.nominal + np.linspace(0, 0.1, 3)[:, None]
    np.testing.assert_array_equal(world.lead(path), path)
    world.close()
    world.close()


def test_without_mujoco_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    monkeypatch.delitem(sys.modules, "envs.mujoco_model", raising=False)
    monkeypatch.delitem(sys.modules, "envs.mujoco_world")
    with pytest.raises(ModuleNotFoundError, match="sim2sim"):
        __import__("envs.mujoco_world")


@pytest.mark.parametrize(
    ("mesh", "says"), [("arm.dae", r"cannot read the collision mesh arm\.dae"), ("arm.stl", r"arm\.stl is neither in")]
)
def test_a_mesh_that_cannot_be_read_is_named(tmp_path: Path, mesh: str, says: str):
    urdf = tmp_path / "arm.urdf"
    shape = f"<collision><geometry><mesh filename='{mesh}'/></geometry></collision>"
    urdf.write_text(f"<robot name='arm'><link name='base'>{shape}</link></robot>")
    spec = replace(PANDA, urdf=str(urdf), joints=(), nominal_pose=(), drive=PD(0, 0), gripper=None, tool_link="")
    with pytest.raises(ValueError, match=says):
        mujoco_model.build(spec, Scene(), {}, FOLDER)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"urdf": "no/such.urdf"}, r"no/such\.urdf"),
        ({"tool_link": "hook"}, r"panda.urdf has no link \['hook'\]"),
        ({"gripper": None}, r"nothing is said of the joints \['panda_finger_joint1', 'panda_finger_joint2'\]"),
    ],
)
def test_a_urdf_that_lacks_something_is_refused(change: dict, says: str):
    with pytest.raises(ValueError, match=says):
        MujocoWorld(replace(PANDA, **change))
