"""Devices: the mesh, what is sharded over it, and sums over it.  The only file that knows there are several.

Those of several processes stand in the order of their processes, so that each holds the rows that it read.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from synseg_jax.errors import InputError

ROWS = 'rows'  # the mesh axis over which the rows of a batch are sharded
SHARDED, REPLICATED = PartitionSpec(ROWS), PartitionSpec()


def mesh(devices: int = 0) -> Mesh:
    """All devices of all processes in a row, or the first `devices` of them."""
    available = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if devices > len(available):
        raise InputError(f'{devices} devices asked for, {len(available)} visible; lower train.devices')
    if devices and jax.process_count() > 1 and devices != len(available):
        raise InputError(f'train.devices={devices}: several processes use all of their {len(available)}; leave it 0')
    return _row(available[: devices or len(available)])


def own_device() -> Mesh:
    """The first device of this process alone."""
    return _row(jax.local_devices()[:1])


def _row(devices) -> Mesh:
    return Mesh(np.array(devices), (ROWS,), axis_types=(AxisType.Auto,))


def rows_per_device(batch: int, over: Mesh) -> int:
    """The rows of a global batch that each device takes."""
    if batch % over.size:
        raise InputError(f'a batch of {batch} cannot be split evenly over {over.size} devices; change train.batch')
    return batch // over.size


def total(x: Array) -> Array:
    """The sum of `x` over all devices, inside a sharded function."""
    return jax.lax.psum(x, ROWS)


def summed(over: Mesh) -> Callable[[float], Array]:
    """A function that starts a sum over the devices, each of a process giving the same number."""
    add = jax.jit(shard(lambda numbers: total(numbers.sum()), over, SHARDED, REPLICATED))
    return lambda number: add(place(np.full(len(over.local_devices), number, np.int32), over, SHARDED))


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


def here(tree):
    """What every device holds whole, on the first one of this process."""
    return jax.tree.map(lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree)


def whole(x: Array) -> np.ndarray:
    """All of an array, wherever its parts are; all processes ask for it together."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    return multihost_utils.process_allgather(x, tiled=True)
