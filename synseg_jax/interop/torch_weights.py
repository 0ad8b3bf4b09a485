"""Weights under the names and layouts of the published PyTorch code, as safetensors.

A ResNet's tensors are `model.1` (7-wide), `model.4`, `model.7` (stride 2), `model.10...conv_block.1` and `.5`,
then two transposed and one 7-wide convolution; a PatchGAN's `model.0 .2 .5 .8 .11`.  Convolutions are stored
(out, in, *kernel), transposed ones (in, out, *kernel).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from jaxtyping import Float
from safetensors import SafetensorError

from synseg_jax.errors import InputError
from synseg_jax.networks.patchgan import PatchGAN
from synseg_jax.networks.resnet import ResNet

Tensors = dict[str, Float[np.ndarray, '...']]
TRANSPOSED = ('up1', 'up2')
LEFT_OVER = ('running_mean', 'running_var', 'num_batches_tracked')  # of norms in old checkpoints


def torch_names(network: ResNet | PatchGAN) -> dict[str, tuple[str, ...]]:
    """PyTorch's layer name -> where its kernel and bias lie in the parameters of `network`."""
    if isinstance(network, PatchGAN):
        last = network.layers + 1
        places = [0, *(3 * i - 1 for i in range(1, last + 1))]
        return {f'model.{place}': (f'conv{i}',) for i, place in enumerate(places)}
    names = {'model.1': ('stem',), 'model.4': ('down1',), 'model.7': ('down2',)}
    for i in range(network.blocks):
        names[f'model.{10 + i}.conv_block.1'] = (f'block{i}', 'conv1')
        names[f'model.{10 + i}.conv_block.5'] = (f'block{i}', 'conv2')
    after = 10 + network.blocks
    return {**names, f'model.{after}': ('up1',), f'model.{after + 3}': ('up2',), f'model.{after + 7}': ('head',)}


def from_torch(network: ResNet | PatchGAN, tensors: Mapping[str, np.ndarray]) -> dict:
    """The parameters of `network` that the named tensors hold; missing or unexpected tensors are an InputError."""
    names = torch_names(network)
    given = {name for name in tensors if not name.endswith(LEFT_OVER)}
    wanted = {f'{layer}.{part}' for layer in names for part in ('weight', 'bias')}
    if given != wanted:
        missing, unexpected = sorted(wanted - given), sorted(given - wanted)
        raise InputError(f'these weights are of another network: missing {missing}, unexpected {unexpected}')
    params: dict = {}
    for layer, path in names.items():
        node = params
        for part in path:
            node = node.setdefault(part, {})
        node['kernel'] = _swap(tensors[f'{layer}.weight'], path[-1] in TRANSPOSED)
        node['bias'] = np.asarray(tensors[f'{layer}.bias'])
    return params


def to_torch(network: ResNet | PatchGAN, params: Mapping) -> Tensors:
    """The parameters of `network` under PyTorch's names and layouts."""
    tensors = {}
    for layer, path in torch_names(network).items():
        node = params
        for part in path:
            node = node[part]
        kernel = np.asarray(node['kernel'])
        rank = kernel.ndim - 2
        first = (rank, rank + 1) if path[-1] in TRANSPOSED else (rank + 1, rank)
        tensors[f'{layer}.weight'] = np.ascontiguousarray(kernel.transpose(*first, *range(rank)))
        tensors[f'{layer}.bias'] = np.asarray(node['bias'])
    return tensors


def _swap(weight, transposed):
    space = range(2, weight.ndim)
    return np.ascontiguousarray(weight.transpose(*space, 0, 1) if transposed else weight.transpose(*space, 1, 0))


def read_tensors(path: Path) -> Tensors:
    """The tensors of one .safetensors file; a broken file is an InputError."""
    try:
        return safetensors.numpy.load_file(path)
    except SafetensorError as error:
        raise InputError(f'{path} is not a readable safetensors file: {error}') from error
