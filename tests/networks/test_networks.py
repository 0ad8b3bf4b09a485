"""The networks have the published sizes, and their layers are what their definitions say, in 2-D and in 3-D."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from synseg_jax import networks
from synseg_jax.errors import InputError
from synseg_jax.networks import backend, build, convolution, layers
from synseg_jax.networks.convolution import convolve
from synseg_jax.networks.layers import Conv, Upsample, reflect
from synseg_jax.networks.norm import instance_norm

ARCHITECTURES = {
    'resnet': {'channels': 2, 'blocks': 1},
    'patchgan': {},
    'unet': {'channels': 2, 'levels': 2},
    'res_unet': {'channels': 2, 'levels': 2},
}


def traced(network, *size, dtype=jnp.float32, capture=False):
    """Shapes and types of the output and of the parameters (or of every layer's output), without computing them."""
    image = jax.ShapeDtypeStruct((1, *size, 1), dtype)
    out, variables = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, capture_intermediates=capture), image
    )
    return out, variables['intermediates' if capture else 'params']


def count(network, *size):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(traced(network, *size)[1]))


def test_published_parameter_counts():
    assert count(build('resnet', channels=1), 256, 256) == 11_365_633
    assert count(build('resnet', channels=7), 256, 256) == 11_384_455
    assert count(build('patchgan'), 256, 256) == 2_762_689
    assert traced(build('patchgan'), 256, 256)[0].shape == (1, 30, 30, 1)


@pytest.mark.parametrize('blocks', [0, 1, 6, 12])
def test_any_number_of_blocks(blocks):
    width, network = 4, build('resnet', channels=3, width=4, blocks=blocks)
    assert traced(network, 32, 16)[0].shape == (1, 32, 16, 3)
    more = count(network, 16, 16) - count(network.clone(blocks=0), 16, 16)
    assert more == blocks * 2 * (9 * (4 * width) ** 2 + 4 * width)


