"""A simulated robot behind the device's driver protocol (entry points `pybullet` and `mujoco`)."""

from __future__ import annotations

import numpy as np

from envs.robot_env import make
from envs.tasks import SPLITS, Task
from export.device.driver import REWARD, Applied, NotMeasuredError, Sample, Spec
from robots.actions import Command
from robots.spec import Array


class SimulatedDriver:
    """One robot in one world, drawn from a split that training never saw unless asked to.

    env: environment id. split: one of SPLITS. seed: of the world and of everything random in it. engine: one of
    `envs.robot_env.ENGINES`. Options arrive as text from command lines. `world` tells what was drawn; a policy must
    not look. Time passes in `write`, `hold` and `relax`, a control step each.
    """

    def __init__(
        self,
        env: str = "metarl/PandaReach-v0",
        split: str = "heldout",
        seed: int | str = 0,
        engine: str = "pybullet",
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, expected one of {SPLITS}")
        try:
            self._rng = np.random.default_rng(int(seed))
        except ValueError as error:
            raise ValueError(f"seed is {seed!r}, expected a whole number from 0 up") from error
        self.env = make(env, engine=engine)
        self.world: Task = self.env.task_space.sample(self._rng, split)  # type: ignore[arg-type]
        interface = self.env.interface
        self.spec = Spec(
            interface.robot,
            interface.joints,
            interface.control_hz,
            {**interface.fields, REWARD: 1},
            realtime=False,
            restarts=True,
            guided=self.env.job.guided,
        )
        self._held: Command | None = None
        self._reward, self._steps = 0.0, 0
        self.begin_attempt()

    def begin_attempt(self) -> None:
        self.env.reset(seed=int(self._rng.integers(2**63)), options={"task": self.world})
        self._held, self._reward = None, 0.0

    def read(self) -> Sample:
        values = {**self.env.sample, REWARD: np.array((self._reward,))}
        return Sample(values, self._steps / self.spec.control_hz)

    def write(self, command: Command) -> Applied:
        self._held = None
        self._move(command)
        return Applied(command.target, command.grip)

    def hold(self) -> None:
        self._move(self._stay())

    def relax(self) -> None:
        self._move(self._stay(), limp=True)

    def guided(self) -> dict[str, Array]:
        job = self.env.job
        if not job.guided:
            raise NotMeasuredError(f"{type(job).__name__} has no guided motions: use a policy that learns by reward")
        self.begin_attempt()
        return self.env.guided(job.guide(self.world, self.env.goal, self._rng))

    def close(self) -> None:
        self.env.close()

    def _stay(self) -> Command:
        """Where it was when it was first told to stay; what the gripper holds stays held."""
        if self._held is None:
            here = self.env.interface.start(self.env.sample)
            self._held = here._replace(grip=self.env.last.grip)
        return self._held

    def _move(self, command: Command, limp: bool = False) -> None:
        self._reward = self.env.move(command, limp)
        self._steps += 1


class MujocoDriver(SimulatedDriver):
    """The same in the engine that nobody trained in."""

    def __init__(self, env: str = "metarl/PandaReach-v0", split: str = "heldout", seed: int | str = 0) -> None:
        super().__init__(env, split, seed, engine="mujoco")
