"""RobotSpec refuses constants that contradict each other; PANDA's agree with its URDF."""

import xml.etree.ElementTree as ElementTree
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pybullet_data
import pytest

from robots.arms import PANDA


def test_limits_lie_within_the_urdf():
    tree = ElementTree.parse(Path(pybullet_data.getDataPath()) / PANDA.urdf)
    limits = {joint.get("name"): joint.find("limit") for joint in tree.iter("joint")}
    for joint in PANDA.joints:
        limit = limits[joint.name]
        assert limit is not None
        assert float(limit.attrib["lower"]) <= joint.lower < joint.upper <= float(limit.attrib["upper"])
        assert joint.velocity <= float(limit.attrib["velocity"])
        assert joint.effort <= float(limit.attrib["effort"])


def test_vectors_follow_the_order_of_joints():
    assert PANDA.joint_names == tuple(f"panda_joint{i}" for i in range(1, 8))
    assert PANDA.substeps == 10
    assert PANDA.effort.tolist() == [87, 87, 87, 87, 12, 12, 12]
    np.testing.assert_array_equal(PANDA.lower, [joint.lower for joint in PANDA.joints])
    np.testing.assert_array_equal(PANDA.upper, [joint.upper for joint in PANDA.joints])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"nominal_pose": (0.0, 0.0)}, "nominal_pose has 2 values.*7 joints"),
        ({"nominal_pose": (9.0, *PANDA.nominal_pose[1:])}, r"panda_joint1 is 9.0 rad.*\[-2.8973, 2.8973\]"),
        ({"nominal_pose": (float("nan"), *PANDA.nominal_pose[1:])}, "panda_joint1 is nan"),
        ({"control_hz": 30}, "physics_hz=200 must be a multiple of control_hz=30"),
    ],
)
def test_contradictions_are_refused(change: dict, says: str):
    with pytest.raises(ValueError, match=says):
        replace(PANDA, **change)


def test_a_spec_is_a_constant():
    with pytest.raises(FrozenInstanceError):
        PANDA.name = "other"  # type: ignore[misc]
