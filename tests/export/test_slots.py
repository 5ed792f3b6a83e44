"""The gate between a gradient step and the robot, as pure rules and on a robot whose rewards or data are poisoned."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_driver import BOUNDS, LIMITS, TABLE, Toy

from export.device import Device
from export.device.driver import Sample
from export.device.guard import Guard
from export.device.run import run
from export.device.session import Session
from export.device.slots import RECENT, Slots, Verdict, better, generalizes, left_out, lower, not_worse, thinned, within


def probe(theta: np.ndarray) -> np.ndarray:
    return theta[:2][None]


BASE = np.array([0.1, -0.2, 0.3], np.float32)


def test_within_bounds():
    bounds = replace(BOUNDS, norm=1.0, action=0.5, rms=0.3)
    assert within(bounds, BASE, BASE + np.float32(0.1), probe).accepted
    far = within(bounds, BASE, BASE + np.array([0, 0, 1.5], np.float32), probe)
    assert (far.accepted, far.reason) == (False, "theta moved by 1.5 from base, expected at most 1")
    other = within(bounds, BASE, BASE + np.array([0, 0.6, 0], np.float32), probe)
    assert (other.accepted, other.reason) == (False, "actions change by 0.6, expected at most 0.5")
    all_a_little = within(bounds, BASE, BASE + np.array([0.4, 0.4, 0], np.float32), probe)
    assert (all_a_little.accepted, all_a_little.reason) == (False, "actions change by 0.4 (rms), expected at most 0.3")


@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=3, max_size=3))
def test_whatever_is_accepted_is_finite_and_near(values):
    theta = np.array(values, np.float32)
    verdict = within(replace(BOUNDS, norm=2.0, action=0.5), BASE, theta, probe)
    if verdict.accepted:
        assert np.isfinite(theta).all()
        assert np.linalg.norm(theta - BASE) <= 2.0 + 1e-5
        assert np.abs(np.clip(theta[:2], -1, 1) - BASE[:2]).max() <= 0.5 + 1e-5
    assert verdict.reason


def test_a_loss_must_fall():
    assert lower("loss", 1.0, 0.9).accepted
    for after in (1.0, 1.1, float("nan"), float("inf")):
        assert not lower("loss", 1.0, after).accepted


def test_returns_are_worse_only_beyond_their_noise():
    noisy = [-10.0, -6.0, -8.0, -9.0, -7.0]
    assert not_worse(noisy, [value - 0.5 for value in noisy]).accepted
    assert not not_worse(noisy, [value - 5 for value in noisy]).accepted
    assert not_worse([-1.0], [-1.0]).accepted
    assert not not_worse([-1.0], [-1.1]).accepted  # nothing known of the noise
    assert not_worse([np.nan], [np.nan]) == Verdict(True, "reward not measured")
    assert not not_worse([-1.0], [np.nan]).accepted


def test_returns_are_better_only_beyond_their_noise():
    noisy = [-10.0, -6.0, -8.0, -9.0, -7.0]
    assert better(noisy, [value + 5 for value in noisy]).accepted
    assert not better(noisy, [value + 0.5 for value in noisy]).accepted
    assert not better([-1.0, -1.0], [-1.0, -1.0]).accepted
    for after in ([np.nan], [np.inf]):
        assert not better([-1.0], after).accepted


@given(st.integers(1, 200), st.integers(1, 50))
def test_thinned_observations_span_all(length, count):
    chosen = thinned(np.arange(length, dtype=np.float32)[:, None], count)[:, 0]
    assert len(chosen) == min(length, count)
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] == 0
    assert chosen[-1] == length - 1 or count == 1


def test_slots_go_from_base_to_trial_to_good_and_back():
    slots = Slots(BASE)
    assert (slots.name, slots.taken) == ("base", 0)
    slots.propose(BASE + 1)
    assert slots.name == "trial"
    slots.roll_back()
    np.testing.assert_array_equal(slots.good, BASE)
    slots.propose(BASE + 1)
    slots.promote()
    assert (slots.name, slots.taken) == ("good", 1)
    np.testing.assert_array_equal(slots.good, BASE + 1)
    np.testing.assert_array_equal(slots.base, BASE)
    for slot in (slots.base, slots.good):
        with pytest.raises(ValueError, match="read-only"):
            slot[0] = 9


def test_leaving_one_out_tells_a_world_from_noise():
    """One number is learned by its mean: it helps for a common shift, and not for noise about the start."""

    def step(theta, index, batch):
        error = theta - batch["y"]
        return theta - np.float32(0.5) * error.mean(), float((error**2).mean())

    rng = np.random.default_rng(0)
    shifted = {"y": (3 + rng.normal(0, 0.1, (5, 4))).astype(np.float32)}
    base = np.zeros(1, np.float32)
    losses = left_out(step, base, shifted, 0)
    assert losses.shape == (5, 3)
    assert generalizes(losses).figures["left_out_loss_after"] < 0.5 * losses[:, 1].mean()
    assert all(generalizes(left_out(step, base, shifted, taken)).accepted for taken in range(3))
    alternating = {"y": np.array([[1.0], [-1.0], [1.0], [-1.0]], np.float32)}
    assert not generalizes(left_out(step, base, alternating, 0)).accepted


def test_a_late_step_may_miss_by_what_motions_cannot_tell():
    start, before = np.full(4, 1.0), np.full(4, 0.1)
    hair = before + np.array([0.02, -0.02, 0.02, -0.01])
    assert generalizes(np.stack([start, before, hair], 1)).accepted
    assert not generalizes(np.stack([start, before, before + 0.02], 1)).accepted  # surely worse
    assert not generalizes(np.stack([before, before, hair], 1)).accepted  # nothing was gained before
    assert not generalizes(np.stack([start, before, np.full(4, np.inf)], 1)).accepted


class Poisoned(Toy):
    """A robot whose rewards or sensors lie while it explores: poison is a function of (values, rng)."""

    def __init__(self, poison=None, always: bool = False, seed: int = 0) -> None:
        super().__init__(seed, still=True)
        self.poison, self.always = poison, always
        self.noise, self.attempts = np.random.default_rng(seed), 0

    def begin_attempt(self) -> None:
        super().begin_attempt()
        self.attempts += 1

    def read(self) -> Sample:
        sample = super().read()
        collecting = self.attempts > 5  # behind the first evaluation
        if self.poison is None or not (collecting or self.always):
            return sample
        return sample._replace(values=self.poison(dict(sample.values), self.noise))


def changed(name, change):
    return lambda values, rng: values | {name: change(values[name], rng)}


POISONS = {
    "scaled reward": changed("reward", lambda value, rng: 1000 * value),
    "constant reward": changed("reward", lambda value, rng: 0 * value),
    "noise for reward": changed("reward", lambda value, rng: rng.normal(size=1)),
    "NaN now and then": changed("reward", lambda value, rng: value * (np.nan if rng.random() < 0.05 else 1)),
    "infinite reward": changed("reward", lambda value, rng: value - np.inf),
    "negated reward": changed("reward", lambda value, rng: -value),
    "target of another world": changed("target", lambda value, rng: -value),
    "garbage for a sensor": changed("target", lambda value, rng: rng.normal(0, 1, 2)),
}


REFUSED = ("scaled reward", "constant reward", "infinite reward")  # at once, or as returns unlike those before
HONEST = ("NaN now and then", "target of another world", "garbage for a sensor")  # returns, where they are measured


@pytest.mark.parametrize("poison", POISONS)
def test_poisoned_rewards_and_sensors_leave_base_untouched_and_stay_within_bounds(poison, bundles):
    """Those that cannot be told from data (noise, a negated reward) are at least bounded."""
    device = Device.load(bundles["reward"])
    events = []
    answers = device.probe(device.base)
    returns = run(device, Poisoned(POISONS[poison]), steps=4, report=events.append)
    kinds = [event.kind for event in events]
    print(f"\n{poison:26} {' '.join(kind for kind in kinds if kind != 'collected')}")
    if poison in REFUSED:
        assert "promoted" not in kinds
        assert kinds[-1] == "stopped"
        assert device.theta.tobytes() == device.base.tobytes()
    if poison in HONEST:
        assert returns[-1] >= returns[0]
    change = np.abs(np.clip(device.probe(device.theta), -1, 1) - np.clip(answers, -1, 1)).max()
    assert change <= device.manifest.bounds.action
    assert np.isfinite(device.theta).all()
    device.restore()
    assert device.theta.tobytes() == device.base.tobytes()
    np.testing.assert_array_equal(device.probe(device.theta), answers)


def test_rewards_that_are_noise_are_seldom_learned_from(bundles):
    kept = 0
    for seed in range(10):
        events = []
        poisoned = Poisoned(POISONS["noise for reward"], always=True, seed=seed)
        run(Device.load(bundles["reward"]), poisoned, steps=1, seed=seed, report=events.append)
        kept += "promoted" in [event.kind for event in events]
    print(f"\nkept {kept} of 10 steps taken on noise")
    assert kept <= 2  # two standard errors let 2 to 5 % pass


def test_a_motion_faster_than_any_action_teaches_nothing(bundle):
    class Hasty(Toy):
        def guided(self):
            motion = super().guided()
            return motion | {"joint_position": 10 * motion["joint_position"]}

    device = Device.load(bundle)
    with pytest.raises(ValueError, match=r"goes 8 times as fast as any action, .*; lead the arm more slowly"):
        run(device, Hasty(still=True, fault="blind"), attempts=2, steps=3)
    assert device.theta.tobytes() == device.base.tobytes()


def test_the_gate_looks_where_the_robot_has_been(bundle):
    device = Device.load(bundle)
    session = Session(device, Guard(Toy(), TABLE, LIMITS), lambda event: None, lambda tick: None)
    theta = device.base + np.float32(0.05)
    typical = session.gate(theta).figures["action_rms"]
    made = session.evaluate(2, 0)
    met = thinned(np.concatenate([episode.observation for episode in made]), RECENT)
    change = np.clip(device.probe(theta, met), -1, 1) - np.clip(device.probe(device.base, met), -1, 1)
    found = session.gate(theta).figures["action_rms"]
    assert found == pytest.approx(np.sqrt(np.mean(change.astype(float) ** 2)))
    assert found != pytest.approx(typical, rel=1e-3)


def test_a_search_tries_nothing_that_is_out_of_bounds(search_bundles):
    device, events, driver = Device.load(search_bundles["climb"]), [], Toy(still=True)
    device.manifest = replace(device.manifest, bounds=replace(BOUNDS, norm=1e-6))
    digests = set()
    run(device, driver, steps=2, attempts=2, report=events.append, watch=lambda tick: digests.add(tick.digest))
    assert digests == {device.digest}
    assert "not one candidate is within bounds" in events[1].line
    assert events[-1].kind == "stopped"


@pytest.mark.parametrize("name", ["demonstration", "reward"])
def test_steps_a_thousand_times_too_large_are_refused(name, wild_bundles):
    device, events = Device.load(wild_bundles[name]), []
    run(device, Toy(still=True), attempts=2, steps=3, report=events.append)
    taken = [event for event in events if event.kind == "adapted"]
    assert taken
    assert not any(event.figures["accepted"] for event in taken)
    assert events[-1].kind == "stopped"  # it gives up
    assert device.theta.tobytes() == device.base.tobytes()


def test_demonstrations_that_lie_do_little_harm(bundle):
    """Adversarial labels: every motion is led to the wrong place."""

    class Contrary(Toy):
        def guided(self):
            motion = super().guided()
            return motion | {"target": -motion["target"]}

    device, events = Device.load(bundle), []
    returns = run(device, Contrary(still=True), attempts=3, steps=6, report=events.append)
    assert "rolled_back" in [event.kind for event in events]
    assert returns[-1] >= returns[0]


def test_a_step_that_does_worse_on_the_robot_is_rolled_back(bundles):
    """Rewards lie while exploring and are honest in probation: a negated one cannot be told from the batch."""

    class Liar(Toy):
        lying = False

        def read(self):
            sample = super().read()
            flip = -1 if self.lying else 1
            return sample._replace(values=dict(sample.values) | {"reward": flip * sample.values["reward"]})

    device, events, driver = Device.load(bundles["reward"]), [], Liar(still=True)

    def watch(tick):
        driver.lying = tick.mode == "collect"

    def tell(event):
        events.append(event)
        driver.lying = event.kind == "evaluated" or event.kind == "rolled_back"

    returns = run(device, driver, steps=4, report=tell, watch=watch)
    assert "rolled_back" in [event.kind for event in events]
    assert returns[-1] >= returns[0] - 0.05 * abs(returns[0])


def test_bounds_that_bound_nothing_are_refused():
    for changes in ({"norm": 0.0}, {"action": float("nan")}, {"probation": 0}, {"patience": 0}):
        with pytest.raises(ValueError, match="bounds are"):
            replace(BOUNDS, **changes)
