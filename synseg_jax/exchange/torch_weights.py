"""Convert weights to and from PyTorch's names and layouts.

ResNets and PatchGANs use the names of the published code.  A ResNet's layers are `model.1` (7-wide), `model.4`,
`model.7` (stride 2), `model.10...conv_block.1` and `.5`, then two transposed and one 7-wide convolution; a PatchGAN's
`model.0 .2 .5 .8 .11`.  All other networks use ours: `down0.conv1`, `down0.conv2`, `down0.short` (of residual blocks
that change the number of features), `smaller0` (strided), `up0`, `join0.conv1`, `join0.conv2`, `extra`, `head` of a
U-Net, `conv` of the shared layer and of the domains' heads.  Each has a `.weight` and a `.bias`.  Convolutions are
stored (out, in, *kernel), transposed ones (in, out, *kernel).
"""

import re
from collections.abc import Iterator, Mapping

import flax.linen as nn
import numpy as np
from jaxtyping import PyTree

from synseg_jax.errors import InputError
from synseg_jax.exchange.tensors import Tensors, check_weights, read_tensors
from synseg_jax.networks.patchgan import PatchGAN
from synseg_jax.networks.resnet import ResNet

__all__ = ['fields', 'from_torch', 'read_tensors', 'to_torch', 'torch_names']

TRANSPOSED = ('up1', 'up2')  # of a ResNet without resize
NORM_STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')  # in old checkpoints; unused
WRAPPERS = ('module.', '_orig_mod.')  # name prefixes of DataParallel and torch.compile
SHOWN = 6  # tensors listed in an error


def torch_names(network: nn.Module, like: PyTree | None = None) -> dict[str, tuple[str, ...]]:
    """{PyTorch's layer name: path of its kernel and bias in the parameters of `network`}.

    `like`, its parameters or their shapes, is needed except for ResNets and PatchGANs.
    """
    if isinstance(network, PatchGAN):
        last = network.layers + 1
        indices = [0, *(3 * i - 1 for i in range(1, last + 1))]
        return {f'model.{index}': (f'conv{i}',) for i, index in enumerate(indices)}
    if isinstance(network, ResNet):
        return _resnet_names(network)
    return {'.'.join(path): path for path in _layers(like)}


def _resnet_names(network):
    names = {'model.1': ('stem',), 'model.4': ('down1',), 'model.7': ('down2',)}
    for i in range(network.blocks):
        names[f'model.{10 + i}.conv_block.1'] = (f'block{i}', 'conv1')
        names[f'model.{10 + i}.conv_block.5'] = (f'block{i}', 'conv2')
    after = 10 + network.blocks
    names |= {f'model.{after}': ('up1',), f'model.{after + 3}': ('up2',)}
    return names | ({f'model.{after + 7}': ('head',)} if network.channels else {})


def from_torch(network: nn.Module, tensors: Mapping[str, np.ndarray], like: PyTree | None = None) -> dict:
    """The parameters of `network` from PyTorch's tensors.

    Prefixes of DataParallel and torch.compile, and statistics of norms, are dropped.  InputError for missing or
    unexpected tensors, NaN or infinity and, given parameters or shapes `like`, tensors of another shape.
    """
    names = torch_names(network, like)
    tensors = _normalise_names(network, tensors)
    _check_names({f'{layer}.{part}' for layer in names for part in ('weight', 'bias')}, set(tensors))
    if like is not None:
        _check_shapes(network, names, tensors, like)
    check_weights(tensors)
    params: dict = {}
    for layer, path in names.items():
        node = params
        for part in path:
            node = node.setdefault(part, {})
        weight = tensors[f'{layer}.weight']
        node['kernel'] = np.ascontiguousarray(weight.transpose(np.argsort(_axes(network, path, weight.ndim))))
        node['bias'] = np.asarray(tensors[f'{layer}.bias'])
    return params


def fields(network: nn.Module, tensors: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The width, and number of blocks or layers, of a ResNet or PatchGAN from its tensors; {} for other networks."""
    tensors = _normalise_names(network, tensors)
    convolutions = {name.rpartition('.')[0] for name in tensors if name.endswith('.weight')}
    first = {ResNet: 'model.1.weight', PatchGAN: 'model.0.weight'}.get(type(network))
    if first not in tensors:
        return {}
    count = {'layers': len(convolutions) - 2}
    if isinstance(network, ResNet):
        count = {'blocks': len({name.partition('.conv_block')[0] for name in convolutions if '.conv_block' in name})}
    return {'width': tensors[first].shape[0], **count}


def to_torch(network: nn.Module, params: Mapping) -> Tensors:
    """The parameters of `network` as tensors with PyTorch's names and layouts."""
    tensors = {}
    for layer, path in torch_names(network, params).items():
        node = _at(params, path)
        kernel = np.asarray(node['kernel'])
        tensors[f'{layer}.weight'] = np.ascontiguousarray(kernel.transpose(_axes(network, path, kernel.ndim)))
        tensors[f'{layer}.bias'] = np.asarray(node['bias'])
    return tensors


def _layers(params, path=()) -> Iterator[tuple[str, ...]]:
    if 'kernel' in params:
        yield path
        return
    for name in params:
        yield from _layers(params[name], (*path, name))


def _at(params, path):
    for part in path:
        params = params[part]
    return params


def _axes(network, path, ndim) -> tuple[int, ...]:
    """Axis order that transposes our kernel [*kernel, in, out] to PyTorch's weight."""
    rank = ndim - 2
    transposed = isinstance(network, ResNet) and not network.resize and path[-1] in TRANSPOSED
    return (*((rank, rank + 1) if transposed else (rank + 1, rank)), *range(rank))


def _normalise_names(network, tensors) -> Tensors:
    """Tensors without norm statistics, under their names without wrappers and dropout."""
    renamed = {}
    for name, tensor in tensors.items():
        while name.startswith(WRAPPERS):
            name = name.partition('.')[2]
        if not name.endswith(NORM_STATISTICS):
            renamed[name] = tensor
    if not isinstance(network, ResNet):
        return renamed
    # In a block with dropout the second convolution has index 6.
    without_dropout = {name: re.sub(r'\.conv_block\.6\.', '.conv_block.5.', name) for name in renamed}
    return {name if (new := without_dropout[name]) in renamed else new: tensor for name, tensor in renamed.items()}


def _check_names(expected, actual):
    if actual != expected:
        missing, unexpected = _shortened(expected - actual), _shortened(actual - expected)
        raise InputError(f'weights of another network: missing {missing}, unexpected {unexpected}')


def _shortened(names) -> str:
    ordered = sorted(names)
    return str(ordered[:SHOWN]) + (f' and {len(ordered) - SHOWN} more' if len(ordered) > SHOWN else '')


def _check_shapes(network, names, tensors, like):
    mismatches = []
    for layer, path in names.items():
        node = _at(like, path)
        shape = node['kernel'].shape
        weight = tuple(shape[axis] for axis in _axes(network, path, len(shape)))
        for part, expected in (('weight', weight), ('bias', tuple(node['bias'].shape))):
            actual = tuple(tensors[f'{layer}.{part}'].shape)
            if actual != expected:
                mismatches.append(f'{layer}.{part} is {actual}, not {expected}')
    if mismatches:
        more = f'; and {len(mismatches) - 1} more' if len(mismatches) > 1 else ''
        raise InputError(f'weights of another network: {mismatches[0]}{more}')
