"""The training state, a pytree, and its initialisation."""

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
    """Everything that a train step updates."""

    step: PyTree  # number of global batches consumed, the position in the data
    params: PyTree  # {network: parameters}
    optimizer: PyTree  # {network: optax state}, of trained networks
    average: PyTree  # {network: exponential moving average of the parameters}, of trained ones; empty if disabled
    image_pool: PyTree  # {domain: image_pool.Past}, sharded by row
    skipped: PyTree  # number of steps skipped for a non-finite gradient
    streak: PyTree  # number of consecutive skipped steps up to now


LAYOUT = State(REPLICATED, REPLICATED, REPLICATED, REPLICATED, SHARDED, REPLICATED, REPLICATED)


def initial_params(networks: Mapping, images: Mapping[str, PyTree], key: Key[Array, '']) -> dict[str, PyTree]:
    """Random initial parameters of each network, from the key and its name only.  `images`: an input per network."""
    return {
        name: network.init(jax.random.fold_in(key, zlib.crc32(name.encode())), images[name])['params']
        for name, network in networks.items()
    }


def patch_input(generator: nn.Module, image: Float[Array, '1 *space c']) -> dict[str, Float[Array, '1 p _']]:
    """Zeros of the shape of the input of network h_ab: patches of an image and of a generator's features."""

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
    """The state before the first step; networks without an optimizer are held fixed."""
    trained = {name: params[name] for name in optimizers}
    return State(
        step=jnp.zeros((), jnp.int32),
        params=dict(params),
        optimizer={name: optimizers[name].init(own) for name, own in trained.items()},
        average=jax.tree.map(jnp.copy, trained) if averaged else {},
        image_pool=dict(image_pool),
        skipped=jnp.zeros((), jnp.int32),
        streak=jnp.zeros((), jnp.int32),
    )
