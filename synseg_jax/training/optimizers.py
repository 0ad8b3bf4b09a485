"""Optimizers (optax) and learning-rate schedules."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from synseg_jax.errors import known

RULES = {'adam': optax.scale_by_adam, 'sgd': lambda **_: optax.identity()}  # plain SGD ignores Adam's settings


def optimizer(
    rule: str = 'adam', clip_norm: float = 0.0, weight_decay: float = 0.0, **settings
) -> optax.GradientTransformation:
    """The direction of a step at learning rate 1: clipping by global norm, `rule`, decoupled weight decay; 0 is off."""
    parts = [RULES[known('optimizer', rule, RULES)](**settings)]
    parts = [optax.clip_by_global_norm(clip_norm), *parts] if clip_norm else parts
    parts += [optax.add_decayed_weights(weight_decay)] if weight_decay else []
    return optax.chain(*parts) if len(parts) > 1 else parts[0]


def in_game(settings: Mapping[str, Any], adversarial: bool) -> dict[str, Any]:
    """Arguments of `optimizer` from the configuration: without discriminators, Adam's b1 is `b1_alone`.

    Stages written by earlier versions have no `b1_alone`; b1 then applies to all methods.
    """
    kept = {field: value for field, value in settings.items() if field != 'b1_alone'}
    return kept if adversarial or 'b1_alone' not in settings else kept | {'b1': settings['b1_alone']}


def constant_then_linear(
    rate: float, constant: int, decay: int, unit: int = 1, warmup: int = 0
) -> Callable[[Array], Float[Array, '']]:
    """Schedule: `rate` for `constant` units, then linearly to 0 over `decay` units, of `unit` steps each.

    With a unit of one epoch this is CycleGAN's published schedule: in epoch t, counted from 0, rate *
    (1 - max(0, t - constant) / decay).  `warmup` is the number of steps of linear warm-up, from rate / warmup.
    """

    def schedule(step):
        step = jnp.asarray(step)
        spent = jnp.maximum(0, step // unit - constant).astype(float)  # JAX's default float: float64 if x64 is enabled
        rise = jnp.minimum(1.0, (step + 1).astype(float) / warmup) if warmup else 1.0
        return rate * rise * jnp.maximum(0.0, 1 - spent / max(decay, 1) * bool(decay))

    return schedule
