"""What dies on the way costs no results: workers, worlds, trainers, disks."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from envs.tasks import Task
from metarl import trainer
from metarl.checkpoint import Run, locked
from metarl.console import Interrupted
from metarl.episodes import Episodes
from metarl.sampling.ledger import TRIES, Ledger, SamplingError
from metarl.sampling.processes import ProcessSampler
from metarl.sampling.serial import SerialSampler
from metarl.sampling.worker import Trial
from metarl.trainer import train

ROOT = Path(__file__).parents[2]
TASK = Task({"mass": (2.0,)})
SHORT = {"env": "metarl/PointNavigation-v0", "options": {"horizon": 5}}


def trial(index: int, episodes: int = 1) -> Trial:
    return Trial(TASK, (0, 0, index, 0), episodes, "guided")


def lived(value: float) -> Episodes:
    return Episodes(*(np.full(1, value, np.float32) for _ in range(5)))


def test_a_trial_that_is_lost_goes_to_who_asks_next(caplog: pytest.LogCaptureFixture):
    ledger: Ledger[str] = Ledger([trial(0), trial(1)])
    assert ledger.take("a", 0.0) == trial(0)
    ledger.lose("a", "its process died")
    ledger.lose("a", "heard twice")
    assert ledger.take("b", 0.0) == trial(0)
    assert ledger.take("a", 0.0) == trial(1)
    assert ledger.take("c", 0.0) is None
    ledger.give("a", lived(1))
    assert not ledger.finished
    ledger.give("b", lived(0))
    assert ledger.finished
    assert [float(one.reward[0]) for one in ledger.results] == [0, 1]
    (told,) = caplog.messages
    assert 'its process died), try 1 of 3, on the task {"mass": [2.0]}' in told


def test_a_trial_that_is_lost_again_and_again_is_an_error_with_its_task():
    ledger: Ledger[str] = Ledger([trial(7)])
    for _ in range(TRIES - 1):
        ledger.take("a", 0.0)
        ledger.lose("a", "it broke")
    ledger.take("b", 0.0)
    with pytest.raises(SamplingError, match=r'it broke\), try 3 of 3, on the task {"mass": \[2.0\]}, key \[0, 0, 7, 0'):
        ledger.lose("b", "it broke")


def test_a_deadline_counts_episodes():
    ledger: Ledger[str] = Ledger([trial(0, 3), trial(1)], seconds=10)
    ledger.take("a", 100.0)
    ledger.take("b", 100.0)
    assert ledger.late(110.0) == []
    assert ledger.late(110.1) == ["b"]
    assert sorted(ledger.late(130.1)) == ["a", "b"]


FRAGILE = """
import os, signal, time
from contextlib import suppress
from pathlib import Path

from gymnasium import register

from envs.arm import Reach
from envs.robot_env import RobotEnv
from robots.arms import PANDA

FLAG = Path(__file__).with_name("flag")


class Fragile(Reach):
    goals = 0

    def goal(self, task, rng):
        Fragile.goals += 1
        with suppress(FileNotFoundError):  # of several processes, who removes the flag is who fails
            how = FLAG.read_text()
            if how.startswith("after"):
                if Fragile.goals <= int(how.split()[1]):
                    return super().goal(task, rng)
            else:
                FLAG.unlink()
            if how == "hang":
                time.sleep(1000)
            elif how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ZeroDivisionError("the world is broken")
        return super().goal(task, rng)


register(id="metarl/Fragile-v0", entry_point=RobotEnv, kwargs={"job": Fragile(PANDA)})
"""


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The flag file that says how the world fails."""
    name = f"fragile_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FRAGILE.replace("metarl/Fragile-v0", f"metarl/Fragile{tmp_path.name}-v0"))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "flag"


def trials_of(flag: Path, count: int = 6) -> tuple[str, list[Trial]]:
    from envs.robot_env import make

    env_id = f"fragile_{flag.parent.name}:metarl/Fragile{flag.parent.name}-v0"
    env = make(env_id)
    task = env.task_space.nominal
    env.close()
    return env_id, [Trial(task, (0, 0, index, 0), 2, "guided") for index in range(count)]


def same(a: list[Episodes], b: list[Episodes]) -> bool:
    names = [field.name for field in fields(Episodes)]
    return len(a) == len(b) and all(
        getattr(x, n).tobytes() == getattr(y, n).tobytes() for x, y in zip(a, b, strict=True) for n in names
    )


def test_a_process_that_dies_hangs_or_fails_is_replaced(fragile: Path, caplog: pytest.LogCaptureFixture):
    env_id, trials = trials_of(fragile)
    with closing(SerialSampler(env_id, {})) as serial:
        expected = serial.sample(trials)
        fragile.write_text("once")
        assert same(serial.sample(trials), expected)
    with closing(ProcessSampler(env_id, {}, 2, {}, seconds=1.5)) as sampler:
        assert same(sampler.sample(trials), expected)
        for how, says in (("die", "process died"), ("hang", "longer than 1.5 s"), ("once", "ZeroDivisionError: the")):
            caplog.clear()
            fragile.write_text(how)
            before = sampler.processes
            assert same(sampler.sample(trials), expected)
            assert says in caplog.messages[0]
            assert json.dumps(trials[0].task.to_dict()) in caplog.messages[0]
            assert len(set(before) & set(sampler.processes)) == 1
        caplog.clear()
        os.kill(sampler.processes[0], signal.SIGKILL)  # while it has nothing to do
        assert same(sampler.sample(trials), expected)


