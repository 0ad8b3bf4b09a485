"""What a train step will hold in memory, from shapes alone: nothing is compiled and nothing is run."""

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
    """Bytes on one device: the state, the gradients, and what each player's forward pass keeps for its gradient."""

    state: int
    gradients: int
    kept: dict[str, int]

    @property
    def peak(self) -> int:
        """Of a step whose players are computed one after another."""
        return self.state + self.gradients + max(self.kept.values())

    @property
    def at_once(self) -> int:
        """Of a step that keeps what all players need at the same time, the worst that a compiler can do."""
        return self.state + self.gradients + sum(self.kept.values())


def estimate(system: System, kind: str = '') -> Estimate:
    """Of the rows of a batch that one device takes; `kind`, if not of the device at hand: 'cpu', 'gpu' or 'tpu'.

    Remat is counted, which XLA undoes on CPUs and keeps on GPUs; the one block that is computed anew, and what
    convolutions need to work in, are not.
    """
    over = parallel.mesh(1)
    state = system.abstract_state(over)
    batch = _batch(system, jnp.promote_types(dtype(system.config.dtype), jnp.float32))
    kept, gradients = {}, 0
    for player, own in system.method.networks(TERMS).items():
        moved = {name: state.params[name] for name in own}
        gradients += _bytes(moved)
        with backend.assumed(kind):
            kept[player] = _bytes(jax.eval_shape(partial(_kept, system, player), moved, state.params, batch))
    return Estimate(_bytes(state), gradients, kept)


def parameters(system: System) -> dict[str, int]:
    """The number of weights of each network."""
    params = system.abstract_state(parallel.mesh(1)).params
    return {name: sum(leaf.size for leaf in jax.tree.leaves(own)) for name, own in sorted(params.items())}


def _kept(system, player, moved, params, batch):
    """What the forward pass of a player leaves for its gradient; the arrays inside the function that computes it."""

    paid_for = weights.weights(system.method.pays)[player]

    def loss(moved):
        view = system.view({**params, **moved}, batch)
        return sum(weights.at(weight, 0) * TERMS[name].value(view) for name, weight in paid_for.items())

    return jax.vjp(loss, moved)[1]


def _batch(system, kind) -> dict[str, jax.ShapeDtypeStruct]:
    rows = parallel.rows_per_device(system.config.train.batch, parallel.mesh(1))
    image = jax.ShapeDtypeStruct((rows, *system.size, system.channels), kind)
    label = jax.ShapeDtypeStruct((rows, *system.size), jnp.int32)
    return {name: label if names.is_label(name) else image for name in system.arrays}


def _bytes(tree) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
