"""Frames against scipy's rotations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from envs import frames

ANGLES = st.tuples(*[st.floats(-np.pi, np.pi)] * 3)
VECTORS = st.tuples(*[st.floats(-100, 100)] * 3)


@given(ANGLES)
def test_turned_is_roll_then_pitch_then_yaw_about_fixed_axes(angles: tuple[float, float, float]):
    found = Rotation.from_quat(frames.turned(*angles))
    assert (found.inv() * Rotation.from_euler("xyz", angles)).magnitude() < 1e-7
    assert np.linalg.norm(frames.turned(*angles)) == pytest.approx(1)


@given(ANGLES, VECTORS)
def test_vectors_turn_into_a_frame_and_out_of_it(angles: tuple[float, float, float], vector: tuple):
    quaternion, rotation = frames.turned(*angles), Rotation.from_euler("xyz", angles)
    np.testing.assert_allclose(frames.into(quaternion, vector), rotation.inv().apply(vector), atol=1e-9)
    np.testing.assert_allclose(frames.out_of(quaternion, vector), rotation.apply(vector), atol=1e-9)
    np.testing.assert_allclose(frames.out_of(quaternion, frames.into(quaternion, vector)), vector, atol=1e-9)


@given(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(-3.14, 3.14))
def test_heading_is_the_yaw(roll: float, pitch: float, yaw: float):
    assert frames.heading(frames.turned(roll, pitch, yaw)) == pytest.approx(yaw, abs=1e-6)


@given(ANGLES)
def test_upright_is_how_much_the_z_axis_points_up(angles: tuple[float, float, float]):
    up = Rotation.from_euler("xyz", angles).apply((0, 0, 1))[2]
    assert frames.upright(frames.turned(*angles)) == pytest.approx(up, abs=1e-9)


def test_frames_by_hand():
    quarter = frames.turned(0, 0, np.pi / 2)
    np.testing.assert_allclose(frames.out_of(quarter, (1, 0, 0)), (0, 1, 0), atol=1e-12)
    np.testing.assert_allclose(frames.into(quarter, (0, 1, 0)), (1, 0, 0), atol=1e-12)
    assert frames.upright((0, 0, 0, 1)) == 1
    assert frames.upright(frames.turned(np.pi, 0, 0)) == pytest.approx(-1)
