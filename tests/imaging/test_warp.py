"""Rotation and zoom of slices and volumes, against quarter turns, enlargement by hand, and the way back."""

import numpy as np
import pytest

from synseg_jax.imaging.warp import rotated, zoomed


def _smooth(*space):
    """A few waves, two slices or volumes of two channels."""
    grid = np.meshgrid(*(np.linspace(0, np.pi, n) for n in space), indexing='ij')
    wave = sum(np.sin((i + 1) * axis + i) for i, axis in enumerate(grid)) / len(grid)
    return np.stack([np.stack([wave, wave**2], -1), np.stack([-wave, 1 + wave], -1)]).astype(np.float32)


@pytest.mark.parametrize('space', [(9, 9), (3, 8, 8)])
def test_quarter_turns_are_exact(space):
    stack = _smooth(*space)
    axes = (stack.ndim - 3, stack.ndim - 2)
    found = rotated(stack, 90)
    quarters = [np.rot90(stack, turns, axes) for turns in (1, -1)]
    assert sum(np.allclose(found, quarter, atol=1e-5) for quarter in quarters) == 1
    np.testing.assert_allclose(rotated(found, -90), stack, atol=1e-5)


@pytest.mark.parametrize('change, back', [((rotated, 10), (rotated, -10)), ((zoomed, 1.2), (zoomed, 1 / 1.2))])
@pytest.mark.parametrize('space', [(60, 48), (40, 60, 48)])
def test_there_and_back(change, back, space):
    stack = _smooth(*space)
    found = back[0](change[0](stack, change[1]), back[1])
    middle = (slice(None), *(slice(n // 4, n - n // 4) for n in space))
    assert np.abs(change[0](stack, change[1]) - stack)[middle].max() > 0.1
    np.testing.assert_allclose(found[middle], stack[middle], atol=0.02)
    assert found.dtype == np.float32 and found.shape == stack.shape


def test_zoom_is_about_the_centre_and_outside_is_0():
    line = np.zeros((1, 1, 9, 1), np.float32)
    line[0, 0, 2:7, 0] = 1, 2, 3, 2, 1
    assert zoomed(line, 2)[0, 0, :, 0].tolist() == [1, 1.5, 2, 2.5, 3, 2.5, 2, 1.5, 1]
    assert zoomed(np.ones((1, 1, 9, 1), np.float32), 0.5)[0, 0, :, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]


def test_volumes_grow_along_all_axes_and_turn_within_slices():
    volume = np.zeros((1, 9, 9, 9, 1), np.float32)
    volume[0, 3:6, 3:6, 3:6] = 1
    assert zoomed(volume, 3)[0, ..., 0].min() > 0.29
    turned = rotated(volume, 45)[0, ..., 0]
    assert turned[3:6].any() and not turned[:3].any() and not turned[6:].any()