@pytest.mark.parametrize('layers', [1, 2, 3, 4, 5])
def test_any_number_of_layers(layers):
    out, params = traced(build('patchgan', width=2, layers=layers), 128, 64)
    assert out.shape == (1, 128 // 2**layers - 2, 64 // 2**layers - 2, 1) or layers == 5
    assert layers < 5 or out.shape == (1, 2, 0, 1)
    assert out.shape[1:3] == tuple(map(build('patchgan', layers=layers).patches, (128, 64)))
    widths = [params[f'conv{i}']['kernel'].shape[-1] for i in range(layers + 2)]
    assert widths == [2, 4, 8, 16, 16, 16][: layers + 1] + [1]


def transposed(x, kernel, cotangent):
    """out[2i - 1 + k] += x[i] kernel[k] on every axis, and the gradients of sum(out cotangent), entry by entry."""
    rank = x.ndim - 2
    out = np.zeros(cotangent.shape)
    x_gradient, kernel_gradient = np.zeros(x.shape), np.zeros(kernel.shape)
    for i in np.ndindex(*x.shape[1:-1]):
        for k in np.ndindex(*kernel.shape[:rank]):
            to = tuple(2 * a - 1 + b for a, b in zip(i, k, strict=True))
            if all(0 <= a < n for a, n in zip(to, out.shape[1:-1], strict=True)):
                out[:, *to] += x[:, *i] @ kernel[k]
                x_gradient[:, *i] += cotangent[:, *to] @ kernel[k].T
                kernel_gradient[k] += x[:, *i].T @ cotangent[:, *to]
    return out, x_gradient, kernel_gradient


@pytest.mark.parametrize('size', [(4, 5), (1, 3), (3, 2, 5)])
def test_transposed_convolution(size, x64):
    random = np.random.RandomState(0)
    x = random.normal(size=(2, *size, 3))
    kernel, bias = random.normal(size=(3,) * len(size) + (3, 2)), random.normal(size=2)
    cotangent = random.normal(size=(2, *(2 * n for n in size), 2))
    layer = Upsample(2, dtype=jnp.float64, param_dtype=jnp.float64)
    params = {'kernel': jnp.asarray(kernel), 'bias': jnp.asarray(bias)}
    out, params_gradient, x_gradient = with_slopes(
        lambda p, x: layer.apply({'params': p}, x), jnp.asarray(cotangent), params, jnp.asarray(x)
    )
    expected = transposed(x, kernel, cotangent)
    found = out - bias, x_gradient, params_gradient['kernel']
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(params_gradient['bias'], cotangent.sum(tuple(range(cotangent.ndim - 1))), rtol=1e-12)


def test_resize_convolution(x64):
    """Each output pixel sums its 3x3 neighbours in the image whose pixels are doubled; the parameters are the same."""
    random = np.random.RandomState(0)
    x, kernel = random.normal(size=(1, 3, 2, 2)), random.normal(size=(3, 3, 2, 1))
    layer = Upsample(1, resize=True, dtype=jnp.float64, param_dtype=jnp.float64)
    params = {'kernel': jnp.asarray(kernel), 'bias': jnp.asarray([0.5])}
    out = layer.apply({'params': params}, jnp.asarray(x))
    doubled = np.pad(np.kron(x[0], np.ones((2, 2, 1))), [(1, 1), (1, 1), (0, 0)])
    assert out.shape == (1, 6, 4, 1)
    for i, j in np.ndindex(6, 4):
        expected = (doubled[i : i + 3, j : j + 3, :] * kernel[..., 0]).sum() + 0.5
        np.testing.assert_allclose(out[0, i, j, 0], expected, rtol=1e-12)
    plain, resized = (build('resnet', channels=1, width=2, blocks=1, resize=r) for r in (False, True))
    assert traced(plain, 16, 16) == traced(resized, 16, 16)


def test_reflect_padding():
    ramp = jnp.arange(4.0)[None, :, None]
    assert reflect(ramp, 3)[0, :, 0].tolist() == [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]
    plane = jnp.arange(6.0).reshape(1, 2, 3, 1)
    assert reflect(plane, 1)[0, 0, :, 0].tolist() == [4, 3, 4, 5, 4]
    for size in ((3, 8), (8, 3), (8, 8, 3)):
        with pytest.raises(InputError, match='too small: reflect padding of 3'):
            reflect(jnp.zeros((1, *size, 1)), 3)


def test_instance_norm_statistics_are_wide():
    random = np.random.RandomState(0)
    x = jnp.asarray(random.normal(100, 2, (2, 32, 32, 3)), jnp.bfloat16)
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean((1, 2), keepdims=True)) / np.sqrt(exact.var((1, 2), keepdims=True) + 1e-5)
    normed = instance_norm(x)
    assert normed.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(normed, np.float64), exact, rtol=2**-8, atol=1e-4)


def test_instance_norm_epsilon_and_axes():
    """Samples and channels are normed on their own, over all of space; the variance is biased, epsilon 1e-5."""
    wave = jnp.asarray([1.0, -1.0, 1.0, -1.0])
    x = jnp.stack([wave * 1e-5**0.5, 7 + 1e3 * wave], -1)[None]  # variances 1e-5 and 1e6
    for normed in (instance_norm(x), instance_norm(x.reshape(1, 2, 2, 2)), instance_norm(x.reshape(1, 2, 1, 2, 2))):
        np.testing.assert_allclose(normed.reshape(4, 2), jnp.stack([wave * 0.5**0.5, wave], -1), rtol=1e-4)
    both = instance_norm(jnp.concatenate([x, 3 * x]))
    np.testing.assert_allclose(both[1, :, 0], wave * 0.9**0.5, rtol=1e-4)


