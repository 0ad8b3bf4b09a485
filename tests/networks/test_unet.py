"""The U-Nets are the published ones, drop features by row, and learn from where they start."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import linen as nn
from jax import lax
from test_networks import count, traced
from test_sharding import same
from test_step import batch_of, drawn, host

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.inference.run_networks import Networks
from synseg_jax.networks import build, features
from synseg_jax.networks.layers import dropout, halve, nearest
from synseg_jax.objective.terms import TERMS
from synseg_jax.specification.parse import replaced
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System

SMALL = {'architecture': 'unet', 'width': 2, 'levels': 2, 'extra': 2, 'dropout': 0.5}
KEYS = jax.random.split(jax.random.key(5), 2)


def kernels(network, *size):
    return {
        jax.tree_util.keystr(path[:-1]): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(traced(network, *size)[1])
        if leaf.ndim > 1
    }


def random_params(network, *size):
    random = np.random.RandomState(0)
    return jax.tree.map(lambda p: jnp.asarray(random.normal(0, 0.4, p.shape)), traced(network, *size)[1])


def test_published_parameter_counts():
    unet = build('unet', channels=1)
    assert count(unet, 256, 256) == 31_031_685 and len(kernels(unet, 256, 256)) == 24
    assert count(unet.clone(extra=0), 256, 256) == 31_030_593 and len(kernels(unet.clone(extra=0), 256, 256)) == 23
    widths = [shape[-1] for name, shape in kernels(unet, 256, 256).items() if 'down' in name and 'conv2' in name]
    assert widths == [64, 128, 256, 512, 1024]
    short = 2 * sum(
        math.prod(s) + s[-1] for n, s in kernels(build('res_unet', channels=1), 64, 64).items() if 'short' in n
    )
    assert short > 0 and len(kernels(build('res_unet', channels=1), 64, 64)) == 23 + 9


@pytest.mark.parametrize('architecture', ['unet', 'res_unet'])
@pytest.mark.parametrize('size', [(16, 24), (8, 16, 24)])
def test_shapes(architecture, size):
    network = build(architecture, channels=3, width=2, levels=3)
    image = jax.ShapeDtypeStruct((2, *size, 5), jnp.float32)
    out, variables = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x), image)
    assert out.shape == (2, *size, 3)
    assert variables['params']['down0']['conv1']['kernel'].shape == (3,) * len(size) + (5, 2)


def reference(network, params, x, keys=None):
    """The same network written out with the operations of JAX and Flax, padding as Keras's 'same'."""
    rank, last = x.ndim - 2, network.levels

    def conv(p, x):
        layout = ('NHWC', 'HWIO', 'NHWC') if rank == 2 else ('NDHWC', 'DHWIO', 'NDHWC')
        return lax.conv_general_dilated(x, p['kernel'], (1,) * rank, 'SAME', dimension_numbers=layout) + p['bias']

    def norm(x):
        axes = tuple(range(1, x.ndim - 1))
        return nn.standardize(x, axes, epsilon=1e-5) if network.norm else x

    def block(p, x):
        y = norm(conv(p['conv2'], nn.relu(norm(conv(p['conv1'], x)))))
        if network.residual:
            y = y + (conv(p['short'], x) if 'short' in p else x)
        return nn.relu(y)

    def drop(x, level):
        if keys is None or level < last - 1:
            return x
        masks = [jax.random.bernoulli(jax.random.fold_in(key, level), 0.5, x.shape[1:]) for key in keys]
        return x * jnp.stack(masks) / 0.5

    skips = []
    for level in range(last):
        skips.append(drop(block(params[f'down{level}'], x), level))
        x = nn.max_pool(skips[-1], (2,) * rank, (2,) * rank)
    x = drop(block(params[f'down{last}'], x), last)
    for level in reversed(range(last)):
        x = jax.image.resize(x, (x.shape[0], *(2 * n for n in x.shape[1:-1]), x.shape[-1]), 'nearest')
        x = nn.relu(norm(conv(params[f'up{level}'], x)))
        x = block(params[f'join{level}'], jnp.concatenate([skips[level], x], -1))
    if network.extra:
        x = nn.relu(conv(params['extra'], x))
    return conv(params['head'], x)


