"""Push, PickPlace and Slide: what is seen and rewarded, and that hands and pads move things."""

from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium.utils.env_checker
import numpy as np
import pybullet
import pytest
import stable_baselines3.common.env_checker

from envs.manipulation import Push
from envs.objects import POOL
from envs.robot_env import Moment, RobotEnv, Sight, make
from envs.state import UPRIGHT, Drive, Motion, Physics, Pose, Scene, Start, State
from envs.tasks import Task
from envs.world import PyBulletWorld
from robots import kinematics
from robots.actions import Command
from robots.arms import PANDA, XARM6
from robots.spec import Chain, Suction

Changed = Callable[..., Task]
Roll = Callable[..., np.ndarray]
NAMES = [thing.name for thing in POOL]
NONE = np.zeros(3)


@pytest.fixture(scope="module")
def push() -> Iterator[RobotEnv]:
    env = make("metarl/PandaPush-v0")
    yield env
    env.close()


@pytest.fixture(scope="module")
def picks() -> Iterator[dict[str, RobotEnv]]:
    envs = {robot: make(f"metarl/{robot}PickPlace-v0") for robot in ("Panda", "XArm6", "Iiwa")}
    yield envs
    for env in envs.values():
        env.close()


def toward(env: RobotEnv, place: np.ndarray) -> np.ndarray:
    return np.clip((place - env.state.tool) / env.interface.action.scale, -1, 1)


def pushed(env: RobotEnv) -> float:
    """The error after a scripted push: over to behind the object, down, and on."""
    info = {}
    for _ in range(env.job.horizon):
        thing, tool = np.array(env.state.object.position), env.state.tool
        away = (thing - env.goal) * (1, 1, 0)
        away /= np.linalg.norm(away) + 1e-9
        behind, beside = thing + 0.07 * away, np.cross(away, tool - thing)[2]
        low = np.array([*behind[:2], 0.03])
        if info.get("error", 1.0) < 0.02:
            action = NONE
        elif (tool - thing) @ away > 0.02 and abs(beside) < 0.02:
            action = 0.5 * toward(env, low - 0.09 * away) if tool[2] < 0.05 else toward(env, low)
        else:
            action = toward(env, np.array([*(behind if tool[2] > 0.11 else tool)[:2], 0.14]))
        *_, info = env.step(action)
    return info["error"]


def picked(env: RobotEnv) -> float:
    """The error after a scripted pick: over the object, down, close, and to the goal."""
    thing = env.job.thing(env.task)
    above = thing.size[2] - thing.rest if isinstance(env.job.spec.gripper, Suction) else 0.0
    closed, info = 0, {}
    for _ in range(env.job.horizon):
        place, tool = np.array(env.state.object.position), env.state.tool
        grasp = np.add(place, (0, 0, above))
        aside = np.linalg.norm((tool - place)[:2])
        if closed > 5:
            motion = env.goal - place
        elif aside < 0.012 and tool[2] - grasp[2] < 0.01:
            motion, closed = grasp - tool, closed + 1
        else:
            motion = (grasp if aside < 0.02 else np.array([*place[:2], 0.15])) - tool
        *_, info = env.step(np.append(toward(env, env.state.tool + motion), 1.0 if closed else -1.0))
    return info["error"]


@pytest.mark.parametrize("name", ["PandaPush", "PandaPickPlace", "PandaSlide", "IiwaPush", "XArm6PickPlace"])
def test_the_checkers_of_gymnasium_and_stable_baselines_pass(name: str):
    env = make(f"metarl/{name}-v0", render_mode="rgb_array")
    gymnasium.utils.env_checker.check_env(env, skip_render_check=False)
    stable_baselines3.common.env_checker.check_env(env)
    env.close()


@pytest.mark.parametrize("name", ["box", "tin", "mesh_004", "mesh_977"])
def test_a_pushed_thing_arrives(push: RobotEnv, changed: Changed, name: str):
    push.reset(seed=0, options={"task": changed(push, object=NAMES.index(name))})
    assert pushed(push) < 0.04


@pytest.mark.parametrize("robot", ["Panda", "XArm6", "Iiwa"])
@pytest.mark.parametrize("name", ["box", "can", "mesh_905"])
def test_a_picked_thing_is_held_where_it_should_be(picks: dict[str, RobotEnv], changed: Changed, robot: str, name: str):
    env = picks[robot]
    _, info = env.reset(seed=0, options={"task": changed(env, object=NAMES.index(name))})
    assert info["error"] > 0.1
    assert picked(env) < 0.04
    assert env.state.object.position[2] > 0.08


