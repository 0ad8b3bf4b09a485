"""Records cached in the memory of every device; batches are gathered there by row index."""

from collections.abc import Collection, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from synseg_jax.batches.pipeline import Mix, Pool
from synseg_jax.devices import parallel
from synseg_jax.devices.environment import GIB
from synseg_jax.objective import names


def resident_gib(pools: Mapping[str, Pool | Mix], arrays: Collection[str]) -> float:
    """Memory of the records of all pools, each held once, GiB."""
    first = {domain: next(iter(pool.records()), {}) for domain, pool in pools.items()}

    def size(array):
        domain = names.domain(array)
        return np.asarray(first[domain].get(_kind(array), ())).nbytes * pools[domain].recorded

    return sum(map(size, arrays)) / GIB


class Resident:
    """Images (float32 in [0, 1]) and labels of all pools, replicated on every device of the mesh."""

    def __init__(self, pools: Mapping[str, Pool | Mix], arrays: Collection[str], over: Mesh):
        self.over = over
        held = {}
        for domain, pool in pools.items():
            wanted = [name for name in sorted(arrays) if names.domain(name) == domain]
            for place, record in enumerate(pool.records()):
                for name in wanted:
                    one = record[_kind(name)]
                    held.setdefault(name, np.empty((pool.recorded, *one.shape), one.dtype))[place] = one
        self.held = parallel.place(held, over, parallel.REPLICATED)
        inputs = (parallel.REPLICATED, parallel.SHARDED)
        self._take = jax.jit(parallel.shard(_taken, over, inputs, parallel.SHARDED))

    def batch(self, places: Mapping[str, Int[np.ndarray, ' rows']]) -> dict[str, Array]:
        """This process's rows of a global batch by their indices, sharded over the mesh; labels as int32."""
        return self._take(self.held, parallel.place(dict(places), self.over, parallel.SHARDED))


def _kind(array):
    return 'label' if names.is_label(array) else 'image'


def _taken(held, places):
    rows = {name: of.at[places[names.domain(name)]].get(mode='promise_in_bounds') for name, of in held.items()}
    return {name: row.astype(jnp.int32) if names.is_label(name) else row for name, row in rows.items()}
