"""A frozen judge: it makes the generators pay, keeps its bits, and is in the state on any number of devices."""

import functools

import jax
import numpy as np
import pytest
import tiny
from test_step import SIZE, batch_of, drawn, host

from synseg_jax.benchmarks import memory_estimate
from synseg_jax.devices import parallel
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System, trained_params

ROWS = 4
JUDGED = {'adv_a': 0.0, 'adv_b': 0.0, 'cyc_a': 0.0, 'cyc_b': 0.0, 'judge_a': 1.0, 'judge_b': 0.5}
WEIGHTS = {'gen': JUDGED, 'dis': {'dis_a': 0.0, 'dis_b': 0.0}}


@functools.cache
def game():
    """Generators that pay for nothing but what a U-Net of an earlier stage says of their images."""
    config = tiny.config(data__size=(SIZE, SIZE), train__batch=ROWS, average=0.9, augment__shift=0.0)
    config.generator.update(width=2, blocks=1)
    config.dtype = config.param_dtype = 'float64'
    unet = {'architecture': 'unet', 'width': 3, 'levels': 1, 'dropout': 0.5}
    stages = {
        'first': {'method': 'supervised', 'segmentor': unet},
        'translate': {'method': 'cyclegan', 'judge_from': 'first', 'loss_weights': WEIGHTS},
    }
    config.systems = {'synseg': {'stages': stages}}
    return System(tiny.configure(config, 'synseg', 'translate'), tiny.CLASSES)


@functools.cache
def _drawn():
    return drawn(game().abstract_state(parallel.mesh(1)))


@functools.cache
def run(devices, steps=2):
    """The state after some steps, and the metrics of each."""
    system, over, metrics = game(), parallel.mesh(devices), []
    step, state = system.step(1, over), parallel.place(_drawn(), over, LAYOUT)
    for number in range(steps):
        state, found = step(state, parallel.place(batch_of(system, number, ROWS), over, parallel.SHARDED))
        metrics.append({name: float(value) for name, value in found.items()})
    return host(state), metrics


def test_a_step_moves_the_generators_and_leaves_the_judge(x64):
    state, metrics = run(1)
    first = _drawn()
    assert tiny.same(state.params['judge'], first.params['judge'])
    for name in ('g_ab', 'g_ba'):
        assert metrics[0][f'grad_norm/{name}'] > 0
        assert not np.array_equal(state.params[name]['head']['kernel'], first.params[name]['head']['kernel'])
    assert state.optimizer.keys() == state.average.keys() == {'g_ab', 'g_ba'}
    names = {f'{kind}/{name}' for kind in ('grad_norm', 'lr') for name in ('g_ab', 'g_ba')}
    assert metrics[0].keys() == {'judge_a', 'judge_b', *names, 'skipped', 'streak'}


def test_two_devices(x64):
    (one, metrics_of_one), (two, metrics) = run(1), run(2)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    jax.tree.map(close, metrics, metrics_of_one)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-9), two.params, one.params)
    assert tiny.same(two.params['judge'], one.params['judge'])


def test_resumption(x64, tmp_path):
    """A checkpoint holds the judge: whatever the state was before, training goes on with the one that is saved."""
    system, over = game(), parallel.mesh(1)
    step, half = system.step(1, over), run(1, 1)[0]
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        checkpoints.save(parallel.place(half, over, LAYOUT), 0.5)
        checkpoints.wait()
        other = _drawn().replace(params=jax.tree.map(np.zeros_like, _drawn().params))
        restored = checkpoints.latest(parallel.place(other, over, LAYOUT))
    state, _ = step(restored, parallel.place(batch_of(system, 1, ROWS), over, parallel.SHARDED))
    assert tiny.same(host(state), run(1)[0])


def test_it_is_no_network_of_inference(x64):
    system, state = game(), _drawn()
    assert list(system.networks) == ['g_ab', 'g_ba', 'judge'] and system.trained == ('g_ab', 'g_ba')
    assert system.networks['judge'].width == 3 and system.networks['judge'].channels == 3
    assert system.segmentor('a') is None and system.translations.keys() == {'g_ab', 'g_ba'}
    assert trained_params(state).keys() == trained_params(state.replace(average={})).keys() == {'g_ab', 'g_ba'}


def test_its_memory_is_estimated(x64):
    found, parameters = memory_estimate.estimate(game()), memory_estimate.parameters(game())
    assert parameters['judge'] == sum(leaf.size for leaf in jax.tree.leaves(_drawn().params['judge']))
    assert found.gradients == 8 * (parameters['g_ab'] + parameters['g_ba'])
    assert found.state == pytest.approx(4 * found.gradients + 8 * parameters['judge'], rel=0.1)  # Adam, average
