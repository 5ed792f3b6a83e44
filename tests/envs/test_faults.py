"""Every fault does what its name promises; none has a memory, any of them compose, and nominal is nominal again."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pybullet
import pybullet_data
import pytest
from scipy.spatial.transform import Rotation

from envs.arm import Reach
from envs.faults import body_faults, catalogue, chosen, later, physics
from envs.legged import Walk
from envs.robot_env import RobotEnv, make
from envs.state import UPRIGHT, Drive, Physics, Pose, Scene, Start
from envs.tasks import SPLITS, Choice, Parameter, Task, TaskSpace
from envs.world import PyBulletWorld
from robots.actuation import unwired
from robots.arms import PANDA
from robots.legged import A1

Changed = Callable[..., Task]
Roll = Callable[..., np.ndarray]
DOWN = np.tile([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], (60, 1))  # an arm into the floor


class Broken(Reach):
    """Reach with every fault that an arm may have."""

    @cached_property
    def space(self) -> TaskSpace:
        camera = (Parameter("camera_yaw", "rad", 0.0, -1.0, 1.0, "set"),)
        shift = (Parameter("camera_shift", "m", 0.0, -0.1, 0.1, "set", size=3),)
        return TaskSpace((*camera, *shift, *chosen(self.spec, tuple(catalogue(self.spec)))))


@pytest.fixture(scope="module")
def arm() -> Iterator[RobotEnv]:
    env = RobotEnv(Broken(PANDA, scene=Scene(payload_at=True)))
    yield env
    env.close()


def walker() -> RobotEnv:
    return RobotEnv(Walk(A1, unknown=tuple(catalogue(A1)), ground=("flat", "rough", "stairs_up")))


@pytest.fixture(scope="module")
def dog() -> Iterator[RobotEnv]:
    env = walker()
    yield env
    env.close()


@pytest.fixture(params=["arm", "dog"])
def robot(request: pytest.FixtureRequest) -> RobotEnv:
    found: RobotEnv = request.getfixturevalue(request.param)
    return found


class Recorder:
    """A world that writes down what it is told, and its joints after every physics step; frozen, it does no more."""

    def __init__(self, world: Any, frozen: bool) -> None:
        self.world, self.frozen = world, frozen
        self.joints: list[np.ndarray] = []
        self.drives: list[Drive] = []
        self.pushes: list[tuple[float, float, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)

    def drive(self, drive: Drive) -> None:
        self.drives.append(drive)
        self.world.drive(drive)

    def push(self, impulse: tuple[float, float, float]) -> None:
        self.pushes.append(impulse)

    def advance(self, steps: int) -> None:
        for _ in range(0 if self.frozen else steps):
            self.world.advance(1)
            self.joints.append(self.world.read().joints)


def record(env: RobotEnv, task: Task, action: float | np.ndarray, steps: int = 3, frozen: bool = False) -> Recorder:
    """What a world is told and does during some steps of one action."""
    world = env.world
    recorder = Recorder(world, frozen)
    env.world = recorder  # type: ignore[assignment]
    try:
        env.reset(seed=0, options={"task": task})
        for _ in range(steps):
            env.step(np.broadcast_to(action, env.interface.action_size))
    finally:
        env.world = world
    return recorder


def told(env: RobotEnv, task: Task, action: float | np.ndarray = 0.0) -> Drive:
    """What the drives are told at the first step."""
    return record(env, task, action, steps=1, frozen=True).drives[-1]


def ids(env: RobotEnv) -> tuple[int, int]:
    return env.world._body, env.world._client  # type: ignore[attr-defined]


def links(env: RobotEnv) -> dict[int, tuple]:
    """What the engine says of every link; -1 is the base."""
    body, client = ids(env)
    return {i: pybullet.getDynamicsInfo(body, i, client) for i in range(-1, pybullet.getNumJoints(body, client))}


def links_at(env: RobotEnv) -> list[tuple]:
    """Where every link but the base is."""
    body, client = ids(env)
    return [pybullet.getLinkState(body, i, 1, 1, client) for i in range(pybullet.getNumJoints(body, client))]


def ground(env: RobotEnv) -> tuple:
    return pybullet.getDynamicsInfo(env.world._ground, -1, ids(env)[1])  # type: ignore[attr-defined]


def gravity(env: RobotEnv) -> list[float]:
    found = pybullet.getPhysicsEngineParameters(ids(env)[1])
    return [found[f"gravityAcceleration{axis}"] for axis in "XYZ"]


def rested(env: RobotEnv) -> Start:
    spec = env.job.spec
    return Start(spec.nominal, Pose((0, 0, 1)) if spec.floating else None)


def coast(env: RobotEnv, speed: float = 0.1) -> np.ndarray:
    """Joint speeds after one physics step without torque, all begun at `speed`: damping and friction, as it were."""
    spec, (body, client) = env.job.spec, ids(env)
    env.world.place(rested(env))
    for joint, angle in zip(env.world._joints, spec.nominal, strict=True):  # type: ignore[attr-defined]
        pybullet.resetJointState(body, joint, angle, speed, physicsClientId=client)
    env.world.drive(Drive(spec.nominal, 0 * spec.effort, spec.velocity))
    env.world.advance(1)
    return env.world.read().speeds


def engine(env: RobotEnv) -> tuple:
    """Every value that the engine tells of links, ground and gravity, and what it does with those it does not tell."""
    return *links(env).values(), ground(env), gravity(env), coast(env).tolist()


def apply(env: RobotEnv, task: Task) -> None:
    env.world.randomize(physics(task))


def test_every_fault_is_tested():
    tests = [name for name in globals() if name.startswith("test_")]
    for name in catalogue(A1):
        assert any(test.startswith(f"test_{name}_") for test in tests), name


# --- what is wrong with the body ---------------------------------------------------------------------------------


def test_joint_zero_shifts_the_joints_behind_the_encoders(robot: RobotEnv, changed: Changed):
    n = len(robot.job.spec.joints)
    zero, plain = np.linspace(-0.05, 0.05, n), changed(robot, noise=0.0)
    offset = changed(robot, noise=0.0, joint_zero=tuple(zero.tolist()))
    starts = []
    for task in (plain, offset):
        robot.reset(seed=0, options={"task": task})
        starts.append((robot.state.joints, robot.sample["joint_position"]))
    (true, read), (shifted, read_too) = starts
    np.testing.assert_allclose(read_too, read, atol=1e-12)
    np.testing.assert_allclose(shifted, true - zero, atol=1e-12)
    np.testing.assert_allclose(told(robot, offset).target, told(robot, plain).target - zero, atol=1e-12)


def test_a_zero_offset_shifts_the_whole_motion(env: RobotEnv, changed: Changed, roll: Roll):
    zero = np.linspace(-0.05, 0.05, 7)
    plain, offset = roll(env, env.task_space.nominal), roll(env, changed(env, joint_zero=tuple(zero.tolist())))
    np.testing.assert_allclose(offset[:, :7], plain[:, :7] - zero, atol=0.005)
    seen = slice(-2 - env.interface.observation_size, -2)
    read = [env.interface.field("joint_position", path[:, seen]) for path in (plain, offset)]
    np.testing.assert_allclose(read[1], read[0], atol=0.005)
    assert np.abs(read[1] - offset[:, :7] - zero).max() < 0.006  # the encoders' noise


def test_strength_scales_every_rated_torque(robot: RobotEnv, changed: Changed):
    spec = robot.job.spec
    drive = told(robot, changed(robot, strength=0.7))
    np.testing.assert_allclose(drive.effort, 0.7 * spec.effort)
    np.testing.assert_array_equal(drive.velocity, spec.velocity)


def test_joint_strength_scales_each_rated_torque(robot: RobotEnv, changed: Changed):
    spec = robot.job.spec
    share = np.linspace(0.7, 1.0, len(spec.joints))
    drive = told(robot, changed(robot, joint_strength=tuple(share.tolist()), strength=0.8))
    np.testing.assert_allclose(drive.effort, 0.8 * share * spec.effort)


def test_weak_joint_names_the_one_that_is_weak(robot: RobotEnv, changed: Changed):
    spec = robot.job.spec
    for index, name in enumerate(catalogue(spec)["weak_joint"].options):  # type: ignore[union-attr]
        drive = told(robot, changed(robot, weak_joint=float(index), weak_strength=0.3))
        weak = np.array([joint == name for joint in spec.joint_names])
        assert weak.sum() == (index > 0)
        np.testing.assert_allclose(drive.effort, np.where(weak, 0.3, 1.0) * spec.effort)


def test_weak_strength_matters_where_a_joint_is_weak_alone(robot: RobotEnv, changed: Changed):
    np.testing.assert_array_equal(told(robot, changed(robot, weak_strength=0.0)).effort, robot.job.spec.effort)
    dead = changed(robot, weak_joint=3.0, weak_strength=0.0)
    assert told(robot, dead).effort[2] == 0
    nominal = record(robot, changed(robot), 0.0, steps=5).joints[-1]
    assert abs(record(robot, dead, 0.0, steps=5).joints[-1] - nominal)[2] > 0.002


def test_battery_takes_torque_and_speed(robot: RobotEnv, changed: Changed):
    spec = robot.job.spec
    drive = told(robot, changed(robot, battery=0.6))
    np.testing.assert_allclose(drive.effort, 0.6 * spec.effort)
    np.testing.assert_allclose(drive.velocity, 0.6 * spec.velocity)


def test_torques_and_speeds_keep_to_what_a_low_battery_gives(arm: RobotEnv, dog: RobotEnv, changed: Changed):
    violent = np.random.default_rng(0).choice([-1.0, 1.0], (20, 15))
    dog.reset(seed=0, options={"task": changed(dog, battery=0.5)})
    torques = []
    for action in violent:
        dog.step(action)
        torques.append(np.abs(dog.state.torques))
    assert (np.max(torques, axis=0) <= 0.5 * A1.effort + 1e-9).all()
    assert (np.max(torques, axis=0) / A1.effort).max() > 0.49
    arm.world.randomize(Physics())
    arm.world.place(rested(arm))
    arm.world.drive(Drive(PANDA.nominal + 1.0, 0.6 * PANDA.effort, 0.6 * PANDA.velocity))
    arm.world.advance(60)
    assert np.abs(arm.world.read().speeds).max() == pytest.approx(0.6 * PANDA.velocity.max(), rel=0.01)


@pytest.mark.parametrize(("seconds", "delay"), [(0, 0), (0.005, 1), (0.0136, 3), (0.025, 5), (0.04, 8), (0.05, 10)])
def test_delay_is_counted_in_physics_steps(robot: RobotEnv, changed: Changed, seconds: float, delay: int):
    task = changed(robot, delay=seconds)
    paths = [np.array(record(robot, task, action).joints) for action in (0.0, 0.5)]
    same = (paths[0] == paths[1]).all(axis=-1)
    assert same[:delay].all()
    assert not same[delay:].any()


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.04, 0.05])
def test_observation_delay_shows_the_past(robot: RobotEnv, changed: Changed, seconds: float):
    lag = round(seconds * robot.job.spec.control_hz)
    runs = []
    for delay in (0.0, seconds):
        robot.reset(seed=0, options={"task": changed(robot, noise=0.0, observation_delay=delay)})
        samples = [robot.sample]
        for _ in range(8):
            robot.step(np.full(robot.interface.action_size, 0.1))
            samples.append(robot.sample)
        runs.append(samples)
    body = [name for name in runs[0][0] if name not in ("camera_target", "velocity_command")]
    for step, sample in enumerate(runs[1]):
        for name in body:
            np.testing.assert_array_equal(sample[name], runs[0][max(step - lag, 0)][name])


def test_damping_brakes_every_joint_in_proportion(robot: RobotEnv, changed: Changed):
    unit = 0.1 * catalogue(robot.job.spec)["damping"].high  # type: ignore[union-attr]
    runs = []
    for damping in (0.0, unit, 2 * unit):
        apply(robot, changed(robot, damping=damping, mass_scale=1.0))
        robot.world.randomize(replace(physics(changed(robot, damping=damping)), gravity=(0.0, 0.0, 0.0)))
        runs.append(coast(robot))
    assert (runs[1].sum() < runs[0].sum()).all()
    np.testing.assert_allclose(runs[2] - runs[0], 2 * (runs[1] - runs[0]), rtol=0.1, atol=1e-4)


def test_damping_of_an_arm_is_the_stated_torque(arm: RobotEnv):
    """By the engine's mass matrix: at low speed and without gravity, M dv / dt is minus damping times speed."""
    body, client = ids(arm)
    matrix = np.array(pybullet.calculateMassMatrix(body, [*PANDA.nominal.tolist(), 0.02, 0.02], physicsClientId=client))
    changes = []
    for damping in (0.0, 1.0):
        arm.world.randomize(Physics(damping=damping, gravity=(0.0, 0.0, 0.0)))
        changes.append(coast(arm, 0.01))
    torque = matrix[:7, :7] @ (changes[1] - changes[0]) * PANDA.physics_hz
    np.testing.assert_allclose(torque, np.full(7, -1.0 * 0.01), rtol=0.15)


