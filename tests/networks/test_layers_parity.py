"""Layers, losses, activations, image history and learning rate as the published SynSeg-Net code computes them.

The numbers lie in `parity/units` of the shared folder, or in `units` of the folder that PARITY_DIR names.
"""

import functools
import json
import os
import random
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_networks import with_slopes

from synseg_jax.exchange import torch_weights
from synseg_jax.networks import build
from synseg_jax.networks.layers import Conv, Upsample, reflect
from synseg_jax.networks.norm import instance_norm
from synseg_jax.networks.resnet import ResidualBlock
from synseg_jax.objective import losses
from synseg_jax.training.image_pool import Past, PerRow, exchange_one
from synseg_jax.training.optimizers import constant_then_linear

SHARED = Path(__file__).resolve().parents[3] / 'shared' / 'parity'
GIVEN = Path(os.environ.get('PARITY_DIR') or SHARED)
FOLDER = GIVEN if (GIVEN / 'units').is_dir() else SHARED
UNITS = FOLDER / 'units'

if not UNITS.is_dir():
    pytest.skip(f'published numbers are absent: {UNITS}', allow_module_level=True)

wide = {'dtype': np.float64, 'param_dtype': np.float64}
LAYERS = {
    'reflect3_conv7': Conv(3, 7, mirror=3, **wide),
    'conv3_s2_p1': Conv(4, 3, stride=2, padding=1, **wide),
    'convT3_s2_p1_op1': Upsample(3, **wide),
    'conv4_s2_p1': Conv(4, 4, stride=2, padding=1, **wide),
    'conv4_s1_p1': Conv(4, 4, padding=1, **wide),
    'instancenorm': instance_norm,
    'leaky02': functools.partial(nn.leaky_relu, negative_slope=0.2),
    'resnetblock': ResidualBlock(**wide),
}
PARTS = {'weight': 'kernel', 'bias': 'bias'}
CONVS = {'conv_block.1': ('conv1',), 'conv_block.5': ('conv2',)}  # of a residual block; other layers have one


def read(name):
    with np.load(UNITS / name) as file:
        return dict(file)


def last(array):
    """Channels last."""
    return np.moveaxis(array, 1, -1)


def params_of(arrays, prefix, transposed):
    """The arrays `prefix/LAYER.weight` and `.bias` as the parameters of a layer."""
    params = {}
    for name, array in arrays.items():
        if name.startswith(prefix):
            layer, _, part = name.removeprefix(prefix).rpartition('.')
            if part == 'weight':
                array = array.transpose(2, 3, 0, 1) if transposed else array.transpose(2, 3, 1, 0)
            node = params
            for key in CONVS.get(layer, ()):
                node = node.setdefault(key, {})
            node[PARTS[part]] = jnp.asarray(array)
    return params


def test_layers_parity_is_complete():
    assert {name.split('/')[0] for name in read('layers.npz')} == set(LAYERS)


@pytest.mark.parametrize('name', LAYERS)
def test_layer_parity(name, x64):
    arrays, layer = read('layers.npz'), LAYERS[name]
    transposed = isinstance(layer, Upsample)
    params = params_of(arrays, f'{name}/param/', transposed)

    def run(params, x):
        return layer.apply({'params': params}, x) if isinstance(layer, nn.Module) else layer(x)

    cotangent, x = (jnp.asarray(last(arrays[f'{name}/{part}'])) for part in ('cotangent', 'x'))
    y, params_gradient, x_gradient = with_slopes(run, cotangent, params, x)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-11)
    close(y, last(arrays[f'{name}/y']))
    close(x_gradient, last(arrays[f'{name}/grad_x']))
    jax.tree.map(close, params_gradient, params_of(arrays, f'{name}/grad/', transposed))


