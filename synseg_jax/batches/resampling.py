"""Blur, reduced resolution and smooth displacement of one image as products with a matrix along each axis.

Matrices of fixed size with random entries compile in a second, and have one program for every sigma and factor.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

Scalar = Float[Array, ''] | float


def along_axes(matrices: Sequence, image: Float[Array, '*space c']) -> Float[Array, '*space2 c']:
    """The image times one matrix [new side, side] along each spatial axis."""
    for axis, matrix in enumerate(matrices):
        image = jnp.moveaxis(jnp.tensordot(matrix, image, (1, axis), precision='highest'), 0, axis)
    return image


def blurred(image: Float[Array, '*space c'], sigma: Scalar) -> Float[Array, '*space c']:
    """Gaussian blur with `sigma` pixels; at the border the weights of the pixels inside are scaled to sum to 1."""
    return along_axes([_gaussian(side, sigma, image.dtype) for side in image.shape[:-1]], image)


def reduced(image: Float[Array, '*space c'], factor: Scalar) -> Float[Array, '*space c']:
    """The means of pixels `factor` times as large (at least 1), interpolated linearly back to the image's grid.

    The larger pixels fill the image: their number is rounded.
    """
    return along_axes([_reduction(side, factor, image.dtype) for side in image.shape[:-1]], image)


def displacement(
    key: Key[Array, ''], size: Sequence[int], spacing: float, dtype: DTypeLike = jnp.float32
) -> Float[Array, '*space axes']:
    """A smooth random vector in [-1, 1] for every pixel: cubic B-splines over control points drawn uniformly.

    `spacing` of the control points is a share of each side (free-form deformation: Rueckert et al., 1999).
    """
    splines = [_splines(side, spacing) for side in size]
    shape = (*(len(matrix[0]) for matrix in splines), len(size))
    control = jax.random.uniform(key, (math.prod(shape),), dtype, -1, 1)  # one axis compiles in half of the time
    return along_axes([jnp.asarray(matrix, dtype) for matrix in splines], control.reshape(shape))


def _gaussian(side, sigma, dtype):
    distance = jnp.arange(side, dtype=dtype)[:, None] - jnp.arange(side, dtype=dtype)
    weights = jnp.exp(-0.5 * (distance / jnp.maximum(sigma, 1e-2)) ** 2)
    return weights / weights.sum(1, keepdims=True)


def _reduction(side, factor, dtype):
    """Area means over `count` equal parts of a side, then linear interpolation between their centres."""
    index = jnp.arange(side, dtype=dtype)
    count = jnp.maximum(jnp.round(side / factor), 1)
    part = side / count
    ends, starts = jnp.minimum((index[:, None] + 1) * part, index + 1), jnp.maximum(index[:, None] * part, index)
    means = jnp.maximum(ends - starts, 0) / part  # [part, pixel], 0 beyond `count`
    where = jnp.clip((index + 0.5) / part - 0.5, 0, count - 1)
    return jnp.dot(jnp.maximum(1 - abs(where[:, None] - index), 0), means, precision='highest')


def _splines(side, spacing):
    """Cubic B-splines [pixel, control point], not negative, each row with the sum 1."""
    points = np.arange(-1, np.ceil(1 / spacing) + 2)
    distance = abs(np.arange(side)[:, None] / (side * spacing) - points)
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))
