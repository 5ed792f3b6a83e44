"""When a robot at work adapts."""

import pytest

from export.device.plan import WORK, Plan, chosen

OWN = Plan(every=0.5, window=2.0, steps=3, probation=0.5, first=0.5)


def test_a_bundle_goes_by_its_own_plan_unless_told_otherwise():
    assert chosen(OWN, 3) == (WORK, OWN)
    assert chosen(OWN, 3, None, 1.0, 4.0, 1) == (WORK, Plan(1.0, 4.0, 1, 0.5, 0.5))
    assert chosen(OWN, 3, 5.0, steps=0) == (5.0, None)


def test_one_without_a_plan_adapts_only_if_asked():
    assert chosen(None, 2) == (None, None)
    assert chosen(None, 2, 5.0) == (5.0, None)
    assert chosen(None, 2, 5.0, every=1.0) == (5.0, Plan(every=1.0, steps=2))


@pytest.mark.parametrize("asked", [{"every": 0.0}, {"window": 0.0}, {"steps": -1}, {"every": float("inf")}])
def test_a_value_that_no_plan_can_have_is_refused_not_replaced(asked):
    with pytest.raises(ValueError, match="the plan is"):
        chosen(OWN, 3, **asked)


def test_how_to_adapt_at_work_is_no_answer_to_whether_to_work():
    with pytest.raises(ValueError, match=r"every is 1\.0 and window None, expected them with seconds"):
        chosen(None, 2, every=1.0)


def test_the_first_adaptation_waits_for_a_whole_window_unless_planned():
    assert Plan(window=3.0).start == 3.0
    assert OWN.start == 0.5
    with pytest.raises(ValueError, match="expected positive times"):
        Plan(first=0.0)
