"""PatchNCE: patches of a translation are told from others of the same image, on any number of devices alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_step import CLASSES, SIZE, batch_of, drawn, host

from configs import base
from synseg_jax.devices import parallel
from synseg_jax.networks.patch_head import PatchHead
from synseg_jax.objective import losses, patches
from synseg_jax.specification.resolve import configure
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System

ROWS, STEPS = 4, 6


def test_patches_that_are_alike_cost_nothing():
    one = jnp.eye(4)[None]
    assert losses.patch_nce(one, one) == pytest.approx(np.log(np.exp(1 / 0.07) + 3) - 1 / 0.07, abs=1e-5)
    assert losses.patch_nce(one, jnp.roll(one, 1, 1)) == pytest.approx(1 / 0.07, abs=1e-4)
    assert losses.patch_nce(one, jnp.ones_like(one) / 2) == pytest.approx(np.log(4), abs=1e-5)


def test_places_are_drawn_for_each_image_and_layer():
    numbers = jnp.broadcast_to(jnp.arange(400.0).reshape(20, 20, 1), (2, 20, 20, 1))
    keys = jax.random.split(jax.random.key(0), 2)
    found, again = patches.sampled(*[{'deep': numbers, 'image': numbers, 'small': numbers[:, :3, :3]}] * 2, keys=keys)
    np.testing.assert_array_equal(found['deep'], again['deep'])
    assert found['image'].shape == (2, 256, 1) and found['small'].shape == (2, 9, 1)
    assert all(len(np.unique(row)) == 256 for row in found['image'])
    assert not np.array_equal(found['image'][0], found['image'][1])
    assert not np.array_equal(found['image'], found['deep'])
    (alone,) = patches.sampled({'image': numbers[1:]}, keys=keys[1:])
    np.testing.assert_array_equal(alone['image'][0], found['image'][1])
    (evenly,) = patches.sampled({'image': numbers[:, :4, :4]})
    np.testing.assert_array_equal(evenly['image'][0, :, 0], numbers[0, :4, :4].ravel())


def test_heads_make_unit_vectors():
    head, features = (
        PatchHead(width=8),
        {'image': jnp.zeros((1, 5, 1)), 'down1': jax.random.normal(jax.random.key(0), (1, 5, 3))},
    )
    found, variables = head.init_with_output(jax.random.key(1), features)
    np.testing.assert_allclose(jnp.square(found['down1']).sum(-1), 1, rtol=1e-5)
    slope = jax.grad(lambda p: head.apply({'params': p}, features)['image'].sum())(variables['params'])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))  # also where there is nothing to divide by


@functools.cache
def run(devices):
    """The first state, the state after the steps, and the metrics of every one; always the same batch."""
    config = base.get_config('records')
    config.method, config.history = 'cut', 0
    config.train.batch, config.train.steps, config.train.decay_steps = ROWS, 100, 0
    config.data.size = (SIZE, SIZE)
    for network in ('generator', 'segmentor'):
        config[network].update(width=2, blocks=1)
    config.discriminator.update(width=2, layers=1)
    config.rate.update(generator=1e-2, discriminator=1e-3, segmentor=1e-2)
    config.dtype = config.param_dtype = 'float64'
    config.optimizer.eps = 1e-6
    system, over = System(configure(config, 'synseg'), CLASSES), parallel.mesh(devices)
    first, metrics = drawn(system.abstract_state(over)), []
    state, step = parallel.place(first, over, LAYOUT), system.step(1, over)
    batch = {name: x if 'label' in name else x.astype(np.float64) for name, x in batch_of(system, 0, ROWS).items()}
    for _ in range(STEPS):
        state, found = step(state, parallel.place(batch, over, parallel.SHARDED))
        metrics.append({name: float(value) for name, value in found.items()})
    return first, host(state), metrics


def test_the_losses_fall(x64):
    first, state, metrics = run(1)
    for term in ('nce_a', 'nce_b', 'seg_fake_b'):
        assert metrics[-1][term] < metrics[0][term] - 0.01, [m[term] for m in metrics]
    assert metrics[0]['nce_a'] > 1  # of log 256 at random
    assert set(state.params) == {'g_ab', 'h_ab', 'd_b', 's_b'}
    for name, params in state.params.items():
        assert (
            max(
                abs(new - old).max()
                for new, old in zip(*map(jax.tree.leaves, (params, first.params[name])), strict=True)
            )
            > 1e-4
        )


def test_several_devices(x64):
    (_, one, metrics_of_one), (_, two, metrics) = run(1), run(2)
    close = functools.partial(jax.tree.map, functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-10))
    close(metrics, metrics_of_one)
    close(two.params, one.params)
