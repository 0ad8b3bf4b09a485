"""Weights of terms: numbers, or schedules over the steps of training."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from synseg_jax.errors import InputError, known

# The weight as a function of the step: from `start` at step 0 to `end`, which is reached at step `steps` and kept.
SCHEDULES = {
    'linear': lambda start, end, steps: optax.linear_schedule(start, end, steps),
    'cosine': lambda start, end, steps: (
        lambda step: end + (start - end) * optax.cosine_decay_schedule(1.0, steps)(step)
    ),
    'ramp': lambda start, end, steps: (  # the Gaussian ramp of mean teachers, from e^-5 of the way on
        lambda step: start + (end - start) * jnp.exp(-5 * (1 - jnp.minimum(step / steps, 1)) ** 2)
    ),
    'switch': lambda start, end, steps: optax.join_schedules(
        [optax.constant_schedule(start), optax.constant_schedule(end)], [steps]
    ),
}


class Schedule(NamedTuple):
    """A weight that changes: in a configuration ('linear', 0.0, 1.0, 1000)."""

    kind: str
    start: float
    end: float
    steps: int


def weight(value: float | tuple, where: str = '') -> float | Schedule:
    """A weight as a configuration writes it; InputError, which names the field `where`, for one that is none."""
    if isinstance(value, int | float):
        return float(value)
    if len(value) != len(Schedule._fields):
        raise InputError(f"{where}={value!r}: give a number, or a schedule such as ('linear', 0.0, 1.0, 1000)")
    known(f'schedule {where}', value[0], SCHEDULES)
    return Schedule(value[0], float(value[1]), float(value[2]), int(value[3]))


def weights(loss_weights: Mapping[str, Mapping[str, float | tuple | None]]) -> dict[str, dict[str, float | Schedule]]:
    """The weights of all players, {player: {term: weight}}, as a configuration writes them; None is left out."""
    return {
        player: {term: weight(w, f'config.loss_weights.{player}.{term}') for term, w in own.items() if w is not None}
        for player, own in loss_weights.items()
    }


def at(weight: float | Schedule, step: int | Int[Array, '']) -> float | Float[Array, '']:
    """The weight at a step: the number itself where it does not change."""
    if isinstance(weight, Schedule):
        return SCHEDULES[weight.kind](weight.start, weight.end, weight.steps)(step)
    return weight
