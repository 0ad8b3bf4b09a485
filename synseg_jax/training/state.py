"""The training state: one pytree."""

import zlib
from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree

from synseg_jax.devices.parallel import REPLICATED, SHARDED
from synseg_jax.networks import features
from synseg_jax.objective.patches import sampled


@flax.struct.dataclass
class State:
    step: PyTree  # global batches consumed
    params: PyTree  # {network: parameters}
    optimizer: PyTree  # {network: optax state}
    average: PyTree  # {network: exponential moving average of the parameters}; empty when off
    image_pool: PyTree  # {domain: past fakes}, sharded by row
    skipped: PyTree  # steps with a non-finite gradient, never taken
    streak: PyTree  # such steps in a row, up to now


LAYOUT = State(REPLICATED, REPLICATED, REPLICATED, REPLICATED, SHARDED, REPLICATED, REPLICATED)


def initial_params(networks: Mapping, images: Mapping[str, PyTree], key: Key[Array, '']) -> dict[str, PyTree]:
    """Fresh parameters; a network's depend on the key and its own name alone.  `images`: an input for each network."""
    return {
        name: network.init(jax.random.fold_in(key, zlib.crc32(name.encode())), images[name])['params']
        for name, network in networks.items()
    }


def patch_input(generator: nn.Module, image: Float[Array, '1 *space c']) -> dict[str, Float[Array, '1 p _']]:
    """Zeros of the shapes of patches, as the network h_ab sees them: of an image and its features in a generator."""

    def patches(key):
        params = generator.init(key, image)['params']
        return sampled({'image': image, **features(generator, params, image, generator.encoder)})[0]

    shapes = jax.eval_shape(patches, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def create(
    params: Mapping[str, PyTree],
    optimizers: Mapping[str, optax.GradientTransformation],
    image_pool: Mapping[str, PyTree],
    averaged: bool = False,
) -> State:
    """The state before the first step."""
    return State(
        step=jnp.zeros((), jnp.int32),
        params=dict(params),
        optimizer={name: optimizers[name].init(params[name]) for name in params},
        average=jax.tree.map(jnp.copy, dict(params)) if averaged else {},
        image_pool=dict(image_pool),
        skipped=jnp.zeros((), jnp.int32),
        streak=jnp.zeros((), jnp.int32),
    )
