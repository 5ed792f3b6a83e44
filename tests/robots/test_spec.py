"""RobotSpec refuses constants that contradict each other; the robots' agree with their URDFs."""

import xml.etree.ElementTree as ElementTree
from dataclasses import FrozenInstanceError, replace
from math import inf
from pathlib import Path

import numpy as np
import pybullet_data
import pytest

from robots.arms import IIWA, PANDA, XARM6
from robots.legged import A1, LAIKAGO, MINI_CHEETAH, MINITAUR
from robots.spec import PD, RobotSpec

ROBOTS = (PANDA, IIWA, XARM6, A1, LAIKAGO, MINI_CHEETAH, MINITAUR)


@pytest.mark.parametrize("spec", ROBOTS, ids=lambda spec: spec.name)
def test_limits_lie_within_the_urdf(spec: RobotSpec):
    tree = ElementTree.parse(Path(pybullet_data.getDataPath()) / spec.urdf)
    limits = {joint.get("name"): joint.find("limit") for joint in tree.iter("joint")}
    for joint in spec.joints:
        found = limits[joint.name]  # KeyError: no such joint
        limit = {} if found is None else found.attrib
        assert float(limit.get("lower", -inf)) <= joint.lower < joint.upper <= float(limit.get("upper", inf))
        assert joint.velocity <= float(limit.get("velocity", inf))
        assert joint.effort <= float(limit.get("effort", inf))


def test_vectors_follow_the_order_of_joints():
    assert PANDA.joint_names == tuple(f"panda_joint{i}" for i in range(1, 8))
    assert PANDA.substeps == 10
    assert not PANDA.floating
    assert PANDA.effort.tolist() == [87, 87, 87, 87, 12, 12, 12]
    np.testing.assert_array_equal(PANDA.velocity, [joint.velocity for joint in PANDA.joints])
    np.testing.assert_array_equal(PANDA.lower, [joint.lower for joint in PANDA.joints])
    np.testing.assert_array_equal(PANDA.upper, [joint.upper for joint in PANDA.joints])


@pytest.mark.parametrize(
    ("spec", "change", "says"),
    [
        (PANDA, {"nominal_pose": (0.0, 0.0)}, "nominal_pose has 2 values.*7 joints"),
        (PANDA, {"nominal_pose": (9.0, *PANDA.nominal_pose[1:])}, r"panda_joint1 is 9.0 rad.*\[-2.8973, 2.8973\]"),
        (PANDA, {"nominal_pose": (float("nan"), *PANDA.nominal_pose[1:])}, "panda_joint1 is nan"),
        (PANDA, {"control_hz": 30}, "physics_hz=200 must be a multiple of control_hz=30"),
        (PANDA, {"height": 0.3}, "height is 0.3 m with 0 legs"),
        (A1, {"height": 0.0}, "height is 0.0 m with 4 legs"),
        (A1, {"legs": (replace(A1.legs[0], gain=((0, 0, 1),)),)}, "needs one row of gain for each of its joints"),
    ],
)
def test_contradictions_are_refused(spec: RobotSpec, change: dict, says: str):
    with pytest.raises(ValueError, match=says):
        replace(spec, **change)


@pytest.mark.parametrize("axis", [(0, 0, 0), (0, float("nan"), 1), (0, float("inf"), 0), (0, 1)])
def test_an_axis_needs_a_direction(axis: tuple):
    with pytest.raises(ValueError, match=r"joint 'panda_joint1': axis is .*, expected three finite"):
        replace(PANDA.joints[0], axis=axis)


def test_a_spec_is_a_constant():
    with pytest.raises(FrozenInstanceError):
        PANDA.name = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        PD(60, 1).damping = 2  # type: ignore[misc]
