"""Weights that change over the steps of training."""

import jax.numpy as jnp
import optax
import pytest
import tiny

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.objective.methods import Method
from synseg_jax.objective.terms import View
from synseg_jax.objective.weights import SCHEDULES, at, weight
from synseg_jax.specification.resolve import configure
from synseg_jax.training.image_pool import PerRow
from synseg_jax.training.state import create
from synseg_jax.training.step import make_step
from synseg_jax.training.system import System


def test_numbers_are_themselves():
    assert at(weight(2), jnp.asarray(7)) == 2.0 and isinstance(at(weight(2.0), jnp.asarray(7)), float)


@pytest.mark.parametrize('kind, middle', [('linear', 2.0), ('cosine', 2.0), ('switch', 1.0)])
def test_schedules_go_from_the_first_to_the_last(kind, middle):
    schedule = weight((kind, 1.0, 3.0, 10))
    found = [float(at(schedule, jnp.asarray(step))) for step in (0, 5, 10, 99)]
    assert found == pytest.approx([1.0, middle, 3.0, 3.0])


def test_unknown_schedules():
    with pytest.raises(InputError, match=f"unknown schedule config.x 'sine'; known: {', '.join(sorted(SCHEDULES))}"):
        weight(('sine', 0.0, 1.0, 10), 'config.x')
    with pytest.raises(InputError, match=r'^config.x=\(1, 2\): give a number, or a schedule such as'):
        weight((1, 2), 'config.x')


def test_a_step_weighs_by_the_schedule():
    """The slope of mean |g b - b| is 1; learning rate 1."""
    networks = {'g_ab': lambda scale, images, keys: scale * images}
    method = Method('m', '', {'gen': {'idt_b': ('linear', 0.0, 1.0, 2)}})
    step = make_step(
        method,
        lambda *arguments, **more: View(networks, *arguments, **more),
        {'g_ab': optax.identity()},
        {'g_ab': lambda step: 1.0},
        PerRow(0, 2).exchange,
        parallel.mesh(1),
    )
    state, scales = create({'g_ab': jnp.asarray(4.0)}, {'g_ab': optax.identity()}, {}), []
    for _ in range(3):
        state, metrics = step(state, {'b': jnp.ones((2, 1))})
        scales.append(float(state.params['g_ab']))
    assert scales == [4.0, 3.5, 2.5] and metrics['idt_b'] == 2.5  # the term itself, not weighted


def test_configurations_give_them():
    config = tiny.config()
    config.pays.gen.seg_fake_b = ('linear', 0.0, 1.0, 1000)
    system = System(configure(config, 'synseg'), tiny.CLASSES)
    assert system.method.pays['gen']['seg_fake_b'] == ('linear', 0.0, 1.0, 1000)
    assert system.method.pays['seg']['seg_fake_b'] == 1.0
