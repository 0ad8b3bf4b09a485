"""One train step for every method: golden numbers, who moves what, and what happens to a batch that is not finite.

tests/data/golden_step.json holds the terms and weights of two steps of every method in float64.  A change that is
meant to change them renews it: `python tests/training/test_step.py`, from the root of the repository.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from configs import base
from synseg_jax.devices import parallel
from synseg_jax.objective.methods import METHODS
from synseg_jax.objective.terms import TERMS
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System, trained_params

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden_step.json'
ROWS, SIZE, CLASSES, RATE, B1, SEED = 2, 16, ('background', 'liver', 'spleen'), 1e-3, 0.5, 3


@functools.cache
def game(method, rule='adam', clip_norm=0.0, average=0.0, free=False, segmentor=None, update_order='simultaneous'):
    """A tiny system in double precision and its compiled step; `free`: generators do not pay for segmentation."""
    config = base.get_config('records')
    config.method, config.seed, config.image_pool = method, SEED, ROWS
    config.average = average or (0.5 if method == 'mean_teacher' else 0.0)
    config.update_order = update_order
    config.data.size, config.augment.shift, config.train.batch = (SIZE, SIZE), 0.0, ROWS
    config.train.steps, config.train.decay_steps = 100, 0
    for kind in ('generator', 'segmentor'):
        config[kind].update(width=2, blocks=1)
    config.discriminator.update(width=2, layers=1)
    config.rate.update(generator=RATE, discriminator=2 * RATE, segmentor=RATE)
    config.dtype = config.param_dtype = 'float64'
    config.optimizer.update(rule=rule, clip_norm=clip_norm, b1=B1, b1_alone=B1)
    if segmentor:
        config.segmentor = dict(segmentor)
    if free:
        config.loss_weights.gen.seg_fake_b = 0.0
    system = System(tiny.configure(config, 'synseg'), CLASSES)
    over = parallel.mesh(1)
    shapes = system.abstract_state(over)
    return system, system.step(1, over), lambda: parallel.place(drawn(shapes), over, LAYOUT)


def drawn(shapes):
    """A first state with kernels from NumPy's frozen generator: no compilation, and the same for every JAX."""
    random = np.random.RandomState(SEED)

    def draw(path, leaf):
        kernel = path[-1] == jax.tree_util.DictKey('kernel')
        return random.normal(0, 0.02, leaf.shape) if kernel else np.zeros(leaf.shape, leaf.dtype)

    params = jax.tree_util.tree_map_with_path(draw, shapes.params)
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return empty.replace(params=params, average={name: params[name] for name in shapes.average})


def batch_of(system, seed=0, rows=ROWS):
    random = np.random.RandomState(seed)
    images = {domain: random.uniform(size=(rows, SIZE, SIZE, 1)) for domain in 'ab'}
    labels = {f'label_{domain}': random.randint(0, len(CLASSES), (rows, SIZE, SIZE)) for domain in 'ab'}
    batch = {**images, **{name: label.astype(np.int32) for name, label in labels.items()}}
    return {name: batch[name] for name in sorted(system.arrays)}


def host(tree):
    return jax.tree.map(np.array, tree)


def close(found, expected):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-13, equal_nan=False), found, expected)


def weight_sums(params):
    """One number for the weights of every network; swapping or flipping any of them changes it."""
    return {
        name: float(sum(np.ravel(leaf) @ np.cos(np.arange(leaf.size)) for leaf in jax.tree.leaves(host(tree))))
        for name, tree in params.items()
    }


def two_steps(method):
    system, step, first_state = game(method)
    state, steps = first_state(), []
    for seed in (0, 1):
        state, metrics = step(state, batch_of(system, seed))
        steps.append({name: float(metrics[name]) for name in system.method.terms()})
    return {'terms': steps, 'weights': weight_sums(state.params)}


