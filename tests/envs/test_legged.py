"""Walk: what is seen, what is rewarded, when it ends; standing on every ground, and a simulation that blows up."""

from collections.abc import Callable, Iterator
from math import exp
from typing import Any

import gymnasium
import numpy as np
import pybullet
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common import env_checker as stable_baselines3

from envs.frames import turned
from envs.legged import ROBOTS, Walk
from envs.robot_env import Moment, RobotEnv, make
from envs.state import Drive, Motion, Pose, Start, State
from envs.tasks import Parameter, Task
from envs.terrain import KINDS, LEVELS
from robots.actions import Command
from robots.legged import A1

Changed = Callable[..., Task]
Roll = Callable[..., np.ndarray]
IDS = ("metarl/A1Walk-v0", "metarl/LaikagoWalk-v0", "metarl/MiniCheetahWalk-v0", "metarl/MinitaurWalk-v0")
ON_FLAT, ON_HILLS = Walk(A1), Walk(A1, ground=("slope_up",))
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", params=sorted(ROBOTS))
def any_walker(request: pytest.FixtureRequest) -> Iterator[RobotEnv]:
    env = RobotEnv(Walk(ROBOTS[request.param], unknown=("noise", "friction")))
    yield env
    env.close()


@pytest.fixture(scope="module")
def hiker() -> Iterator[RobotEnv]:
    """A1 on every kind of ground."""
    env = RobotEnv(Walk(A1, ground=KINDS), render_mode="rgb_array")
    yield env
    env.close()


