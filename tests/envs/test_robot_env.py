"""RobotEnv as gymnasium's users meet it: checkers, episodes, options, errors, pictures."""

import dataclasses
import math
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common import env_checker as stable_baselines3

import envs  # noqa: F401 (registers the ids)
from envs.arm import CENTER, Reach
from envs.robot_env import RobotEnv, make
from envs.tasks import Task
from robots.arms import PANDA

IDS = ("metarl/PandaReach-v0", "metarl/PandaSeek-v0")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("env_id", [*IDS, "envs:metarl/PandaReach-v0"])
def test_checkers_pass_without_a_warning(env_id: str):
    env = gymnasium.make(env_id, render_mode="rgb_array")
    check_env(env.unwrapped)
    stable_baselines3.check_env(env.unwrapped)
    env.close()
    bare = gymnasium.make(env_id).unwrapped
    check_env(bare, skip_render_check=True)
    assert bare.render() is None
    bare.close()


@pytest.mark.parametrize("env_id", IDS)
def test_make_gives_the_environment_itself(env_id: str):
    env = make(env_id)
    assert isinstance(env, RobotEnv)
    assert env.spec is not None
    assert env.spec.id == env_id
    env.close()


def test_make_names_the_ids_it_knows():
    with pytest.raises(ValueError, match=r"'metarl/Nothing-v0' is unknown.*metarl/PandaReach-v0"):
        make("metarl/Nothing-v0")


@pytest.mark.parametrize(
    ("env_id", "options", "says"),
    [
        ("metarl/A1Walk-v0", {"grund": 1}, r"options \['grund'\] are unknown.*'ground', 'level',.* of Walk"),
        (IDS[0], {"spec": PANDA}, r"options \['spec'\] are unknown, expected some of \['unknown', 'horizon'.*of Reach"),
        (IDS[0], {"job": "Read"}, r"job is 'Read', expected one of \['Reach', 'Seek'\]"),
        (IDS[0], {"robot": "pandora"}, r"robot is 'pandora', expected one of \['iiwa', .*\] or a RobotSpec"),
        ("metarl/A1Walk-v0", {"robot": 1}, r"robot is 1, expected one of \['a1', .* or a RobotSpec"),
        ("CartPole-v1", {}, r"'CartPole-v1' is no RobotEnv"),
    ],
)
def test_make_names_what_an_environment_takes(env_id: str, options: dict, says: str):
    with pytest.raises(ValueError, match=says):
        make(env_id, **options)


def test_make_names_the_options_of_an_entry_point_of_your_own():
    gymnasium.register(id="metarl/TestOwn-v0", entry_point=RobotEnv, kwargs={"job": Reach(PANDA)})
    try:
        with pytest.raises(ValueError, match=r"'metarl/TestOwn-v0' takes the options \(job.*'horizon'"):
            make("metarl/TestOwn-v0", horizon=3)
    finally:
        del gymnasium.registry["metarl/TestOwn-v0"]


def test_a_robot_of_your_own_is_given_as_its_spec():
    env = make(IDS[0], robot=dataclasses.replace(PANDA, name="mine"), horizon=7)
    assert (env.job.spec.name, env.job.horizon) == ("mine", 7)
    env.close()


@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_ends_by_time_alone(env_id: str):
    env = make(env_id)
    for seed in range(2):
        env.reset(seed=seed)
        ends = [env.step(env.action_space.sample())[2:4] for _ in range(env.job.horizon)]
        assert ends == [(False, False)] * (env.job.horizon - 1) + [(False, True)]
    env.close()


def test_a_reset_without_a_task_draws_one_for_training(env: RobotEnv):
    drawn = []
    for seed in (0, 1, 0):
        env.reset(seed=seed)
        drawn.append(env.task)
        assert np.abs(env.task_space.encode(env.task)).max() <= 1
    assert drawn[0] == drawn[2] != drawn[1]


def test_info_tells_error_and_success(env: RobotEnv):
    nominal = env.task_space.nominal
    env.reset(seed=0, options={"task": nominal})
    tool = env.state.tool
    for offset in (0.0, 0.9 * env.job.measure.tolerance, 1.1 * env.job.measure.tolerance, 0.5):
        target = np.add(tool, [0.0, 0.0, offset])
        _, info = env.reset(seed=0, options={"task": nominal, "goal": target})
        assert math.isclose(info["error"], offset, abs_tol=1e-9)
        assert info["is_success"] is (offset <= env.job.measure.tolerance)
    _, reward, _, _, info = env.step(np.ones(7))
    assert info["error"] == pytest.approx(np.linalg.norm(env.state.tool - target))
    assert reward == pytest.approx(-info["error"])


