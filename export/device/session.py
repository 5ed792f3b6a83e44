"""One robot, one policy, and how its parameters are proposed, watched, promoted or rolled back. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.device import slots, state
from export.device.collect import Episode, Explorer, attempt, batch, guided
from export.device.device import Device
from export.device.guard import Guard
from export.device.loop import Loop, Watch
from export.device.policy import Vector
from export.device.slots import Slots, Verdict


@dataclass(frozen=True)
class Event:
    """Something that happened. kind: "evaluated", "collected", "adapted", "searched", "promoted", "rolled_back",
    "lived", "restored", "loaded", "unsaved", "scheduled" or "stopped"; line: the same in words.

    step: adaptation steps taken before it. figures, by kind: evaluated: return, return_std, final_reward, attempts,
    skipped, trips (of the guard); collected: episodes, samples, altered; adapted: loss, gradient_norm, accepted (1 or
    0), change (norm of theta's) and what the gate compared; searched: before (theta's value; with "estimate" the mean
    of the candidates'), best, attempts, accepted, change; promoted, rolled_back: what probation compared; lived (a
    trial with memory): trial, attempts, first, last (returns of those attempts).
    """

    kind: str
    step: int
    line: str
    figures: Mapping[str, float] = field(default_factory=dict)


Report = Callable[[Event], None]
STILL = 1e-7  # of theta's norm: less is rounding
NOUNS = {"gradient": "step", "memory": "attempt", "search": "round", None: "step"}  # of one adaptation step


class Session:
    """Attempts of one policy on one guarded robot. file: where `good` is kept, None for nowhere.

    Begins with the parameters in `file`, if it is there; raises BundleError for one that is damaged or of another
    bundle, ValueError if its folder is not there.
    """

    def __init__(self, device: Device, guard: Guard, report: Report, watch: Watch, file: Path | None = None) -> None:
        self.device, self.guard, self.report = device, guard, report
        self.loop = Loop(device, guard, watch)
        self._file = file
        if file and not file.parent.is_dir():
            raise ValueError(f"{file.parent} is no folder, expected one to keep {file.name} in; make it first")
        found = state.load(file, device.bundle, device.base.size) if file else None
        self.slots = Slots(device.base, *(found or ()))
        self._use()
        if found:
            self.report(
                Event("loaded", self.slots.taken, f"{file}: {self.slots.taken} steps that had proved themselves")
            )
        self._before: list[Episode] = []  # the last evaluation of `good`
        self._recent: NDArray[np.float32] = np.zeros((0, device.interface.observation_size), np.float32)

    def attempt(
        self, noise: Explorer | None = None, previous: Episode | None = None, steps: int | None = None
    ) -> Episode:
        """Raises ValueError if the guard let the robot go limp and nobody can put it back to a start."""
        made = attempt(self.loop, steps or self.device.manifest.horizon, noise, previous)
        if made.ended and not self.guard.spec.restarts:
            raise ValueError(f"{made.ended}; look at the robot, then start again")
        return made

    def evaluate(self, attempts: int, step: int) -> list[Episode]:
        """Some attempts by the mean, told to `report`."""
        made = [self.attempt() for _ in range(attempts)]
        if made:
            self.tell_evaluation(made, step)
        if self.slots.trial is None:
            self._before = made
            self._meet(made)
        return made

    def _meet(self, made: Sequence[Episode]) -> None:
        """The gate asks what parameters would do where the robot has just been."""
        if made:
            self._recent = slots.thinned(np.concatenate([episode.observation for episode in made]), slots.RECENT)

    def tell_evaluation(self, made: Sequence[Episode], step: int) -> float:
        adapts = self.device.manifest.adapts
        taken = f"after {step} {NOUNS[adapts]}{'' if step == 1 else 's'}"
        returns = np.array(_returns(made))
        final = float(np.mean([episode.reward[-1] for episode in made]))
        skipped, trips = sum(episode.skipped for episode in made), sum(episode.trips for episode in made)
        figures = {
            "return": float(returns.mean()),
            "return_std": float(returns.std()),
            "final_reward": final,
            "attempts": len(made),
            "skipped": skipped,
            "trips": trips,
        }
        line = f"{taken}: return {returns.mean():.4g} ± {returns.std():.2g}, final reward {final:.4g}"
        if np.isnan(final):
            line = f"{taken}: reward not measured"
        notes = f" ({len(made)} {'trials' if adapts == 'memory' else 'attempts'}"
        notes += f", {skipped} control steps skipped" if skipped else ""
        notes += f", the guard stepped in {trips} times" if trips else ""
        self.report(Event("evaluated", step, f"{line}{notes})", figures))
        return figures["return"]

    def gather(self, seed: int, index: int) -> list[Episode]:
        """What one gradient step reads."""
        plan = self.device.manifest.collect
        assert plan is not None
        episodes = []
        for number in range(plan.episodes):
            if plan.kind == "guided":
                episodes.append(guided(self.device, self.guard))
            else:
                rng = np.random.default_rng([seed, index, number])
                noise = Explorer(self.device.interface.action_size, plan, rng)
                episodes.append(self.attempt(noise, steps=plan.steps))
        self._meet(episodes)
        samples = sum(len(episode.action) for episode in episodes)
        altered = sum(int(episode.altered.sum()) for episode in episodes)
        name = "guided motions" if plan.kind == "guided" else "exploring attempts"
        line = f"collected {len(episodes)} {name}, {samples} samples"
        line += f", {altered} of them altered by the guard and left out" if altered else ""
        figures = {"episodes": len(episodes), "samples": samples, "altered": altered}
        self.report(Event("collected", index, line, figures))
        return episodes

    def propose_step(self, episodes: Sequence[Episode]) -> Verdict:
        """A gradient step from `good`, which becomes the trial if the gate lets it pass."""
        manifest, index, device = self.device.manifest, self.slots.taken, self.device
        assert device.adapter is not None
        try:
            data = batch(episodes, manifest.batch)
            taken = device.adapter.step(self.slots.good, index, data)
        except ValueError as error:  # data that must not be learned from
            verdict = Verdict(False, str(error), {"accepted": 0.0, "change": 0.0})
            self.report(
                Event("adapted", index, f"step {index + 1}: refused, theta as before ({error})", verdict.figures)
            )
            return verdict
        change = float(np.linalg.norm(taken.theta.astype(np.float64) - self.slots.good)) if taken.finite else 0.0
        if not taken.finite:
            verdict = Verdict(False, "loss, gradient or theta is not finite")
        elif change <= STILL * float(np.linalg.norm(self.slots.good)):
            verdict = Verdict(False, "nothing moved: the batch says nothing")
        else:
            verdict = self.gate(taken.theta)
        if verdict.accepted and manifest.objective == "demonstration" and len(episodes) > 1:
            found = slots.generalizes(slots.left_out(self._step, device.base, data, index))
            verdict = replace(found, figures={**verdict.figures, **found.figures})
        figures = {
            **verdict.figures,
            "loss": taken.loss,
            "gradient_norm": taken.gradient_norm,
            "accepted": float(verdict.accepted),
            "change": change if verdict.accepted else 0.0,
        }
        said = f"accepted, theta moved by {change:.3g}" if verdict.accepted else "refused, theta as before"
        line = f"step {index + 1}: loss {taken.loss:.4g}, gradient norm {taken.gradient_norm:.3g}, {said}"
        self.report(Event("adapted", index, f"{line} ({verdict.reason})", figures))
        if verdict.accepted:
            self.try_out(taken.theta)
        return verdict

    def gate(self, theta: Vector) -> Verdict:
        """Whether the bundle's bounds let these parameters near the robot, by what they would do there, too."""
        bounds = self.device.manifest.bounds
        assert bounds is not None
        return slots.within(bounds, self.slots.base, theta, lambda each: self.device.probe(each, self._recent))

    def consider(self, theta: Vector) -> Verdict:
        """Parameters found in another way become the trial if they are within bounds."""
        verdict = self.gate(theta)
        if verdict.accepted:
            self.try_out(theta)
        return verdict

    def try_out(self, theta: Vector) -> None:
        self.slots.propose(theta)
        self._use()

    def abandon(self) -> None:
        """Back at `good`, if a trial is in force: it has not proved itself."""
        self.slots.roll_back()
        self._use()

    def settle(self, watched: Sequence[Episode]) -> Verdict:
        """Promote the trial, or return to `good`, by what it did on the robot during its probation."""
        manifest, index = self.device.manifest, self.slots.taken + 1
        # What adapts by reward must earn more; what adapts by something else must not pay for it.
        rule = slots.better if manifest.objective == "reward" or manifest.search else slots.not_worse
        verdict = rule(_returns(self._before), _returns(watched))
        trips, had = (sum(one.trips for one in made) for made in (watched, self._before))
        if trips > had * len(watched) / max(1, len(self._before)):
            verdict = Verdict(False, f"the guard stepped in {trips} times, {had} before", {"trips": trips})
        elif verdict.accepted and manifest.objective == "prediction":
            assert self.slots.trial is not None
            verdict = self.forecasts(self.slots.good, self.slots.trial, watched)
        self.conclude(verdict, f"{NOUNS[manifest.adapts]} {index}", index)
        if verdict.accepted:
            self._before = list(watched)
            try:
                self.save()
            except OSError as error:
                self.tell_unsaved(error, index)
        return verdict

    def forecasts(self, good: Vector, trial: Vector, watched: Sequence[Episode], slack: float = 0.0) -> Verdict:
        """Whether a trial foresees its own probation better than base, and than `good`, which it may miss by the share
        `slack`. Safe on another thread."""
        data = batch(watched, self.device.manifest.batch)
        base, before, after = (self._step(theta, self.slots.taken, data)[1] for theta in (self.slots.base, good, trial))
        return slots.foresees(base, before, after, slack)

    def conclude(self, verdict: Verdict, what: str, index: int) -> None:
        """The trial becomes `good`, or is gone. what, index: for the event that tells."""
        if verdict.accepted:
            self.slots.promote()
        else:
            self.slots.roll_back()
        self._use()
        kind, word = ("promoted", "kept") if verdict.accepted else ("rolled_back", "rolled back")
        self.report(Event(kind, index, f"{what} {word}: {verdict.reason}", verdict.figures))

    def save(self) -> None:
        """Keep `good` in the file, if there is one. Raises OSError where it cannot be written."""
        if self._file:
            state.save(self._file, self.device.bundle, self.slots.good, self.slots.taken)

    def tell_unsaved(self, error: Exception, index: int) -> None:
        self.report(Event("unsaved", index, f"not saved, a restart begins from what was saved before ({error})"))

    def restore(self) -> None:
        """Back at the bundle's parameters; what is kept in the file stays there."""
        self.slots = Slots(self.device.base)
        self.device.restore()
        self._use()
        self.report(Event("restored", 0, "back at the initial parameters"))

    def _use(self) -> None:
        """The trial's parameters, or `good`, in force; between ticks, with nothing remembered."""
        theta = self.slots.good if self.slots.trial is None else self.slots.trial
        if theta.tobytes() != self.device.theta.tobytes():
            self.device.theta = theta
        self.loop.slot = self.slots.name

    def _step(self, theta: Vector, index: int, data: Mapping[str, Any]) -> tuple[Vector, float]:
        assert self.device.adapter is not None
        taken = self.device.adapter.step(theta, index, data)
        return (taken.theta, taken.loss) if taken.finite else (theta, float("inf"))


def _returns(made: Sequence[Episode]) -> list[float]:
    return [float(episode.reward.sum()) for episode in made]
