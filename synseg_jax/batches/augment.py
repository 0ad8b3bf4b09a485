"""Augmentation on the device, inside the train step: a list of functions for each domain, each row on its own key."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Int, Key

from synseg_jax.batches import resampling
from synseg_jax.errors import InputError
from synseg_jax.objective import names
from synseg_jax.specification.training import Augment

Image, Label = Float[Array, '*space c'], Int[Array, '*space'] | None
Other = Float[Array, '*other c2'] | None  # may have been cut to a window already
FOLDS = 0.4  # of the spacing of control points: larger displacements can fold (Choi & Lee, 2000)
Changed = tuple[Float[Array, '*space2 c'], Int[Array, '*space2'] | None]


def augmenter(amounts: Augment) -> Callable[[Key[Array, 'b'], Mapping], dict] | None:
    """(keys, batch in [0, 1]) -> the augmented batch, each row by `augment`; None if nothing is to change."""
    if amounts == Augment():
        return None
    return lambda keys, batch: jax.vmap(lambda key, row: augment(key, row, amounts))(keys, dict(batch))


def augment(key: Key[Array, ''], row: Mapping[str, Array], amounts: Augment) -> dict[str, Array]:
    """One row of a batch, images in [0, 1] and labels, changed by the functions of AUGMENTATIONS.

    Each domain has random numbers of its own.  The target comes first: what changes the source may see it.
    """
    row = dict(row)
    for domain in sorted((name for name in row if not names.is_label(name)), reverse=True):
        functions, label = AUGMENTATIONS[domain], names.label(domain)
        keys = jax.random.split(jax.random.fold_in(key, 1000 + ord(domain)), len(functions))
        for own, function in zip(keys, functions, strict=True):
            row[domain], changed = function(own, row[domain], row.get(label), row.get(names.other(domain)), amounts)
            row |= {} if changed is None else {label: changed}
    return row


def move(key: Key[Array, ''], image: Image, label: Label, other: Other, amounts: Augment) -> Changed:
    """Crop, shift, rotation and shear within the slice, scale and flips as one affine map, after elastic displacement.

    The image is interpolated once, linearly; the label takes the nearest pixel; 0 from outside of the image.
    """
    linear = amounts.rotate or amounts.shear or amounts.scale or amounts.flip
    if not (amounts.crop < 1 or amounts.shift or linear or amounts.elastic):
        return image, label
    where = _coordinates(key, image.shape[:-1], amounts, image.dtype)
    channels = [map_coordinates(image[..., c], where, order=1) for c in range(image.shape[-1])]
    return jnp.stack(channels, axis=-1), label if label is None else map_coordinates(label, where, order=0)


def shade(key: Key[Array, ''], image: Image, label: Label, other: Other, amounts: Augment) -> Changed:
    """Gamma, contrast and brightness of intensities, which stay in [0, 1]."""
    if not (amounts.brightness or amounts.contrast or amounts.gamma != 1):
        return image, label
    brightness, contrast, gamma = jax.random.uniform(key, (3,), image.dtype, -1, 1)
    exponent = jnp.exp(gamma * jnp.log(jnp.asarray(amounts.gamma, image.dtype)))
    image = jnp.maximum(image, 1e-6) ** exponent
    image = (image - 0.5) * (1 + contrast * amounts.contrast) + 0.5 + brightness * amounts.brightness
    return jnp.clip(image, 0, 1), label


def cut(key: Key[Array, ''], image: Image, label: Label, other: Other, amounts: Augment) -> Changed:
    """A random window of the image, pixel for pixel."""
    window, size = amounts.window, image.shape[:-1]
    if not window:
        return image, label
    if len(window) != len(size) or any(part > whole for part, whole in zip(window, size, strict=True)):
        raise InputError(f'augment.window {window} is larger than the images {size}; change data.size')
    first = [
        jax.random.randint(k, (), 0, whole - part + 1)
        for k, whole, part in zip(jax.random.split(key, len(size)), size, window, strict=True)
    ]
    image = jax.lax.dynamic_slice(image, (*first, 0), (*window, image.shape[-1]))
    return image, label if label is None else jax.lax.dynamic_slice(label, first, window)


def fourier(key: Key[Array, ''], image: Image, label: Label, other: Other, amounts: Augment) -> Changed:
    """Amplitudes of low spatial frequencies of the other domain's image (FDA: Yang & Soatto, CVPR 2020).

    Low are frequencies of at most `fourier` times the shortest side, in periods per side along every axis; phases stay.
    """
    if not amounts.fourier or other is None:
        return image, label
    axes, size = tuple(range(image.ndim - 1)), image.shape[:-1]
    own, wanted = jnp.fft.fftn(image, axes=axes), jnp.abs(jnp.fft.fftn(other, axes=axes))
    periods = np.meshgrid(*(np.abs(np.fft.fftfreq(side, 1 / side)) for side in size), indexing='ij')
    low = (np.max(periods, axis=0) <= int(amounts.fourier * min(size)))[..., None]
    mixed = jnp.where(low, wanted, jnp.abs(own)) * jnp.exp(1j * jnp.angle(own))
    return jnp.clip(jnp.fft.ifftn(mixed, axes=axes).real.astype(image.dtype), 0, 1), label


def noise(key: Key[Array, ''], image: Image, label: Label, other: Other, amounts: Augment) -> Changed:
    """Gaussian noise on every pixel, air too."""
    if not amounts.noise:
        return image, label
    chance, own = jax.random.split(key)

    def noisy(share):
        drawn = jax.random.normal(own, (image.size,), image.dtype)  # one axis compiles in half of the time
        return image + share * amounts.noise * drawn.reshape(image.shape)

    return _sometimes(chance, amounts.noise_probability, image, noisy), label


def blur(key: Key[Array, ''], image: Image, label: Label, other: Other, amounts: Augment) -> Changed:
    """Gaussian blur along all axes; the label stays sharp."""
    if not amounts.blur:
        return image, label

    def blurred(share):
        return resampling.blurred(image, share * amounts.blur)

    return _sometimes(key, amounts.blur_probability, image, blurred), label


def low_resolution(key: Key[Array, ''], image: Image, label: Label, other: Other, amounts: Augment) -> Changed:
    """The image reduced along all axes by one factor and enlarged again; the label stays sharp."""
    if not amounts.low_resolution > 1:
        return image, label

    def reduced(share):  # the size, 1 / factor, is uniform, as in nnU-Net
        return resampling.reduced(image, 1 / (1 - share * (1 - 1 / amounts.low_resolution)))

    return _sometimes(key, amounts.low_resolution_probability, image, reduced), label


QUALITY = (noise, blur, low_resolution)  # nnU-Net's, in its order (Isensee et al., Nature Methods 2021)

# Of each domain, in order: functions of (key, image, label or None, the other domain's image of the same row or None,
# amounts).  A new one goes last, so that the random numbers of those before it stay.
AUGMENTATIONS = {'a': (move, shade, cut, fourier, *QUALITY), 'b': (move, shade, cut, *QUALITY)}


def _sometimes(key, probability, image, change):
    """`change(share of the largest amount)`, clipped to [0, 1], with a probability; the share is uniform."""
    chance, share = jax.random.uniform(key, (2,), image.dtype)  # in one call, which compiles faster than two
    return jnp.where(chance < probability, jnp.clip(change(share), 0, 1), image)


def _coordinates(key, size, amounts, dtype):
    """Source coordinates of every pixel: one affine map about the centre of the image, its rotation within slices."""
    keys, rank = iter(jax.random.split(key, 8)), len(size)  # the first stay as they are if there are more

    def between(low, high, shape=()):
        return jax.random.uniform(next(keys), shape, dtype, low, high)

    angle = jnp.deg2rad(between(-amounts.rotate, amounts.rotate))
    log_scale = jnp.log1p(jnp.asarray(amounts.scale, dtype))
    side = between(amounts.crop, 1.0)  # share of every side that stays
    centre = between(-0.5, 0.5, (rank,)) * (1 - side) + between(-amounts.shift, amounts.shift, (rank,))
    zoom = side * jnp.exp(between(-1, 1) * log_scale)
    mirror = jnp.where(jax.random.bernoulli(next(keys), 0.5, (2,)), -1.0, 1.0).astype(dtype)
    mirror = jnp.where(jnp.asarray(['r' in amounts.flip, 'c' in amounts.flip]), mirror, 1)
    zoom = zoom * jnp.concatenate([jnp.ones(rank - 2, dtype), mirror])
    *depth, rows, columns = _grid(*keys, size, amounts, dtype)
    extent = jnp.asarray(size, dtype)
    turned = [jnp.cos(angle) * rows - jnp.sin(angle) * columns, jnp.sin(angle) * rows + jnp.cos(angle) * columns]
    from_middle = [*depth, *turned]
    return [from_middle[i] * zoom[i] + (extent[i] - 1) / 2 + centre[i] * extent[i] for i in range(rank)]


def _grid(shear, elastic, size, amounts, dtype):
    """Position of every pixel relative to the centre along each axis, displaced and sheared; the first two are keys."""
    positions = jnp.meshgrid(*(jnp.arange(n, dtype=dtype) - (n - 1) / 2 for n in size), indexing='ij')
    if amounts.elastic:
        field = _elastic(elastic, size, amounts, dtype)
        positions = [position + field[..., axis] for axis, position in enumerate(positions)]
    if amounts.shear:
        angle = jax.random.uniform(shear, (), dtype, -amounts.shear, amounts.shear)
        positions[-1] += jnp.tan(jnp.deg2rad(angle)) * positions[-2]
    return positions


def _elastic(key, size, amounts, dtype):
    """Smooth displacement of every pixel in pixels."""
    largest = FOLDS * amounts.elastic_spacing
    if amounts.elastic > largest:
        raise InputError(
            f'augment.elastic={amounts.elastic}: the image could fold; give at most {largest:g}, {FOLDS} of '
            f'augment.elastic_spacing={amounts.elastic_spacing}'
        )
    reach = amounts.elastic * jnp.asarray(size, dtype)
    return reach * resampling.displacement(key, size, amounts.elastic_spacing, dtype)
