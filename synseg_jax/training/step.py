"""The train step of every method: each player minimises its weighted sum of terms, all other networks held fixed."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from synseg_jax.devices import parallel
from synseg_jax.errors import known
from synseg_jax.objective import weights
from synseg_jax.objective.methods import ORDERS, Method
from synseg_jax.objective.terms import TERMS
from synseg_jax.objective.view import View
from synseg_jax.training.state import LAYOUT, State


def make_step(
    method: Method,
    view: Callable[..., View],
    optimizers: Mapping[str, optax.GradientTransformation],
    rates: Mapping[str, Callable],
    exchange: Callable,
    over: Mesh,
    seed: int = 0,
    augment: Callable | None = None,
    average: float = 0.0,
    update_order: str = 'simultaneous',
) -> Callable[[State, Mapping], tuple[State, dict]]:
    """The compiled train step (state, batch) -> (state, metrics) over the mesh; the input state is donated.

    `view(params, batch, show=, total=, keys=, average=)` is the forward pass, with one random key per row;
    `rates[name](step)` is a network's learning rate; `exchange` is that of the image pool; `augment(keys, batch)` is
    applied to the batch first; `average` is the decay of the moving average of weights; `update_order` is one of
    methods.ORDERS.  Metrics, on the device: each term by its name, `grad_norm/NETWORK`, `lr/NETWORK`, `skipped` and
    `streak`.
    """
    owned, player_weights = method.networks(TERMS), weights.weights(method.loss_weights)
    alternating = known('update_order', update_order, ORDERS) == 'alternating'

    def step(state: State, batch):
        rows = next(iter(batch.values())).shape[0]
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        keys = parallel.row_keys(key, rows)
        if augment is not None:
            batch = augment(keys, batch)
        params, moments, past = dict(state.params), dict(state.optimizer), dict(state.image_pool)
        norms, values = {}, {}

        for player, own_networks in owned.items():
            current = dict(params) if alternating else state.params

            def loss(own_params, player=player, current=current):
                new_past = {}

                def show(domain, fakes):
                    domain_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, ord(domain))
                    shown, new_past[domain] = exchange(state.image_pool[domain], fakes, domain_keys)
                    return shown

                more = {'show': show, 'total': parallel.psum, 'keys': keys, 'average': state.average}
                forward = view({**current, **own_params}, batch, **more)
                terms = {name: TERMS[name].value(forward) for name in player_weights[player]}
                weighted = (weights.at(w, state.step) * terms[name] for name, w in player_weights[player].items())
                return sum(weighted), (terms, new_past)

            grads, (terms, new_past) = jax.grad(loss, has_aux=True)({name: current[name] for name in own_networks})
            values.update(terms)
            past.update(new_past)
            for name, grad in grads.items():
                norms[name] = optax.tree.norm(_wide(grad))
                direction, moments[name] = optimizers[name].update(grad, moments[name], params[name])
                rate = rates[name](state.step)
                params[name] = jax.tree.map(lambda p, d, r=rate: p - (r * d).astype(p.dtype), params[name], direction)
        return _keep(state, params, moments, past, norms, values)

    def _keep(state, params, moments, past, norms, values):
        """(state, metrics) after the step; weights and pool stay as they were if a gradient is not finite."""
        finite = jnp.isfinite(sum(norms.values()))
        averaged = {  # not optax.incremental_update, whose result differs in the last bit
            name: jax.tree.map(lambda old, new: average * old + (1 - average) * new, old, params[name])
            for name, old in state.average.items()
        }
        updated = state.replace(params=params, optimizer=moments, average=averaged, image_pool=past)
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
        kept = kept.replace(
            step=state.step + 1,
            skipped=state.skipped + ~finite,
            streak=jnp.where(finite, 0, state.streak + 1),
        )
        metrics = {
            **values,
            **{f'grad_norm/{name}': norm for name, norm in norms.items()},
            **{f'lr/{name}': rates[name](state.step) for name in norms},
            'skipped': kept.skipped,
            'streak': kept.streak,
        }
        return kept, metrics

    sharded = parallel.shard(step, over, (LAYOUT, parallel.SHARDED), (LAYOUT, parallel.REPLICATED))
    return jax.jit(sharded, donate_argnums=0)


def _wide(tree):
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)