def state(**changes: Any) -> State:
    """A robot that stands, but for some changes of its base's motion, or of its torques."""
    torques = changes.pop("torques", np.zeros(12))
    still = Motion((0.0, 0.0, A1.height), turned(0, 0, 0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    return State(A1.nominal, np.zeros(12), torques, None, still._replace(**changes), None)


def moment(now: State, goal: Any = (0, 0, 0), action: float = 0.0, last: float = 0.0) -> Moment:
    command, previous = (Command(A1.nominal, np.full(15, value)) for value in (action, last))
    asked = np.array(goal, dtype=np.float64)
    return Moment(now, now, asked, command, previous, ON_FLAT.error(now, asked))


def reward(now: State, goal: Any = (0, 0, 0), **actions: float) -> float:
    return ON_FLAT.reward(moment(now, goal, **actions), RNG)


# --- what is seen and asked --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gait", [True, False])
@pytest.mark.parametrize("name", sorted(ROBOTS))
def test_observations_are_laid_out_as_the_table_says(name: str, gait: bool):
    spec = ROBOTS[name]
    n, table = len(spec.joints), Walk(spec, gait=gait).interface
    size = n + 3 if gait else n
    rows = [
        ("angular_velocity", 3, 2.0),
        ("gravity", 3, 1.0),
        ("joint_position", n, 0.5),
        ("joint_velocity", n, 10.0),
        ("velocity_command", 3, 0.5),
        ("last_action", size, 1.0),
        ("gait_phase", 2, 1.0),
    ][: None if gait else -1]
    assert [(term.name, len(term.scale), term.scale[0]) for term in table.observation] == rows
    assert all(len(set(term.scale)) == 1 for term in table.observation)
    offsets = {term.name: term.offset for term in table.observation}
    assert offsets.pop("joint_position") == spec.nominal_pose
    assert not any(value for offset in offsets.values() for value in offset)
    assert (table.joints, table.control_hz, table.action_size) == (spec.joint_names, spec.control_hz, size)


def test_observations_hold_the_truth_the_command_and_the_own_past(any_walker: RobotEnv, changed: Changed):
    env, goal = any_walker, np.array([0.3, -0.1, 0.2])
    action = np.linspace(-0.5, 0.5, env.interface.action_size)
    env.reset(seed=0, options={"task": changed(env, noise=0.0), "goal": goal})
    for step in range(1, 4):
        observation, *_ = env.step(action)
        field = {name: env.interface.field(name, observation) for name in (t.name for t in env.interface.observation)}
        state = env.state
        assert state.base is not None
        np.testing.assert_allclose(field["joint_position"], state.joints, atol=1e-5)
        np.testing.assert_allclose(field["joint_velocity"], state.speeds, atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(field["gravity"]), 1, atol=1e-5)
        np.testing.assert_allclose(field["velocity_command"], goal, atol=1e-6)
        np.testing.assert_allclose(field["last_action"], action, atol=1e-6)
        low, high = env.job.frequency  # type: ignore[attr-defined]
        angle = 2 * np.pi * step / env.job.spec.control_hz * (low + (high - low) * (action[-3] + 1) / 2)
        np.testing.assert_allclose(field["gait_phase"], [np.sin(angle), np.cos(angle)], atol=1e-5)


def test_commands_are_drawn_anew_in_their_ranges():
    job = Walk(A1, forward=(-0.3, 0.7), left=(-0.2, 0.2), yaw_rate=(-0.5, 0.5))
    drawn = np.array([job.goal(job.space.nominal, np.random.default_rng(seed)) for seed in range(200)])
    low, high = np.array([-0.3, -0.2, -0.5]), np.array([0.7, 0.2, 0.5])
    assert ((drawn >= low) & (drawn <= high)).all()
    assert (np.ptp(drawn, axis=0) > 0.9 * (high - low)).all()


def test_the_unknown_is_what_was_asked_for():
    own = Parameter("payload", "kg", 0.0, 0.0, 2.0, "add")
    names = [
        parameter.name for parameter in Walk(A1, unknown=("friction", own), ground=("flat", "waves")).space.parameters
    ]
    assert names == ["ground", "level", "friction", "payload"]
    level = Walk(A1, ground=("flat",), level=0.3).space.parameters[1]
    assert (level.low, level.high) == (0.0, 0.3)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"faults \['mud'\] are unknown"):
        Walk(A1, unknown=("mud",)).space  # noqa: B018
    with pytest.raises(ValueError, match="terrain kind is 'mud'"):
        Walk(A1, ground=("mud",)).scene  # noqa: B018


def test_nobody_leads_a_walking_robot():
    with pytest.raises(ValueError, match=r"no guided motions.*another objective"):
        ON_FLAT.guide(ON_FLAT.space.nominal, np.zeros(3), RNG)


# --- what is rewarded, and when it ends --------------------------------------------------------------------------


def test_doing_what_is_asked_earns_all():
    assert reward(state()) == pytest.approx(1.5)
    for yaw in (0.0, 1.0, -2.5):  # the command is the robot's, whichever way it looks
        c, s = np.cos(yaw), np.sin(yaw)
        velocity = (0.5 * c + 0.1 * s, 0.5 * s - 0.1 * c, 0.0)  # 0.5 m/s forward, 0.1 m/s to the right
        now = state(quaternion=turned(0, 0, yaw), velocity=velocity, angular=(0, 0, 0.3))
        assert reward(now, (0.5, -0.1, 0.3)) == pytest.approx(1.5)
        assert ON_FLAT.error(now, np.array([0.5, -0.1, 0.3])) == pytest.approx(0, abs=1e-12)


def test_each_shortfall_costs_what_the_table_says():
    full = reward(state())
    assert reward(state(velocity=(0.2, 0.1, 0))) == pytest.approx(exp(-0.05 / 0.05) + 0.5)
    assert reward(state(angular=(0, 0, 0.4))) == pytest.approx(1 + 0.5 * exp(-0.16 / 0.1))
    assert full - reward(state(velocity=(0, 0, -0.3))) == pytest.approx(0.5 * 0.09)
    assert full - reward(state(angular=(0.3, -0.4, 0))) == pytest.approx(0.02 * 0.25)
    assert full - reward(state(torques=0.5 * A1.effort)) == pytest.approx(0.2 * 0.25)
    assert full - reward(state(), action=0.5, last=-0.5) == pytest.approx(0.1 * 1.0)


def test_turning_is_about_the_robots_own_axis():
    lying = turned(np.pi / 2, 0, 0)  # its z axis is the world's -y
    now = state(quaternion=lying, angular=(0, -0.3, 0))
    assert reward(now, (0, 0, 0.3)) == pytest.approx(1.5)


def test_the_error_is_the_miss_of_the_horizontal_velocity():
    now = state(quaternion=turned(0.2, 0.1, 2.0), velocity=(0.3, -0.4, 5.0), angular=(1, 1, 1))
    assert ON_FLAT.error(now, np.zeros(3)) == pytest.approx(0.5)
    assert ON_FLAT.measure.tolerance == 0.1


def test_it_ends_when_the_trunk_lies_over_or_sinks():
    height = A1.height
    assert not ON_FLAT.ended(state())
    for angle, ended in ((1.0, False), (1.1, True), (np.pi, True)):  # 60 degrees is 1.05 rad
        for tilt in (turned(angle, 0, 2.0), turned(0, angle, -1.0)):
            assert ON_FLAT.ended(state(quaternion=tilt)) is ended
    assert not ON_FLAT.ended(state(position=(3, 4, 0.41 * height)))
    assert ON_FLAT.ended(state(position=(3, 4, 0.39 * height)))


def test_heights_are_over_the_ground():
    grid = ON_HILLS.scene.terrain
    assert grid is not None
    x, y = grid.centre("slope_up", LEVELS - 1) + np.array([3.0, 0.0])
    hill = grid.height(x, y)
    assert hill > 0.5
    assert ON_HILLS.ended(state(position=(x, y, A1.height)))
    assert not ON_HILLS.ended(state(position=(x, y, hill + A1.height)))
    assert ON_HILLS.ended(state(position=(x, y, hill + 0.39 * A1.height)))


def test_a_fall_ends_the_episode(any_walker: RobotEnv, changed: Changed):
    env = any_walker
    env.reset(seed=0, options={"task": changed(env)})
    mass = env.job.spec.mass
    env.world.push((0.0, 4.0 * mass, 2.0 * mass))
    ended, steps = False, 0
    while not ended and steps < 100:
        _, value, ended, _, info = env.step(np.zeros(env.interface.action_size))
        steps += 1
        assert np.isfinite(value)
    assert ended
    assert "diverged" not in info
    assert 5 < steps < 100


def test_time_alone_ends_no_episode_but_truncates_it():
    env = make(IDS[0], horizon=5)
    env.reset(seed=0)
    ends = [env.step(np.zeros(15))[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    env.close()


# --- as gymnasium's users meet it --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("env_id", IDS)
def test_checkers_pass_without_a_warning(env_id: str):
    env = gymnasium.make(env_id, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=False)
    stable_baselines3.check_env(env.unwrapped)
    assert env.unwrapped.metadata["render_fps"] == env.unwrapped.job.spec.control_hz  # type: ignore[attr-defined]
    env.close()


def test_every_robot_is_registered():
    robots = {make(env_id).job.spec.name for env_id in IDS}
    assert robots == set(ROBOTS)


def test_without_a_command_zero_action_stands(any_walker: RobotEnv, changed: Changed):
    env = any_walker
    for seed in range(3):
        env.reset(seed=seed, options={"task": changed(env, friction=1.0), "goal": np.zeros(3)})
        assert env.state.base is not None
        start = np.array(env.state.base.position)
        for step in range(100):
            _, _, ended, _, info = env.step(np.zeros(env.interface.action_size))
            assert not ended, step
        now = env.state.base
        assert now is not None
        assert np.linalg.norm(np.subtract(now.position, start)[:2]) < 0.05
        assert now.position[2] == pytest.approx(env.job.spec.height, rel=0.1)
        assert np.linalg.norm(now.velocity) < 0.05
        assert np.abs(env.state.speeds).max() < 1
        assert info["is_success"]


def test_zero_action_walks_roughly_where_it_is_told(changed: Changed):
    env = RobotEnv(Walk(A1, unknown=("friction",)))
    env.reset(seed=0, options={"task": changed(env, friction=1.0), "goal": np.array([0.4, 0.0, 0.0])})
    for _ in range(100):
        ended = env.step(np.zeros(15))[2]
        assert not ended
    shift = env.job.markers(env.task, env.state, env.goal)[0][0] - env.state.base.position  # type: ignore[union-attr]
    ahead = shift[:2] / np.linalg.norm(shift[:2])
    assert ahead @ env.state.base.position[:2] > 0.3  # type: ignore[union-attr]
    env.close()


# --- on every ground ---------------------------------------------------------------------------------------------


def at(env: RobotEnv, kind: str, level: int) -> Task:
    plain = env.task_space.nominal.to_dict()
    plain |= {"ground": [float(KINDS.index(kind))], "level": [level / (LEVELS - 1)]}
    return Task.from_dict(plain)


@pytest.mark.parametrize("kind", KINDS)
def test_it_stands_on_every_ground(hiker: RobotEnv, kind: str):
    terrain = hiker.job.scene.terrain
    assert terrain is not None
    for level in range(LEVELS):
        hiker.reset(seed=level, options={"task": at(hiker, kind, level), "goal": np.zeros(3)})
        base = hiker.state.base
        assert base is not None
        np.testing.assert_allclose(base.position[:2], terrain.centre(kind, level), atol=1e-9)
        for _ in range(25):
            assert not hiker.step(np.zeros(15))[2]
        base = hiker.state.base
        assert base is not None
        assert base.position[2] - terrain.height(*base.position[:2]) == pytest.approx(A1.height, abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ground_of_the_engine_is_the_grids(hiker: RobotEnv, kind: str):
    """A robot that drops limply onto a place comes to lie there, neither in it nor above it."""
    terrain, spread = hiker.job.scene.terrain, np.array([[-2.5, 0.4], [1.5, 2.2], [3.1, -2.9]])
    assert terrain is not None
    for level in (0, LEVELS - 1):
        hiker.reset(seed=0, options={"task": at(hiker, kind, level)})
        for x, y in terrain.centre(kind, level) + spread:
            hiker.world.place(Start(A1.nominal, Pose((x, y, terrain.height(x, y) + 0.5))))
            hiker.world.drive(Drive(A1.nominal, 0 * A1.effort, A1.velocity))
            hiker.world.advance(200)
            base = hiker.world.read().base
            assert base is not None
            around = [
                terrain.height(base.position[0] + dx, base.position[1] + dy)
                for dx in (-0.3, 0, 0.3)
                for dy in (-0.3, 0, 0.3)
            ]
            assert min(around) < base.position[2] < max(around) + 0.3


@pytest.mark.parametrize("restitution", [0.0, 0.2])
@pytest.mark.parametrize("name", ["a1", "laikago", "mini_cheetah"])
def test_feet_do_not_sink_into_the_ground(name: str, restitution: float):
    """Whatever a robot does, the middle of its round feet hardly ever comes below the surface."""
    kinds = ("rough", "stairs_up", "stones", "waves")
    env = RobotEnv(Walk(ROBOTS[name], unknown=("friction", "restitution"), ground=kinds))
    body, client, names = env.world._body, env.world._client, env.world._names  # type: ignore[attr-defined]
    feet, terrain = [index for index, link in names.items() if "toe" in link], env.job.scene.terrain
    assert len(feet) == 4
    assert terrain is not None
    rng, lowest = np.random.default_rng(0), []
    for kind in range(len(kinds)):
        values = {"ground": (float(kind),), "level": (1.0,), "friction": (1.0,), "restitution": (restitution,)}
        env.reset(seed=kind, options={"task": Task(values)})
        x, y = terrain.centre(kinds[kind], LEVELS - 1) + (2.0, 1.0)  # noqa: RUF005
        pose = Pose((x, y, max(terrain.height(x + dx, y + dy) for dx in (-0.3, 0, 0.3) for dy in (-0.3, 0, 0.3)) + 0.5))
        env.world.place(Start(ROBOTS[name].nominal, pose))
        for _ in range(60):
            env.step(rng.uniform(-1, 1, env.interface.action_size))
            for foot in feet:
                x, y, z = pybullet.getLinkState(body, foot, 0, 1, client)[4]
                lowest.append(z - terrain.height(x, y))
    env.close()
    assert np.mean(np.array(lowest) < 0) < 0.005


def test_trajectories_do_not_remember_other_tiles(hiker: RobotEnv, roll: Roll):
    fresh, rng = RobotEnv(Walk(A1, ground=KINDS)), np.random.default_rng(0)
    wanted = [at(fresh, "obstacles", 9), at(fresh, "flat", 0), fresh.task_space.sample(rng)]
    first = [roll(fresh, task, seed=3) for task in wanted]
    for _ in range(3):
        roll(hiker, hiker.task_space.sample(rng), seed=1)
        for task, expected in zip(wanted, first, strict=True):
            np.testing.assert_array_equal(roll(hiker, task, seed=3), expected)
    fresh.close()


def test_looking_does_not_change_what_happens_on_hills(hiker: RobotEnv):
    blind = RobotEnv(Walk(A1, ground=KINDS))
    for level in (9, 8):
        for env in (hiker, blind):
            env.reset(seed=0, options={"task": at(env, "waves", level)})
        for index in range(6):
            if index % 3 == 0:
                picture = hiker.render()
            action = np.random.default_rng(index).uniform(-1, 1, 15)
            np.testing.assert_array_equal(hiker.step(action)[0], blind.step(action)[0])
    assert picture is not None
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    assert ((green > red + 60) & (green > blue + 60)).sum() > 20  # where the command leads
    blind.close()


# --- a simulation that blows up ----------------------------------------------------------------------------------


def pushed(env: RobotEnv) -> None:
    env.world.push((1e30, 0.0, 0.0))


def undone(env: RobotEnv) -> None:
    """The engine computes with what is no number."""
    spec = env.job.spec
    joints = np.full(len(spec.joints), np.nan)
    env.world.place(Start(joints, Pose((0, 0, 1)) if spec.floating else None))


@pytest.mark.parametrize(
    ("env_id", "accident"),
    [
        ("metarl/A1Walk-v0", pushed),
        ("metarl/A1Walk-v0", undone),
        ("metarl/MinitaurWalk-v0", pushed),
        ("metarl/PandaReach-v0", undone),
    ],
)
def test_a_divergence_ends_the_episode_and_is_forgotten(env_id: str, accident: Callable[[RobotEnv], None], roll: Roll):
    env, fresh = make(env_id), make(env_id)
    task = env.task_space.sample(np.random.default_rng(0))
    expected = roll(fresh, task, seed=2)
    still = np.zeros(env.interface.action_size)
    for steps in (0, 3):
        env.reset(seed=1, options={"task": task})
        for _ in range(steps):
            env.step(still)
        before = env.state
        accident(env)
        observation, value, ended, _, info = env.step(still)
        assert ended
        assert info["diverged"]
        assert not info["is_success"]
        assert np.isfinite([*observation, value, info["error"]]).all()
        assert env.observation_space.contains(observation)
        assert env.state is before
        np.testing.assert_array_equal(roll(env, task, seed=2), expected)
        assert "diverged" not in env.step(still)[4]
    env.close()
    fresh.close()


def test_what_the_engine_survives_is_forgotten_too(roll: Roll):
    env, fresh = make("metarl/PandaReach-v0"), make("metarl/PandaReach-v0")
    task = env.task_space.sample(np.random.default_rng(0))
    env.reset(seed=1)
    pushed(env)
    _, value, ended, _, _ = env.step(np.zeros(7))
    assert np.isfinite(value)
    assert not ended
    np.testing.assert_array_equal(roll(env, task, seed=2), roll(fresh, task, seed=2))
    env.close()
    fresh.close()