@pytest.mark.parametrize(
    'kind, param_kind', [('bfloat16', 'float32'), ('bfloat16', 'bfloat16'), ('float32', 'float32')]
)
@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_types(architecture, kind, param_kind):
    _types(architecture, kind, param_kind, 'float32')


@pytest.mark.parametrize('kind, param_kind', [('float64', 'float64'), ('float64', 'float32'), ('float32', 'float64')])
@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_types_in_double_precision(architecture, kind, param_kind, x64):
    _types(architecture, kind, param_kind, kind)


def _types(architecture, kind, param_kind, output):
    fields = {'width': 2, 'dtype': networks.dtype(kind), 'param_dtype': networks.dtype(param_kind)}
    network = build(architecture, **fields, **ARCHITECTURES[architecture])
    out, params = traced(network, 32, 32)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {param_kind}
    assert out.dtype.name == output  # never narrower than float32
    _, layers = traced(network, 32, 32, capture=True)
    whole = layers.pop('__call__')
    assert whole[0].dtype.name == output
    assert {leaf.dtype.name for leaf in jax.tree.leaves(layers)} == {kind}  # computed in dtype


@pytest.mark.parametrize(
    'width, stride, padding', [(3, 1, 1), (3, 2, 1), (4, 2, 1), (4, 1, 1), (3, 1, 0), (2, 1, [(0, 1), (1, 0), (2, 1)])]
)
def test_convolution_by_depth(width, stride, padding, x64):
    random = np.random.RandomState(0)
    x = jnp.asarray(random.normal(size=(2, 6, 5, 7, 2)))
    kernel = jnp.asarray(random.normal(size=(width, width, width, 2, 3)))
    pads = [(padding, padding)] * 3 if isinstance(padding, int) else padding

    def reference(x, kernel):
        layout = ('NDHWC', 'DHWIO', 'NDHWC')
        return lax.conv_general_dilated(x, kernel, (stride,) * 3, pads, dimension_numbers=layout)

    cotangent = jnp.asarray(random.normal(size=jax.eval_shape(reference, x, kernel).shape))
    expected = with_slopes(reference, cotangent, x, kernel)
    found = with_slopes(lambda x, kernel: convolve(x, kernel, stride, padding), cotangent, x, kernel)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


def _centred(kernel):
    """A 3-D kernel that is the 2-D one in its central depth tap and 0 elsewhere."""
    depth = [(kernel.shape[0] // 2, (kernel.shape[0] - 1) // 2)]
    return jnp.pad(kernel[None], depth + [(0, 0)] * 4)


@pytest.mark.parametrize(
    'layer', [Conv(2, 7, mirror=3), Conv(2, 3, padding=1), Conv(2, 3, stride=2, padding=1), Upsample(2)]
)
def test_three_dimensions_hold_two(layer):
    """With only its central depth tap, a layer treats every slice as in 2-D (every second one at stride 2)."""
    random = np.random.RandomState(0)
    x = jnp.asarray(random.normal(size=(1, 6, 8, 4, 2)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(getattr(layer, 'width', 3),) * 2 + (2, 2)), jnp.float32)
    apply = jax.jit(layer.apply)
    volume = apply({'params': {'kernel': _centred(kernel), 'bias': jnp.zeros(2)}}, x)
    slices = apply({'params': {'kernel': kernel, 'bias': jnp.zeros(2)}}, x[0])
    if isinstance(layer, Upsample):
        assert volume.shape[1] == 12 and not volume[:, 1::2].any()
        volume = volume[:, ::2]
    np.testing.assert_allclose(volume[0], slices[:: getattr(layer, 'stride', 1)], rtol=1e-4, atol=1e-5)


def test_networks_in_three_dimensions():
    generator, judge = build('resnet', channels=2, width=2, blocks=1), build('patchgan', width=2, layers=2)
    out, params = traced(generator, 8, 16, 12)
    assert out.shape == (1, 8, 16, 12, 2)
    assert params['stem']['kernel'].shape == (7, 7, 7, 1, 2) and params['up1']['kernel'].shape == (3, 3, 3, 8, 4)
    assert traced(judge, 16, 16, 32)[0].shape == (1, 2, 2, 6, 1)


def test_tanh_ends_a_generator():
    plain, ended = (build('resnet', channels=1, width=2, blocks=0, tanh=t) for t in (False, True))
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 1))
    random = np.random.RandomState(0)
    shapes = traced(plain, 8, 8)[1]
    params = jax.tree.map(lambda p: jnp.asarray(random.normal(size=p.shape), jnp.float32), shapes)
    logits, found = (jax.jit(network.apply)({'params': params}, x) for network in (plain, ended))
    assert abs(logits).max() > 1
    np.testing.assert_allclose(found, np.tanh(logits), atol=1e-6)


