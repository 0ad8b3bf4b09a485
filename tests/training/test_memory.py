"""The estimate of memory counts what JAX says it saves, grows with the batch and shrinks with remat."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.ad_checkpoint import print_saved_residuals

from synseg_jax.benchmarks import memory_estimate
from synseg_jax.devices import parallel
from synseg_jax.objective.terms import TERMS
from synseg_jax.objective.view import View
from synseg_jax.training.system import System


def _system(**changes) -> System:
    return System(tiny.configure(tiny.config(**changes), 'synseg'), tiny.CLASSES)


def test_it_counts_what_jax_says_it_saves(capsys):
    system = _system(method='supervised', image_pool=0)
    params = system.abstract_state(parallel.mesh(1)).params

    def weighted_loss(params, a, label_a):
        return TERMS['seg_a'].value(View(system.apply, params, {'a': a, 'label_a': label_a}, system.losses))

    image, label = jax.ShapeDtypeStruct((2, 32, 32, 1), jnp.float32), jax.ShapeDtypeStruct((2, 32, 32), jnp.int32)
    print_saved_residuals(weighted_loss, params, image, label)
    sizes = {'f32': 4, 'i32': 4, 'bool': 1}
    said = re.findall(r'^(f32|i32|bool)\[([\d,]*)\]', capsys.readouterr().out, re.MULTILINE)
    expected = sum(sizes[kind] * int(np.prod([int(n) for n in shape.split(',') if n])) for kind, shape in said)
    found = memory_estimate.estimate(system)
    assert found.kept['seg'] == pytest.approx(expected, rel=0.02)
    count = sum(np.prod(x.shape) for x in jax.tree.leaves(params))
    assert found.gradients == 4 * count
    assert found.state >= 3 * found.gradients  # weights and two moments
    assert memory_estimate.estimate(system, 'gpu').kept != found.kept  # whose layers have other forms


def test_it_grows_with_the_batch_and_shrinks_with_remat():
    one, two = (memory_estimate.estimate(_system(train__batch=batch)) for batch in (2, 4))
    images = {player: two.kept[player] / one.kept[player] for player in one.kept}
    assert all(1.8 < ratio <= 2.0 for ratio in images.values()), images
    less = memory_estimate.estimate(_system(train__batch=2, remat=True))
    assert less.kept['gen'] < one.kept['gen'] and less.kept['dis'] == one.kept['dis']
    assert one.state < one.peak < one.at_once