def test_joint_friction_holds_what_pushes_less(arm: RobotEnv, dog: RobotEnv):
    def moved(env: RobotEnv, effort: float, friction: float) -> np.ndarray:
        spec = env.job.spec
        env.world.randomize(Physics(joint_friction=friction, gravity=(0.0, 0.0, 0.0)))
        env.world.place(rested(env))
        env.world.drive(Drive(spec.nominal + 1.0, np.full(len(spec.joints), effort), spec.velocity))
        env.world.advance(10)
        return env.world.read().joints - spec.nominal

    for env in (arm, dog):
        assert np.abs(moved(env, effort=0.4, friction=0.5)).max() < 1e-3
        assert np.abs(moved(env, effort=0.4, friction=0.0)).max() > 1e-2
        assert np.abs(moved(env, effort=2.0, friction=0.5)).max() > 1e-2


def test_payload_is_mass_on_the_mount(arm: RobotEnv, dog: RobotEnv, env: RobotEnv, changed: Changed):
    for robot, load in ((arm, 1.0), (dog, A1.payload), (env, 1.0)):
        apply(robot, changed(robot))
        before = {link: info[0] for link, info in links(robot).items()}
        apply(robot, changed(robot, payload=load))
        after = {link: info[0] for link, info in links(robot).items()}
        assert sum(after.values()) - sum(before.values()) == pytest.approx(load, abs=1e-4)
        corners = robot.world._corners  # type: ignore[attr-defined]
        changed_ones = [link for link in after if after[link] != before[link]]
        assert changed_ones == (corners or [robot.world._mount])  # type: ignore[attr-defined]


