"""Batches taken from records that the devices hold are those that are read."""

import numpy as np
import pytest

from synseg_jax.batches.device_cache import Resident, resident_gib
from synseg_jax.batches.pipeline import Mix, Pool, batches
from synseg_jax.devices import parallel
from synseg_jax.devices.environment import GIB

ARRAYS = ('a', 'b', 'label_a')


def _records(first, count):
    """Records that differ, with labels beyond what int8 holds."""
    rng = np.random.default_rng(first)
    return [
        {'image': rng.random((4, 4, 1), np.float32), 'label': rng.integers(0, 256, (4, 4), np.uint8), 'slice': i}
        for i in range(first, first + count)
    ]


def _pools():
    """Two files of unequal scans, balanced; real and made records in turn."""
    balanced = Pool([_records(0, 5), [], _records(10, 2)], [5, 0, 2], balanced=True)
    return {'a': balanced, 'b': Mix([Pool([_records(20, 3)], [3]), Pool([_records(30, 4), _records(40, 1)], [4, 1])])}


@pytest.mark.parametrize('devices', [1, 4])
def test_batches_are_those_that_are_read(devices):
    pools, over = _pools(), parallel.mesh(devices)
    held = Resident(pools, ARRAYS, over)
    places = {domain: pool.places() for domain, pool in pools.items()}
    taken = list(batches(places, 4, 7, 3, 12, ready=held.batch))
    read = list(batches(pools, 4, 7, 3, 12, arrays=ARRAYS))
    assert len(taken) == len(read) == 9
    for batch, expected in zip(taken, read, strict=True):
        assert batch.keys() == expected.keys()
        for name, array in batch.items():
            assert array.sharding.device_set == set(over.devices.flat) and array.dtype == expected[name].dtype
            np.testing.assert_array_equal(array, expected[name])


def test_every_record_is_held_once_on_every_device():
    pools, over = _pools(), parallel.mesh(2)
    held = Resident(pools, ARRAYS, over).held
    assert {name: array.shape for name, array in held.items()} == {
        'a': (7, 4, 4, 1), 'label_a': (7, 4, 4), 'b': (8, 4, 4, 1)
    }  # fmt: skip
    assert held['label_a'].dtype == np.uint8 and all(array.is_fully_replicated for array in held.values())
    assert resident_gib(pools, ARRAYS) * GIB == 7 * 16 * 4 + 7 * 16 + 8 * 16 * 4
