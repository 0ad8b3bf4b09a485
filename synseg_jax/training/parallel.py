"""Devices: the mesh, what is sharded over it, and sums over it.  The only file that knows there are several."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from synseg_jax.errors import InputError

ROWS = 'rows'  # the mesh axis over which the rows of a batch are sharded
SHARDED, REPLICATED = PartitionSpec(ROWS), PartitionSpec()


def mesh(devices: int = 0) -> Mesh:
    """All visible devices in a row, or the first `devices` of them."""
    available = jax.devices()
    if devices > len(available):
        raise InputError(f'{devices} devices asked for, {len(available)} visible; lower train.devices')
    chosen = available[: devices or len(available)]
    return jax.make_mesh((len(chosen),), (ROWS,), axis_types=(AxisType.Auto,), devices=chosen)


def rows_per_device(batch: int, over: Mesh) -> int:
    """The rows of a global batch that each device takes."""
    if batch % over.size:
        raise InputError(f'a batch of {batch} cannot be split evenly over {over.size} devices; change train.batch')
    return batch // over.size


def total(x: Array) -> Array:
    """The sum of `x` over all devices, inside a sharded function."""
    return jax.lax.psum(x, ROWS)


def row_keys(key: Key[Array, ''], rows: int) -> Key[Array, 'rows']:
    """One key per row of this device, the same for a row of the global batch whatever the number of devices."""
    first = jax.lax.axis_index(ROWS) * rows
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(first + jnp.arange(rows))


def shard(function: Callable, over: Mesh, inputs, outputs) -> Callable:
    """`function` run on every device's shard; `inputs` and `outputs` are trees of SHARDED and REPLICATED."""
    return jax.shard_map(function, mesh=over, in_specs=inputs, out_specs=outputs)


def place(tree, over: Mesh, spec):
    """`tree` as global arrays on the mesh, laid out by a (prefix) tree of SHARDED and REPLICATED."""
    shardings = jax.tree.map(lambda s: NamedSharding(over, s), spec, is_leaf=lambda s: isinstance(s, PartitionSpec))
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    return jax.make_array_from_process_local_data(shardings, jax.tree.map(np.asarray, tree))
