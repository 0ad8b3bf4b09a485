"""Estimate the memory of a train step from shapes alone, without compiling or running it."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from synseg_jax.devices import parallel
from synseg_jax.networks import backend, dtype
from synseg_jax.objective import names, weights
from synseg_jax.objective.terms import TERMS
from synseg_jax.training.system import System


class Estimate(NamedTuple):
    """Bytes on one device: state, gradients, and each player's residuals (kept for its backward pass)."""

    state: int
    gradients: int
    kept: dict[str, int]

    @property
    def peak(self) -> int:
        """Peak if the players are computed one after another."""
        return self.state + self.gradients + max(self.kept.values())

    @property
    def at_once(self) -> int:
        """Peak if the residuals of all players are held at once, the worst case."""
        return self.state + self.gradients + sum(self.kept.values())


def estimate(system: System, kind: str = '') -> Estimate:
    """The estimate for one device's rows of a batch; `kind`, 'cpu', 'gpu' or 'tpu', is by default that of this machine.

    Includes the effect of remat, which XLA removes on CPUs and keeps on GPUs.  Leaves out the residuals of the block
    being recomputed, and the workspace of convolutions.
    """
    over = parallel.mesh(1)
    state = system.abstract_state(over)
    batch = _batch(system, jnp.promote_types(dtype(system.config.dtype), jnp.float32))
    kept, gradients = {}, 0
    for player, network_names in system.method.networks(TERMS).items():
        trained = {name: state.params[name] for name in network_names}
        gradients += _bytes(trained)
        with backend.assumed(kind):
            kept[player] = _bytes(jax.eval_shape(partial(_residuals, system, player), trained, state.params, batch))
    return Estimate(_bytes(state), gradients, kept)


def parameters(system: System) -> dict[str, int]:
    """The number of weights of each network."""
    params = system.abstract_state(parallel.mesh(1)).params
    return {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in sorted(params.items())}


def _residuals(system, player, trained, params, batch):
    """The residuals of a player's loss: the arrays held by its vjp function, which is a pytree."""
    terms = weights.weights(system.method.loss_weights)[player]

    def loss(trained):
        view = system.view({**params, **trained}, batch, average=params)
        return sum(weights.at(weight, jnp.int32(0)) * TERMS[name].value(view) for name, weight in terms.items())

    return jax.vjp(loss, trained)[1]


def _batch(system, dtype) -> dict[str, jax.ShapeDtypeStruct]:
    rows = parallel.rows_per_device(system.config.train.batch, parallel.mesh(1))
    shape = {domain: (*system.size, count) for domain, count in system.channels.items()}
    image = {domain: jax.ShapeDtypeStruct((rows, *own), dtype) for domain, own in shape.items()}
    label = jax.ShapeDtypeStruct((rows, *system.size), jnp.int32)
    read = {name: label if names.is_label(name) else image[names.domain(name)] for name in system.arrays}
    views = {name: system.config.views.of(names.domain(name)).count for name in system.views}
    of_views = {name: (rows, count, *shape[names.domain(name)]) for name, count in views.items()}
    return read | {name: jax.ShapeDtypeStruct(own, dtype) for name, own in of_views.items()}


def _bytes(tree) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