def test_payload_is_carried_with_more_torque(env: RobotEnv, changed: Changed):
    torque = []
    for payload in (0.0, 1.0):
        env.reset(seed=0, options={"task": changed(env, payload=payload)})
        for _ in range(20):
            env.step(np.zeros(7))
        shoulder = env.world._joints[1]  # type: ignore[attr-defined]
        torque.append(pybullet.getJointState(*ids(env)[:1], shoulder, ids(env)[1])[3])
    assert env.state.tool is not None
    assert abs(torque[1] - torque[0]) == pytest.approx(9.81 * env.state.tool[0], rel=0.15)


def weighed(env: RobotEnv, task: Task, steps: int = 60) -> float:
    """The upward force of the ground [N], once a standing robot has come to rest."""
    env.reset(seed=0, options={"task": task, "goal": np.zeros(3)})
    for _ in range(steps):
        env.step(np.zeros(env.interface.action_size))
    return sum(point[9] for point in pybullet.getContactPoints(physicsClientId=ids(env)[1]))


def test_payload_and_mass_are_carried_by_the_ground(changed: Changed):
    env = RobotEnv(Walk(A1, unknown=("payload", "mass_scale")))
    masses = [weighed(env, changed(env, payload=load, mass_scale=scale)) / 9.81 for load, scale in ((0, 1), (3, 1.2))]
    env.close()
    assert masses[0] == pytest.approx(A1.mass, rel=0.02)
    assert masses[1] == pytest.approx(1.2 * A1.mass + 3, rel=0.02)


