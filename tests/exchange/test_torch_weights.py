"""Weights under PyTorch's names and layouts: nothing is lost, nothing is guessed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from synseg_jax.errors import InputError
from synseg_jax.exchange.torch_weights import from_torch, read_tensors, to_torch, torch_names
from synseg_jax.networks import build

NETWORKS = {
    'resnet': build('resnet', channels=3, width=2, blocks=2),
    'no blocks': build('resnet', channels=1, width=2, blocks=0),
    'resize': build('resnet', channels=1, width=2, blocks=1, resize=True),
    'patchgan': build('patchgan', width=2),
    'two layers': build('patchgan', width=2, layers=2),
}
every_network = pytest.mark.parametrize('network', NETWORKS.values(), ids=NETWORKS)


def params_of(network, rank=2):
    image = jax.ShapeDtypeStruct((1, *(32,) * rank, 1), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)['params']
    random = np.random.RandomState(0)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes)


@every_network
@pytest.mark.parametrize('rank', [2, 3])
def test_round_trip(network, rank, tmp_path):
    params = params_of(network, rank)
    tensors = to_torch(network, params)
    assert all(tensor.flags.c_contiguous for tensor in tensors.values())
    safetensors.numpy.save_file(tensors, tmp_path / 'weights.safetensors')
    back = from_torch(network, read_tensors(tmp_path / 'weights.safetensors'))
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_published_names():
    resnet, patchgan = build('resnet', channels=1, blocks=9), build('patchgan')
    assert list(torch_names(resnet)) == [
        'model.1', 'model.4', 'model.7',
        *(f'model.{block}.conv_block.{conv}' for block in range(10, 19) for conv in (1, 5)),
        'model.19', 'model.22', 'model.26',
    ]  # fmt: skip
    assert list(torch_names(patchgan)) == ['model.0', 'model.2', 'model.5', 'model.8', 'model.11']


def test_layouts():
    network = NETWORKS['resnet']
    params = params_of(network)
    tensors = to_torch(network, params)
    assert tensors['model.1.weight'].shape == (2, 1, 7, 7)  # out, in, height, width
    assert tensors['model.4.weight'].shape == (4, 2, 3, 3)
    assert tensors['model.12.weight'].shape == (8, 4, 3, 3)  # transposed: in, out, height, width
    assert tensors['model.19.weight'].shape == (3, 2, 7, 7) and tensors['model.19.bias'].shape == (3,)
    assert tensors['model.4.weight'][3, 1, 0, 2] == params['down1']['kernel'][0, 2, 1, 3]
    assert tensors['model.12.weight'][5, 3, 0, 2] == params['up1']['kernel'][0, 2, 5, 3]
    assert tensors['model.11.conv_block.5.weight'][7, 6, 2, 1] == params['block1']['conv2']['kernel'][2, 1, 6, 7]
    volume = to_torch(network, params_of(network, 3))
    assert volume['model.4.weight'].shape == (4, 2, 3, 3, 3) and volume['model.12.weight'].shape == (8, 4, 3, 3, 3)


@every_network
def test_missing_and_unexpected_tensors_are_named(network):
    tensors = to_torch(network, params_of(network))
    gone = sorted(tensors)[0]
    renamed = {name: tensor for name, tensor in tensors.items() if name != gone} | {'model.99.weight': tensors[gone]}
    with pytest.raises(InputError, match=rf"another network: missing \['{gone}'\], unexpected \['model.99.weight'\]"):
        from_torch(network, renamed)


def test_a_network_of_another_depth():
    with pytest.raises(InputError, match=r"missing \[\], unexpected \['model.11.conv_block.1.bias'"):
        from_torch(NETWORKS['no blocks'], to_torch(NETWORKS['no blocks'], params_of(NETWORKS['no blocks']))
                   | {'model.11.conv_block.1.bias': np.zeros(2, np.float32)})  # fmt: skip


@every_network
def test_left_over_statistics_are_dropped(network):
    params = params_of(network)
    tensors = to_torch(network, params)
    left = {f'model.2.{name}': np.zeros(2, np.float32) for name in ('running_mean', 'running_var')}
    left['model.2.num_batches_tracked'] = np.asarray(7)
    jax.tree.map(np.testing.assert_array_equal, from_torch(network, tensors | left), params)


@pytest.mark.parametrize('content', [b'', b'not tensors', b'\xff' * 64])
def test_a_broken_file(tmp_path, content):
    path = tmp_path / 'weights.safetensors'
    path.write_bytes(content)
    with pytest.raises(InputError, match='weights.safetensors is not a readable safetensors file'):
        read_tensors(path)


def test_a_file_that_is_cut_off(tmp_path):
    path = tmp_path / 'weights.safetensors'
    safetensors.numpy.save_file({'x': np.zeros(100, np.float32)}, path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match='not a readable safetensors file'):
        read_tensors(path)
