"""Directions of a step at rate 1, and the rate at every step."""

import jax.numpy as jnp
import numpy as np
import pytest

from synseg_jax.errors import InputError
from synseg_jax.training.optimizers import constant_then_linear, optimizer

GRADIENTS = {'kernel': jnp.asarray([3.0, 0.0]), 'bias': jnp.asarray([-4.0])}


def direction(rule, steps=1, **settings):
    found = optimizer(rule, **settings)
    state = found.init(GRADIENTS)
    for _ in range(steps):
        change, state = found.update(GRADIENTS, state, GRADIENTS)
    return np.concatenate([change['kernel'], change['bias']])


def test_gradient_descent():
    np.testing.assert_array_equal(direction('sgd'), [3, 0, -4])
    np.testing.assert_array_equal(direction('sgd', b1=0.5, b2=0.999, eps=1e-8), [3, 0, -4])  # as configurations have it


@pytest.mark.parametrize('limit, expected', [(1.0, [0.6, 0, -0.8]), (5.0, [3, 0, -4]), (10.0, [3, 0, -4])])
def test_clipping_by_the_norm_of_all(limit, expected):
    np.testing.assert_allclose(direction('sgd', clip_norm=limit), expected, rtol=1e-6)


def test_adam():
    """The first step is the sign of the gradient, short of epsilon; clipping comes before the moments."""
    np.testing.assert_allclose(direction('adam', b1=0.5, b2=0.999, eps=1e-8), [1, 0, -1], rtol=1e-5)
    np.testing.assert_allclose(direction('adam', b1=0.5, b2=0.999, eps=1.0), [3 / 4, 0, -4 / 5], rtol=1e-5)
    clipped = direction('adam', clip_norm=1.0, b1=0.5, b2=0.999, eps=1.0)
    np.testing.assert_allclose(clipped, [0.6 / 1.6, 0, -0.8 / 1.8], rtol=1e-5)
    np.testing.assert_allclose(direction('adam', steps=3, b1=0.5, b2=0.999, eps=1e-8), [1, 0, -1], rtol=1e-5)


def test_weight_decay_is_decoupled():
    """Weights, here equal to the gradients, are added to Adam's direction, which does not see them (AdamW)."""
    adam = {'b1': 0.5, 'b2': 0.999, 'eps': 1e-8}
    decayed = direction('adam', weight_decay=0.1, **adam)
    np.testing.assert_allclose(decayed, direction('adam', **adam) + 0.1 * np.array([3, 0, -4]), rtol=1e-5)


def test_unknown_rule():
    with pytest.raises(InputError, match="unknown optimizer 'adma'; known: adam, sgd"):
        optimizer('adma')


def rates(steps, *arguments, **named):
    schedule = constant_then_linear(*arguments, **named)
    return [float(schedule(jnp.asarray(step, jnp.int32))) for step in steps]  # as the state counts


def test_constant_then_linear(x64):
    assert rates(range(8), 2.0, 3, 4) == pytest.approx([2, 2, 2, 2, 1.5, 1, 0.5, 0], rel=1e-12)
    assert rates([100], 2.0, 3, 4) == [0]
    assert rates([4], 2.0, 3, 7) == pytest.approx([12 / 7], rel=1e-12)  # not in single precision


def test_units_of_several_steps(x64):
    found = rates(range(20), 2.0, 3, 4, unit=2)
    assert found[::2] == found[1::2] == pytest.approx([2, 2, 2, 2, 1.5, 1, 0.5, 0, 0, 0], rel=1e-12)


def test_without_decay(x64):
    assert rates([0, 5, 6, 10**6], 2.0, 5, 0) == [2, 2, 2, 2]


def test_warm_up(x64):
    assert rates(range(6), 2.0, 10, 0, warmup=4) == pytest.approx([0.5, 1, 1.5, 2, 2, 2], rel=1e-12)
    assert rates([3], 2.0, 2, 2, warmup=4) == pytest.approx([1.0], rel=1e-12)  # both at once


def test_precision():
    assert constant_then_linear(2.0, 3, 4)(jnp.asarray(5)).dtype == jnp.float32
