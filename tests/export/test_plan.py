"""When a robot at work adapts."""

import pytest

from export.device.plan import Plan, chosen

OWN = Plan(every=0.5, window=2.0, steps=3, probation=0.5, first=0.5)


def test_a_bundle_goes_by_its_own_plan_unless_told_otherwise():
    assert chosen(OWN, 3, None, None, None) == OWN
    assert chosen(OWN, 3, 1.0, 4.0, 1) == Plan(1.0, 4.0, 1, 0.5, 0.5)
    assert chosen(OWN, 3, None, None, 0) is None


def test_one_without_a_plan_adapts_only_if_asked():
    assert chosen(None, 2, None, None, None) is None
    assert chosen(None, 2, 1.0, None, None) == Plan(every=1.0, steps=2)


def test_the_first_adaptation_waits_for_a_whole_window_unless_planned():
    assert Plan(window=3.0).start == 3.0
    assert OWN.start == 0.5
    with pytest.raises(ValueError, match="expected positive times"):
        Plan(first=0.0)
