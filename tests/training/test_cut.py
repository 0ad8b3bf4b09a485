"""PatchNCE: patches of a translation are told from others of the same image, on any number of devices alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_step import batch_of, drawn, game, host

from synseg_jax.devices import parallel
from synseg_jax.exchange import importing
from synseg_jax.networks.patch_head import PatchHead
from synseg_jax.objective import losses, patches
from synseg_jax.objective.terms import TERMS
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System

STEPS = 12


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
    """The kernels before and after the steps, and the metrics of every one; always the same batch."""
    (system, _, _), over, metrics = game('cut'), parallel.mesh(devices), []
    step, first = system.step(1, over), drawn(system.abstract_state(over))
    state, batch = parallel.place(first, over, LAYOUT), batch_of(system)
    for _ in range(STEPS):
        state, found = step(state, parallel.place(batch, over, parallel.SHARDED))
        metrics.append({name: float(value) for name, value in found.items()})
    return kernels(first), kernels(host(state)), metrics


def kernels(state):
    """Biases before a norm have no gradient but rounding noise, which Adam turns into moves."""
    leaves = jax.tree_util.tree_leaves_with_path(state.params)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if 'kernel' in jax.tree_util.keystr(path)}


def test_the_losses_fall(x64):
    first, last, metrics = run(1)
    for term in ('nce_a', 'nce_b', 'seg_fake_b'):
        assert metrics[-1][term] < 0.99 * metrics[0][term], [m[term] for m in metrics]
    assert all(abs(last[name] - first[name]).max() > 1e-4 for name in first)


def test_several_devices(x64):
    (_, one, metrics_of_one), (_, two, metrics) = run(1), run(2)
    close = functools.partial(jax.tree.map, functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-9))
    close(metrics, metrics_of_one)
    close(two, one)


def test_an_export_leaves_out_the_head():
    config = importing.set_weights(tiny.stage(method='cut'), {'g_ab', 'd_b', 's_b'})
    found = System(config, tiny.CLASSES).method.networks(TERMS)
    assert found == {'gen': ('g_ab',), 'dis': ('d_b',), 'seg': ('s_b',)}
