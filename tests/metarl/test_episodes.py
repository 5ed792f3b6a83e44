"""Episodes joined, stacked and mapped, all fields alike."""

from dataclasses import fields

import numpy as np
import pytest

from metarl.episodes import Episodes

FIELDS = [field.name for field in fields(Episodes)]


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_joined_stacked_and_mapped(make_episodes, name: str):
    first, second = make_episodes(0, 2, 5), make_episodes(1, 3, 5)
    np.testing.assert_array_equal(
        getattr(Episodes.join([first, second]), name), np.concatenate([getattr(first, name), getattr(second, name)])
    )
    np.testing.assert_array_equal(getattr(Episodes.stack([first, first]), name)[1], getattr(first, name))
    np.testing.assert_array_equal(getattr(second.map(lambda array: array[1:]), name), getattr(second, name)[1:])


def test_an_episode_that_ended_early_is_padded(make_episodes):
    short = make_episodes(0, 3)
    long = short.padded(7)
    for name in FIELDS:
        before, after = getattr(short, name), getattr(long, name)
        assert after.shape == (7, *before.shape[1:])
        assert after.dtype == np.float32
        np.testing.assert_array_equal(after[:3], before)
        np.testing.assert_array_equal(after[3:], before[-1] if name == "error" else 0.0)
    assert short.padded(3) is short


def test_parts_of_unequal_length_are_refused(make_episodes):
    parts = [make_episodes(0, 2, 5), make_episodes(1, 2, 4)]
    for together in (Episodes.join, Episodes.stack):
        with pytest.raises(ValueError, match=r"match exactly|same shape"):
            together(parts)