def test_payload_at_is_where_its_centre_of_mass_is(robot: RobotEnv, changed: Changed):
    corners = robot.world._corners  # type: ignore[attr-defined]
    for at in ((0.0, 0.0), (0.1, -0.07), (-0.15, 0.15)):
        robot.reset(seed=0, options={"task": changed(robot, payload=1.0, payload_at=at)})
        states = [links_at(robot)[corner] for corner in corners]
        masses = np.array([links(robot)[corner][0] for corner in corners])
        places = np.array([state[4] for state in states])
        off = masses @ places / masses.sum() - places.mean(axis=0)
        local = Rotation.from_quat(states[0][5]).inv().apply(off)
        np.testing.assert_allclose(local, (*at, 0.0), atol=1e-4)


def test_mass_scale_scales_all_masses_and_inertias(robot: RobotEnv, changed: Changed):
    apply(robot, changed(robot))
    before = links(robot)
    apply(robot, changed(robot, mass_scale=1.2))
    corners = robot.world._corners  # type: ignore[attr-defined]
    scaled = set()
    for link, now in links(robot).items():
        if link not in corners and (robot.job.spec.floating or link >= 0):
            np.testing.assert_allclose(now[0], 1.2 * before[link][0])
            np.testing.assert_allclose(now[2], 1.2 * np.array(before[link][2]), rtol=1e-6)
            scaled.add(link)
        else:
            assert now == before[link]
    assert len(scaled) > 10


def test_friction_is_the_grounds(robot: RobotEnv, changed: Changed):
    for friction in (0.4, 1.0):
        apply(robot, changed(robot, friction=friction))
        assert ground(robot)[1] == friction


