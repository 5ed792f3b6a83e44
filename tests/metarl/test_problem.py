"""Problems: what robots and the papers' little worlds tell of themselves, and what they refuse."""

import numpy as np
import pytest

from envs.arm import Seek
from envs.classic import Bandit, Sinusoid
from envs.robot_env import make
from metarl.networks import MLP
from metarl.problem import TOLD, Problem
from metarl.sampling.batch import BatchSampler
from metarl.sampling.opening import open_sampler
from metarl.sampling.serial import SerialSampler


@pytest.mark.parametrize("env_id", ["metarl/PandaSeek-v0", "metarl/PandaReach-v0", "metarl/A1Walk-v0"])
def test_a_robots_problem_is_its_jobs(env_id: str):
    problem, env = Problem.of(env_id), make(env_id)
    assert problem.classic is None
    assert type(problem.robot) is type(env.job)
    assert (problem.observation,) == env.observation_space.shape
    assert (problem.action,) == env.action_space.shape
    assert not problem.discrete
    assert problem.space == env.task_space
    assert (problem.horizon, problem.measure, problem.guided) == (env.job.horizon, env.job.measure, env.job.guided)
    assert problem.seconds * env.interface.control_hz == 1
    env.close()


@pytest.mark.parametrize("env_id", ["metarl/PandaSeek-v0", "metarl/PandaReach-v0", "metarl/A1Walk-v0"])
def test_what_is_felt_is_neither_asked_for_nor_done(env_id: str):
    """Every element of the terms that the robot measures of itself, by their own names, and of no other."""
    problem = Problem.of(env_id)
    interface = problem.robot.interface
    numbered = np.arange(problem.observation)
    found = {}
    for term in interface.observation:
        start = sum(len(other.scale) for other in interface.observation[: interface.observation.index(term)])
        found[term.name] = numbered[start : start + len(term.scale)]
    assert sum(map(len, found.values())) == problem.observation
    expected = [index for name, part in found.items() if name not in TOLD for index in part]
    assert list(problem.felt) == expected
    assert set(found["joint_position"]) <= set(problem.felt)
    told = {"metarl/PandaReach-v0": "camera_target", "metarl/A1Walk-v0": "velocity_command"}.get(env_id)
    if told:
        assert not set(found[told]) & set(problem.felt)
        assert len(problem.felt) < problem.observation


def test_a_classics_problem_is_its_familys():
    problem = Problem.of("metarl/Bandit-v0", {"arms": 7})
    assert problem.robot is None
    assert problem.classic == problem.job == Bandit(7)
    assert (problem.observation, problem.action, problem.discrete, problem.horizon) == (1, 7, True, 1)
    assert (problem.felt, problem.seconds, problem.guided) == ((0,), 1.0, False)
    assert problem.space.size == 7
    sinusoid = Problem.of("metarl/Sinusoid-v0")
    assert (sinusoid.job, sinusoid.discrete, sinusoid.guided) == (Sinusoid(), False, True)


def test_options_reach_the_job_as_they_were_before_json():
    problem = Problem.of("metarl/A1Walk-v0", {"horizon": 17, "unknown": ["payload"]})
    assert problem.horizon == 17
    assert [parameter.name for parameter in problem.space.parameters] == ["payload"]
    assert problem.options == {"horizon": 17, "unknown": ("payload",)}
    assert Problem.of("metarl/PointNavigation-v0", {"horizon": 9}).horizon == 9
    assert isinstance(Problem.of("metarl/PandaSeek-v0", {}).robot, Seek)


@pytest.mark.parametrize(
    ("env_id", "options", "says"),
    [
        ("metarl/Nothing-v0", {}, "environment 'metarl/Nothing-v0' is unknown, expected one of"),
        ("CartPole-v1", {}, "environment 'CartPole-v1' is no RobotEnv"),
        ("metarl/A1Walk-v0", {"colour": 1}, r"options \['colour'\] are unknown, expected some of"),
        ("metarl/Bandit-v0", {"colour": 1}, r"options \['colour'\] are unknown, expected some of \['arms'\]"),
        ("metarl/Bandit-v0", {"arms": 1}, "arms is 1"),
        ("nowhere:metarl/Bandit-v0", {}, "module 'nowhere' cannot be imported"),
    ],
)
def test_what_there_is_not_is_refused(env_id: str, options: dict[str, object], says: str):
    with pytest.raises(ValueError, match=says):
        Problem.of(env_id, options)


def test_each_kind_of_world_has_its_sampler():
    for env_id, kind in (("metarl/Sinusoid-v0", BatchSampler), ("metarl/PandaSeek-v0", SerialSampler)):
        problem = Problem.of(env_id)
        sampler = open_sampler(problem, {"one": MLP(problem.observation, problem.action, (3,))}, workers=0)
        assert isinstance(sampler, kind)
        sampler.close()
