"""An optax optimizer for every network, and the learning rate at every step."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from synseg_jax.errors import known

RULES = {'adam': optax.scale_by_adam, 'sgd': lambda **_: optax.identity()}  # which has no moments to set


def optimizer(rule: str = 'adam', clip_norm: float = 0.0, **settings) -> optax.GradientTransformation:
    """The direction of a step at learning rate 1: `rule`, after clipping by global norm unless `clip_norm` is 0."""
    scale = RULES[known('optimizer', rule, RULES)](**settings)
    return optax.chain(optax.clip_by_global_norm(clip_norm), scale) if clip_norm else scale


def in_game(settings: Mapping[str, Any], adversarial: bool) -> dict[str, Any]:
    """The settings of `optimizer`: Adam's b1 is `b1_alone` in methods without discriminators.

    Stages of earlier versions have none, and one b1 for all.
    """
    kept = {field: value for field, value in settings.items() if field != 'b1_alone'}
    return kept if adversarial or 'b1_alone' not in settings else kept | {'b1': settings['b1_alone']}


def constant_then_linear(
    rate: float, constant: int, decay: int, unit: int = 1, warmup: int = 0
) -> Callable[[Array], Float[Array, '']]:
    """step -> `rate` for `constant` units, then linear to 0 over `decay` units of `unit` steps each.

    As published for CycleGAN with unit = one epoch (epoch t from 0): rate (1 - max(0, t - constant) / decay).
    `warmup` steps rise linearly from rate / warmup.
    """

    fall = optax.linear_schedule(rate, 0.0, decay, constant) if decay else optax.constant_schedule(rate)

    def schedule(step):
        rise = jnp.minimum(1.0, (step + 1) / warmup) if warmup else 1.0
        return jnp.asarray(rise * fall(step // unit), float)  # the default float, also where nothing changes

    return schedule
