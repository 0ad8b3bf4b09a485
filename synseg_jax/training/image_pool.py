"""The pool of past fakes that discriminators are shown (Shrivastava et al., 2017), a pure function of its input."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


class Past(NamedTuple):
    """The remembered fakes of every row of the batch, and how many slots of each row are filled."""

    images: Float[Array, 'b slots *space c']
    filled: Int[Array, 'b']


class PerRow:
    """Each row of the global batch keeps `slots` past fakes of its own, so that devices share nothing.

    While a row fills, its fake is shown and stored.  Once full: with probability 1/2 a random stored fake is shown
    and the new one takes its slot, otherwise the new one is shown and not stored.
    """

    def __init__(self, size: int, batch: int):
        """About `size` fakes over `batch` rows, at least one per row; size 0 remembers nothing."""
        self.slots = max(1, round(size / batch)) if size else 0

    def empty(self, images: Float[Array, 'b *space c']) -> Past | None:
        """No fakes yet, with room for images like `images`; None where nothing is remembered."""
        if not self.slots:
            return None
        rows = images.shape[0]
        return Past(jnp.zeros((rows, self.slots, *images.shape[1:]), images.dtype), jnp.zeros(rows, jnp.int32))

    def exchange(
        self, past: Past | None, fakes: Float[Array, 'b *space c'], keys: Key[Array, 'b']
    ) -> tuple[Float[Array, 'b *space c'], Past | None]:
        """The fakes to show, and the past with the new fakes stored; `keys` holds one key per row."""
        if not self.slots:
            return fakes, past
        swap = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0)) > 0.5)(keys)
        slot = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, self.slots))(keys)
        return jax.vmap(exchange_one)(past, fakes, swap, slot)


def exchange_one(past: Past, fake: Float[Array, '*space c'], swap, slot) -> tuple[Float[Array, '*space c'], Past]:
    """One fake against one row's past (no batch axis), by the decisions `swap` and `slot` once the row is full."""
    images, filled = past
    filling = filled < images.shape[0]
    place = jnp.where(filling, filled, slot)
    shown = jnp.where(~filling & swap, images[place], fake)
    stored = jnp.where(filling | swap, fake, images[place])
    return shown, Past(images.at[place].set(stored), filled + filling)
