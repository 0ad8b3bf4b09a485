"""Data parallelism: the device mesh, placement of arrays on it, and sums over it.

Devices are ordered by process, so that a process's devices hold the rows of a batch that it has read.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from synseg_jax.errors import InputError

ROWS = 'rows'  # mesh axis over which the rows of a batch are sharded
SHARDED, REPLICATED = PartitionSpec(ROWS), PartitionSpec()


def mesh(devices: int = 0) -> Mesh:
    """A 1-D mesh of all devices of all processes, or of the first `devices`; InputError if there are fewer."""
    available = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if devices > len(available):
        raise InputError(f'train.devices={devices}: only {len(available)} are visible; lower it')
    if devices and jax.process_count() > 1 and devices != len(available):
        raise InputError(f'train.devices={devices}: several processes use all {len(available)} devices; set it to 0')
    return _mesh(available[: devices or len(available)])


def local_mesh() -> Mesh:
    """A mesh of this process's first device, or of the one that is JAX's default."""
    return _mesh([jax.config.jax_default_device or jax.local_devices()[0]])


def _mesh(devices) -> Mesh:
    return Mesh(np.array(devices), (ROWS,), axis_types=(AxisType.Auto,))


def rows_per_device(batch: int, over: Mesh) -> int:
    """Rows of a global batch per device; InputError unless they divide evenly."""
    if batch % over.size:
        raise InputError(f'train.batch={batch} is not a multiple of the {over.size} devices; change it')
    return batch // over.size


def psum(x: Array) -> Array:
    """The sum of `x` over all devices; for use inside `shard`."""
    return jax.lax.psum(x, ROWS)


def async_sum(over: Mesh) -> Callable[[float], Array]:
    """A function that starts the sum of a number over all devices, and returns without waiting for the result."""
    add = jax.jit(shard(lambda numbers: psum(numbers.sum()), over, SHARDED, REPLICATED))
    return lambda number: add(place(np.full(len(over.local_devices), number, np.int32), over, SHARDED))


def row_keys(key: Key[Array, ''], rows: int) -> Key[Array, 'rows']:
    """One key per row of this device; a row of the global batch has the same key for any number of devices."""
    first = jax.lax.axis_index(ROWS) * rows
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(first + jnp.arange(rows))


def shard(function: Callable, over: Mesh, inputs, outputs) -> Callable:
    """`function` applied to each device's shard; `inputs` and `outputs` are trees of SHARDED and REPLICATED."""
    return jax.shard_map(function, mesh=over, in_specs=inputs, out_specs=outputs)


def place(tree, over: Mesh, spec):
    """`tree` as global arrays on the mesh; `spec` is a (prefix) tree of SHARDED and REPLICATED."""
    shardings = jax.tree.map(lambda s: NamedSharding(over, s), spec, is_leaf=lambda s: isinstance(s, PartitionSpec))
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    return jax.make_array_from_process_local_data(shardings, jax.tree.map(np.asarray, tree))


def local_copy(tree):
    """Replicated arrays as arrays on this process's first device."""
    return jax.tree.map(lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree)


def to_host(x: Array) -> np.ndarray:
    """A global array as numpy; a collective of all processes if its shards are on several."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    return multihost_utils.process_allgather(x, tiled=True)
