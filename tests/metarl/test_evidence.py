"""Cells keep their verdicts, budgets are equal, and pages are made of what there is."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from envs.deployment import HELDOUT, SUITE, Deployment, Row
from metarl.checkpoint import Run
from metarl.config import DEFAULTS, default
from metarl.evaluation import FINE_TUNING
from metarl.evidence import deployment, papers, places, robots, room
from metarl.evidence.cell import Cell, by_learner, by_ppo, failures, problem_of, seeds_of
from metarl.evidence.judges import (
    CLIMBING,
    TOLD,
    ZERO,
    Pilot,
    adapted,
    adapted_pilot,
    climbing_pilot,
    deployed,
    finetuned_pilot,
    online_pilot,
    ppo_pilot,
    remembered,
    rival,
)
from metarl.evidence.tables import pooled, spread
from metarl.files import write_json
from metarl.sb3 import Settings

IN_PYBULLET = {"heldout": ("pybullet", HELDOUT)}
FIGURES = ("return", "error", "seconds")
QUIET = Console(file=io.StringIO())
SMALL = replace(
    default("fomaml", "demonstration"), env="metarl/Sinusoid-v0", iterations=2, hidden=(8,), tasks=2, inner_steps=1
)


def judge(run: Run, workers: int) -> dict[str, object]:
    return adapted(run, workers, tasks=3, steps=2, episodes=2)


def cell(**changes: object) -> Cell:
    return by_learner("papers/small/fomaml/0", replace(SMALL, **changes), judge)


def test_a_cell_keeps_its_verdict_and_knows_it_again(tmp_path: Path):
    assert cell().read(tmp_path / "docs") is None
    verdict = cell().run(tmp_path / "runs", tmp_path / "docs", 0, QUIET)
    found = cell().read(tmp_path / "docs")
    assert found == json.loads(json.dumps(verdict))
    assert [row["steps"] for row in found["rows"]] == [0, 1, 2]
    assert len(found["values"]["error"][0].split()) == 3
    assert found["training_seconds"] >= 0
    assert seeds_of([cell()], "papers/small/fomaml", tmp_path / "docs") == [found]


def test_a_verdict_of_other_settings_is_missing(tmp_path: Path):
    cell().run(tmp_path / "runs", tmp_path / "docs", 0, QUIET)
    assert cell(learning_rate=1e-4).read(tmp_path / "docs") is None
    with pytest.raises(ValueError, match="holds a run of other settings"):
        cell(learning_rate=1e-4).run(tmp_path / "runs", tmp_path / "docs", 0, QUIET)


def test_a_cell_that_diverges_has_a_verdict_and_no_place_in_tables(tmp_path: Path):
    wild = by_learner("papers/small/maml/0", replace(SMALL, learner="maml", iterations=40, step_size=1e30), judge)
    verdict = wild.run(tmp_path / "runs", tmp_path / "docs", 0, QUIET)
    assert "outer loss" in verdict["diverged"]
    assert "rows" not in verdict
    assert wild.read(tmp_path / "docs") == json.loads(json.dumps(verdict))
    assert seeds_of([wild], "papers/small/maml", tmp_path / "docs") == []
    assert f"`papers/small/maml/0` diverged ({verdict['diverged']})" in failures([wild], tmp_path / "docs")
    assert failures([cell()], tmp_path / "docs") == ""


def test_an_interrupted_cell_goes_on_and_adds_up_its_time(tmp_path: Path):
    def fails(run: Run, workers: int) -> dict[str, object]:
        raise RuntimeError("judged too soon")

    with pytest.raises(RuntimeError, match="judged too soon"):
        by_learner("papers/small/fomaml/0", SMALL, fails).run(tmp_path / "runs", tmp_path / "docs", 0, QUIET)
    before = json.loads((tmp_path / "runs/papers/small/fomaml/0/seconds.json").read_text())
    verdict = cell().run(tmp_path / "runs", tmp_path / "docs", 0, QUIET)
    assert before > 0
    assert verdict["training_seconds"] >= round(before, 1)


def test_a_memory_learner_is_judged_over_whole_trials(tmp_path: Path):
    config = replace(default("rl2", "reward"), env="metarl/Bandit-v0", iterations=1, hidden=(4,), tasks=4, episodes=3)
    made = by_learner("papers/small/rl2/0", config, lambda run, workers: remembered(run, workers, trials=20))
    verdict = made.run(tmp_path / "runs", tmp_path / "docs", 0, QUIET)
    assert len(verdict["reward_curve"]) == 3
    assert sum(verdict["reward_curve"]) == pytest.approx(verdict["reward"]["mean"], abs=1e-3)


@pytest.mark.parametrize(("sees", "steps"), [("observation", 1), ("past", 0), ("task", 0)])
def test_a_rival_is_judged_in_the_learners_worlds(tmp_path: Path, sees: str, steps: int):
    small = {"steps": 8, "environments": 1, "rollout": 8, "batch": 8, "epochs": 1, "hidden": (4,), "window": 2}
    settings = Settings("metarl/PandaSeek-v0", options={"horizon": 4}, sees=sees, **small)  # type: ignore[arg-type]

    def verdict(folder: Path, workers: int) -> dict[str, object]:
        return rival(folder, workers, tasks=2, episodes=1, steps=steps, tries=2)

    found = by_ppo(f"robots/small/{sees}/0", settings, verdict).run(tmp_path / "runs", tmp_path / "docs", 0, QUIET)
    assert [row["steps"] for row in found["rows"]] == list(range(steps + 1))
    assert (found["step_size"] is None) == (steps == 0)
    other = by_ppo(f"robots/small/{sees}/0", replace(settings, gamma=0.5), verdict)
    with pytest.raises(ValueError, match="holds a run of other settings"):
        other.run(tmp_path / "runs", tmp_path / "docs", 0, QUIET)


def test_every_learner_and_rival_has_the_same_simulation():
    for name, place in robots.PLACES.items():
        horizon = problem_of(place.env).horizon
        for learner, objective in robots._learners(name).values():
            config = robots._config(place, learner, objective, 0)
            spent = config.iterations * config.episodes_per_iteration * horizon
            # As many whole iterations as fit, and no other learner's are longer than a seventeenth of all.
            assert 16 / 17 * robots.STEPS < spent <= robots.STEPS, (name, learner, objective)


def test_no_two_cells_share_a_name():
    names = [cell.name for cell in (*papers.cells(), *robots.cells(), *places.cells())]
    assert len(set(names)) == len(names)


def test_the_robots_page_says_what_has_not_been_run(tmp_path: Path):
    page = robots.markdown(tmp_path)
    assert page.count("| not run |") >= len(robots.PLACES)
    assert all(place.says in page for place in robots.PLACES.values())


def test_the_room_of_a_place_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(places.PLACES, "small", places.Place(steps=8))
    rows = {"payload": Row({"payload": (0.5, 1)})}
    monkeypatch.setitem(SUITE, "small", Deployment("metarl/PandaReach-v0", "small", 0.2, rows))
    assert "Not run yet" in room.markdown(tmp_path)
    assert "small.\n" in room.markdown(tmp_path)
    cells = [cell for cell in places.cells() if cell.name.startswith("deployment/small/")][:3]
    for cell in (cells[0], cells[2]):
        write_json(cell.file(tmp_path), {"settings": cell.settings, **verdict([1.0, 2.0, 4.0])})
    assert "| 2.3 (33%) | not run | 2.3 (33%) | 0.0 ± 0.0 |  |" in room.markdown(tmp_path)
    for cell in cells:
        write_json(cell.file(tmp_path), {"settings": cell.settings, **verdict([1.0, 2.0, 4.0])})
    assert "| 2.3 (33%) | 2.3 (33%) | 2.3 (33%) | 0.0 ± 0.0 |  |" in room.markdown(tmp_path)
    write_json(cells[2].file(tmp_path), {"settings": cells[2].settings, **verdict([4.0, 5.0, 7.1])})
    assert "| 3.0 ± 0.0 | **room** |" in room.markdown(tmp_path)
    write_json(cells[2].file(tmp_path), {"settings": cells[2].settings, **verdict([4.0, 2.0, 5.0])})
    assert "| 1.3 ± 0.9 |  |" in room.markdown(tmp_path)
    write_json(cells[0].file(tmp_path), {"settings": cells[0].settings, **verdict([4.0, 2.0, 5.0])})
    assert "| 0.0 ± 0.0 |  |" in room.markdown(tmp_path), "the better rival counts"


def verdict(returns: list[float]) -> dict[str, object]:
    line = " ".join(map(str, returns))
    return {"values": {"room": {"payload": {"return": line, "error": line, "fell": "0 0 1"}}}}


def test_a_policy_is_judged_row_by_row_and_filmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = {"steps": 8, "environments": 1, "rollout": 8, "batch": 8, "epochs": 1, "hidden": (4,), "window": 2}
    settings = Settings("metarl/PandaReach-v0", sees="task", **small)  # type: ignore[arg-type]
    job = Deployment("metarl/PandaReach-v0", "small", 2.0, {"sound": Row({}), "worse": Row({}, {"payload": (0.5, 1)})})
    draws = {"heldout": ("pybullet", HELDOUT), "mujoco": ("mujoco", HELDOUT)}
    judge = partial(deployed, ppo_pilot, deployment=job, tasks=3, draws=draws)
    found = by_ppo("deployment/small/oracle/0", settings, judge).run(tmp_path / "runs", tmp_path / "docs", 0, QUIET)
    assert set(found["values"]) == set(draws)
    for rows in found["values"].values():
        assert rows["worse"]["fell"] == "0 0 0"
        returns, errors, seconds = (np.array(rows["worse"][name].split(), float) for name in FIGURES)
        assert (len(returns), len(errors), len(seconds)) == (3, 3, 2)
        assert seconds.sum() == pytest.approx(returns.mean(), rel=1e-3)
    monkeypatch.setitem(SUITE, "small", job)
    deployment.film("small", "worse", tmp_path / "runs", tmp_path / "film.gif", ("oracle", "oracle"))
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 20
    with pytest.raises(ValueError, match=r"the suite has no 'better', expected one of \['sound', 'worse'\]"):
        deployment.film("small", "better", tmp_path / "runs", tmp_path / "film.gif")


def test_who_adapts_before_an_attempt_is_judged_with_and_without(tmp_path: Path):
    config = replace(DEFAULTS["demonstration"], iterations=2, tasks=2, episodes=2, query=1, hidden=(8,))
    job = Deployment("metarl/PandaReach-v0", "small", 1.0, {"turned": Row({"camera_yaw": (0.5, 1)})})
    judge = partial(deployed, adapted_pilot, deployment=job, tasks=3, draws=IN_PYBULLET, saying=("", ZERO))
    found = by_learner("deployment/small/metasgd/0", config, judge).run(tmp_path / "runs", tmp_path, 0, QUIET)
    errors = {said: rows["turned"]["error"] for said, rows in found["values"].items()}
    assert set(errors) == {"heldout", f"heldout{ZERO}"}
    assert errors["heldout"] != errors[f"heldout{ZERO}"]
    run = Run(tmp_path / "runs" / "deployment/small/metasgd/0")
    again = judge(run, 0)["values"]
    assert again == found["values"], "the same worlds, motions and attempts"


@pytest.mark.parametrize("pilot", [finetuned_pilot, climbing_pilot])
def test_who_learns_from_attempts_judges_the_policy_of_another_cell(tmp_path: Path, pilot: Callable[..., Pilot]):
    small = {"steps": 8, "environments": 1, "rollout": 8, "batch": 8, "epochs": 1, "hidden": (4,)}
    settings = Settings("metarl/PandaReach-v0", options={"horizon": 4}, **small)  # type: ignore[arg-type]
    job = Deployment("metarl/PandaReach-v0", "small", 1.0, {"turned": Row({"camera_yaw": (0.5, 1)})})
    judge = partial(deployed, deployment=job, tasks=2, draws=IN_PYBULLET)
    policy = by_ppo("deployment/small/policy/0", settings, partial(judge, ppo_pilot))
    trying = by_ppo("deployment/small/trying/0", settings, partial(judge, partial(pilot, seconds=job.seconds)))
    trying = replace(trying, of=policy.name)
    before, after = (cell.run(tmp_path / "runs", tmp_path, 0, QUIET) for cell in (policy, trying))
    assert [folder.name for folder in (tmp_path / "runs/deployment/small").iterdir()] == ["policy"]
    assert before["values"] != after["values"], "its attempts moved it"
    assert after["size"] in (*FINE_TUNING["finetune"], *CLIMBING)
    assert trying.judge(tmp_path / "runs" / policy.name, 0)["values"] == after["values"], "the same attempts"


def test_those_who_learn_from_attempts_are_compared_in_their_own_worlds_and_seeds(tmp_path: Path):
    made = {cell.name: cell for cell in places.cells()}
    rows = SUITE["mini-cheetah"].rows

    def page(label: str, seed: int, returns: str) -> str:
        cell = made[f"deployment/mini-cheetah/{label}/{seed}"]
        figures = {"return": returns, "error": returns, "fell": "0 0 0", "seconds": "1 1 1 1 1 1 1 1"}
        found = dict.fromkeys(deployment.WHERE, dict.fromkeys(rows, figures))
        write_json(cell.file(tmp_path), {"settings": cell.settings, "values": found})
        return deployment.markdown(tmp_path)

    assert "domain randomization's policy fine-tuned" not in page("domain-randomization", 0, "9 9 9")
    page("domain-randomization", 1, "1 2 3")
    told = page("finetune", 1, "4 5 6").replace("\n", " ")
    assert "seeds: 1):" in told
    assert "| mean over rows | 2.0 | 5.0 | not run | not run | not run | not run | not run |" in told


def test_where_nobody_adapts_only_the_room_is_said_and_seeds_are_paired(tmp_path: Path):
    made = {cell.name: cell for cell in places.cells()}

    def page(label: str, seed: int, errors: str) -> str:
        cell = made[f"deployment/slide/{label}/{seed}"]
        figures = {"return": errors, "error": errors, "fell": "0 0 0", "seconds": "1 1 1"}
        found = dict.fromkeys(places.ROOMS, dict.fromkeys(SUITE["slide"].rows, figures))
        write_json(cell.file(tmp_path), {"settings": cell.settings, "values": found})
        return deployment.markdown(tmp_path)

    assert "| nominal | 30.0 | not run | not run |  |" in page("domain-randomization", 0, "0.2 0.3 0.4")
    assert "seeds: 0." in page("oracle", 1, "0.1 0.2 0.3"), "of another seed"
    told = page("oracle", 0, "0.11 0.2 0.3")
    assert "seeds: 1." in told
    assert "| nominal | 30.0 | not run | 20.3 | room |" in told
    assert "There is room in 9 of 9 rows. Nobody adapts here." in told
    assert "| nominal | 0.3 | not run | 0.2 | -0.1 ± 0.0 |  |" in room.markdown(tmp_path)


def test_who_adapts_while_it_works_is_judged_without_too_and_told_the_truth(tmp_path: Path):
    small = {"hidden": (8,), "tasks": 3, "context": 4, "iterations": 2, "batches": 2, "passes": 2}
    options = {"horizon": 60, "unknown": ("payload",)}
    config = replace(default("belief"), env="metarl/A1Walk-v0", options=options, **small)  # type: ignore[arg-type]
    job = Deployment("metarl/A1Walk-v0", "small", 1.0, {"laden": Row({"payload": (4, 5)}, {"payload": (0, 1)})})
    judge = partial(deployed, online_pilot, deployment=job, tasks=3, draws=IN_PYBULLET, saying=("", ZERO, TOLD))
    found = by_learner("deployment/small/belief/0", config, judge).run(tmp_path / "runs", tmp_path, 0, QUIET)
    returns = {said: rows["laden"]["return"] for said, rows in found["values"].items()}
    assert set(returns) == {"heldout", f"heldout{ZERO}", f"heldout{TOLD}"}
    assert len(set(returns.values())) == 3


@pytest.mark.parametrize(("by", "sign"), [("return", 1), ("error", -1)])
def test_rows_are_compared_by_what_is_better(by: Literal["return", "error"], sign: int):
    place = replace(places.PLACES["reach"], by=by)
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 40))
    goods = {
        "domain-randomization": 10.0,
        "with history": 8.0,
        "oracle": 14.0,
        "metasgd": 13.0,
        "metasgd, 0 steps": 9.0,
    }
    figures = {name: sign * (good + noise) for name, good in goods.items()}
    met = deployment.Met(place, figures, {})
    assert met.complete
    assert met.room
    assert met.gain("metasgd")[0] == pytest.approx(3), "over the better of the two"
    assert met.gain("oracle")[0] == pytest.approx(4)
    assert met.hardly_worse("metasgd")
    assert not met.hardly_worse("metasgd, 0 steps")
    without = replace(met, figures={name: values for name, values in figures.items() if name != "oracle"})
    assert not without.complete


def test_pictures_are_drawn_of_what_there_is(tmp_path: Path):
    assert deployment.pictures(tmp_path) == {}
    rivals = {cell.name: cell for cell in places.cells()}
    rows = {row: {"return": "1 2", "fell": "0 0", "seconds": "1 1 1 1 1 1 1 1"} for row in SUITE["a1"].rows}
    oracle = rivals["deployment/a1/oracle/0"]
    write_json(oracle.file(tmp_path), {"settings": oracle.settings, "values": dict.fromkeys(deployment.WHERE, rows)})
    pictures = deployment.pictures(tmp_path)
    assert len(pictures) == len(deployment.WHERE)
    for name, picture in pictures.items():
        assert f"]({name})" in deployment.markdown(tmp_path)
        assert picture.startswith(b"\x89PNG")


def test_a_gap_is_as_sure_as_the_fewer_of_worlds_and_seeds():
    assert deployment.paired(np.array([[1.0, 3.0]])) == pytest.approx((2.0, 1.0))
    assert deployment.paired(np.array([[1.0, 1.0], [3.0, 3.0]])) == pytest.approx((2.0, 1.0))


def test_figures_show_their_spread():
    assert spread([1.0, 2.0, 4.5], 1) == "2.5 [1.0, 4.5]"
    assert (spread([1.0]), spread([])) == ("1.00", "not run")
    assert pooled(["1.0 1.0", "1.0 1.0"], 1, 100) == "100.0 [100.0, 100.0]"