@pytest.mark.parametrize(("friction", "slides"), [(0.05, True), (0.1, True), (0.2, False), (1.0, False)])
def test_friction_decides_where_feet_slide(dog: RobotEnv, friction: float, slides: bool):
    """With gravity tilted by 0.15 rad, as on a slope, they hold where the coefficient is above the tangent."""
    dog.world.randomize(replace(physics(Task({"gravity_tilt": (0.15, 0.0)})), friction=friction, tile=(0, 0)))
    x, y = dog.job.scene.terrain.centre("flat", 0)  # type: ignore[union-attr]
    dog.world.place(Start(A1.nominal, Pose((x, y, A1.height))))
    dog.world.drive(Drive(A1.nominal, A1.effort, A1.velocity))
    places = []
    for _ in range(2):
        dog.world.advance(100)
        places.append(dog.world.read().base.position[1])  # type: ignore[union-attr]
    assert (places[1] - places[0] > 0.05) == slides


def test_restitution_lets_things_bounce(robot: RobotEnv, changed: Changed):
    for restitution in (0.0, 0.5):
        apply(robot, changed(robot, restitution=restitution))
        assert ground(robot)[5] == restitution


def test_restitution_is_felt_by_feet():
    world, heights = PyBulletWorld(A1), []
    feet = [index for index, name in world._names.items() if name.endswith("toe")]
    for restitution in (0.0, 1.0):
        world.randomize(Physics(restitution=restitution))
        world.place(Start(A1.nominal, Pose((0, 0, A1.height + 0.3))))
        world.drive(Drive(A1.nominal, A1.effort, A1.velocity))
        world.advance(52)  # a quarter of a second down
        path = []
        for _ in range(10):
            world.advance(1)
            states = [pybullet.getLinkState(world._body, foot, 1, 1, world._client) for foot in feet]
            path.append([state[0][2] for state in states])
        heights.append(np.max(path, axis=0))
    world.close()
    assert len(feet) == 4
    assert heights[0].max() < 0.03
    assert heights[1].min() > 0.03


def test_noise_scales_the_sensors_own(robot: RobotEnv, changed: Changed):
    spread = []
    for noise in (0.0, 1.0, 3.0):
        robot.reset(seed=0, options={"task": changed(robot, noise=noise)})
        off = []
        for _ in range(20):
            robot.step(np.zeros(robot.interface.action_size))
            off.append(robot.sample["joint_position"] - robot.state.joints)
        spread.append(np.std(off))
    np.testing.assert_allclose(spread, np.array([0, 1, 3]) * 0.001, rtol=0.2)


def base_of(env: RobotEnv, name: str, task: Task) -> np.ndarray:
    env.reset(seed=0, options={"task": task})
    return env.sample[name]


def test_gyro_bias_is_added_to_the_gyro(dog: RobotEnv, changed: Changed):
    bias = (0.1, -0.05, 0.02)
    still = base_of(dog, "angular_velocity", changed(dog, noise=0.0))
    np.testing.assert_allclose(base_of(dog, "angular_velocity", changed(dog, noise=0.0, gyro_bias=bias)) - still, bias)


def test_imu_mount_turns_what_the_imu_feels(dog: RobotEnv, changed: Changed):
    mount = (0.2, -0.1, 0.05)
    felt = base_of(dog, "gravity", changed(dog, noise=0.0, imu_mount=mount))
    np.testing.assert_allclose(felt, Rotation.from_euler("xyz", mount).inv().apply((0, 0, -1)), atol=1e-9)


def test_gravity_tilt_turns_gravity_and_the_imu_feels_it(robot: RobotEnv, changed: Changed):
    for roll, pitch in ((0.0, 0.0), (0.15, 0.0), (0.0, -0.15), (0.1, 0.15)):
        task = changed(robot, noise=0.0, gravity_tilt=(roll, pitch))
        robot.reset(seed=0, options={"task": task})
        pulled = np.array(gravity(robot))
        assert np.linalg.norm(pulled) == pytest.approx(9.81)
        down = Rotation.from_euler("xy", (roll, pitch)).apply((0, 0, -1))
        np.testing.assert_allclose(pulled / 9.81, down, atol=1e-9)
        if "gravity" in robot.sample:
            assert robot.state.base is not None
            turn = Rotation.from_quat(robot.state.base.quaternion)
            np.testing.assert_allclose(robot.sample["gravity"], turn.inv().apply(down), atol=1e-9)


@pytest.mark.parametrize("values", [{"exchanged": 2.0}, {"reversed": 2.0}, {"exchanged": 2.0, "reversed": 2.0}])
def test_crossed_wires_show_in_the_readings(robot: RobotEnv, changed: Changed, values: dict):
    """The robot stands as ever; what arrives of it is what `unwired` says."""
    straight, crossed = (
        base_of(robot, "joint_position", changed(robot, noise=0.0, **more))
        for more in ({}, {**values, "joint_zero": 0.03})
    )
    pair, mirror = (1, 2) if "exchanged" in values else None, 1 if "reversed" in values else None
    np.testing.assert_allclose(crossed, unwired(straight, pair, mirror, robot.job.spec.nominal), atol=1e-12)


