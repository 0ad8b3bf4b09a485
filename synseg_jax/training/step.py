"""One train step for every method: each player descends what it pays, all looking at the same old networks."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from synseg_jax.methods import Method
from synseg_jax.training import parallel
from synseg_jax.training.state import LAYOUT, State
from synseg_jax.training.terms import TERMS, Choices, View


def make_step(
    method: Method,
    networks: Mapping[str, Callable],
    optimizers: Mapping[str, optax.GradientTransformation],
    rates: Mapping[str, Callable],
    exchange: Callable,
    over: Mesh,
    seed: int = 0,
    choices: Choices = Choices(),
    augment: Callable | None = None,
    average: float = 0.0,
) -> Callable[[State, Mapping], tuple[State, dict]]:
    """(state, batch) -> (state, metrics), compiled over the mesh; the state that goes in is consumed.

    `networks[name](params, images, keys=keys)` applies a network, with a key per row for its dropout;
    `rates[name](step)` is its learning rate; `exchange(past, fakes, keys)` is the history's; `augment(keys, batch)`
    changes the batch before the players see it; `average` is the decay of the moving average of weights.  Metrics:
    every term under its name, `grad_norm/NETWORK`, `lr/NETWORK`, `skipped` and `streak`, all still on the device.
    """
    owned = method.networks(TERMS)

    def step(state: State, batch):
        rows = next(iter(batch.values())).shape[0]
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        keys = parallel.row_keys(key, rows)
        if augment is not None:
            batch = augment(keys, batch)
        grads, values, past = {}, {}, dict(state.history)

        for player, own in owned.items():

            def bill(params, player=player):
                new_past = {}

                def show(domain, fakes):
                    domain_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, ord(domain))
                    shown, new_past[domain] = exchange(state.history[domain], fakes, domain_keys)
                    return shown

                view = View(networks, {**state.params, **params}, batch, choices, show, parallel.total, keys)
                paid = {name: TERMS[name].value(view) for name in method.pays[player]}
                return sum(weight * paid[name] for name, weight in method.pays[player].items()), (paid, new_past)

            moved = {name: state.params[name] for name in own}
            player_grads, (paid, new_past) = jax.grad(bill, has_aux=True)(moved)
            grads.update(player_grads)
            values.update(paid)
            past.update(new_past)
        return _move(state, grads, values, past)

    def _move(state, grads, values, past):
        norms = {name: optax.tree.norm(_wide(grad)) for name, grad in grads.items()}
        finite = jnp.isfinite(sum(norms.values()))
        params, moments = dict(state.params), dict(state.optimizer)
        for name, grad in grads.items():
            direction, moments[name] = optimizers[name].update(grad, state.optimizer[name], state.params[name])
            rate = rates[name](state.step)
            params[name] = jax.tree.map(lambda p, d, r=rate: p - (r * d).astype(p.dtype), params[name], direction)
        averaged = {
            name: jax.tree.map(lambda old, new: average * old + (1 - average) * new, old, params[name])
            for name, old in state.average.items()
        }
        taken = state.replace(params=params, optimizer=moments, average=averaged, history=past)
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), taken, state)
        kept = kept.replace(
            step=state.step + 1,
            skipped=state.skipped + ~finite,
            streak=jnp.where(finite, 0, state.streak + 1),
        )
        metrics = {
            **values,
            **{f'grad_norm/{name}': norm for name, norm in norms.items()},
            **{f'lr/{name}': rates[name](state.step) for name in grads},
            'skipped': kept.skipped,
            'streak': kept.streak,
        }
        return kept, metrics

    sharded = parallel.shard(step, over, (LAYOUT, parallel.SHARDED), (LAYOUT, parallel.REPLICATED))
    return jax.jit(sharded, donate_argnums=0)


def _wide(tree):
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)
