"""Pictures are upright, come back exactly, and are resized as the usual convention has it."""

import numpy as np
import pytest
import scipy.ndimage
import skimage.transform

from synseg_jax.errors import InputError
from synseg_jax.imaging import slices

RNG = np.random.default_rng(0)


def _marked():
    """A canonical volume that is 1 right, 2 at the front, 4 at the top."""
    array = np.zeros((5, 6, 7), np.float32)
    array[0] += 1
    array[:, 0] += 2
    array[:, :, -1] += 4
    return array


@pytest.mark.parametrize(
    'axis, shape, top, left',
    [('axial', (7, 6, 5), 2, 1), ('coronal', (6, 7, 5), 4, 1), ('sagittal', (5, 7, 6), 4, 2)],
)
def test_pictures_are_upright(axis, shape, top, left):
    stack = slices.to_stack(_marked(), axis)
    assert stack.shape == shape
    middle = stack[len(stack) // 2].astype(int)
    assert (middle[0] & top).all() and not (middle[1:] & top).any()
    assert (middle[:, 0] & left).all() and not (middle[:, 1:] & left).any()
    np.testing.assert_array_equal(slices.from_stack(stack, axis), _marked())


@pytest.mark.parametrize('axis', slices.VIEWS)
def test_stack_with_channels_comes_back(axis):
    array = RNG.random((3, 4, 5, 2))
    np.testing.assert_array_equal(slices.from_stack(slices.to_stack(array, axis), axis), array)


def test_spacing_follows_the_axes():
    assert slices.stack_spacing((1.0, 2.0, 3.0), 'axial') == (3, 2, 1)
    assert slices.stack_spacing((1.0, 2.0, 3.0), 'coronal') == (2, 3, 1)
    assert slices.stack_spacing((1.0, 2.0, 3.0), 'sagittal') == (1, 3, 2)


def test_unknown_axis():
    with pytest.raises(InputError, match="unknown slice_axis 'oblique'; known: axial, coronal, sagittal"):
        slices.to_stack(_marked(), 'oblique')


@pytest.mark.parametrize('size', [(8, 6), (16, 12), (5, 31), (1, 1), (11, 13)])
def test_linear_is_scikit_images(size):
    stack = RNG.random((3, 11, 13)).astype(np.float32)
    expected = [skimage.transform.resize(s, size, order=1, mode='edge', anti_aliasing=False) for s in stack]
    np.testing.assert_allclose(slices.resize_linear(stack, size), expected, atol=1e-6)


@pytest.mark.parametrize('size', [(8, 6), (16, 5), (1, 1), (11, 13)])
def test_smoothing_before_is_scikit_images(size):
    stack = RNG.random((3, 11, 13)).astype(np.float32)
    expected = [skimage.transform.resize(s, size, order=1, mode='edge', anti_aliasing=True) for s in stack]
    np.testing.assert_allclose(slices.resize_linear(stack, size, antialias=True), expected, atol=1e-5)
    channels = slices.resize_linear(np.stack([stack, stack], -1), size, antialias=True)
    np.testing.assert_array_equal(channels[..., 1], slices.resize_linear(stack, size, antialias=True))


def test_smoothed_stripes_finer_than_the_new_pixels_become_grey():
    """Of every third pixel one is bright; slices of three pixels each would show the darkest or the brightest."""
    stripes = np.zeros((2, 96, 96), np.float32)
    stripes[:, :, 1::3] = 1
    plain, smooth = (slices.resize_linear(stripes, (32, 32), antialias) for antialias in (False, True))
    assert plain.min() == 1 and abs(smooth - 1 / 3).max() < 0.1
    for size in ((96, 96), (192, 144)):  # nothing becomes smaller
        np.testing.assert_array_equal(
            slices.resize_linear(stripes, size, antialias=True), slices.resize_linear(stripes, size)
        )


@pytest.mark.parametrize('size', [(8, 6), (22, 26), (5, 31), (1, 1), (11, 13)])
def test_nearest_is_scipys(size):
    stack = RNG.integers(0, 9, (3, 11, 13)).astype(np.uint8)
    centres = [(np.arange(new) + 0.5) * old / new - 0.5 for old, new in zip(stack.shape[1:], size, strict=True)]
    grid = np.meshgrid(*(np.floor(c + 0.5 + 1e-9) for c in centres), indexing='ij')
    expected = [scipy.ndimage.map_coordinates(s, grid, order=0, mode='nearest') for s in stack]
    result = slices.resize_nearest(stack, size)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


def test_channels_are_resized_alone():
    stack = RNG.random((2, 7, 9, 3)).astype(np.float32)
    whole = slices.resize_linear(stack, (12, 5))
    assert whole.shape == (2, 12, 5, 3)
    for channel in range(3):
        np.testing.assert_array_equal(whole[..., channel], slices.resize_linear(stack[..., channel], (12, 5)))


def test_there_and_back():
    labels = RNG.integers(0, 5, (2, 8, 10))
    np.testing.assert_array_equal(slices.resize_nearest(slices.resize_nearest(labels, (16, 20)), (8, 10)), labels)
    # a plane survives linear interpolation away from the clamped edge
    rows, columns = np.mgrid[:32, :40].astype(np.float32)
    plane = (rows + 2 * columns)[None]
    back = slices.resize_linear(slices.resize_linear(plane, (48, 56)), (32, 40))
    np.testing.assert_allclose(back[:, 2:-2, 2:-2], plane[:, 2:-2, 2:-2], atol=1e-4)
