"""Endurance of the trainer: memory over an hour, and kills at random points."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from metarl.console import main

SETTLED = 300.0  # [s] after which memory should not grow
WINDOW = 600.0  # [s] of which the peak is taken: within an iteration memory rises and falls


@dataclass(frozen=True)
class Args:
    """Train with scripts/train.py and torment it.

    memory: resident memory of the trainer and each of its processes, every 5 s; its growth after the first five minutes
    (the peaks of ten minutes then, and of the last ten). kills: the whole trainer is killed with signal 9 at random
    points of a short run and resumed each time; parameters and curve must be those of an uninterrupted run.
    """

    what: Positional[Literal["memory", "kills"]]
    """What to do."""
    out: Path = Path("runs/endure")
    """Folder to create for the runs."""
    env: str = "metarl/A1Walk-v0"
    """Environment id."""
    seconds: float = 3600.0
    """How long memory is watched."""
    times: int = 20
    """How often the trainer is killed."""
    workers: int = 2
    """Simulating processes."""
    json: Path | None = None
    """File for what was found."""


def run(args: Args) -> None:
    from metarl.benchmarks.machine import machine
    from metarl.files import write_json

    found = memory(args) if args.what == "memory" else kills(args)
    print(json.dumps({name: value for name, value in found.items() if name != "samples"}, indent=1))
    if args.json:
        write_json(args.json, {**found, "machine": machine()})


def trainer(args: Args, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """A trainer in a session of its own, so that it can be killed with all its processes."""
    command = [sys.executable, str(Path(__file__).with_name("train.py")), "--objective", "reward", "--out", str(out)]
    command += ["--env", args.env, "--workers", str(args.workers), *more]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)


def memory(args: Args) -> dict[str, Any]:
    """Resident memory [MiB] over time: each sample has seconds, the trainer's, and each of its processes'.

    Raises ValueError for a time too short to compare two windows.
    """
    if args.seconds < SETTLED + 2 * WINDOW:
        raise ValueError(f"seconds is {args.seconds:g}, expected {SETTLED + 2 * WINDOW:g} or more; leave it out")
    samples: list[list[float]] = []
    started = time.monotonic()
    with trainer(args, args.out, "--iterations", "1000000") as process:
        try:
            while (now := time.monotonic() - started) < args.seconds and process.poll() is None:
                samples.append([round(now, 1), resident(process.pid), *map(resident, children(process.pid))])
                time.sleep(5)
        finally:
            process.send_signal(signal.SIGTERM)
    sums = [(row[0], sum(row[1:])) for row in samples]
    first = max(total for at, total in sums if SETTLED <= at <= SETTLED + WINDOW)
    last = max(total for at, total in sums if at >= sums[-1][0] - WINDOW)
    return {
        "env": args.env,
        "workers": args.workers,
        "seconds": sums[-1][0],
        "iterations": done(args.out),
        "after_five_minutes_mib": first,
        "at_the_end_mib": last,
        "growth": last / first - 1,
        "exit_code": process.returncode,
        "samples": [" ".join(f"{value:g}" for value in row) for row in samples],
    }


def resident(pid: int) -> float:
    """[MiB]; 0 for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith("VmRSS")), 0.0)


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted(int(child) for file in tasks for child in file.read_text().split())


def done(folder: Path) -> int:
    """Iterations at the newest checkpoint."""
    try:
        return int(json.loads((folder / "checkpoints" / "latest.json").read_text())["iteration"])
    except FileNotFoundError:
        return 0


def kills(args: Args) -> dict[str, Any]:
    """Raises ValueError if the bytes differ."""
    short = ("--iterations", "40", "--tasks", "4", "--episodes", "2", "--query", "2", "--hidden", "16")
    whole, folder, always = args.out / "whole", args.out / "killed", ("--checkpoint-seconds", "0")
    started, ready = time.monotonic(), 0.0
    with trainer(args, whole, *short, *always) as process:
        while process.poll() is None:
            ready = ready or (time.monotonic() - started if (whole / "checkpoints" / "latest.json").exists() else 0.0)
            time.sleep(0.01)
    if process.returncode:
        raise ValueError(f"the uninterrupted run ended with {process.returncode}, expected 0")
    lasts = time.monotonic() - started - ready
    rng, at = random.Random(0), [0]
    while len(at) <= args.times:
        with trainer(
            args, folder, *always, *(("--resume",) if (folder / "config.json").exists() else short)
        ) as process:
            # A third of the kills meet it while it starts, the others within its next few iterations.
            starting, delay = rng.random() < 1 / 3, rng.random()
            while not starting and process.poll() is None and done(folder) <= at[-1]:
                time.sleep(0.005)
            try:
                process.wait(delay * (ready if starting else lasts / args.times))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        if process.returncode != -signal.SIGKILL:
            raise ValueError(f"a run ended with {process.returncode} after {len(at) - 1} kills, expected {args.times}")
        at.append(done(folder))
    with trainer(args, folder, "--resume"):
        pass
    curves = [json.loads((args.out / name / "curve.json").read_text()) for name in ("whole", "killed")]
    files = [args.out / name / "checkpoints" / "000040.safetensors" for name in ("whole", "killed")]
    same = files[0].read_bytes() == files[1].read_bytes() and curves[0] == curves[1]
    once = [entry["iteration"] for entry in curves[1]] == list(range(1, 41))
    if not (same and once):
        raise ValueError(f"{folder} differs from {args.out / 'whole'}, expected the same parameters and curve")
    return {"env": args.env, "workers": args.workers, "killed_at_iterations": at[1:], "same_bytes": True}


if __name__ == "__main__":
    main(Args, run)
