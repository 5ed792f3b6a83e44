"""What the README says must work."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from envs.robot_env import make
from robots import kinematics

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_robot_that_the_readme_adds(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (code,) = [block for block in blocks if "RobotSpec(" in block]
    (tmp_path / "my_robots.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    env = make("my_robots:metarl/IiwaReach-v0")
    spec = env.job.spec
    env.reset(seed=0, options={"task": env.task_space.nominal})
    assert np.allclose(env.world.tool(), kinematics.forward(spec, env.world.joints()[0])[0], atol=1e-6)
    goal, truncated, info = kinematics.solve(spec, env.target), False, {}
    while not truncated:
        action = 3 * (goal - env.sample["joint_position"])
        _, _, _, truncated, info = env.step(action / max(1, np.abs(action).max()))
    env.close()
    assert info["is_success"]


def test_every_script_that_the_readme_names_exists():
    for name in re.findall(r"scripts/(\w+\.py)", README):
        assert (Path(__file__).parents[1] / "scripts" / name).is_file()
