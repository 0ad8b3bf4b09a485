"""Strong random changes of intensities, of images in [0, 1]: what a network learns from them is shape, not contrast.

Every function takes the key of one row and its image [*space, channels]; all channels, the neighbouring slices of one
scan, are changed alike.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product
from math import prod

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

Image = Float[Array, '*space c']
LAYERS, FEATURES, SLOPE = 4, 2, 0.01  # of the random network
CURVE = 64  # points of an intensity curve
CONTROL = 48  # pixels between the control points of a blend
SMOOTH = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # binomial kernel with a deviation of 1 pixel
LEAST = 1e-6


def gin(key: Key[Array, ''], image: Image) -> Image:
    """The image mixed with its pass through a random network (GIN: Ouyang et al., IEEE TMI 2023), in [0, 1].

    Four convolutions to 2 features, the last to 1, each 3-wide or 1-wide with probability 1/2; weights and shifts
    N(0, 1), leaky ReLU with slope .01 after the first three.  The network sees the image with mean 0 and deviation 1,
    or its shifts would outweigh it.  The share of its output is uniform in [0, 1]; the mixture is brought to [0, 1] by
    its own range, which undoes the published rescaling to the norm of the image.
    """
    network, mixing = jax.random.split(key)
    centred = (image - image.mean()) / jnp.maximum(image.std(), LEAST)
    channels = jax.vmap(lambda channel: _random_network(network, channel), -1, -1)(centred)
    share = jax.random.uniform(mixing, (), image.dtype)
    return _to_unit(share * channels + (1 - share) * centred)


def blended_gin(key: Key[Array, ''], image: Image, probability: float) -> Image:
    """`gin`, which with a probability is two of them blended by a smooth random map (IPA: Ouyang et al., 2023)."""
    if not probability:
        return gin(key, image)
    pair, where, chance = jax.random.split(key, 3)
    share = smooth_map(where, image.shape[:-1], image.dtype)[..., None]
    share = jnp.where(jax.random.bernoulli(chance, probability), share, 1)
    one, two = jax.vmap(lambda own: gin(own, image))(jax.random.split(pair))
    return share * one + (1 - share) * two


def class_lines(key: Key[Array, ''], image: Image, label: Int[Array, '*space'] | None, classes: int) -> Image:
    """Every class with a gain and an offset of its own, which pass smoothly into those of its neighbours.

    The gain is uniform in [.6, 1.4] or, with probability 1/2, in [-1.2, -.4], which inverts; the offset in [-.4, .4],
    about the inverted image where it is inverted.  Without labels, or where they are negative, all is background.
    """
    label = jnp.zeros(image.shape[:-1], jnp.int32) if label is None else jnp.maximum(label, 0)
    inverts, rising, falling, offsets = jax.random.split(key, 4)
    between = partial(jax.random.uniform, shape=(classes,), dtype=image.dtype)
    inverted = jax.random.bernoulli(inverts, 0.5, (classes,))
    gain = jnp.where(inverted, between(falling, minval=-1.2, maxval=-0.4), between(rising, minval=0.6, maxval=1.4))
    offset = between(offsets, minval=-0.4, maxval=0.4) + inverted
    gain, offset = jnp.split(_smoothed(jnp.stack([gain[label], offset[label]], -1)), 2, -1)
    return jnp.clip(image * gain + offset, 0, 1)


def class_curves(key: Key[Array, ''], image: Image, label: Int[Array, '*space'] | None, classes: int) -> Image:
    """Every class on an intensity curve of its own (location-scale augmentation: Su et al., AAAI 2023).

    A curve is a monotone Bezier curve, decreasing for the background and, with probability 1/2, for an organ; then a
    scale N(1, .1) within [.9, 1.1] and a shift N(0, .5), as far as mean +- one deviation of the class stay in [0, 1].
    Without labels, or where they are negative, all is background.
    """
    label = jnp.zeros(image.shape[:-1], jnp.int32) if label is None else jnp.maximum(label, 0)
    drawn, moved = jax.random.split(key)
    curves = jax.vmap(_curve)(jax.random.split(drawn, classes), jnp.arange(classes) == 0)
    mapped = _look_up(curves, label, image)
    inside = jax.nn.one_hot(label, classes, dtype=image.dtype)
    scale, shift = _scale_and_shift(moved, mapped, inside)
    return jnp.clip(mapped * scale[label][..., None] + shift[label][..., None], 0, 1)


CLASS_MAPS = {'lines': class_lines, 'curves': class_curves}


def keep_air(air: float, before: Image, after: Image) -> Image:
    """`after` in [2 air, 1], but air as `before`: pixels, or their surroundings, up to air / 2, fading out up to `air`.

    Air and lung are darker than any organ, in MR and CT alike; a network that never saw so takes lung for an organ.
    """
    share = jnp.clip(jnp.minimum(before, _smoothed(before)) * (2 / air) - 1, 0, 1)
    return share * (2 * air + (1 - 2 * air) * after) + (1 - share) * before


def smooth_map(key: Key[Array, ''], size: tuple[int, ...], dtype) -> Float[Array, '*size']:
    """A smooth random map in [0, 1]: cubic interpolation of uniform random numbers every 48 pixels."""
    points = [max(2, -(-side // CONTROL) + 1) for side in size]
    coarse = jax.random.uniform(key, (prod(points),), dtype).reshape(points)  # one axis compiles in half of the time
    return _to_unit(jax.image.resize(coarse, size, 'cubic'))


def _random_network(key, image):
    """A random convolutional network on one channel [*space]; the layers are a loop, which compiles once."""
    rank, taps = image.ndim, 3**image.ndim
    features = jnp.stack([image, *[jnp.zeros_like(image)] * (FEATURES - 1)])
    normal_key, width_key = jax.random.split(key)
    normal = jax.random.normal(normal_key, (LAYERS * (taps * FEATURES + 1) * FEATURES,), image.dtype)
    weights, shifts = jnp.split(normal.reshape(LAYERS, -1), [taps * FEATURES**2], 1)
    wide = jax.random.bernoulli(width_key, 0.5, (LAYERS,))[:, None] | (jnp.arange(taps) == taps // 2)
    weights = weights.reshape(LAYERS, taps, FEATURES, FEATURES) * wide[..., None, None]

    def layer(features, drawn):
        weights, shifts, last = drawn
        summed = sum(jnp.tensordot(weights[tap], near, 1) for tap, near in enumerate(_neighbours(features)))
        summed += shifts.reshape(-1, *[1] * rank)
        return jnp.where(last, summed, jax.nn.leaky_relu(summed, SLOPE)), None

    return jax.lax.scan(layer, features, (weights, shifts, jnp.arange(LAYERS) == LAYERS - 1))[0][0]


def _neighbours(features: Float[Array, 'f *space']) -> Iterator[Float[Array, 'f *space']]:
    """The features shifted by every tap of a 3-wide kernel, with zeros from outside."""
    size = features.shape[1:]
    padded = jnp.pad(features, [(0, 0), *[(1, 1)] * len(size)])
    for first in product(range(3), repeat=len(size)):
        yield padded[:, *(slice(f, f + side) for f, side in zip(first, size, strict=True))]


def _curve(key, background):
    """A monotone random curve from [0, 1] to [0, 1] at CURVE equidistant points: a cubic Bezier curve."""
    points_key, falling_key = jax.random.split(key)
    (x1, x2), (y1, y2) = jax.random.uniform(points_key, (2, 2))
    t = jnp.linspace(0, 1, CURVE)
    x, y = (3 * (1 - t) ** 2 * t * p + 3 * (1 - t) * t**2 * q + t**3 for p, q in ((x1, x2), (y1, y2)))
    rising = jnp.interp(t, x, y)
    return jnp.where(background | jax.random.bernoulli(falling_key), rising[::-1], rising)


def _look_up(curves, label, image):
    """Values of the curves of the pixels' classes, interpolated linearly."""
    place = jnp.clip(image, 0, 1) * (CURVE - 1)
    lower = jnp.minimum(place.astype(jnp.int32), CURVE - 2)
    flat, first = curves.astype(image.dtype).ravel(), label[..., None] * CURVE + lower
    share = place - lower
    return (1 - share) * flat[first] + share * flat[first + 1]


