"""Generators, discriminators and segmentors by name, and the features inside them."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from synseg_jax.errors import InputError, known
from synseg_jax.networks.patchgan import PatchGAN
from synseg_jax.networks.resnet import ResNet
from synseg_jax.networks.unet import ResUNet, UNet

ARCHITECTURES = {'resnet': ResNet, 'patchgan': PatchGAN, 'unet': UNet, 'res_unet': ResUNet}


def build(architecture: str, **fields) -> nn.Module:
    """The named architecture with `fields` set; an unknown name or field is an InputError that lists the known ones."""
    network = ARCHITECTURES[known('architecture', architecture, ARCHITECTURES)]
    settable = set(network.__dataclass_fields__) - {'parent', 'name'}
    for field in fields:
        known(f'field of {architecture}', field, settable)
    return network(**fields)


def features(
    network: nn.Module, params: PyTree, images: Float[Array, 'b *space c'], taps: Sequence[str], keys=None
) -> dict[str, Float[Array, 'b ...']]:
    """The outputs of a network's submodules by name, such as 'down1', or 'block0/conv1' for a part of one."""

    def tapped(module, method):
        return method == '__call__' and '/'.join(module.path) in taps

    _, found = network.apply({'params': params}, images, keys, capture_intermediates=tapped, mutable='intermediates')
    leaves = jax.tree_util.tree_flatten_with_path(found.get('intermediates', {}))[0]
    named = {'/'.join(key.key for key in path[:-2]): value for path, value in leaves}
    for tap in taps:
        known(f'layer of a {type(network).__name__}', tap, named.keys() | params.keys())
    return {tap: named[tap] for tap in taps}


def dtype(name: str) -> jnp.dtype:
    """The floating-point type called `name`."""
    known('dtype', name, ('bfloat16', 'float32', 'float64'))
    found = jnp.dtype(name)
    if found != jax.dtypes.canonicalize_dtype(found):
        raise InputError(f'dtype {name} needs JAX_ENABLE_X64=1')
    return found
