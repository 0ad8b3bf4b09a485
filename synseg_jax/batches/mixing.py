"""Random masks by which parts of one image are pasted onto another or hidden; each row of a batch has its own key."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from synseg_jax.errors import InputError

Mask = Bool[Array, '*space']


def class_mask(key: Key[Array, ''], label: Int[Array, '*space'], classes: int) -> Mask:
    """Pixels of half of the classes in `label`, rounded up, drawn at random (ClassMix: Olsson et al., WACV 2021).

    The background is a class as well.  Labels from `classes` on belong to none.
    """
    of_class = label[..., None] == jnp.arange(classes)
    present = of_class.any(range(label.ndim))
    order = jnp.argsort(jnp.where(present, jax.random.uniform(key, (classes,)), jnp.inf))
    chosen = jnp.zeros(classes, bool).at[order].set(jnp.arange(classes) < (present.sum() + 1) // 2)
    return (of_class & chosen).any(-1)


def box_mask(key: Key[Array, ''], size: Sequence[int], share: Float[Array, ''] | float) -> Mask:
    """A box of the image's shape at a random place, with about a `share` in [0, 1] of its pixels.

    CutMix: Yun et al., ICCV 2019; between labelled and unlabelled scans: Bai et al., CVPR 2023.
    """
    mask = jnp.ones((), bool)
    for side, own in zip(size, jax.random.split(key, len(size)), strict=True):
        length = jnp.round(side * jnp.asarray(share) ** (1 / len(size))).astype(int)
        first = jax.random.randint(own, (), 0, side - length + 1)
        index = jnp.arange(side)
        mask = mask[..., None] & (first <= index) & (index < first + length)
    return mask


def block_mask(key: Key[Array, ''], size: Sequence[int], block: int, share: Float[Array, ''] | float) -> Mask:
    """Squares (cubes) of `block` pixels a side, each true with probability `share` (MIC: Hoyer et al., CVPR 2023).

    They start at the first corner; those at the end are cut off by the border.
    """
    if not 1 <= block <= min(size):
        raise InputError(f'blocks of {block} pixels in images {tuple(size)}: give 1 to {min(size)}')
    mask = jax.random.bernoulli(key, share, [-(-side // block) for side in size])
    for axis, side in enumerate(size):
        mask = jnp.repeat(mask, block, axis)[(slice(None),) * axis + (slice(side),)]
    return mask


def paste(mask: Mask, part: Shaped[Array, '...'] | float, onto: Shaped[Array, '...']) -> Shaped[Array, '...']:
    """`part` where the mask is true, else `onto`: images with channels or labels; zeros as `part` hide pixels."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (onto.ndim - mask.ndim)), part, onto)