@pytest.mark.parametrize('keys', [None, KEYS], ids=['', 'dropout'])
@pytest.mark.parametrize('architecture, size', [('unet', (8, 12)), ('res_unet', (8, 12)), ('unet', (4, 8, 8))])
def test_written_out(architecture, size, keys, x64):
    types = {'dtype': jnp.float64, 'param_dtype': jnp.float64}
    network = build(architecture, channels=2, width=3, levels=2, **types)
    network = network.clone(dropout=0.5 if keys is not None else network.dropout)
    params = random_params(network, *size)
    x = jnp.asarray(np.random.RandomState(1).normal(size=(2, *size, 1)))
    found = jax.jit(network.apply)({'params': params}, x, keys)
    expected = jax.jit(functools.partial(reference, network))(params, x, keys)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_a_1_wide_convolution_up_is_that_of_the_larger_image(x64):
    types = {'dtype': jnp.float64, 'param_dtype': jnp.float64}
    network = build('unet', channels=2, width=2, levels=2, extra=0, dropout=0.0, norm=True, up_width=1, **types)
    params = random_params(network, 8, 12)
    x = jnp.asarray(np.random.RandomState(1).normal(size=(2, 8, 12, 1)))
    found = jax.jit(network.apply)({'params': params}, x)
    np.testing.assert_allclose(found, jax.jit(functools.partial(reference, network))(params, x), rtol=1e-9, atol=1e-10)


def test_halve_and_nearest():
    x = jnp.asarray([[5.0, 1, 0, -2], [3, 4, -1, -3]])[None, ..., None]
    assert halve(x)[0, ..., 0].tolist() == [[5, 0]]
    assert nearest(halve(x))[0, ..., 0].tolist() == [[5, 5, 0, 0]] * 2
    volume = jnp.arange(2 * 4 * 2 * 6 * 3.0).reshape(2, 4, 2, 6, 3)
    np.testing.assert_array_equal(halve(volume), volume[:, 1::2, 1::2, 1::2])
    np.testing.assert_array_equal(halve(nearest(volume)), volume)


def test_dropout():
    x = 1 + jax.random.uniform(jax.random.key(0), (2, 32, 32, 4))
    dropped = dropout(x, KEYS, 0.25)
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], x[kept] / 0.75, rtol=1e-6)
    assert kept.mean((1, 2, 3)) == pytest.approx(0.75, abs=0.03)
    assert 0.3 < (kept[0] != kept[1]).mean() < 0.45  # 2 x 0.25 x 0.75 where the rows are independent
    np.testing.assert_array_equal(dropout(x[1:], KEYS[1:], 0.25), dropped[1:])  # whatever else is in the batch


def test_dropout_is_by_row_and_off_without_keys():
    network = build(**SMALL, channels=1)
    params = random_params(network, 16, 16)
    x = jnp.tile(jax.random.normal(jax.random.key(0), (1, 16, 16, 1)), (2, 1, 1, 1))
    run = functools.partial(jax.jit(network.apply), {'params': params})
    plain, dropped = run(x), run(x, KEYS)
    near = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)  # some CPUs round rows differently
    near(plain[0], plain[1])
    assert not np.allclose(dropped[0], dropped[1], atol=1e-3) and not np.allclose(dropped[0], plain[0], atol=1e-3)
    near(run(x[1:], KEYS[1:])[0], dropped[1])
    near(jax.jit(network.clone(dropout=0.0).apply)({'params': params}, x, KEYS), plain)


