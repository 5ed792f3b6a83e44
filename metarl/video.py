"""Short films: a policy on sampled tasks, one robot before and after it adapted, attempts side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from envs.drivers import SimulatedDriver
from envs.robot_env import Observation, RobotEnv, make
from envs.tasks import Split, Task
from export.device import Device
from export.device.run import run
from export.device.session import Event
from metarl.files import write_atomic
from metarl.sampling.worker import Watch

Frame = NDArray[np.uint8]
Act = Callable[[Observation], NDArray[np.float32]]
FRAMES_PER_SECOND = 10


def film(bundle: Path, env_id: str, out: Path, seed: int, steps: int = 3, targets: int = 3) -> None:
    """Write a GIF: a robot in held-out world `seed`, left before and right after the device adapted it.

    Both sides meet the same targets.
    """
    device = Device.load(bundle)
    events: list[Event] = []
    driver = SimulatedDriver(env_id, "heldout", seed)
    run(device, driver, steps=steps, attempts=0, seed=seed, report=events.append)
    task, kept = driver.world, sum(event.kind == "promoted" for event in events)
    env = make(env_id, render_mode="rgb_array")
    sides = []
    for theta, caption in ((device.base, "before"), (device.theta.copy(), f"after {kept} gradient steps")):
        device.theta = theta
        sides.append([frame for i in range(targets) for frame in episode(env, device.act, task, seed + i, caption)])
    env.close()
    write_gif([np.hstack(pair) for pair in zip(*sides, strict=True)], out)


def beside(sides: Mapping[str, Callable[[Watch], object]], out: Path) -> None:
    """Write a GIF: attempts side by side, each by its caption; one that ended stays as it was."""
    films = [_watched(caption, attempt) for caption, attempt in sides.items()]
    longest = max(map(len, films))
    whole = [frames + frames[-1:] * (longest - len(frames)) for frames in films]
    write_gif([np.hstack(row) for row in zip(*whole, strict=True)], out)


def _watched(caption: str, attempt: Callable[[Watch], object]) -> list[Frame]:
    frames: list[Frame] = []

    def watch(env: RobotEnv, step: int, ended: bool) -> None:
        if _due(env, step) or ended:
            frames.append(_captioned(env.render(), f"{caption}{', fell' * ended}"))

    attempt(watch)
    return frames


def show(env: RobotEnv, act: Act, out: Path, split: Split, seed: int, episodes: int, seconds: float) -> None:
    """Write a GIF of a policy on `episodes` tasks of a split, `seconds` of each at most."""
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(episodes):
        task = env.task_space.sample(rng, split)
        frames += episode(env, act, task, seed + index, f"{split} task {index + 1}", seconds)
    write_gif(frames, out)


def episode(env: RobotEnv, act: Act, task: Task, seed: int, caption: str, seconds: float = float("inf")) -> list[Frame]:
    """Captioned frames [height, width, 3] of one episode, FRAMES_PER_SECOND of them."""
    observation, _ = env.reset(seed=seed, options={"task": task})
    measure, frames = env.job.measure, []
    for step in range(min(env.job.horizon, round(min(seconds, 1e6) * env.job.spec.control_hz))):
        observation, _, ended, stopped, info = env.step(act(observation))
        if _due(env, step + 1) or ended:
            frames.append(_captioned(env.render(), f"{caption}: {100 * info['error']:.1f} c{measure.unit}"))
        if ended or stopped:
            break
    return frames


def _due(env: RobotEnv, step: int) -> bool:
    """Whether a frame belongs after so many control steps."""
    every = env.job.spec.control_hz / FRAMES_PER_SECOND
    return step // every > (step - 1) // every


def write_gif(frames: Sequence[Frame], out: Path) -> None:
    """Write frames [height, width, 3] as a GIF, FRAMES_PER_SECOND. Raises ValueError without frames."""
    if not frames:
        raise ValueError("there are 0 frames to write, expected at least 1: ask for more episodes or seconds")
    palette = [Image.fromarray(frame).quantize(128) for frame in frames]
    buffer = BytesIO()
    step = 1000 // FRAMES_PER_SECOND
    palette[0].save(buffer, "GIF", save_all=True, append_images=palette[1:], duration=step, loop=0)
    write_atomic(out, buffer.getvalue())


def _captioned(frame: Frame | None, text: str) -> Frame:
    assert frame is not None
    picture = Image.fromarray(frame)
    ImageDraw.Draw(picture).text((12, 10), text, fill=(20, 20, 20), font_size=20)
    return np.asarray(picture)
