"""MIND describes structure, not intensity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synseg_jax.objective.mind import mind

IMAGE = jax.random.uniform(jax.random.key(0), (2, 12, 10, 1))


def test_inverted_and_scaled_images_have_the_same_descriptors():
    np.testing.assert_allclose(mind(1 - 0.5 * IMAGE), mind(IMAGE), atol=1e-4)


def test_moved_edges_have_others():
    assert abs(mind(jnp.roll(IMAGE, 1, 1)) - mind(IMAGE)).mean() > 0.1


def test_range_and_shape():
    found = mind(IMAGE)
    assert found.shape == (2, 12, 10, 4) and 0 <= found.min() and found.max() == 1
    assert mind(jnp.zeros((1, 6, 6, 6, 2))).shape == (1, 6, 6, 6, 12)
    np.testing.assert_array_equal(found.max(-1), 1)


def test_by_hand():
    """One bright pixel: from the pixel two to its right, only the left neighbour's patch has an edge of it."""
    image = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4, 0].set(1.0)
    near = np.exp(-0.5 / 0.5**2) / (1 + 2 * np.exp(-0.5 / 0.5**2))
    middle = 1 - 2 * near
    right, left = 0, near * middle  # of the patch about (4, 6), against those about (4, 7) and (4, 5)
    up_down = 0
    unlike = np.array([up_down, up_down, right, left])
    expected = np.exp(-unlike / unlike.mean())
    assert mind(image)[0, 4, 6] == pytest.approx(expected, rel=1e-3)


def test_flat_images_have_finite_gradients():
    slope = jax.grad(lambda x: (mind(x) * jnp.arange(4.0)).sum())(jnp.zeros((1, 5, 5, 1)))
    assert np.isfinite(slope).all()


def test_compiled_gradients_are_finite_and_those_of_single_steps():
    weights = jax.random.normal(jax.random.key(1), (2, 32, 32, 4))
    images = 0.3 + 0.1 * jax.random.normal(jax.random.key(2), (2, 32, 32, 1))
    slope = jax.grad(lambda x: (mind(x) * weights).sum())
    np.testing.assert_allclose(jax.jit(slope)(images), slope(images), rtol=1e-3, atol=1e-3)