@pytest.mark.parametrize('size', [(6, 9), (7, 8, 5)])
def test_sizes_that_do_not_fit_are_continued_by_their_border(size, x64):
    network = build('unet', channels=2, width=2, levels=2, extra=0, dtype=jnp.float64, param_dtype=jnp.float64)
    params = random_params(network, *size)
    x = jnp.asarray(np.random.RandomState(1).normal(size=(1, *size, 1)))
    more = [-length % 4 for length in size]
    wide = jnp.pad(x, [(0, 0), *((n // 2, n - n // 2) for n in more), (0, 0)], mode='edge')
    found, whole = (jax.jit(network.apply)({'params': params}, images) for images in (x, wide))
    assert found.shape == (1, *size, 2) and wide.shape != x.shape
    cut = tuple(slice(n // 2, n // 2 + length) for n, length in zip(more, size, strict=True))
    np.testing.assert_allclose(found, whole[:, *cut], rtol=1e-12)


VOLUMES = {'architecture': 'unet', 'width': 3, 'levels': 2, 'extra': 0, 'dropout': 0.0, 'up_width': 3}


def test_generator_of_the_3d_system_written_out(x64):
    """3-wide convolutions of stride 2 down, instance norm and ReLU after every one, tanh in the end."""
    types = {'dtype': jnp.float64, 'param_dtype': jnp.float64}
    network = build(**VOLUMES, channels=1, norm=True, strided=True, tanh=True, **types)
    params = random_params(network, 4, 8, 8)
    x = jnp.asarray(np.random.RandomState(1).normal(size=(2, 4, 8, 8, 1)))

    def conv(name, x, stride=1, inner=None):
        p, layout = params[name] if inner is None else params[name][inner], ('NDHWC', 'DHWIO', 'NDHWC')
        pads = [(p['kernel'].shape[0] // 2,) * 2] * 3
        return lax.conv_general_dilated(x, p['kernel'], (stride,) * 3, pads, dimension_numbers=layout) + p['bias']

    def norm_relu(x):
        return nn.relu((x - x.mean((1, 2, 3), keepdims=True)) / jnp.sqrt(x.var((1, 2, 3), keepdims=True) + 1e-5))

    def block(name, x):
        return norm_relu(conv(name, norm_relu(conv(name, x, inner='conv1')), inner='conv2'))

    skips, y = [], x
    for level in (0, 1):
        skips.append(block(f'down{level}', y))
        y = norm_relu(conv(f'smaller{level}', skips[-1], stride=2))
    y = block('down2', y)
    for level in (1, 0):
        y = norm_relu(conv(f'up{level}', nearest(y)))
        y = block(f'join{level}', jnp.concatenate([skips[level], y], -1))
    expected = jnp.tanh(conv('head', y))
    np.testing.assert_allclose(jax.jit(network.apply)({'params': params}, x), expected, rtol=1e-9, atol=1e-11)
    assert {layer['kernel'].shape[0] for name, layer in params.items() if name.startswith(('up', 'smaller'))} == {3}


def test_gradients_of_the_residual_network(x64):
    """Along a random direction as its values differ; not at XLA's level 0, as other tests, where they are NaN."""
    network = build('res_unet', channels=1, width=2, levels=2, dtype=jnp.float64, param_dtype=jnp.float64)
    params, random = random_params(network, 8, 8), np.random.RandomState(1)
    x = jnp.asarray(random.normal(size=(1, 8, 8, 1)))
    direction = jax.tree.map(lambda p: random.normal(size=p.shape), params)

    def loss(step):
        moved = jax.tree.map(lambda p, d: p + step * d, params, direction)
        return jnp.square(network.apply({'params': moved}, x)).sum()

    slope = jax.jit(jax.grad(loss), compiler_options={'xla_backend_optimization_level': 1})(0.0)
    value, width = jax.jit(loss), 1e-6
    expected = (value(width) - value(-width)) / (2 * width)
    assert abs(expected) > 0.1
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


@pytest.mark.parametrize('architecture', ['unet', 'resnet'])
def test_remat_saves_less_and_changes_nothing(architecture, x64):
    fields = {'unet': VOLUMES, 'resnet': {'architecture': 'resnet', 'width': 2, 'blocks': 6}}[architecture]
    network = build(**fields, channels=2, dtype=jnp.float64, param_dtype=jnp.float64)
    params = random_params(network, 8, 8)
    x = jnp.asarray(np.random.RandomState(1).normal(size=(1, 8, 8, 1)))

    def loss(params, remat):
        return jnp.square(network.clone(remat=remat).apply({'params': params}, x)).sum()

    def saved(remat):
        residuals = jax.eval_shape(lambda p: jax.vjp(functools.partial(loss, remat=remat), p)[1], params)
        return sum(leaf.size for leaf in jax.tree.leaves(residuals))

    kept = [saved(remat) for remat in (False, True)]
    weights = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert kept[1] - weights < 0.8 * (kept[0] - weights)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12, equal_nan=False),
        *(jax.jit(jax.grad(functools.partial(loss, remat=remat)))(params) for remat in (True, False)),
    )


def test_channels_0_are_the_last_features(x64):
    for fields in (VOLUMES, {'architecture': 'resnet', 'width': 3, 'blocks': 1}):
        network = build(**fields, channels=2)
        features, params = traced(network.clone(channels=0), 8, 8)
        assert features.shape == (1, 8, 8, 3) and 'head' not in params
        assert {*params, 'head'} == {*traced(network, 8, 8)[1]}


CAPPED = {'channels': 3, 'width': 2, 'levels': 3, 'extra': 0, 'dropout': 0.0, 'max_width': 4}


def test_capped_widths():
    """2, 4, 4 and 4 features.  Weights by hand: blocks down, up-convolutions with blocks after them, the head."""
    down = (9 * 2 + 2 + 9 * 4 + 2) + (9 * 8 + 4 + 9 * 16 + 4) + 2 * 2 * (9 * 16 + 4)
    up = 2 * ((4 * 16 + 4) + (9 * 32 + 4 + 9 * 16 + 4)) + (4 * 8 + 2) + (9 * 8 + 2 + 9 * 4 + 2)
    assert count(build('unet', **CAPPED), 16, 16) == down + up + (2 * 3 + 3) == 2045
    assert count(build('unet', **CAPPED, deep_supervision=2), 16, 16) == 2045 + 2 * (4 * 3 + 3)
    strided = kernels(build('unet', **CAPPED, strided=True), 16, 16)
    assert [shape[-1] for name, shape in strided.items() if 'smaller' in name] == [4, 4, 4]


@pytest.mark.parametrize('size', [(12, 17), (9, 4, 6)])
def test_outputs_at_lower_resolutions(size):
    network = build('unet', **CAPPED, deep_supervision=2)
    image = jax.ShapeDtypeStruct((2, *size, 1), jnp.float32)
    _, params = traced(network, *size)
    outputs = jax.eval_shape(lambda p, x: network.apply({'params': p}, x, method='resolutions'), params, image)
    padded = [-(-length // 8) * 8 for length in size]
    lower = [(2, *(length // factor for length in padded), 3) for factor in (2, 4)]
    assert [output.shape for output in outputs] == [(2, *size, 3), *lower]


@pytest.mark.parametrize('fields, message', [
    ({'max_width': 1}, 'max_width 1 is below width 2; raise it'),
    ({'deep_supervision': 3}, 'deep_supervision 3: give at most levels - 1 = 2'),
    ({'deep_supervision': 1, 'tanh': True}, 'deep_supervision needs logits: a segmentor without tanh'),
    ({'deep_supervision': 1, 'channels': 0}, 'deep_supervision needs logits: a segmentor without tanh'),
])  # fmt: skip
def test_fields_that_do_not_go_together(fields, message):
    with pytest.raises(InputError, match=message):
        traced(build('unet', **CAPPED | fields), 16, 16)


def entropy(logits, labels):
    """-log softmax of the label, mean over the labelled pixels."""
    logits = np.asarray(logits, np.float64)
    surprise = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, np.maximum(labels, 0)[..., None], -1)[..., 0]
    return surprise[labels >= 0].mean()


def test_deep_supervision_trains_lower_resolutions_alone(monkeypatch):
    """The loss by hand: 2/3 at full resolution, 1/3 at half; prediction is that of the network without more heads."""
    monkeypatch.setitem(SMALL, 'deep_supervision', 1)
    system = system_of(data__size=(16, 12))
    network, random = system.networks['s_a'], np.random.RandomState(3)
    params = {'s_a': random_params(network, 16, 12)}
    image, label = random.uniform(-1, 1, (2, 16, 12, 1)), random.randint(-1, 2, (2, 16, 12))
    batch = {'a': jnp.asarray(image, jnp.float32), 'label_a': jnp.asarray(label)}
    full = system.apply['s_a'](params['s_a'], batch['a'])
    head = params['s_a']['head1']
    half = features(network, params['s_a'], batch['a'], ['join1'])['join1'] @ head['kernel'][0, 0] + head['bias']
    expected = (2 * entropy(full, batch['label_a']) + entropy(half, batch['label_a'][:, 1::2, 1::2])) / 3
    value, slope = jax.value_and_grad(lambda p: TERMS['seg_a'].value(system.view(p, batch)))(params)
    assert value == pytest.approx(expected, rel=1e-5)
    assert abs(slope['s_a']['head1']['kernel']).max() > 0
    plain = network.clone(deep_supervision=0)
    own = {name: layer for name, layer in params['s_a'].items() if name != 'head1'}
    np.testing.assert_array_equal(full, jax.jit(plain.apply)({'params': own}, batch['a']))
    np.testing.assert_allclose(system.probabilities['a'](params, (batch['a'] + 1) / 2), jax.nn.softmax(full), rtol=1e-4)


def test_first_weights():
    """He's in front of a ReLU; the extra convolution and the head together start as one linear layer."""
    network = build('unet', channels=2, width=8, levels=2, extra=3)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))['params']
    for layer in (params['down2']['conv2'], params['join0']['conv1'], params['up0']):
        kernel = layer['kernel']
        assert kernel.std() == pytest.approx((2 / math.prod(kernel.shape[:-1])) ** 0.5, rel=0.1)
    extra, head = params['extra']['kernel'], params['head']['kernel'][0, 0]
    np.testing.assert_array_equal(extra[..., 2], -extra[..., 0])
    np.testing.assert_array_equal(head[2], -head[0])
    assert not np.allclose(extra[..., 1], extra[..., 0]) and not np.allclose(head[1], head[0])


def system_of(method='supervised', classes=('background', 'liver'), **changes):
    config = tiny.config('records', **{'method': method, 'data__size': (16, 16), **changes})
    config.systems = {'unet': {'segmentor': SMALL}}
    return System(tiny.configure(config, 'unet'), classes)


def test_an_architecture_replaces_the_fields_of_another():
    config = tiny.config('records')
    config.systems = {'unet': {'segmentor': SMALL, 'generator': {'width': 3}}, 'wrong': {'segmentor': {'levels': 2}}}
    found = tiny.configure(config, 'unet')
    assert found.segmentor.given() == SMALL
    assert found.generator.given() == config.generator.to_dict() | {'width': 3}
    assert config.segmentor.architecture == 'resnet'
    wrong = {'resnet': ('levels', tiny.configure(config, 'wrong')),
             'unet': ('blocks', replaced(found, {'segmentor.blocks': 3}))}  # fmt: skip
    for architecture, (field, stage) in wrong.items():
        with pytest.raises(InputError, match=f"unknown field of {architecture} '{field}'; known: "):
            System(stage, ('background', 'liver')).networks  # noqa: B018


def test_one_logit_for_two_classes():
    binary = {'loss__segmentation': 'binary_cross_entropy'}
    system = system_of(**binary)
    assert system.networks['s_a'].channels == 1 and system_of().networks['s_a'].channels == 2
    params = {'s_a': random_params(system.networks['s_a'], 16, 16)}
    stack = np.random.RandomState(0).uniform(size=(3, 16, 16, 1)).astype(np.float32)
    probabilities = Networks(system, params, batch=2).probabilities(stack, 'a')
    p = 1 / (1 + np.exp(-np.asarray(system.apply['s_a'](params['s_a'], jnp.asarray(2 * stack - 1)), np.float64)))
    assert np.ptp(p) > 0.3
    np.testing.assert_allclose(probabilities, np.concatenate([1 - p, p], -1), rtol=1e-5)
    with pytest.raises(InputError, match='loss.segmentation binary_cross_entropy requires 2 classes, not 3$'):
        system_of(classes=tiny.CLASSES, **binary).networks  # noqa: B018


def test_twins_vote_through_the_layer_they_share():
    config = tiny.config('records', method='tumor_aware', data__size=(16, 16))
    config.systems = {'twins': {'segmentor': {**SMALL, 'extra': 0, 'dropout': 0.0}}}
    system = System(tiny.configure(config, 'twins'), ('background', 'tumour'))
    shapes = system.abstract_state(parallel.mesh(1)).params
    random = np.random.RandomState(0)
    params = jax.tree.map(lambda p: jnp.asarray(random.normal(0, 0.4, p.shape), p.dtype), shapes)
    stack = random.uniform(size=(3, 16, 16, 1)).astype(np.float32)
    probabilities = {d: Networks(system, params, batch=2).probabilities(stack, d) for d in 'ab'}
    for domain, found in probabilities.items():
        features = system.apply[f's_{domain}'](params[f's_{domain}'], jnp.asarray(2 * stack - 1))
        kernel, bias = params['s_shared']['conv']['kernel'], params['s_shared']['conv']['bias']
        layout = ('NHWC', 'HWIO', 'NHWC')
        shared = nn.relu(lax.conv_general_dilated(features, kernel, (1, 1), 'SAME', dimension_numbers=layout) + bias)
        head = params[f's_head_{domain}']['conv']
        np.testing.assert_allclose(found, jax.nn.softmax(shared @ head['kernel'][0, 0] + head['bias']), rtol=1e-4)
    assert not np.allclose(probabilities['a'], probabilities['b'])


def test_networks_draw_on_their_own():
    config = tiny.config('records', method='cyclegan')
    config.systems = {'unet': {'generator': SMALL}}
    system = System(tiny.configure(config, 'unet'), ('background', 'liver'))
    params = random_params(system.networks['g_ab'], 16, 16)
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 1))
    ab, ba = system.apply['g_ab'], system.apply['g_ba']
    np.testing.assert_array_equal(ab(params, x), ba(params, x))
    np.testing.assert_array_equal(ab(params, x, keys=KEYS), ab(params, x, keys=KEYS))
    assert not np.allclose(ab(params, x, keys=KEYS), ba(params, x, keys=KEYS))


def test_dropout_does_not_depend_on_the_devices(x64):
    types = {'dtype': 'float64', 'param_dtype': 'float64'}
    system = system_of(train__batch=4, loss__segmentation='binary_cross_entropy', **types)
    batch = batch_of(system, rows=4)
    batch['label_a'] = batch['label_a'] % 2

    def run(devices):
        over = parallel.mesh(devices)
        params = {'s_a': random_params(system.networks['s_a'], 16, 16)}
        state = parallel.place(drawn(system.abstract_state(over)).replace(params=params), over, LAYOUT)
        step = system.step(1, over)
        for _ in range(2):
            state, metrics = step(state, parallel.place(batch, over, parallel.SHARDED))
        return host(state.params), {name: float(value) for name, value in metrics.items()}

    (one, metrics_of_one), (two, metrics_of_two) = run(1), run(2)
    assert metrics_of_one['grad_norm/s_a'] > 0.1
    same(metrics_of_two, metrics_of_one, rtol=1e-9, atol=1e-12)
    same(two, one, rtol=0, atol=1e-10)
