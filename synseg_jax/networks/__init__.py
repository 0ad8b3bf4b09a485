"""Generators, discriminators and segmentors by name."""

import flax.linen as nn
import jax
import jax.numpy as jnp

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


def dtype(name: str) -> jnp.dtype:
    """The floating-point type called `name`."""
    known('dtype', name, ('bfloat16', 'float32', 'float64'))
    found = jnp.dtype(name)
    if found != jax.dtypes.canonicalize_dtype(found):
        raise InputError(f'dtype {name} needs JAX_ENABLE_X64=1')
    return found
