"""Patches for the PatchNCE loss: features of an encoder at random positions of each image."""

import math
import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

PATCHES = 256  # per image and layer, as in the paper, or all positions if there are fewer


def sampled(
    *features: Mapping[str, Float[Array, 'b ...']], keys: Key[Array, 'b'] | None = None
) -> list[dict[str, Float[Array, 'b p _']]]:
    """{layer: features at `PATCHES` positions} for each of `features`, which share the positions of image and layer.

    Positions are random, from the key of the image; without keys they are evenly spaced.
    """
    indices = {layer: _indices(x, keys, zlib.crc32(layer.encode())) for layer, x in features[0].items()}
    return [{layer: _at(x, indices[layer]) for layer, x in own.items()} for own in features]


def _indices(x, keys, number) -> Int[Array, 'b p']:
    size = math.prod(x.shape[1:-1])
    count = min(PATCHES, size)
    if keys is None:
        return jnp.tile(jnp.linspace(0, size - 1, count).astype(int), (x.shape[0], 1))
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
    return jax.vmap(lambda key: jax.random.choice(key, size, (count,), replace=False))(own)


def _at(x, indices):
    return jnp.take_along_axis(x.reshape(x.shape[0], -1, x.shape[-1]), indices[..., None], axis=1)
