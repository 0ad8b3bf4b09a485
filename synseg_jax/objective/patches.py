"""Patches of images, which PatchNCE compares: features at places that are drawn for each image."""

import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

PATCHES = 256  # of an image and layer, as in the paper, or all places if there are fewer


def sampled(
    features: Mapping[str, Float[Array, 'b ...']], keys: Key[Array, 'b'] | None = None
) -> dict[str, Float[Array, 'b p _']]:
    """{layer: features at `PATCHES` places} of each image, drawn with its key; without keys evenly spaced ones."""
    return {layer: _at_places(x, keys, zlib.crc32(layer.encode())) for layer, x in features.items()}


def _at_places(x, keys, number):
    rows = x.reshape(x.shape[0], -1, x.shape[-1])
    size = rows.shape[1]
    count = min(PATCHES, size)
    if keys is None:
        return rows[:, jnp.linspace(0, size - 1, count).astype(int)]
    return jax.vmap(lambda row, key: row[_drawn(jax.random.fold_in(key, number), size, count)])(rows, keys)


def _drawn(key: Key[Array, ''], size: int, count: int) -> Int[Array, 'p']:
    return jax.random.choice(key, size, (count,), replace=False)
