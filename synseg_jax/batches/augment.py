"""Augmentation on the device, inside the train step: an image and its label together, each row on its own key."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Int, Key

from synseg_jax.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """How much an image, a slice or a volume, may change; everything off by default.

    crop: smallest share of the sides that a random crop keeps (1: the whole image), the same of all sides, so that
    shapes keep their proportions; resized to the whole again.
    shift: largest shift, as a share of the side.  rotate: largest angle in degrees, in the slice.  scale: largest
    change of size (0.1: from 1/1.1 to 1.1).  flip: mirror columns, rows or both with probability 1/2 ('', 'c', 'r',
    'rc').
    brightness, contrast: largest additive and relative change of intensities, which stay in [0, 1].
    gamma: largest exponent, g or 1/g.  window: the size of a random piece that the image is cut to in the end, pixel
    for pixel; empty: the whole image.
    """

    window: tuple[int, ...] = ()
    crop: float = 1.0
    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    flip: str = ''
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 1.0

    def __post_init__(self):
        if not 0 < self.crop <= 1:
            raise InputError(f'augment.crop {self.crop}: give a share between 0 and 1')
        if set(self.flip) - set('rc'):
            raise InputError(f"augment.flip {self.flip!r}: give '', 'c', 'r' or 'rc'")

    def moves(self) -> bool:
        """Whether it changes geometry."""
        return self.crop < 1 or bool(self.shift or self.rotate or self.scale or self.flip)

    def shades(self) -> bool:
        """Whether it changes intensities."""
        return bool(self.brightness or self.contrast) or self.gamma != 1


def augmenter(change: Augmentation) -> Callable[[Key[Array, 'b'], Mapping], dict] | None:
    """(keys, batch in [0, 1]) -> the batch with every domain changed on its own; None if nothing is to change."""
    if not (change.moves() or change.shades() or change.window):
        return None

    def apply(keys, batch):
        changed = dict(batch)
        for domain in sorted(name for name in batch if len(name) == 1):
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, 1000 + ord(domain))
            label = batch.get(f'label_{domain}')
            row = jax.vmap(lambda k, i, m: augment(k, i, m, change), in_axes=(0, 0, None if label is None else 0))
            changed[domain], moved = row(own, batch[domain], label)
            if label is not None:
                changed[f'label_{domain}'] = moved
        return changed

    return apply


def augment(
    key: Key[Array, ''], image: Float[Array, '*space c'], label: Int[Array, '*space'] | None, change: Augmentation
) -> tuple[Float[Array, '*space2 c'], Int[Array, '*space2'] | None]:
    """One image in [0, 1] and its label, changed at random; what comes from outside the image is 0."""
    geometry, shading, place = jax.random.split(key, 3)
    if change.moves():
        where = _coordinates(geometry, image.shape[:-1], change, image.dtype)
        channels = [map_coordinates(image[..., c], where, order=1) for c in range(image.shape[-1])]
        image = jnp.stack(channels, axis=-1)
        label = label if label is None else map_coordinates(label, where, order=0)
    image = _shade(shading, image, change) if change.shades() else image
    return _cut(place, image, label, change.window) if change.window else (image, label)


def _coordinates(key, size, change, dtype):
    """Where every pixel comes from: one affine map about the centre of the image, its rotation within slices."""
    keys, rank = iter(jax.random.split(key, 7)), len(size)

    def between(low, high, shape=()):
        return jax.random.uniform(next(keys), shape, dtype, low, high)

    angle = jnp.deg2rad(between(-change.rotate, change.rotate))
    log_scale = jnp.log1p(jnp.asarray(change.scale, dtype))
    side = between(change.crop, 1.0)  # share of every side that stays
    centre = between(-0.5, 0.5, (rank,)) * (1 - side) + between(-change.shift, change.shift, (rank,))
    zoom = side * jnp.exp(between(-1, 1) * log_scale)
    mirror = jnp.where(jax.random.bernoulli(next(keys), 0.5, (2,)), -1.0, 1.0).astype(dtype)
    mirror = jnp.where(jnp.asarray(['r' in change.flip, 'c' in change.flip]), mirror, 1)
    zoom = zoom * jnp.concatenate([jnp.ones(rank - 2, dtype), mirror])
    extent = jnp.asarray(size, dtype)
    *depth, rows, columns = jnp.meshgrid(*(jnp.arange(n, dtype=dtype) - (n - 1) / 2 for n in size), indexing='ij')
    turned = [jnp.cos(angle) * rows - jnp.sin(angle) * columns, jnp.sin(angle) * rows + jnp.cos(angle) * columns]
    from_middle = [*depth, *turned]
    return [from_middle[i] * zoom[i] + (extent[i] - 1) / 2 + centre[i] * extent[i] for i in range(rank)]


def _cut(key, image, label, window):
    size = image.shape[:-1]
    if len(window) != len(size) or any(part > whole for part, whole in zip(window, size, strict=True)):
        raise InputError(f'augment.window {window} is larger than the images {size}; change data.size')
    first = [
        jax.random.randint(k, (), 0, whole - part + 1)
        for k, whole, part in zip(jax.random.split(key, len(size)), size, window, strict=True)
    ]
    image = jax.lax.dynamic_slice(image, (*first, 0), (*window, image.shape[-1]))
    return image, label if label is None else jax.lax.dynamic_slice(label, first, window)


def _shade(key, image, change):
    brightness, contrast, gamma = jax.random.uniform(key, (3,), image.dtype, -1, 1)
    exponent = jnp.exp(gamma * jnp.log(jnp.asarray(change.gamma, image.dtype)))
    image = jnp.maximum(image, 1e-6) ** exponent
    return jnp.clip((image - 0.5) * (1 + contrast * change.contrast) + 0.5 + brightness * change.brightness, 0, 1)