def test_unknown_names():
    with pytest.raises(InputError, match="unknown architecture 'vnet'; known: patchgan, res_unet, resnet, unet"):
        build('vnet')
    with pytest.raises(InputError, match="unknown field of resnet 'ngf'; known: blocks, channels, dtype, .*width"):
        build('resnet', channels=1, ngf=3)
    with pytest.raises(InputError, match="unknown field of patchgan 'name'"):
        build('patchgan', name='d')
    with pytest.raises(InputError, match="unknown dtype 'float16'; known: bfloat16, float32, float64"):
        networks.dtype('float16')


def test_double_precision_must_be_on():
    with pytest.raises(InputError, match='dtype float64 needs JAX_ENABLE_X64=1'):
        networks.dtype('float64')


@pytest.mark.parametrize('size', [(16, 18), (15, 16), (6, 6), (8, 8, 10)])
def test_sizes_that_do_not_fit(size):
    with pytest.raises(InputError, match='needs multiples of 4; change data.size'):
        traced(build('resnet', channels=1, width=2, blocks=1), *size)
    with pytest.raises(InputError, match='too small'):
        traced(build('resnet', channels=1, width=2, blocks=1), 4, 4)


def agree(found, expected, *inputs):
    """Whether two functions and their gradients in every input are the same, to 1e-10."""
    shape = jax.eval_shape(expected, *inputs).shape
    weights = jnp.cos(jnp.arange(math.prod(shape), dtype=inputs[0].dtype)).reshape(shape)
    ours, theirs = (with_slopes(function, weights, *inputs) for function in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10, equal_nan=False)


def with_slopes(function, cotangent, *inputs):
    """What a function makes of the inputs, and the gradient in each; in one program, which is soonest compiled."""

    def run(cotangent, *inputs):
        out, slopes = jax.vjp(function, *inputs)
        return out, *slopes(cotangent)

    return jax.jit(run)(cotangent, *inputs)


def random_layer(width, given, made, size=(12, 11)):
    random, widths = np.random.default_rng(0), [width] * len(size)
    return [jnp.asarray(random.normal(size=shape)) for shape in ((2, *size, given), (*widths, given, made))]


