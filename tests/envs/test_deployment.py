"""The deployment suite: a row's worlds have its faults and no others, and are the same for everyone."""

import numpy as np
import pytest

from envs import terrain
from envs.deployment import BEYOND, HELDOUT, ROOM, SUITE, drawn, worlds
from envs.robot_env import make
from envs.tasks import Choice, Task, TaskSpace


@pytest.mark.parametrize("name", SUITE)
def test_a_rows_worlds_have_its_faults_and_no_others(name: str):
    deployment = SUITE[name]
    env = make(deployment.env)
    space = env.task_space
    env.close()
    sound = drawn(space, {}, np.random.default_rng(0))
    made = worlds(deployment, space, 20, HELDOUT)
    assert made == worlds(deployment, space, 20, HELDOUT)
    for row, those in made.items():
        for task, then in those:
            assert (then is None) == (deployment.rows[row].then is None)
            cases = [(task, deployment.rows[row].faults), *([(then[1], deployment.rows[row].then)] if then else [])]
            for now, faults in cases:
                assert {name for name in sound.values if now.values[name] != sound.values[name]} == set(faults)
                for fault, (low, high) in faults.items():
                    assert all(low <= abs(value) <= high for value in now.values[fault])
                assert beyond(space, now) == row.startswith(BEYOND)


def beyond(space: TaskSpace, task: Task) -> bool:
    """Whether training has no such world: by a value, a choice that is held out, or the row of its tile."""
    kinds = {parameter.name: parameter for parameter in space.parameters}
    unseen = any(
        parameter.options[int(task.values[name][0])] in parameter.heldout
        for name, parameter in kinds.items()
        if isinstance(parameter, Choice)
    )
    values = {name: value for name, value in task.values.items() if name != "level"}
    outside = any(np.abs(kinds[name].encode(np.array(value))).max() > 1 for name, value in values.items())
    level = kinds.get("level")
    rougher = level is not None and terrain.row(task.values["level"][0]) > terrain.row(level.high)
    return unseen or outside or rougher


def test_what_is_judged_on_was_not_chosen_by():
    deployment = SUITE["a1"]
    env = make(deployment.env)
    chosen, judged = (worlds(deployment, env.task_space, 10, draw) for draw in (ROOM, HELDOUT))
    env.close()
    assert all(a != b for a, b in zip(chosen["IMU and zeros"], judged["IMU and zeros"], strict=True))