def test_losses_parity(x64):
    given = read('losses.npz')
    logits, weights, pred = (jnp.asarray(given[name]) for name in ('logits', 'class_weights', 'pred'))

    def entropy(name, weights):
        labels = jnp.asarray(given[f'{name}/label'][:, 0])
        return lambda x: losses.cross_entropy(jnp.moveaxis(x, 1, -1), labels, weights), logits, f'{name}/grad'

    labels = jnp.asarray(given['dice/onehot'].argmax(1))
    b, probability = jnp.asarray(given['l1/b']), jax.nn.sigmoid(pred)

    def of_probability(real):
        # The published discriminator ends in the sigmoid, so its loss is a function of probabilities.
        return lambda p: losses.log_likelihood(jnp.log(p) - jnp.log1p(-p), real)

    cases = {
        'ce_weighted': entropy('ce_weighted', weights),
        'ce_weighted_ignore': entropy('ce_weighted_ignore', weights),  # label -1: unlabelled
        'ce_unweighted': entropy('ce_unweighted', jnp.ones(7)),
        'dice': (lambda x: losses.soft_dice(jnp.moveaxis(x, 1, -1), labels, jnp.ones(7)) - 1, logits, 'dice/grad'),
        'lsgan_real': (lambda x: losses.lsgan(x, True), pred, 'lsgan_real/grad_wrt_pred'),
        'lsgan_fake': (lambda x: losses.lsgan(x, False), pred, 'lsgan_fake/grad_wrt_pred'),
        'bce_real': (of_probability(True), probability, 'bce_real/grad_wrt_sigmoid_pred'),
        'bce_fake': (of_probability(False), probability, 'bce_fake/grad_wrt_sigmoid_pred'),
        'l1': (lambda x: losses.l1(x, b), jnp.asarray(given['l1/a']), 'l1/grad'),
    }
    assert set(cases) == {name.split('/')[0] for name in given if name.endswith('/value')}
    for name, (loss, at, gradient) in cases.items():
        value, found = jax.value_and_grad(loss)(at)
        np.testing.assert_allclose(value, given[f'{name}/value'], rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(found, given[gradient], rtol=1e-10, atol=1e-14, err_msg=name)


RESNET = {
    1: 'stem',
    4: 'down1',
    7: 'down2',
    **{10 + i: f'block{i}' for i in range(9)},
    19: 'up1',
    22: 'up2',
    26: 'head',
}
JUDGE = {0: 'conv0', 2: 'conv1', 5: 'conv2', 8: 'conv3', 11: 'conv4'}
BETWEEN = {
    'ReflectionPad2d': lambda x: reflect(x, 3),
    'InstanceNorm2d': instance_norm,
    'ReLU': nn.relu,
    'LeakyReLU': lambda x: nn.leaky_relu(x, 0.2),
}


@pytest.mark.parametrize(
    'stage, weights, channels',
    [('G_A(A_1)', 'G_A', 1), ('Seg_A(fake_B)', 'Seg_A', 7), ('D_A(B_1)', 'D_A', 0)],
)
def test_stages_parity(stage, weights, channels):
    """The output of every layer; between two convolutions, ours applied to our own previous stage."""
    published = {
        name.removeprefix(f'{stage}/'): last(array)
        for name, array in read('stages.npz').items()
        if name.startswith(f'{stage}/')
    }
    resnet = channels > 0
    if resnet:
        network = build('resnet', channels=channels, width=8, blocks=9, tanh=True)
    else:
        network = build('patchgan', width=8)
    tensors = torch_weights.read_tensors(FOLDER / 'cycle_seg_lsgan' / f'init_{weights}.safetensors')
    params = jax.tree.map(jnp.asarray, torch_weights.from_torch(network, tensors))
    now = jnp.asarray(published.pop('in'))
    out, captured = jax.jit(lambda p, x: network.apply({'params': p}, x, capture_intermediates=True))(params, now)
    captured = captured['intermediates']
    names = RESNET if resnet else JUDGE
    for name, expected in sorted(published.items()):
        place, kind = name.split('_')
        if int(place) in names:
            now = captured[names[int(place)]]['__call__'][0]
        else:
            now = out if kind == 'Tanh' else BETWEEN[kind](now)
        np.testing.assert_allclose(now, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=name)
    assert len(published) == (28 if resnet else 12)
    np.testing.assert_array_equal(now, out)


class PublishedPool:
    """The image history of the published code: one list for all images, one decision after another."""

    def __init__(self, size):
        self.size, self.images, self.decisions = size, [], []

    def query(self, images):
        return [self._one(image) for image in images]

    def _one(self, image):
        swap, slot = False, 0
        if len(self.images) < self.size:
            self.images.append(image)
            shown = image
        elif random.uniform(0, 1) > 0.5:
            swap, slot = True, random.randint(0, self.size - 1)
            shown, self.images[slot] = self.images[slot], image
        else:
            shown = image
        self.decisions.append((swap, slot))
        return shown


def test_pool_parity_of_the_reference():
    trace = json.loads((UNITS / 'pool_trace.json').read_text())
    pool, rows = PublishedPool(trace['pool_size']), trace['batch']
    random.seed(trace['python_random_seed'])
    shown = [pool.query(range(rows * k, rows * (k + 1))) for k in range(len(trace['returned']))]
    assert shown == trace['returned'] and pool.images == trace['pool_after']


def test_pool_parity_at_batch_1():
    """A row's history is the published one, when both take the same decisions."""
    pool, count = PublishedPool(50), 200
    random.seed(5)
    expected = pool.query(range(count))
    assert sum(swap for swap, _ in pool.decisions) > 50
    past = PerRow(50, 1).empty(jnp.zeros((1, 1, 1, 1)))
    past = Past(past.images[0], past.filled[0])
    exchange = jax.jit(exchange_one)
    for k, (swap, slot) in enumerate(pool.decisions):
        shown, past = exchange(past, jnp.full((1, 1, 1), float(k)), jnp.asarray(swap), jnp.asarray(slot))
        assert shown.item() == expected[k]
    assert past.images.ravel().tolist() == pool.images


def test_rate_parity(x64):
    given = json.loads((UNITS / 'lr_schedule.json').read_text())
    for unit in (1, 7):  # steps in an epoch
        rate = constant_then_linear(given['lr'], given['niter'], given['niter_decay'], unit)
        epochs = range(given['niter'] + given['niter_decay'])
        for step in (0, unit - 1):
            found = [float(rate(epoch * unit + step)) for epoch in epochs]
            np.testing.assert_allclose(found, given['lr_used_in_epoch_1_to_200'], rtol=1e-12)
        assert float(rate(len(epochs) * unit)) == pytest.approx(given['lr_after_last'], abs=1e-12)