@pytest.mark.parametrize(
    ('width', 'few', 'padding'), [(7, 1, 0), (7, 2, 0), (7, 7, 0), (4, 1, 1), (4, 8, [(0, 1), (2, 0)])]
)
def test_many_channels_to_few(x64, width, few, padding):
    """They go another way on CPU, and another on GPUs; values and both gradients are those of XLA's own."""
    x, kernel = random_layer(width, 32, few)
    pads = [(padding, padding)] * 2 if isinstance(padding, int) else padding

    def plain(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

    assert 'conv_general_dilated' not in str(jax.make_jaxpr(lambda x, k: convolve(x, k, padding=padding))(x, kernel))
    assert 'conv_general_dilated' in str(jax.make_jaxpr(convolve)(x[..., :16], kernel[:, :, :16]))
    agree(lambda x, k: convolve(x, k, padding=padding), plain, x, kernel)
    agree(lambda x, k: convolution.by_column(x, k, 1, pads), plain, x, kernel)


IMAGE, VOLUME = (12, 11), (7, 6, 8)


def agree_with_library(form, x, kernel, stride, pads):
    pads = [pads] * (x.ndim - 2)
    plain = convolution.by_library
    agree(lambda x, k: form(x, k, stride, pads), lambda x, k: plain(x, k, stride, pads), x, kernel)


@pytest.mark.parametrize('stride, pads', [(1, (1, 0)), (2, (1, 1)), (3, (1, 0))])
@pytest.mark.parametrize(('size', 'width', 'few'), [(IMAGE, 7, 1), (IMAGE, 4, 3), (VOLUME, 3, 1), (VOLUME, 4, 2)])
def test_few_channels_to_many(x64, size, width, few, stride, pads):
    """The form for GPUs."""
    agree_with_library(convolution.of_columns, *random_layer(width, few, 16, size), stride, pads)


@pytest.mark.parametrize('pads', [(0, 0), (2, 1)])
@pytest.mark.parametrize('made', [1, 3])
def test_few_channels_out_of_a_volume(x64, made, pads):
    """The form for GPUs."""
    agree_with_library(convolution.by_column, *random_layer(4, 16, made, VOLUME), 1, pads)


@pytest.mark.parametrize('size', [IMAGE, VOLUME])
def test_one_pixel_wide(x64, size):
    """The form for every device, with padding too."""
    agree_with_library(convolution.by_product, *random_layer(1, 4, 3, size), 1, (1, 2))


def test_the_form_is_the_devices():
    stem, head, last, block, pixel = (7, 1, 64), (7, 64, 1), (4, 512, 1), (3, 256, 256), (1, 64, 5)

    def forms(device, rank):
        shapes = ((*[width] * rank, given, made) for width, given, made in (stem, head, last, block, pixel))
        return [convolution._form(device, rank, 1, shape).__name__.removeprefix('by_') for shape in shapes]

    library = ['library'] * 4
    assert forms('cpu', 2) == ['library', 'tap', 'tap', 'library', 'product']
    assert forms('cpu', 3) == ['depth'] * 4 + ['product']
    assert forms('tpu', 2) == forms('tpu', 3) == [*library, 'product']
    assert forms('gpu', 2) == forms('gpu', 3) == ['of_columns', 'column', 'column', 'library', 'product']
    assert convolution._form('gpu', 2, 2, (4, 4, 1, 64)) is convolution.of_columns
    assert convolution._form('gpu', 2, 2, (7, 7, 64, 1)) is convolution.by_library
    assert convolution._form('cpu', 2, 2, (1, 1, 64, 1)) is convolution.by_library


@pytest.mark.parametrize(('size', 'width'), [((5, 4), 1), ((5, 4), 3), ((6,), 2), ((4, 3, 5), 2)])
def test_reflection_by_index(x64, size, width):
    """The form for GPUs."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *size, 3)))
    agree(lambda x: layers.reflect_by_index(x, width), lambda x: layers.reflect_by_axis(x, width), x)
    kept = jax.eval_shape(lambda x: jax.vjp(lambda x: layers.reflect_by_index(x, width), x)[1], x)
    assert not sum(of.size for of in jax.tree.leaves(kept))


@pytest.mark.parametrize('size', [(7,), (37,), (8, 12), (5, 4), (4, 3, 5)])
@pytest.mark.parametrize('kind', ['cpu', 'gpu'])
def test_gradient_of_instance_norm(x64, size, kind):
    """Its own gradient is the one that follows from its values."""

    def plain(x):
        axes = tuple(range(1, x.ndim - 1))
        centred = x - x.mean(axes, keepdims=True)
        return centred / jnp.sqrt(jnp.square(centred).mean(axes, keepdims=True) + 1e-5)

    x = jnp.asarray(np.random.default_rng(0).normal(3, 2, (2, *size, 3)))
    with backend.assumed(kind):
        agree(lambda x: instance_norm(x), plain, x)


def test_gradient_of_a_narrow_instance_norm():
    """As near to that of the same values in float32 as bfloat16 can say."""
    x, slope = (jnp.asarray(np.random.default_rng(i).normal(i, 2, (2, 8, 8, 3)), jnp.bfloat16) for i in range(2))
    narrow, wide = (
        jax.vjp(instance_norm, x.astype(kind))[1](slope.astype(kind))[0] for kind in ('bfloat16', 'float32')
    )
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype('float32'), wide, rtol=2**-7, atol=2**-9)


@pytest.mark.parametrize('architecture, rank', [('resnet', 2), ('patchgan', 2), ('patchgan', 3), ('res_unet', 2)])
def test_a_pass_that_two_players_need_is_computed_once(architecture, rank):
    """The generators descend through their fakes while others look at the same fakes."""
    network = build(architecture, width=4, **ARCHITECTURES[architecture])
    image = jax.ShapeDtypeStruct((1, *(32,) * rank, 1), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), image)['params']

    def descend(params, x):
        return jax.grad(lambda p: jnp.square(network.apply({'params': p}, x)).sum())(params)

    def descend_and_look(params, x):
        return descend(params, x), jnp.abs(network.apply({'params': params}, x)).sum()

    alone, both = (
        jax.jit(function).lower(params, image).compile().cost_analysis()['flops']
        for function in (descend, descend_and_look)
    )
    assert both < 1.02 * alone


def test_another_device_may_be_assumed():
    x, kernel = jnp.zeros((1, 9, 9, 64)), jnp.zeros((7, 7, 64, 1))
    forms = {}
    for kind in ('gpu', ''):
        with backend.assumed(kind):
            forms[kind] = 'conv_general_dilated' in str(jax.make_jaxpr(lambda x, k: convolve(x, k))(x, kernel))
    assert forms == {'gpu': True, '': False}


def test_features_inside_a_network():
    """By the names of its layers; the same whether or not blocks are computed anew for the gradient."""
    image = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    network = build('resnet', channels=1, width=2, blocks=3)
    params = network.init(jax.random.key(0), image)['params']
    found = networks.features(network, params, image, network.encoder)
    assert {tap: of.shape for tap, of in found.items()} == {
        'down1': (2, 4, 4, 4), 'down2': (2, 2, 2, 8), 'block0': (2, 2, 2, 8), 'block1': (2, 2, 2, 8)
    }  # fmt: skip
    stem = Conv(2, 7, mirror=3).apply({'params': params['stem']}, image)
    down = Conv(4, 3, stride=2, padding=1).apply({'params': params['down1']}, jax.nn.relu(instance_norm(stem)))
    np.testing.assert_allclose(found['down1'], down, atol=1e-5)
    again = networks.features(network.clone(remat=True), params, image, ('block0/conv1', 'block1'))
    np.testing.assert_allclose(again['block1'], found['block1'], atol=1e-5)
    assert again['block0/conv1'].shape == (2, 2, 2, 8)
    with pytest.raises(InputError, match="unknown layer of a ResNet 'block9'; known: block0, block1, block2, down1, "):
        networks.features(network, params, image, ('block9',))


@pytest.mark.parametrize('fields, encoder', [
    ({'architecture': 'resnet', 'blocks': 9}, ('down1', 'down2', 'block0', 'block4')),  # those of CUT
    ({'architecture': 'resnet', 'blocks': 1}, ('down1', 'down2', 'block0')),
    ({'architecture': 'resnet', 'blocks': 0}, ('down1', 'down2')),
    ({'architecture': 'unet', 'levels': 2}, ('down0', 'down1', 'down2')),
])  # fmt: skip
def test_layers_of_an_encoder(fields, encoder):
    assert build(**fields, channels=1, width=2).encoder == encoder