def test_exchanged_cables_move_the_other_joint(robot: RobotEnv, changed: Changed):
    options = catalogue(robot.job.spec)["exchanged"].options  # type: ignore[union-attr]
    a, b = (robot.job.spec.joint_names.index(name) for name in options[2].split("/"))
    task = changed(robot, noise=0.0, exchanged=2.0)
    one = 0.3 * np.eye(robot.interface.action_size)[a]
    moved = told(robot, task, one).target - told(robot, task, 0 * one).target
    assert abs(moved[b]) > 0.02
    np.testing.assert_allclose(np.delete(moved, b), 0, atol=1e-9)


def test_reversed_joints_turn_the_other_way(arm: RobotEnv, changed: Changed):
    ends, reads = [], []
    for reversed_ in (0.0, 4.0):
        arm.reset(seed=0, options={"task": changed(arm, noise=0.0, reversed=reversed_)})
        start = arm.state.joints, arm.sample["joint_position"]
        for _ in range(6):
            arm.step(np.eye(7)[3])
        ends.append((arm.state.joints - start[0])[3])
        reads.append((arm.sample["joint_position"] - start[1])[3])
    assert ends[0] > 0.3
    assert ends[1] == pytest.approx(-ends[0], rel=0.05)
    assert reads[1] == pytest.approx(reads[0], rel=0.05)


def test_reversed_targets_are_mirrored(dog: RobotEnv, changed: Changed):
    straight, mirrored = (told(dog, changed(dog, reversed=value), 0.5).target for value in (0.0, 5.0))
    other = np.arange(12) != 4
    np.testing.assert_array_equal(mirrored[other], straight[other])
    assert mirrored[4] == pytest.approx(2 * A1.nominal[4] - straight[4])


def test_push_comes_every_two_seconds_from_any_side(robot: RobotEnv, changed: Changed):
    hz = robot.job.spec.control_hz
    pushes = np.array(record(robot, changed(robot, push=0.8), 0.0, steps=60 * hz, frozen=True).pushes)
    assert 18 <= len(pushes) <= 42  # 30 on average
    np.testing.assert_allclose(np.linalg.norm(pushes, axis=1), 0.8)
    assert (pushes[:, 2] == 0).all()
    assert (pushes[:, :2].min(axis=0) < -0.3).all()
    assert (pushes[:, :2].max(axis=0) > 0.3).all()
    assert not record(robot, changed(robot), 0.0, steps=100, frozen=True).pushes


def test_push_is_an_impulse(dog: RobotEnv):
    dog.world.randomize(Physics(gravity=(0.0, 0.0, 0.0)))
    dog.world.place(rested(dog))
    dog.world.drive(Drive(A1.nominal, A1.effort, A1.velocity))
    dog.world.push((3.0, -2.0, 0.5))
    momentum = []
    for _ in range(2):  # and then it is over
        dog.world.advance(1)
        masses = {link: info[0] for link, info in links(dog).items()}
        base = masses.pop(-1) * np.array(pybullet.getBaseVelocity(*ids(dog))[0])
        others = [mass * np.array(state[6]) for mass, state in zip(masses.values(), links_at(dog), strict=True)]
        momentum.append(base + np.sum(others, axis=0))
    for found in momentum:
        np.testing.assert_allclose(found, (3.0, -2.0, 0.5), atol=0.05)


def test_push_moves_an_arm(arm: RobotEnv):
    arm.world.randomize(Physics(gravity=(0.0, 0.0, 0.0)))
    arm.world.place(rested(arm))
    arm.world.drive(Drive(PANDA.nominal, 0 * PANDA.effort, PANDA.velocity))
    before = arm.world.read().tool
    arm.world.push((0.0, 1.0, 0.0))
    arm.world.advance(10)
    moved = arm.world.read().tool - before  # type: ignore[operator]
    assert moved[1] > 0.005
    assert moved[1] > 3 * abs(moved[[0, 2]]).max()


# --- all together ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"), [("payload", 1.0), ("damping", 1.0), ("strength", 0.6), ("delay", 0.04)], ids=str
)
def test_dynamics_really_change(env: RobotEnv, changed: Changed, roll: Roll, name: str, value: float):
    nominal = roll(env, env.task_space.nominal)[:, :7]
    other = roll(env, changed(env, **{name: value}))[:, :7]
    np.testing.assert_array_equal(other[0], nominal[0])
    assert np.abs(other - nominal).max() > 0.005


