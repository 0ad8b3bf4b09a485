"""Weights that change over the steps of training."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.objective.methods import Method
from synseg_jax.objective.terms import TERMS, Term
from synseg_jax.objective.view import View
from synseg_jax.objective.weights import SCHEDULES, at, weight
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


def test_a_ramp_is_gaussian():
    found = [float(at(weight(('ramp', 1.0, 3.0, 10)), jnp.asarray(step))) for step in (0, 5, 10, 99)]
    assert found == pytest.approx([1 + 2 * np.exp(-5), 1 + 2 * np.exp(-1.25), 3, 3])


def test_unknown_schedules():
    with pytest.raises(InputError, match=f"unknown schedule config.x 'sine'; known: {', '.join(sorted(SCHEDULES))}"):
        weight(('sine', 0.0, 1.0, 10), 'config.x')
    with pytest.raises(InputError, match=r'^config.x=\(1, 2\): give a number, or a schedule such as'):
        weight((1, 2), 'config.x')


def three_steps(method, average=0.0):
    """The scale g_ab after each step, from 4 on and at learning rate 1, and the last metrics."""
    networks = {'g_ab': lambda scale, images, keys=None: scale * images}
    step = make_step(
        method,
        lambda *arguments, **more: View(networks, *arguments, **more),
        {'g_ab': optax.identity()},
        {'g_ab': lambda step: 1.0},
        PerRow(0, 2).exchange,
        parallel.mesh(1),
        average=average,
    )
    state, scales = create({'g_ab': jnp.asarray(4.0)}, {'g_ab': optax.identity()}, {}, bool(average)), []
    for _ in range(3):
        state, metrics = step(state, {'b': jnp.ones((2, 1))})
        scales.append(float(state.params['g_ab']))
    return scales, metrics


def test_a_step_weighs_by_the_schedule():
    """The slope of mean |g b - b| is 1."""
    scales, metrics = three_steps(Method('m', '', {'gen': {'idt_b': ('linear', 0.0, 1.0, 2)}}))
    assert scales == [4.0, 3.5, 2.5] and metrics['idt_b'] == 2.5  # the term itself, not weighted


def test_terms_may_see_the_moving_average(monkeypatch):
    """A term that is the output of the network times that of its average: the slope is the average alone."""

    def product(view):
        return view.total((view.g_ab(view.b) * view.teacher.g_ab(view.b)).sum()) / 2  # rows

    monkeypatch.setitem(TERMS, 'teach', Term(product, ('g_ab',), ('b',)))
    method = Method('m', '', {'gen': {'teach': 0.25}})
    scales, _ = three_steps(method, average=0.5)
    assert scales == [3.0, 2.125, 1.421875]  # the average before each step: 4, 3.5, 2.8125
    with pytest.raises(InputError, match='a term needs the moving average of the weights; set config.average'):
        three_steps(method)


def test_configurations_give_them():
    config = tiny.config()
    config.loss_weights.gen.seg_fake_b = ('linear', 0.0, 1.0, 1000)
    system = System(tiny.configure(config, 'synseg'), tiny.CLASSES)
    assert system.method.loss_weights['gen']['seg_fake_b'] == ('linear', 0.0, 1.0, 1000)
    assert system.method.loss_weights['seg']['seg_fake_b'] == 1.0
