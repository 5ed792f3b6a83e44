"""Replay a recording through its bundle, and say where the policy would act otherwise."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import inf, isnan
from pathlib import Path

import numpy as np
from tyro.conf import Positional

from export.device import Device
from export.device.recorder import read, theta_of
from metarl.console import main, stdout


@dataclass(frozen=True)
class Args:
    """Read a black box (--log of scripts/adapt.py or python -m export.device), decide every control step again with
    ONNX Runtime from what was observed then, with the parameters of then, and compare. Exit code 1 where they differ.

    Steps that explored drew noise that is not recorded: their observations are compared, their actions are not.
    """

    recording: Positional[Path]
    """MCAP file."""
    bundle: Positional[Path]
    """The bundle that acted."""
    tolerance: float = 1e-5
    """Largest difference of an action that counts as none."""


def run(args: Args) -> None:
    console, device = stdout(), Device.load(args.bundle)
    about, messages = read(args.recording)
    if about["bundle"] != device.bundle:
        raise ValueError(
            f"{args.recording} was made by the bundle {about['bundle'][:12]}, expected {device.bundle[:12]}, which is "
            f"{args.bundle}; give the bundle that acted"
        )
    if device.manifest.memory:
        raise ValueError(
            "the bundle's policy has a memory, which a recording does not hold; only others can be replayed"
        )
    interface, thetas = device.interface, {}
    compared = explored = idle = 0
    worst, first = 0.0, ""
    for topic, message in messages:
        if topic == "theta":
            thetas[message["digest"]] = theta_of(message)
        if topic != "tick":
            continue
        if message["observation"] is None or message["sampled"] is None:
            idle += 1
            continue
        if message["mode"] == "collect":
            explored += 1
            continue
        if message["digest"] != device.digest:
            if message["digest"] not in thetas:
                raise ValueError(
                    f"step {message['index']} acted by parameters {message['digest']}, which were not recorded"
                )
            device.theta = thetas[message["digest"]]
        observation = np.array(message["observation"], np.float32)
        if observation.shape != (interface.observation_size,):
            raise ValueError(
                f"step {message['index']} observed {observation.shape}, expected {interface.observation_size}"
            )
        sampled = np.array(message["sampled"], np.float32)  # null was no number
        difference = float(np.abs(device.act(observation) - sampled).max())
        compared += 1
        worst = inf if isnan(difference) else max(worst, difference)
        if not difference <= args.tolerance and not first:
            first = f"step {message['index']} at {message['sample_time']:.3f} s, parameters {message['digest']}"
    console.print(
        f"{compared} steps compared, {explored} explored, {idle} without a decision; {len(thetas)} sets of parameters; "
        f"actions differ by at most {worst:.2g}",
        highlight=False,
    )
    if first:
        console.print(f"first beyond {args.tolerance:g}: {first}", highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main(Args, run)
