"""Many runs at once: the same figures as one by one, and what fails is named."""

import json
from pathlib import Path

import pytest

from metarl.checkpoint import Run
from metarl.config import Config
from metarl.sweep import Job, Judging, jobs, summary, sweep

GIVEN = {"env": "metarl/PointNavigation-v0", "options": {"horizon": 5}, "objective": "reward", "iterations": 2}
GIVEN |= {"tasks": 2, "episodes": 2, "query": 2, "hidden": (4,), "inner_steps": 1}
JUDGING = Judging(tasks=4, steps=1, episodes=1)


def test_runs_side_by_side_and_a_failure_among_them(tmp_path: Path):
    todo = jobs(["maml"], [0, 1], tmp_path / "sweep", GIVEN, JUDGING)
    Run.create(todo[1].folder, Config.from_dict({**todo[1].config.to_dict(), "tasks": 3}))
    found = sweep(todo, 2)
    assert found[0] == Job(todo[0].config, tmp_path / "alone", JUDGING).run()
    assert found[0] == todo[0].run()  # again: it is trained already
    assert "holds a run of other settings" in str(found[1])
    rows = summary(todo, found)
    assert [row.get("steps") for row in rows] == [0, 1, None]
    assert rows[0]["seeds"] == 1
    assert rows[2] == {"learner": "maml", "seed": 1, "failed": found[1]}
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize(
    ("learners", "seeds"), [(["maml"], [0, 0]), (["maml", "maml"], [0]), ([], [0]), (["maml"], [])]
)
def test_the_same_run_twice_or_none_is_refused(tmp_path: Path, learners: list[str], seeds: list[int]):
    with pytest.raises(ValueError, match="expected different ones, at least one"):
        jobs(learners, seeds, tmp_path, GIVEN, JUDGING)
