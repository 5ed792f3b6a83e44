"""The mirrored world: what is lived there is the image of what is lived here, in PyBullet."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from envs.arm import Reach
from envs.faults import catalogue
from envs.legged import Walk
from envs.robot_env import Job, RobotEnv
from envs.state import Pose, Start
from envs.symmetry import Symmetry, symmetry
from envs.tasks import Choice, Parameter, Task, TaskSpace
from robots.arms import PANDA
from robots.legged import A1, MINI_CHEETAH
from robots.spec import RobotSpec

KNOWN = tuple(name for name in catalogue(A1) if name != "exchanged")


@dataclass(frozen=True)
class FromRest(Walk):
    """From the nominal pose: no other start has its own image."""

    def start(self, task: Task, goal: np.ndarray, rng: np.random.Generator) -> Start:
        return Start(self.spec.nominal, Pose((0.0, 0.0, self.spec.height + 0.01), (0.0, 0.0, 0.0, 1.0)))


def of(job: Job) -> Symmetry:
    found = symmetry(job)
    assert found is not None
    return found


def decoded(space: TaskSpace, code: np.ndarray) -> Task:
    values, at = {}, 0
    for parameter in space.parameters:
        own, at = code[at : at + parameter.code], at + parameter.code
        if isinstance(parameter, Choice):
            values[parameter.name] = (float(own.argmax()),)
        else:
            values[parameter.name] = tuple(parameter.low + (own + 1) / 2 * (parameter.high - parameter.low))
    return Task(values)


@pytest.mark.parametrize("spec", [A1, MINI_CHEETAH], ids=lambda spec: spec.name)
def test_the_mirrored_world_is_lived_in_as_in_a_mirror(spec: RobotSpec):
    unknown = ("joint_zero", "imu_mount", "payload", "payload_at", "weak_joint", "weak_strength", "delay")
    even = {"forward": (0.4, 0.4), "left": (0.1, 0.1), "yaw_rate": (0.2, 0.2)}
    job = FromRest(spec, (*unknown, "noise"), gait=False, **even)
    seen, done, code = of(job)
    odd = replace(job, left=(-0.1, -0.1), yaw_rate=(-0.2, -0.2))
    rng = np.random.default_rng(1)
    here = job.space.sample(rng)
    here = Task({**here.values, "noise": (0.0,)})
    there = decoded(job.space, code(job.space.encode(here)))
    actions = rng.normal(0, 0.3, (25, len(done.signs))).astype(np.float32)

    def lived(own: Job, task: Task, actions: np.ndarray) -> np.ndarray:
        env = RobotEnv(own)
        first, _ = env.reset(seed=0, options={"task": task})
        felt = [first, *(env.step(action)[0] for action in actions)]
        env.close()
        return np.array(felt)

    mine, image = lived(job, here, actions), lived(odd, there, done(actions))
    # Contacts are solved one after the other, so not quite alike.
    assert np.abs(seen(mine) - image).mean() < 0.15 * np.abs(mine - image).mean()


def test_all_of_the_catalogue_has_an_image_but_exchanged_joints():
    seen, done, code = of(Walk(A1, KNOWN, ground=("rough",)))
    for mirror in (seen, done, code):
        assert [mirror.sources[source] for source in mirror.sources] == list(range(len(mirror.sources)))
    job = Walk(A1, KNOWN)
    values = job.space.encode(job.space.sample(np.random.default_rng(0)))
    assert of(job).code(values).shape == values.shape
    assert symmetry(Walk(A1, ("exchanged",))) is None


def test_a_gait_whose_legs_move_in_pairs_keeps_its_phase():
    job = Walk(A1)
    trot, pace = of(job).observation.signs[-2:], job.interface.action
    assert trot == (-1.0, -1.0)
    gait = replace(pace.gait, phases=(0.0, 0.0, 0.5, 0.5))  # type: ignore[union-attr]
    interface = replace(job.interface, action=replace(pace, gait=gait))  # type: ignore[call-arg]
    job.__dict__["interface"] = interface
    assert of(job).observation.signs[-2:] == (1.0, 1.0)
    gait = replace(gait, phases=(0.0, 0.25, 0.5, 0.75))
    job.__dict__["interface"] = replace(interface, action=replace(pace, gait=gait))  # type: ignore[call-arg]
    assert symmetry(job) is None


@pytest.mark.parametrize(
    "job",
    [
        Reach(PANDA),
        Walk(A1, (Parameter("wind", "N", 0.0, -1.0, 1.0, "set"),)),
        Walk(A1, (Parameter("joint_zero", "rad", 0.0, -0.1, 0.3, "add", size=12),)),
    ],
    ids=["an arm", "an unknown of one's own", "zeros that are off to one side"],
)
def test_what_is_not_known_to_have_an_image_has_none(job: Job):
    assert symmetry(job) is None