@pytest.mark.parametrize("split", SPLITS)
def test_any_of_them_compose(robot: RobotEnv, split: Any):
    """Each has its effect beside all others, and whatever they do together, the simulation stays sound."""
    rng, spec = np.random.default_rng(1), robot.job.spec
    apply(robot, robot.task_space.nominal)
    nominal = links(robot)
    for _ in range(15):
        task = robot.task_space.sample(rng, split)
        robot.reset(seed=0, options={"task": task})
        found, corners = links(robot), robot.world._corners  # type: ignore[attr-defined]
        scale, wrong = task.values["mass_scale"][0], body_faults(task, spec)
        own = [link for link in found if link not in corners and (spec.floating or link >= 0)]
        assert sum(found[link][0] for link in own) == pytest.approx(scale * sum(nominal[link][0] for link in own))
        assert sum(found[corner][0] for corner in corners) == pytest.approx(task.values["payload"][0], abs=1e-5)
        assert (ground(robot)[1], ground(robot)[5]) == (task.values["friction"][0], task.values["restitution"][0])
        factor = task.values["strength"][0] * task.values["battery"][0] * task["joint_strength"]
        if weak := int(task.values["weak_joint"][0]):
            factor[weak - 1] *= task.values["weak_strength"][0]
        np.testing.assert_allclose(wrong.effort, factor * spec.effort)
        for _ in range(10):
            action = rng.uniform(-1, 1, robot.interface.action_size)
            observation, reward, ended, _, info = robot.step(action)
            assert "diverged" not in info
            assert np.isfinite([*observation, reward]).all()
            if ended:
                break


def test_nominal_restores_every_value_of_the_engine(robot: RobotEnv):
    rng = np.random.default_rng(3)
    apply(robot, robot.task_space.nominal)
    nominal = engine(robot)
    for split in SPLITS:
        task = robot.task_space.sample(rng, split)  # type: ignore[arg-type]
        apply(robot, task)
        once = engine(robot)
        assert once != nominal
        apply(robot, task)
        assert engine(robot) == once
        apply(robot, robot.task_space.nominal)
        assert engine(robot) == nominal


def test_every_fault_of_the_engine_is_undone_by_nominal(robot: RobotEnv, changed: Changed):
    apply(robot, robot.task_space.nominal)
    nominal = engine(robot)
    acting = set()
    for name, fault in catalogue(robot.job.spec).items():
        if name not in robot.task_space.nominal.values:
            continue
        values = (1.0,) if isinstance(fault, Choice) else (fault.high if fault.high != fault.nominal else fault.low,)
        apply(robot, changed(robot, **{name: values * len(robot.task_space.nominal.values[name])}))
        acting |= {name} if engine(robot) != nominal else set()
        apply(robot, robot.task_space.nominal)
        assert engine(robot) == nominal, name
    known = {"damping", "payload", "mass_scale", "friction", "restitution", "gravity_tilt"}
    assert acting == known | ({"joint_friction"} if robot.job.spec.floating else set())


def test_a_task_applied_twice_acts_as_once(robot: RobotEnv, roll: Roll):
    task = robot.task_space.sample(np.random.default_rng(4), "extrapolation")
    once = roll(robot, task)
    apply(robot, task)
    np.testing.assert_array_equal(roll(robot, task), once)


def test_the_nominal_robot_is_the_urdf_and_a_payload_is_mass_alone(env: RobotEnv, changed: Changed):
    client = pybullet.connect(pybullet.DIRECT)
    urdf = str(Path(pybullet_data.getDataPath()) / PANDA.urdf)
    body = pybullet.loadURDF(urdf, useFixedBase=True, physicsClientId=client)
    loaded = [pybullet.getDynamicsInfo(body, link, client)[:5] for link in links(env)]
    pybullet.disconnect(client)
    apply(env, env.task_space.nominal)
    assert [info[:5] for info in links(env).values()] == loaded
    apply(env, changed(env, payload=1.0))
    loads = [(now[0] - was[0], now[1:5] == was[1:5]) for now, was in zip(links(env).values(), loaded, strict=True)]
    assert sorted(loads) == [(0.0, True)] * (len(loaded) - 1) + [(1.0, True)]


@pytest.mark.parametrize("env_id", ["metarl/PandaReach-v0", "metarl/PandaSeek-v0"])
def test_trajectories_have_no_history(env_id: str, roll: Roll):
    env, fresh = make(env_id), make(env_id)
    rng = np.random.default_rng(0)
    task, nominal = env.task_space.sample(rng, "extrapolation"), env.task_space.nominal
    wanted = [(task, None), (nominal, None), (task, DOWN)]
    first = [roll(fresh, t, seed=7, actions=actions) for t, actions in wanted]
    for trial in range(5):
        other = env.task_space.sample(rng, "extrapolation")
        roll(env, other, seed=trial, actions=DOWN)
        roll(env, other, seed=trial, actions=np.tile(rng.choice([-1.0, 1.0], 7), (40, 1)))
        for (t, actions), expected in zip(wanted, first, strict=True):
            np.testing.assert_array_equal(roll(env, t, seed=7, actions=actions), expected)
    env.close()
    fresh.close()


