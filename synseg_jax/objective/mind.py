"""MIND, a descriptor of local structure that is alike in all modalities (Heinrich et al., Medical Image Analysis 2012).

A pixel is described by how much the patch about it is like those beside it, relative to how much they differ at all.
"""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

RADIUS, SIGMA = 1, 0.5  # of the Gaussian patch, in pixels
FLAT = 1e-3  # least variance, as a share of its mean over the image: noise in flat regions is no structure


def mind(images: Float[Array, 'b *space c']) -> Float[Array, 'b *space n']:
    """exp(-D / V) for each neighbour at distance 1 along an axis, scaled to a maximum of 1 in every pixel.

    D is the squared difference between the patches about a pixel and about its neighbour, V the mean of D over the
    neighbours; n = 2 x axes x channels.
    """
    images = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    axes = range(1, images.ndim - 1)
    unlike = jnp.stack([_smooth(jnp.square(images - _moved(images, by, axis)))
                        for axis in axes for by in (1, -1)], -1)  # fmt: skip
    variance = unlike.mean(-1, keepdims=True)
    least = FLAT * variance.mean(tuple(axes), keepdims=True) + 1e-8
    # Pair by pair: XLA computes `unlike` anew for the gradient of a minimum over an axis, finds none of it equal to
    # the minimum, and divides by none.
    unlike -= reduce(jnp.minimum, jnp.split(unlike, unlike.shape[-1], -1))
    return jnp.exp(-unlike / jnp.maximum(variance, least)).reshape(*images.shape[:-1], -1)


def _moved(x, by, axis):
    """`x` shifted by one pixel along an axis, with its border repeated."""
    ends = [(0, 0)] * x.ndim
    ends[axis] = (1, 1)
    return jax.lax.slice_in_dim(jnp.pad(x, ends, mode='edge'), 1 + by, 1 + by + x.shape[axis], axis=axis)


def _smooth(x):
    """The Gaussian mean over the patch about every pixel."""
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    weights /= weights.sum()
    for axis in range(1, x.ndim - 1):
        x = sum(w * (_moved(x, by, axis) if by else x) for w, by in zip(weights.tolist(), (-1, 0, 1), strict=True))
    return x