def _smoothed(image):
    """The image [*space, c] smoothed by SMOOTH along every axis of space; its border is repeated."""
    reach = len(SMOOTH) // 2
    for axis, side in enumerate(image.shape[:-1]):
        padded = jnp.pad(image, [(reach, reach) if other == axis else (0, 0) for other in range(image.ndim)], 'edge')
        parts = (jax.lax.slice_in_dim(padded, first, first + side, axis=axis) for first in range(len(SMOOTH)))
        image = sum(weight * part for weight, part in zip(SMOOTH, parts, strict=True))
    return image


def _scale_and_shift(key, mapped, inside):
    """(scale, shift) of every class [k]."""
    scales, shifts = jax.random.normal(key, (2, inside.shape[-1]), mapped.dtype)
    scale = jnp.clip(1 + 0.1 * scales, 0.9, 1.1)
    middle = mapped[..., mapped.shape[-1] // 2]
    axes = tuple(range(middle.ndim))
    count = jnp.maximum(inside.sum(axes), 1)
    mean = jnp.tensordot(middle, inside, (axes, axes)) / count
    square = jnp.tensordot(middle**2, inside, (axes, axes)) / count
    deviation = jnp.sqrt(jnp.maximum(square - mean**2, 0))
    low, high = -(mean - deviation) * scale, 1 - (mean + deviation) * scale
    return scale, jnp.clip(0.5 * shifts, jnp.minimum(low, 0), jnp.maximum(high, 0))


def _to_unit(x):
    """`x` brought to [0, 1] by its own range; a constant to 0."""
    low = x.min()
    return jnp.clip((x - low) / jnp.maximum(x.max() - low, LEAST), 0, 1)