def test_that_an_arm_can_touch_the_floor(env: RobotEnv, roll: Roll):
    """So that the test above has contacts in it."""
    roll(env, env.task_space.nominal, seed=7, actions=DOWN)
    assert pybullet.getContactPoints(physicsClientId=ids(env)[1])


@pytest.mark.parametrize("make_env", [walker, lambda: RobotEnv(Broken(PANDA, scene=Scene(payload_at=True)))])
def test_trajectories_with_every_fault_have_no_history(make_env: Callable[[], RobotEnv], roll: Roll):
    env, fresh = make_env(), make_env()
    rng = np.random.default_rng(0)
    wanted = [env.task_space.nominal, *(env.task_space.sample(rng, split) for split in SPLITS)]  # type: ignore[arg-type]
    first = [roll(fresh, task, seed=7) for task in wanted]
    assert len({path.tobytes() for path in first}) == len(wanted)
    for trial in range(3):
        roll(env, env.task_space.sample(rng, "extrapolation"), seed=trial)
        for task, expected in zip(wanted, first, strict=True):
            np.testing.assert_array_equal(roll(env, task, seed=7), expected)
    env.close()
    fresh.close()


# --- picking from the catalogue ----------------------------------------------------------------------------------


def test_the_catalogue_is_picked_from_by_name():
    own = Parameter("payload", "kg", 0.0, 0.0, 0.5, "add")
    picked = chosen(PANDA, ("strength", own, "delay", "more"), {"more": Choice("more", ("a", "b"))})
    assert [fault.name for fault in picked] == ["strength", "payload", "delay", "more"]
    assert picked[1] is own
    assert chosen(A1, ()) == ()
    assert set(catalogue(A1)) - set(catalogue(PANDA)) == {"gyro_bias", "imu_mount"}  # an arm has no IMU
    for spec in (A1, PANDA):
        known = catalogue(spec)
        assert chosen(spec, tuple(known)) == tuple(known.values())
        assert [fault.name for fault in known.values()] == list(known)
        sizes = {known[name].code for name in ("joint_zero", "joint_strength")}
        assert sizes == {len(spec.joints)}


def test_unknown_faults_are_refused():
    with pytest.raises(ValueError, match=r"faults \['gremlins', 'rust'\] are unknown, expected some of \['battery'"):
        chosen(A1, ("payload", "rust", "gremlins"))


@pytest.mark.parametrize(("alone", "partner"), [("weak_strength", "weak_joint"), ("payload_at", "payload")])
def test_a_fault_that_does_nothing_alone_is_refused(alone: str, partner: str):
    with pytest.raises(ValueError, match=f"{alone!r} does nothing without {partner!r}"):
        chosen(A1, (alone,))
    assert len(chosen(A1, (alone, partner))) == 2


def test_a_weak_joint_without_a_strength_is_dead():
    assert body_faults(Task({"weak_joint": (2.0,)}), A1).effort[1] == 0


def test_a_task_that_names_nothing_is_nominal():
    assert physics(Task({})) == Physics()
    spec, wrong = A1, body_faults(Task({}), A1)
    np.testing.assert_array_equal(wrong.effort, spec.effort)
    np.testing.assert_array_equal(wrong.velocity, spec.velocity)
    np.testing.assert_array_equal(wrong.zero, np.zeros(12))
    np.testing.assert_array_equal(wrong.gyro_bias, np.zeros(3))
    nothing = (wrong.delay, wrong.lag, wrong.noise, wrong.imu, wrong.exchanged, wrong.reversed, wrong.push)
    assert nothing == (0, 0, 1.0, None, None, None, 0.0)
    for spec in (A1, PANDA):
        world = PyBulletWorld(spec, Scene(payload_at=True))
        told = TaskSpace(tuple(catalogue(spec).values())).nominal
        assert physics(told) == Physics()
        world.randomize(Physics())
        world.place(Start(spec.nominal, Pose((0, 0, 1), UPRIGHT) if spec.floating else None))
        world.close()


def test_a_later_world_is_another_on_the_same_ground():
    now, other = (Task({"payload": (x,), "ground": (x,), "level": (x / 4,), "object": (x,)}) for x in (1.0, 2.0))
    assert later(now, other).values == {"payload": (2.0,), "ground": (1.0,), "level": (0.25,), "object": (1.0,)}
