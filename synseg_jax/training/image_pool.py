"""Image pool: past synthetic images shown to discriminators (Shrivastava et al., 2017), as pure functions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


class Past(NamedTuple):
    """The images stored for each row of the batch, and the number of filled slots of each row."""

    images: Float[Array, 'b slots *space c']
    filled: Int[Array, 'b']


class PerRow:
    """A pool of `slots` images for each row of the global batch, so that devices do not communicate.

    Until the pool of a row is full, a new synthetic image is shown and stored.  Then, with probability 1/2, a random
    stored image is shown and replaced by the new one; otherwise the new one is shown and not stored.
    """

    def __init__(self, size: int, batch: int):
        """`size` images in total, divided over `batch` rows, at least one per row; size 0 disables the pool."""
        self.slots = max(1, round(size / batch)) if size else 0

    def empty(self, images: Float[Array, 'b *space c']) -> Past | None:
        """An empty pool for images of the shape and type of `images`; None if the pool is disabled."""
        if not self.slots:
            return None
        rows = images.shape[0]
        return Past(jnp.zeros((rows, self.slots, *images.shape[1:]), images.dtype), jnp.zeros(rows, jnp.int32))

    def exchange(
        self, past: Past | None, fakes: Float[Array, 'b *space c'], keys: Key[Array, 'b']
    ) -> tuple[Float[Array, 'b *space c'], Past | None]:
        """(images to show, updated pool) for new synthetic images; `keys` has one key per row."""
        if not self.slots:
            return fakes, past
        swap = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0)) > 0.5)(keys)
        slot = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, self.slots))(keys)
        return jax.vmap(exchange_one)(past, fakes, swap, slot)


def exchange_one(past: Past, fake: Float[Array, '*space c'], swap, slot) -> tuple[Float[Array, '*space c'], Past]:
    """`exchange` for one row (no batch axis); once the pool is full, `swap` and `slot` are its random decisions."""
    images, filled = past
    filling = filled < images.shape[0]
    index = jnp.where(filling, filled, slot)
    shown = jnp.where(~filling & swap, images[index], fake)
    stored = jnp.where(filling | swap, fake, images[index])
    return shown, Past(images.at[index].set(stored), filled + filling)