def test_the_gripper_lets_go(picks: dict[str, RobotEnv], changed: Changed):
    for env in (picks["Panda"], picks["XArm6"]):
        env.reset(seed=0, options={"task": changed(env)})
        picked(env)
        for _ in range(15):
            env.step(np.array([0, 0, 0, -1.0]))
        assert env.state.object.position[2] < 0.04


def lifted(world: PyBulletWorld, mass: float) -> float:
    """How high a box of this mass [kg] ends that the arm's pad touches, sucks and pulls upwards from [m]."""
    world.randomize(Physics(object=0, object_mass=mass))
    spec, size, angles = XARM6, POOL[0].size[2], XARM6.nominal
    chain, low = Chain(spec.joints, spec.tool), np.array([0.4, 0.0, size + 0.003])
    for _ in range(50):
        angles = angles + kinematics.hold_down(chain, angles, NONE, low, low)
    world.place(Start(angles, object=Pose((0.4, 0.0, size / 2))))
    for _ in range(30):
        step = kinematics.hold_down(chain, angles, np.array([0, 0, 0.01]), np.full(3, -1.0), np.ones(3))
        angles = angles + step
        world.drive(Drive(angles, spec.effort, spec.velocity, grip=1.0))
        world.advance(10)
    return world.read().object.position[2]


def test_suction_holds_what_it_can_and_leaves_no_trace():
    world = PyBulletWorld(XARM6, Scene(POOL[:2]))
    held = lifted(world, 1.0)
    assert held > 0.2
    assert pybullet.getNumConstraints(world._client) == 1
    assert lifted(world, 8.0) < 0.05  # 78 N on a pad for 50 N
    assert lifted(world, 1.0) == held
    world.place(Start(XARM6.nominal, object=Pose((0.4, 0.0, 0.3))))
    assert pybullet.getNumConstraints(world._client) == 0
    world.advance(100)
    assert world.read().object.position[2] < 0.05
    world.close()


def test_observations_are_relative_and_in_the_frames_of_encoders_and_camera(push: RobotEnv, changed: Changed):
    observation, _ = push.reset(seed=1, options={"task": changed(push, joint_zero=0.0)})
    thing = np.array(push.state.object.position)
    sees = {term.name: push.interface.field(term.name, observation) for term in push.interface.observation}
    np.testing.assert_allclose(sees["tool_position"], push.state.tool, atol=0.005)
    np.testing.assert_allclose(sees["object_position"], thing - push.state.tool, atol=0.015)
    np.testing.assert_allclose(sees["goal_position"], push.goal - thing, atol=0.01)
    np.testing.assert_allclose(sees["object_velocity"], 0, atol=0.1)
    observation, _ = push.reset(seed=1, options={"task": changed(push, joint_zero=0.02)})
    off = push.interface.field("tool_position", observation) - push.state.tool
    assert np.linalg.norm(off) > 0.01


def test_a_camera_askew_moves_what_is_seen():
    job = Push(PANDA, unknown=("camera_shift", "camera_yaw"))
    assert set(job.space.nominal.values) == {"object", "camera_shift", "camera_yaw"}
    thing = Motion((0.5, 0.0, 0.03), UPRIGHT, (0, 0, 0), (0, 0, 0))
    sight = Sight(State(PANDA.nominal, NONE, NONE, NONE, None, thing), NONE, np.array(0.0),
                  {"joint_position": PANDA.nominal})  # fmt: skip
    nominal = job.space.nominal
    moved = Task({**nominal.values, "camera_shift": (0.05, 0.0, -0.02)})
    straight, askew = (job.sense(task, sight, np.random.default_rng(0)) for task in (nominal, moved))
    np.testing.assert_allclose(askew["object_position"] - straight["object_position"], (0.05, 0, -0.02))
    np.testing.assert_allclose(askew["goal_position"] - straight["goal_position"], (-0.05, 0, 0.02))
    np.testing.assert_array_equal(askew["tool_position"], straight["tool_position"])


def test_what_is_unknown_can_be_chosen(push: RobotEnv):
    assert list(Push(PANDA, unknown=()).space.nominal.values) == ["object"]
    assert Push(PANDA, objects=("ball",)).space.nominal.values["object"] == (0.0,)
    with pytest.raises(ValueError, match=r"faults \['mood'\] are unknown"):
        Push(PANDA, unknown=("mood",)).space  # noqa: B018
    assert "object_mass" in push.task_space.nominal.values
    assert Push(PANDA, unknown=("payload", "payload_at")).scene.payload_at
    assert not push.job.scene.payload_at


