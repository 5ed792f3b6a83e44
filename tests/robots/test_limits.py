"""What a body may be asked for follows from its constants, and limits that limit nothing are refused."""

from dataclasses import replace
from math import inf, nan

import pytest

from robots.arms import PANDA
from robots.legged import A1, MINITAUR
from robots.limits import Limits


def test_limits_follow_from_the_constants():
    arm, walker = Limits.of(PANDA), Limits.of(A1)
    assert arm.lower == tuple(joint.lower for joint in PANDA.joints)
    assert arm.nominal == PANDA.nominal_pose
    assert all(rate == 2 * joint.velocity for rate, joint in zip(arm.rate, PANDA.joints, strict=True))
    assert (arm.tilt, arm.power) == (None, None)  # it cannot fall, and its drives' law is not ours
    assert walker.tilt is not None
    assert walker.power == pytest.approx(120 * A1.mass)
    assert (walker.stiffness, walker.damping) == (A1.drive.stiffness, A1.drive.damping)
    assert all(low < joint.lower for low, joint in zip(walker.reading_lower, A1.joints, strict=True))


@pytest.mark.parametrize("spec", [PANDA, A1, MINITAUR])
def test_times_are_several_control_steps(spec):
    limits = Limits.of(spec)
    assert all(seconds >= 3 / spec.control_hz for seconds in (limits.age, limits.deadman, limits.frozen))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nominal": (0.0,)}, r"nominal is \(0.0,\), expected 7 finite numbers"),
        ({"upper": (nan,) * 7}, "upper is"),
        ({"lower": (9.0,) * 7}, "lies above"),
        ({"rate": (0.0,) * 7}, "rate is"),
        ({"age": 0.0}, "age is 0.0 s"),
        ({"deadman": inf}, "deadman is inf s"),
        ({"tilt": -1.0}, "tilt is -1.0"),
        ({"frozen": nan}, "frozen, stiffness and damping"),
    ],
)
def test_limits_that_limit_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(Limits.of(PANDA), **changes)
