"""What the README says must work."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from envs.robot_env import make

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_robot_that_the_readme_adds(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (code,) = [block for block in blocks if "RobotSpec(" in block]
    (tmp_path / "my_robots.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    env = make("my_robots:metarl/AliengoWalk-v0")
    assert len([line for line in code.splitlines() if line.strip()]) <= 40  # its constant: at most 30
    straight = {"task": env.task_space.nominal, "goal": (0.4, 0.0, 0.0)}
    env.reset(seed=0, options=straight)
    start = np.array(env.state.base.position)
    for _ in range(200):  # the gait alone, 4 s
        _, _, ended, _, _ = env.step(np.zeros(env.interface.action_size))
        assert not ended
    env.close()
    rough = make("my_robots:metarl/AliengoWalk-v0", ground=("rough",))
    assert "ground" in rough.task_space.nominal.values
    rough.close()
    assert np.linalg.norm(np.subtract(env.state.base.position, start)[:2]) > 1.0


def test_every_script_that_the_readme_names_exists():
    for name in re.findall(r"scripts/(\w+\.py)", README):
        assert (Path(__file__).parents[1] / "scripts" / name).is_file()


def test_every_page_and_picture_that_the_docs_link_to_exists():
    root = Path(__file__).parents[1]
    for page in (root / "README.md", *(root / "docs").glob("*.md"), *(root / "export" / "zoo").glob("*.md")):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"