@pytest.mark.parametrize('method', METHODS)
def test_golden_step(method, x64):
    golden, found = json.loads(GOLDEN.read_text())[method], two_steps(method)
    assert [set(terms) for terms in found['terms']] == [set(terms) for terms in golden['terms']]
    for ours, theirs in zip(found['terms'], golden['terms'], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    assert found['weights'] == pytest.approx(golden['weights'], rel=1e-6)


UNET = (('architecture', 'unet'), ('width', 2), ('levels', 2), ('dropout', 0.5))


@pytest.mark.parametrize('segmentor', [None, UNET], ids=['resnet', 'unet'])
def test_players_move_their_own_networks_by_their_own_payments(segmentor, x64):
    """Every network's move is recomputed one term at a time: the terms of its owner, at the old weights of the rest.

    What the segmentor drops is the same whoever loss_weights for it: it comes from the keys of the rows.
    """
    system, step, first_state = game('synseg_hc', rule='sgd', clip_norm=1e6, average=0.9, segmentor=segmentor)
    state = first_state()
    if segmentor:  # larger weights, so that the deep features matter
        params = {**state.params, 's_b': jax.tree.map(lambda w: 20 * w, state.params['s_b'])}
        state = state.replace(params=params, average=jax.tree.map(jnp.copy, params))
    row_key = functools.partial(jax.random.fold_in, jax.random.fold_in(jax.random.key(SEED), 0))
    keys = jax.vmap(row_key)(jnp.arange(ROWS))
    old, batch = jax.tree.map(jnp.copy, state.params), batch_of(system)
    seen = {name: jnp.asarray(v if name.startswith('label') else 2 * v - 1) for name, v in batch.items()}
    new = host(step(state, batch)[0].params)

    def value(params, term):
        return TERMS[term].value(system.view(params, seen, keys=keys))

    gradients = jax.jit(lambda params: {term: jax.grad(value)(params, term) for term in system.method.terms()})(old)
    gradients, old = host(gradients), host(old)  # NumPy's arithmetic needs no compiling for every shape
    for player, own in system.method.networks(TERMS).items():
        for name in own:
            rate = 2 * RATE if player == 'dis' else RATE
            parts = [
                jax.tree.map(lambda g, by=rate * w: by * g, gradients[term][name])
                for term, w in system.method.loss_weights[player].items()
            ]
            expected = jax.tree.map(lambda w, *moves: w - sum(moves), old[name], *parts)
            close(new[name], expected)


def test_players_in_turn_look_at_what_those_before_them_made(x64):
    system, step, first_state = game('synseg_hc', rule='sgd', clip_norm=1e6, update_order='alternating')
    state, batch = first_state(), batch_of(system)
    params = jax.tree.map(jnp.copy, state.params)
    seen = {name: jnp.asarray(v if name.startswith('label') else 2 * v - 1) for name, v in batch.items()}
    new = host(step(state, batch)[0].params)
    for player, own in system.method.networks(TERMS).items():

        def weighted_loss(moved, player=player, params=params):
            view = system.view({**params, **moved}, seen)
            return sum(w * TERMS[term].value(view) for term, w in system.method.loss_weights[player].items())

        gradients = jax.jit(jax.grad(weighted_loss))({name: params[name] for name in own})
        rate = 2 * RATE if player == 'dis' else RATE
        moved = {name: jax.tree.map(lambda w, g, r=rate: w - r * g, params[name], gradients[name]) for name in own}
        params = {**params, **moved}
    assert list(system.method.networks(TERMS)) == ['gen', 'dis', 'seg']
    close(new, params)
    together = game('synseg_hc', rule='sgd', clip_norm=1e6, average=0.9)
    other = host(together[1](together[2](), batch)[0].params)
    np.testing.assert_array_equal(other['g_ab']['head']['kernel'], new['g_ab']['head']['kernel'])
    assert not np.array_equal(other['s_b']['head']['kernel'], new['s_b']['head']['kernel'])


def test_twins_have_one_shared_layer_that_both_move(x64):
    """Its gradient is the sum of the gradients through either path."""
    system, step, first_state = game('tumor_aware')
    state = first_state()
    for seed in (0, 1):
        state, _ = step(state, batch_of(system, seed))
    assert [name for name in state.params if 'shared' in name] == ['s_shared']
    old, batch = jax.tree.map(jnp.copy, state.params), batch_of(system, 2)
    seen = {name: jnp.asarray(v if name.startswith('label') else 2 * v - 1) for name, v in batch.items()}
    before = host(optax.tree.get(state.optimizer['s_shared'], 'mu'))
    new, _ = step(state, batch)
    mean = host(optax.tree.get(new.optimizer['s_shared'], 'mu'))
    gradient = jax.tree.map(lambda m, was: (m - B1 * was) / (1 - B1), mean, before)  # of which Adam keeps the mean
    moved = jax.tree.map(lambda w, was: float(abs(w - was).max()), host(new.params['s_shared']), host(old['s_shared']))
    assert min(jax.tree.leaves(moved)) > 0

    def through(term):
        return jax.jit(jax.grad(lambda s: TERMS[term].value(system.view({**old, 's_shared': s}, seen))))(
            old['s_shared']
        )

    of_a, of_b = through('seg_a'), through('seg_fake_b')
    assert all(abs(of['conv'][part]).max() > 0 for of in (of_a, of_b) for part in ('kernel', 'bias'))
    close(gradient, jax.tree.map(jnp.add, of_a, of_b))


def test_a_term_that_a_player_does_not_pay_for_does_not_move_it(x64):
    system, step, first_state = game('synseg_hc', free=True)
    batch = batch_of(system)
    other = batch | {'label_a': (batch['label_a'] + 1) % len(CLASSES)}
    (one, terms), (two, other_terms) = step(first_state(), batch), step(first_state(), other)
    assert terms['seg_fake_b'] != other_terms['seg_fake_b']
    for name in ('g_ab', 'd_b'):
        jax.tree.map(np.testing.assert_array_equal, one.params[name], two.params[name])
    assert not np.array_equal(one.params['s_b']['head']['kernel'], two.params['s_b']['head']['kernel'])
    paying = game('synseg_hc')
    assert paying[0].method.loss_weights['gen']['seg_fake_b'] == 1
    moved = paying[1](paying[2](), batch)[0].params['g_ab'], paying[1](paying[2](), other)[0].params['g_ab']
    assert not np.array_equal(moved[0]['head']['kernel'], moved[1]['head']['kernel'])


def test_a_batch_that_is_not_finite_is_skipped(x64):
    system, step, first_state = game('synseg')
    good = batch_of(system)
    bad = {name: v.copy() for name, v in good.items()}
    bad['b'][1, 0, 0, 0] = np.nan
    state, _ = step(first_state(), good)
    before = host(state)
    for streak in (1, 2):
        state, metrics = step(state, bad)
        assert (int(state.step), int(state.skipped), int(state.streak)) == (1 + streak, streak, streak)
        assert (int(metrics['skipped']), int(metrics['streak'])) == (streak, streak)
    assert not np.isfinite(metrics['adv_a'])
    counted = {'step': before.step, 'skipped': before.skipped, 'streak': before.streak}
    jax.tree.map(np.testing.assert_array_equal, host(state).replace(**counted), before)
    state, metrics = step(state, good)
    assert (int(state.skipped), int(metrics['streak'])) == (2, 0)
    assert not np.array_equal(state.params['d_a']['conv0']['kernel'], before.params['d_a']['conv0']['kernel'])


def test_moving_average_of_the_weights(x64):
    system, step, first_state = game('synseg_hc', rule='sgd', clip_norm=1e6, average=0.9)
    state = first_state()
    expected = host(state.average)
    jax.tree.map(np.testing.assert_array_equal, expected, host(state.params))
    for seed in (0, 1):
        state, _ = step(state, batch_of(system, seed))
        expected = jax.tree.map(lambda mean, w: 0.9 * mean + 0.1 * w, expected, host(state.params))
    close(host(state.average), expected)
    assert trained_params(state) is state.average
    plain = game('supervised')[2]()
    assert plain.average == {} and trained_params(plain)['s_a'] is plain.params['s_a']


def test_clipping_is_by_network(x64):
    limit = 1e-3
    system, step, first_state = game('supervised', rule='sgd', clip_norm=limit)
    state = first_state()
    old = host(state.params)
    state, metrics = step(state, batch_of(system))
    assert metrics['grad_norm/s_a'] > limit  # the norm that is told is the one before clipping
    moves = jax.tree.leaves(jax.tree.map(lambda new, w: new - w, host(state.params), old))
    assert np.sqrt(sum((move**2).sum() for move in moves)) == pytest.approx(RATE * limit, rel=1e-9)


def test_state_is_donated_and_metrics_stay_on_the_device(x64):
    system, step, first_state = game('synseg')
    state = first_state()
    leaves = jax.tree.leaves((state.params, state.optimizer, state.image_pool))
    new, metrics = step(state, batch_of(system))
    assert all(leaf.is_deleted() for leaf in leaves)
    assert all(isinstance(value, jax.Array) and value.shape == () for value in metrics.values())
    names = {f'{kind}/{name}' for kind in ('grad_norm', 'lr') for name in system.networks}
    assert set(metrics) == {*system.method.terms(), *names, 'skipped', 'streak'}
    assert float(metrics['lr/d_a']) == 2 * RATE and float(metrics['lr/s_b']) == RATE
    assert jax.tree.structure(new) == jax.tree.structure(first_state())


def test_discriminators_see_the_history(x64):
    system, step, first_state = game('synseg')
    state, batch = first_state(), batch_of(system)
    params = jax.tree.map(jnp.copy, state.params)
    state, _ = step(state, batch)
    for domain, name, source in (('b', 'g_ab', 'a'), ('a', 'g_ba', 'b')):
        assert np.array_equal(state.image_pool[domain].filled, [1, 1])
        fakes = system.apply[name](params[name], jnp.asarray(2 * batch[source] - 1))
        np.testing.assert_allclose(state.image_pool[domain].images[:, 0], fakes, rtol=1e-10, atol=1e-12)


if __name__ == '__main__':
    with jax.enable_x64(True):
        GOLDEN.write_text(json.dumps({method: two_steps(method) for method in METHODS}, indent=1) + '\n')