def out_of_range(name: str, value: float) -> Task:
    return Task({**Reach(PANDA).space.nominal.values, name: (value,)})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tsk": None}, r"\['tsk'\] are unknown, expected 'task', 'goal' or 'then'"),
        ({"task": {}}, "expected a Task"),
        ({"task": {"payload": [0.5]}}, "expected a Task"),
        ({"task": Task({"payload": (0.5,)})}, r"\['payload'\], expected \['camera_shift'"),
        ({"task": out_of_range("payload", 9.0)}, r"'payload' is \[9.0\] kg, expected values in \[0, 1.25\]"),
        ({"task": out_of_range("delay", float("nan"))}, r"'delay' is \[nan\] s, expected values in"),
        ({"goal": [0.5, 0.0]}, "expected 3 finite numbers"),
        ({"goal": [0.5, 0.0, float("nan")]}, "expected 3 finite numbers"),
        ({"goal": None}, "expected 3 finite numbers"),
    ],
)
def test_bad_options_are_refused_and_forgotten(env: RobotEnv, options: dict, says: str):
    with pytest.raises(ValueError, match=says):
        env.reset(seed=0, options=options)
    observation, _ = env.reset(seed=3)
    np.testing.assert_array_equal(observation, env.reset(seed=3, options={})[0])


@pytest.mark.parametrize("action", [np.full(7, np.nan), np.full(7, np.inf), np.zeros(6), np.zeros((1, 7))])
def test_a_bad_action_is_refused_and_forgotten(env: RobotEnv, action: np.ndarray):
    env.reset(seed=1)
    expected = env.step(np.ones(7))[0]
    env.reset(seed=1)
    with pytest.raises(ValueError, match="expected 7 finite values"):
        env.step(action)
    env.reset(seed=1)
    np.testing.assert_array_equal(env.step(np.ones(7))[0], expected)


def test_actions_beyond_the_limits_are_clipped(env: RobotEnv):
    env.reset(seed=1)
    expected = env.step(np.ones(7))[0]
    env.reset(seed=1)
    np.testing.assert_array_equal(env.step(np.full(7, 5.0))[0], expected)


def test_a_step_is_an_action_made_command_and_followed(env: RobotEnv):
    action = np.linspace(-1, 1, 7)
    env.reset(seed=1)
    command = env.interface.command(action, env.interface.start(env.sample), env.sample)
    observation, reward, *_ = env.step(action)
    env.reset(seed=1)
    assert env.move(command) == reward
    np.testing.assert_array_equal(env.interface.observe(env.sample, command), observation)


def test_a_step_needs_a_reset():
    env = make(IDS[1])
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.step(np.zeros(7))
    env.close()


def greens(image: np.ndarray) -> int:
    red, green, blue = np.moveaxis(image.astype(int), -1, 0)
    return int(((green > red + 60) & (green > blue + 60)).sum())


def test_pictures_show_the_target(env: RobotEnv):
    options = {"task": env.task_space.nominal, "goal": CENTER}
    env.reset(seed=0, options=options)
    image = env.render()
    assert image is not None
    assert image.shape == (360, 480, 3)
    assert image.dtype == np.uint8
    assert greens(image) > 50
    np.testing.assert_array_equal(env.render(), image)
    env.reset(seed=0, options={**options, "goal": np.add(CENTER, [0, 0, -3.0])})
    hidden = env.render()
    assert hidden is not None
    assert greens(hidden) == 0


def test_looking_does_not_change_what_happens():
    seeing, blind = make(IDS[0], render_mode="rgb_array"), make(IDS[0])
    for seed in range(2):
        np.testing.assert_array_equal(seeing.reset(seed=seed)[0], blind.reset(seed=seed)[0])
        for _ in range(10):
            seeing.render()
            action = seeing.action_space.sample()
            np.testing.assert_array_equal(seeing.step(action)[0], blind.step(action)[0])
    seeing.close()
    blind.close()


def test_an_unknown_render_mode_is_refused():
    with pytest.raises(ValueError, match="render_mode is 'human', expected None or 'rgb_array'"):
        make(IDS[0], render_mode="human")


def test_an_engine_is_one_of_those_known():
    with pytest.raises(ValueError, match=r"engine is 'ode', expected one of \('pybullet', 'mujoco'\)"):
        make(IDS[0], engine="ode")


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    for module in [name for name in sys.modules if name.startswith("envs.mujoco")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ValueError, match=r"engine 'mujoco' needs 'mujoco': pip install '.\[sim2sim\]'"):
        make(IDS[0], engine="mujoco")


def test_closing_twice_is_allowed_and_closes_nobody_else():
    first = make(IDS[0])
    first.close()
    second = make(IDS[0])  # PyBullet may hand out the same client number again
    first.close()
    observation, _ = second.reset(seed=0)
    assert second.observation_space.contains(observation)
    second.close()


@pytest.mark.parametrize("engine", ["pybullet", "mujoco"])
def test_a_closed_environment_says_so(engine: str):
    env = make(IDS[0], engine=engine)
    env.reset(seed=0)
    env.close()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(7))
    with pytest.raises(ValueError, match=r"the environment is closed.*make another"):
        env.reset()


def test_a_spec_that_contradicts_its_urdf_is_refused():
    tilted = dataclasses.replace(PANDA.joints[3], rpy=(0, 0, 0))
    wrong = dataclasses.replace(PANDA, joints=(*PANDA.joints[:3], tilted, *PANDA.joints[4:]))
    with pytest.raises(ValueError, match=r"panda: the spec puts the tool at .* check the joints' origins"):
        RobotEnv(Reach(wrong))
