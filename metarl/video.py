"""A short film of one robot before and after it adapted, through the exported bundle alone."""

from __future__ import annotations

from contextlib import closing
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from envs.drivers import PyBulletDriver
from envs.robot_env import RobotEnv, make
from envs.tasks import Task
from export.device import Device
from export.device.run import run
from metarl.files import write_atomic

Frame = NDArray[np.uint8]


def film(bundle: Path, env_id: str, out: Path, seed: int, steps: int = 3, targets: int = 3) -> None:
    """Write a GIF: a robot in held-out world `seed`, left before and right after the device adapted it.

    Both sides meet the same targets.
    """
    device = Device.load(bundle)
    with closing(PyBulletDriver(env_id, "heldout", seed)) as driver:
        run(device, driver, steps=steps, attempts=0, seed=seed)
        task = driver.world
    env = make(env_id, render_mode="rgb_array")
    sides = []
    for theta, caption in ((device.base, "before"), (device.theta.copy(), f"after {steps} gradient steps")):
        device.theta = theta
        frames: list[Frame] = []
        for index in range(targets):
            frames += _attempt(env, device, task, seed + index, caption)
        sides.append(frames)
    env.close()
    pictures = [Image.fromarray(np.hstack(pair)) for pair in zip(*sides, strict=True)]
    palette = [picture.quantize(128) for picture in pictures]
    buffer = BytesIO()
    step = 2000 // env.job.spec.control_hz  # every second control step, in real time
    palette[0].save(buffer, "GIF", save_all=True, append_images=palette[1:], duration=step, loop=0)
    write_atomic(out, buffer.getvalue())


def _attempt(env: RobotEnv, device: Device, task: Task, seed: int, caption: str) -> list[Frame]:
    observation, info = env.reset(seed=seed, options={"task": task})
    frames = []
    for step in range(env.job.horizon):
        observation, _, _, _, info = env.step(device.act(observation))
        if step % 2:
            frames.append(_captioned(env.render(), f"{caption}: {100 * info['distance']:.1f} cm"))
    return frames


def _captioned(frame: Frame | None, text: str) -> Frame:
    assert frame is not None
    picture = Image.fromarray(frame)
    ImageDraw.Draw(picture).text((12, 10), text, fill=(20, 20, 20), font_size=20)
    return np.asarray(picture)
