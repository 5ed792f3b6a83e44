"""The mirror: images of joints put feet where feet's images are, for whoever is symmetric. No engine."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots import kinematics
from robots.arms import PANDA
from robots.legged import A1, LAIKAGO, MINI_CHEETAH, MINITAUR
from robots.mirror import PLACE, Mirror, joints, twins
from robots.spec import Chain, RobotSpec

FEET = {"a1": (0, 0, -0.2), "laikago": (0, -0.25, -0.022), "mini_cheetah": (0, 0, -0.18)}  # in the last joint's frame


@given(st.data())
def test_the_image_of_an_image_is_what_was(data: st.DataObject):
    pairs = data.draw(st.lists(st.sampled_from([1.0, -1.0]), min_size=1, max_size=6))
    swap = Mirror(tuple(reversed(range(len(pairs)))), tuple(a * b for a, b in zip(pairs, reversed(pairs), strict=True)))
    mirror = Mirror.join((Mirror.of(pairs), swap))
    values = np.arange(2.0 * len(mirror.signs), dtype=np.float32).reshape(2, -1)
    np.testing.assert_array_equal(mirror(mirror(values)), values)
    assert mirror(values).dtype == values.dtype
    assert (mirror.unsigned(values) == abs(mirror(values))).all()


@pytest.mark.parametrize("spec", [A1, LAIKAGO, MINI_CHEETAH], ids=lambda spec: spec.name)
def test_feet_are_where_images_of_feet_are(spec: RobotSpec):
    mirror, legs = joints(spec), twins(spec)
    assert mirror
    assert legs == (1, 0, 3, 2)
    angles = spec.nominal + np.random.default_rng(0).uniform(-0.3, 0.3, len(spec.joints))

    def feet(pose: np.ndarray) -> np.ndarray:
        chains = [Chain(tuple(spec.joints[j] for j in leg.joints), FEET[spec.name]) for leg in spec.legs]
        each = zip(chains, spec.legs, strict=True)
        return np.array([kinematics.forward(chain, pose[list(leg.joints)])[0] for chain, leg in each])

    images = feet(angles)[list(legs)] * PLACE
    near = 0.025 if spec is LAIKAGO else 1e-9  # whose URDF has its left legs 2 cm further out
    np.testing.assert_allclose(feet(mirror(angles)), images, atol=near)
    np.testing.assert_allclose(mirror(spec.nominal), spec.nominal)


def test_a_foot_on_two_motors_has_them_exchanged():
    mirror = joints(MINITAUR)
    assert mirror
    names = MINITAUR.joint_names
    assert [names[source] for source in mirror.sources[:2]] == ["motor_front_leftR_joint", "motor_front_leftL_joint"]


@pytest.mark.parametrize(
    "spec",
    [
        PANDA,
        replace(A1, nominal_pose=(0.3, *A1.nominal_pose[1:])),
        replace(A1, legs=(replace(A1.legs[0], foot=(0.3, -0.13, -0.25)), *A1.legs[1:])),
        replace(A1, legs=(replace(A1.legs[0], gain=A1.legs[2].gain[::-1]), *A1.legs[1:])),
    ],
    ids=["an arm", "one leg held out", "one leg further ahead", "one leg with other joints"],
)
def test_who_is_not_symmetric_has_no_image(spec: RobotSpec):
    assert joints(spec) is None
