"""Patches of images, which PatchNCE compares: features at places that are drawn for each image."""

import math
import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

PATCHES = 256  # of an image and layer, as in the paper, or all places if there are fewer


def sampled(
    *features: Mapping[str, Float[Array, 'b ...']], keys: Key[Array, 'b'] | None = None
) -> list[dict[str, Float[Array, 'b p _']]]:
    """{layer: features at `PATCHES` places} for each of `features`, at the same places of every image and layer.

    Places are drawn with the key of the image; without keys they are evenly spaced.
    """
    places = {layer: _places(x, keys, zlib.crc32(layer.encode())) for layer, x in features[0].items()}
    return [{layer: _at(x, places[layer]) for layer, x in own.items()} for own in features]


def _places(x, keys, number) -> Int[Array, 'b p']:
    size = math.prod(x.shape[1:-1])
    count = min(PATCHES, size)
    if keys is None:
        return jnp.tile(jnp.linspace(0, size - 1, count).astype(int), (x.shape[0], 1))
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
    return jax.vmap(lambda key: jax.random.choice(key, size, (count,), replace=False))(own)


def _at(x, places):
    return jnp.take_along_axis(x.reshape(x.shape[0], -1, x.shape[-1]), places[..., None], axis=1)
