"""The train step does on several devices what it does on one: same losses, gradients, history and weights."""

import functools

import jax
import numpy as np
import pytest
import tiny
from test_step import CLASSES, SIZE, batch_of, drawn, host

from configs import base
from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System

ROWS, STEPS = 8, 3


def system_of():
    config = base.get_config('records')
    config.method, config.image_pool = 'synseg_hc', 2 * ROWS
    config.train.batch, config.train.steps, config.train.decay_steps = ROWS, STEPS, 2
    config.data.size = (SIZE, SIZE)
    config.augment.update(rotate=20.0, shift=0.1, flip='c', brightness=0.2)
    for network in ('generator', 'segmentor'):
        config[network].update(width=2, blocks=1)
    config.discriminator.update(width=2, layers=1)
    config.loss.class_weights, config.loss.by_weight = (1.0, 2.0, 4.0), True  # counts differ from shard to shard
    config.rate.update(generator=1e-3, discriminator=1e-3, segmentor=1e-3)
    config.dtype = config.param_dtype = 'float64'
    # Biases in front of a norm have no gradient but rounding noise, which a smaller epsilon would turn into moves.
    config.optimizer = {'rule': 'adam', 'b1': 0.5, 'b2': 0.999, 'eps': 1e-6, 'clip_norm': 0.0, 'b1_alone': 0.9}
    return System(tiny.configure(config, 'synseg'), CLASSES)


@functools.cache
def run(devices):
    """The state after the steps, and the metrics of every one."""
    system, over, metrics = system_of(), parallel.mesh(devices), []
    step = system.step(1, over)
    state = parallel.place(drawn(system.abstract_state(over)), over, LAYOUT)
    assert len(state.image_pool['b'].images.sharding.device_set) == devices
    for seed in range(STEPS):
        batch = batch_of(system, seed, ROWS)
        batch = {name: array if name.startswith('label') else array.astype(np.float64) for name, array in batch.items()}
        state, found = step(state, parallel.place(batch, over, parallel.SHARDED))
        metrics.append({name: float(value) for name, value in found.items()})
    return host(state), metrics


def same(found, expected, **tolerance):
    jax.tree.map(functools.partial(np.testing.assert_allclose, equal_nan=False, **tolerance), found, expected)


def test_double_precision_on_eight(x64):
    (one, metrics_of_one), (several, metrics) = run(1), run(8)
    same(metrics, metrics_of_one, rtol=1e-9, atol=1e-12)
    same(several.params, one.params, rtol=0, atol=1e-10)
    same(several.image_pool, one.image_pool, rtol=0, atol=1e-10)
    assert one.skipped == 0 and one.image_pool['b'].filled.tolist() == [2] * ROWS


def test_a_step_moves_every_network(x64):
    state, metrics = run(1)
    first = drawn(system_of().abstract_state(parallel.mesh(1))).params
    for name, params in state.params.items():
        assert metrics[0][f'grad_norm/{name}'] > 1e-4
        moved = [abs(new - old).max() for new, old in zip(*map(jax.tree.leaves, (params, first[name])), strict=True)]
        assert max(moved) > 1e-4


def test_batches_that_cannot_be_split():
    system = system_of()
    with pytest.raises(InputError, match='train.batch=8 is not a multiple of the 3 devices'):
        system.first_state(parallel.mesh(3))
    assert parallel.rows_per_device(8, parallel.mesh(4)) == 2


def test_more_devices_than_there_are():
    with pytest.raises(InputError, match='train.devices=9: only 8 are visible; lower it'):
        parallel.mesh(9)
    assert parallel.mesh().size == 8 and parallel.mesh(2).size == 2


def test_keys_of_rows_do_not_depend_on_the_devices():
    def keys(devices):
        over = parallel.mesh(devices)
        find = parallel.shard(
            lambda key: jax.random.key_data(parallel.row_keys(key, 8 // devices)),
            over,
            parallel.REPLICATED,
            parallel.SHARDED,
        )
        return np.asarray(jax.jit(find)(jax.random.key(1)))

    one = keys(1)
    assert len(np.unique(one, axis=0)) == 8
    for devices in (2, 8):
        np.testing.assert_array_equal(keys(devices), one)