def test_a_world_that_keeps_failing_stops_the_run_with_a_checkpoint(tiny, fragile: Path, tmp_path: Path):
    env_id, trials = trials_of(fragile, 1)
    fragile.write_text("after 0")
    with closing(SerialSampler(env_id, {})) as serial, pytest.raises(SamplingError, match="the world is broken"):
        serial.sample(trials)
    fragile.write_text("after 100")
    config = tiny("demonstration", env=env_id, iterations=400)
    with pytest.raises(SamplingError, match=r"ZeroDivisionError: the world is broken\), try 3 of 3, on the task {"):
        train(config, tmp_path / "run", workers=0)
    assert 0 < Run(tmp_path / "run").iteration < 400


def test_closing_ends_a_sample_in_another_thread(fragile: Path):
    env_id, trials = trials_of(fragile)
    fragile.write_text("hang")
    sampler, found = ProcessSampler(env_id, {}, 1, {}), []

    def sample() -> None:
        try:
            sampler.sample(trials)
        except SamplingError as error:
            found.append(str(error))

    thread = threading.Thread(target=sample)
    thread.start()
    while fragile.exists():
        time.sleep(0.05)
    sampler.close()
    thread.join(10)
    assert found == ["the sampler was closed while it sampled"]


def parameters(run: Run) -> bytes:
    return (run.path / "checkpoints" / f"{run.config.iterations:06d}.safetensors").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_with_a_checkpoint(tiny, tmp_path: Path, number: signal.Signals):
    config = tiny("reward", iterations=60000, **SHORT)
    before = signal.getsignal(number)

    def later() -> None:
        while not list((tmp_path / "run" / "tb").glob("*")):  # it trains
            time.sleep(0.05)
        time.sleep(1)
        os.kill(os.getpid(), number)

    threading.Thread(target=later).start()
    with pytest.raises(Interrupted, match=f"stopped by {number.name} after iteration .* of 60000; go on with: python"):
        train(config, tmp_path / "run", workers=0)
    done = Run(tmp_path / "run").iteration
    assert 0 < done < 60000
    assert signal.getsignal(number) == before
    assert len(Run(tmp_path / "run").load()[1]) == done


def test_a_script_says_how_to_go_on(tmp_path: Path):
    out = tmp_path / "run"
    command = [sys.executable, "scripts/train.py", "--out", str(out), "--workers", "1", "--tasks", "2", "--hidden", "8"]
    command += ["--checkpoint-seconds", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while process.poll() is None and not (out / "checkpoints" / "latest.json").exists():
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers hear it too
        assert process.stderr is not None
        told = process.stderr.read()
        assert process.wait() == 130
    assert f"go on with: python scripts/train.py --out {out} --resume" in told
    assert "Traceback" not in told
    assert Run(out).iteration > 0


def test_a_checkpoint_that_cannot_be_written_costs_a_warning_and_at_the_end_an_error(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A folder with something in it stands in its place."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    for iterations in (3, 1):
        config = tiny("reward", iterations=iterations, **SHORT)
        run = Run.create(tmp_path / str(iterations), config)
        obstacle = run.path / "checkpoints" / "000001.safetensors" / "obstacle"
        obstacle.mkdir(parents=True)
        if iterations == 3:
            whole = train(config, tmp_path / "whole", workers=0)
            assert parameters(train(config, run.path, workers=0, resume=True)) == parameters(whole)
            assert "no checkpoint at iteration 1 ([Errno 21] Is a directory" in caplog.messages[0]
            continue
        with pytest.raises(OSError, match=r"could not be written .* make room, then go on from the one before"):
            train(config, run.path, workers=0, resume=True)
        assert run.iteration == 0
        obstacle.rmdir()
        obstacle.parent.rmdir()
        assert train(config, run.path, workers=0, resume=True).iteration == 1


def test_a_second_trainer_in_a_folder_is_refused(tiny, tmp_path: Path):
    config = tiny("reward", **SHORT)
    run = Run.create(tmp_path / "run", config)
    with locked(run.path), pytest.raises(ValueError, match="another trainer is at work in"):
        train(config, run.path, workers=0, resume=True)
    assert train(config, run.path, workers=0, resume=True).iteration == config.iterations


KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path

from metarl import trainer
from metarl.checkpoint import Run
from metarl.config import Config

trainer.CHECKPOINT_SECONDS = 0
config, folder, rng = Config.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]), random.Random(0)
trainer.train(config, folder / "warm", workers=0)  # everything is loaded, and forks find it so
started = time.monotonic()
trainer.train(config, folder / "whole", workers=0)
whole, at, kills = time.monotonic() - started, [], 0
while kills < 20:
    child = os.fork()
    if not child:
        trainer.train(config, folder / "killed", workers=0, resume=(folder / "killed" / "config.json").exists())
        os._exit(0)
    time.sleep(rng.uniform(0, whole / 12))
    os.kill(child, signal.SIGKILL)
    kills += os.waitpid(child, 0)[1] == signal.SIGKILL
    if (folder / "killed" / "config.json").exists():
        at.append(Run(folder / "killed").iteration)
trainer.train(config, folder / "killed", workers=0, resume=True)
print(json.dumps(at))
"""


def test_a_trainer_killed_twenty_times_ends_in_the_same_bytes(tiny, tmp_path: Path):
    config = tiny("reward", iterations=60, **SHORT)
    command = [sys.executable, "-c", KILLED, json.dumps(config.to_dict()), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    at = json.loads(done.stdout.splitlines()[-1])
    assert len(set(at)) >= 8  # the kills met it at many points
    assert parameters(Run(tmp_path / "killed")) == parameters(Run(tmp_path / "whole"))
    curve = json.loads((tmp_path / "killed" / "curve.json").read_text())
    assert curve == json.loads((tmp_path / "whole" / "curve.json").read_text())
    assert [entry["iteration"] for entry in curve] == list(range(1, 61))