@pytest.mark.parametrize("name", ["Push", "PickPlace", "Slide"])
def test_things_and_goals_are_where_the_page_says(name: str):
    env = make(f"metarl/Panda{name}-v0")
    rng = np.random.default_rng(0)
    for _ in range(100):
        task = env.task_space.sample(rng)
        goal = env.job.goal(task, rng)
        x, y, z = env.job.start(task, goal, rng).object.position
        assert z == env.job.thing(task).rest
        if name == "Push":
            assert goal[2] == z
            assert 0.1 <= np.hypot(x - goal[0], y - goal[1]) <= 0.25
        elif name == "PickPlace":
            assert 0.1 <= goal[2] <= 0.25
        else:
            assert 0.3 <= goal[0] - x <= 0.57
            assert goal[0] > env.interface.action.high[0] + 0.1
    env.close()


def moment(goal: np.ndarray, thing: np.ndarray, tool: np.ndarray, grip: float | None = None) -> Moment:
    motion = Motion(tuple(thing.tolist()), UPRIGHT, (0, 0, 0), (0, 0, 0))
    state = State(PANDA.nominal, NONE, NONE, tool, None, motion)
    command = Command(PANDA.nominal, NONE, grip)
    return Moment(state, state, goal, command, command, float(np.linalg.norm(thing - goal)))


@pytest.mark.parametrize("name", ["Push", "PickPlace", "Slide"])
def test_rewards_prefer_less_error_and_never_punish_success(name: str):
    env, rng = make(f"metarl/Panda{name}-v0"), np.random.default_rng(0)
    goal = np.array([0.5, 0.0, 0.03])
    far, near, there = (np.add(goal, (0, offset, 0)) for offset in (0.2, 0.1, 0.0))
    tool = np.array([0.5, 0.3, 0.1])
    rewards = [env.job.reward(moment(goal, thing, tool), rng) for thing in (far, near, there)]
    assert rewards[0] < rewards[1] < rewards[2]
    assert rewards[2] > 0.5
    closer = env.job.reward(moment(goal, far, np.add(far, (0, 0.06, 0))), rng)
    assert closer > rewards[0]
    env.close()


def test_closing_around_a_thing_and_lifting_it_pay(picks: dict[str, RobotEnv]):
    job, rng = picks["Panda"].job, np.random.default_rng(0)
    goal, thing, up = np.array([0.5, 0.1, 0.2]), np.array([0.5, 0.0, 0.03]), np.array([0.5, 0.0, 0.08])
    opened, closed, lifted = (
        job.reward(moment(goal, place, place, grip), rng) for place, grip in ((thing, 0.0), (thing, 1.0), (up, 1.0))
    )
    assert opened < closed < lifted


@pytest.mark.parametrize("name", ["PandaPush", "XArm6PickPlace", "PandaSlide"])
def test_episodes_do_not_depend_on_what_was_before(name: str, roll: Roll):
    env, rng = make(f"metarl/{name}-v0"), np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (60, env.interface.action_size)) - (0, 0, 0.4, 0)[: env.interface.action_size]
    tasks = [env.task_space.sample(rng, split) for split in ("train", "heldout", "extrapolation")]
    before = [roll(env, task, 3, actions) for task in tasks]
    for seed in range(5):
        env.reset(seed=seed)
        for action in actions:
            env.step(action)
        for task, trajectory in zip(tasks, before, strict=True):
            np.testing.assert_array_equal(roll(env, task, 3, actions), trajectory)
    env.world.randomize(Physics())
    env.world.randomize(Physics())
    fresh = make(f"metarl/{name}-v0")
    np.testing.assert_array_equal(roll(fresh, tasks[0], 3, actions), before[0])
    assert dynamics(env) == dynamics(fresh)
    env.close()
    fresh.close()


def dynamics(env: RobotEnv) -> list[tuple]:
    """What the engine holds of every body, in the nominal task."""
    env.reset(seed=0, options={"task": env.task_space.nominal})
    client = env.world._client
    bodies = [pybullet.getBodyUniqueId(index, client) for index in range(pybullet.getNumBodies(client))]
    return [
        pybullet.getDynamicsInfo(body, link, client)
        for body in bodies
        for link in range(-1, pybullet.getNumJoints(body, client))
    ]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_resets_leak_no_memory(push: RobotEnv):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for seed in range(100):
        push.reset(seed=seed)
    before = resident()
    for seed in range(2000):
        push.reset(seed=seed)
    assert resident() - before < 5e6
