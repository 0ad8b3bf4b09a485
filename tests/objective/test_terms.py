"""Terms run the networks and read the arrays that they declare, and have the values of their formulas."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synseg_jax.errors import InputError
from synseg_jax.objective import losses
from synseg_jax.objective.mind import mind
from synseg_jax.objective.terms import TERMS
from synseg_jax.objective.view import View
from synseg_jax.specification.objective import Losses

# Every network is one number: generators multiply, discriminators too, segmentors give that multiple of three slopes.
SLOPES = np.asarray([1.0, -1.0, 0.5])
NETWORKS = {name: (lambda p, x: p * x) for name in ('g_ab', 'g_ba', 'd_a', 'd_b')} | {
    name: (lambda p, x: p * x * jnp.asarray(SLOPES)) for name in ('s_a', 's_b', 'judge')
}
LEVELS = np.asarray([1.0, 0.4])  # by which the encoder of g_ab multiplies its features


def generate(p, x, encode=False):
    return {'level': p * x * jnp.asarray(LEVELS)} if encode else p * x


def vectors(p, features):
    def vector(x):
        x = jnp.concatenate([p * jnp.ones_like(x), x], -1)
        return x / jnp.sqrt((x**2).sum(-1, keepdims=True))

    return {layer: vector(x) for layer, x in features.items()}


NETWORKS |= {'g_ab': generate, 'h_ab': vectors}
PARAMS = {'judge': 0.8, 'h_ab': 0.6, 'g_ab': 2.0, 'g_ba': 0.75, 'd_a': 0.3, 'd_b': 0.7, 's_a': 1.1, 's_b': 1.3}
RANDOM = np.random.RandomState(0)
BATCH = {name: jnp.asarray(RANDOM.normal(size=(2, 4, 4, 1)), jnp.float32) for name in 'ab'}
BATCH |= {f'label_{name}': jnp.asarray(RANDOM.randint(0, 3, (2, 4, 4)), jnp.int32) for name in 'ab'}


BATCH |= {f'views_{name}': jnp.asarray(RANDOM.normal(size=(2, 3, 4, 4, 1)), jnp.float32) for name in 'ab'}


class Spy(View):
    """A view that remembers what it was asked for."""

    def __init__(self, *arguments, **named):
        self.asked = set()
        super().__init__(*arguments, **named)

    def __getattr__(self, name):
        value = super().__getattr__(name)
        self.asked.add(name)
        return value


@pytest.mark.parametrize('name', TERMS)
def test_terms_declare_what_they_use(name):
    term, view = TERMS[name], Spy(NETWORKS, PARAMS, BATCH, average=PARAMS)
    assert term.value(view).shape == ()
    assert view.asked == {*term.networks, *term.arrays}
    gradient = jax.grad(lambda params: term.value(View(NETWORKS, params, BATCH, average=PARAMS)))(PARAMS)
    assert {network for network, slope in gradient.items() if slope != 0} == set(term.networks)


def test_values():
    a, b, label_a, label_b = (np.asarray(BATCH[name]) for name in ('a', 'b', 'label_a', 'label_b'))

    def entropy(slope, image, label):
        logits = slope * image * SLOPES
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        return -np.log(np.take_along_axis(p, label[..., None], -1)).mean()

    def contrast(translation, image):
        of_layers = []
        for scale in (np.ones(1), 2 * LEVELS):
            query, key = (
                np.asarray(vectors(0.6, {'': x * scale})['']).reshape(2, 16, -1) for x in (translation, image)
            )
            similarity = np.exp(query @ key.swapaxes(1, 2) / 0.07)
            of_layers.append(-np.log(np.diagonal(similarity, axis1=1, axis2=2) / similarity.sum(-1)).mean())
        return np.mean(of_layers)

    def kl(views):
        p = np.stack([np.exp(1.1 * view * SLOPES) for view in views])
        p /= p.sum(-1, keepdims=True)
        return (p * np.log(p / p.mean(0))).mean()

    views_a, views_b = (np.moveaxis(np.asarray(BATCH[f'views_{d}']), 1, 0) for d in 'ab')
    found_b = (0.9 * b * SLOPES).argmax(-1)  # by the teacher
    expected = {
        'mind_a': abs(mind(2 * BATCH['a']) - mind(BATCH['a'])).mean(),
        'mind_b': abs(mind(0.75 * BATCH['b']) - mind(BATCH['b'])).mean(),
        'judge_a': entropy(0.8 * 2, a, label_a),
        'judge_b': entropy(0.8 * 0.75, b, (0.8 * b * SLOPES).argmax(-1)),
        'seg_views_a': np.mean([entropy(1.1, view, label_a) for view in views_a]),
        'seg_views_b': np.mean([entropy(1.1, view, label_b) for view in views_b]),
        'agree_a': kl(views_a),
        'pseudo_b': np.mean([entropy(1.1, view, found_b) for view in views_b]),
        'nce_a': contrast(2 * a, a),
        'nce_b': contrast(2 * b, b),
        'adv_b': ((0.7 * 2 * a - 1) ** 2).mean(),
        'adv_a': ((0.3 * 0.75 * b - 1) ** 2).mean(),
        'cyc_a': abs(0.75 * 2 * a - a).mean(),
        'cyc_b': abs(2 * 0.75 * b - b).mean(),
        'idt_a': abs(0.75 * a - a).mean(),
        'idt_b': abs(2 * b - b).mean(),
        'dis_a': (((0.3 * a - 1) ** 2).mean() + ((0.3 * 0.75 * b) ** 2).mean()) / 2,
        'dis_b': (((0.7 * b - 1) ** 2).mean() + ((0.7 * 2 * a) ** 2).mean()) / 2,
        'seg_a': entropy(1.1, a, label_a),
        'seg_b': entropy(1.3, b, label_b),
        'seg_fake_a': entropy(1.1 * 0.75, b, label_b),
        'seg_fake_b': entropy(1.3 * 2, a, label_a),
        'seg_rec_a': entropy(1.1 * 0.75 * 2, a, label_a),
        'seg_rec_b': entropy(1.3 * 2 * 0.75, b, label_b),
        'feat': ((1.1 * a * SLOPES - 1.3 * 2 * a * SLOPES) ** 2).mean(),
    }
    assert set(expected) == set(TERMS)
    for name, value in expected.items():
        view = View(NETWORKS, PARAMS, BATCH, average={**PARAMS, 's_a': 0.9})
        assert float(TERMS[name].value(view)) == pytest.approx(float(value), rel=1e-5, abs=1e-6), name


def test_an_image_is_made_once():
    calls = collections.Counter()

    def counted(name):
        def run(params, x, **more):
            calls[name] += 1
            return NETWORKS[name](params, x, **more)

        return run

    view = View({name: counted(name) for name in NETWORKS}, PARAMS, BATCH)
    for name in ('adv_b', 'cyc_a', 'seg_fake_b', 'dis_b', 'adv_a', 'dis_a'):
        TERMS[name].value(view)
    assert calls == {'g_ab': 1, 'g_ba': 2, 's_b': 1, 'd_b': 3, 'd_a': 3}  # g_ba: fake_a and rec_a


@pytest.mark.parametrize('domain', ['a', 'b'])
def test_discriminators_judge_what_they_are_shown(domain):
    asked = []

    def show(of, fakes):
        asked.append((of, fakes))
        return jnp.zeros_like(fakes)

    view = View(NETWORKS, PARAMS, BATCH, show=show)
    value = TERMS[f'dis_{domain}'].value(view)
    assert [of for of, _ in asked] == [domain] and asked[0][1] is getattr(view, f'fake_{domain}')
    assert value == pytest.approx(float(losses.lsgan(getattr(view, f'd_{domain}')(BATCH[domain]), True)) / 2)
    TERMS[f'adv_{domain}'].value(view)  # a generator is judged by what it makes now
    assert len(asked) == 1


def test_choices_decide_the_loss():
    def value(name, **choices):
        return float(TERMS[name].value(View(NETWORKS, PARAMS, BATCH, Losses(**choices))))

    view = View(NETWORKS, PARAMS, BATCH)
    logits = view.s_b(view.fake_b)
    weights = jnp.asarray([1.0, 2.0, 3.0])
    assert value('adv_b', adversarial='log_likelihood') == losses.log_likelihood(view.d_b(view.fake_b), True)
    assert value('seg_fake_b', segmentation='dice') == losses.soft_dice(logits, view.label_a, jnp.ones(3))
    for by_weight in (False, True):
        expected = losses.cross_entropy(logits, view.label_a, weights, by_weight)
        assert value('seg_fake_b', class_weights=(1.0, 2.0, 3.0), by_weight=by_weight) == expected
    assert value('cyc_a', cycle='l2') == losses.l2(view.rec_a, BATCH['a'])


@pytest.mark.parametrize('weights', [(), (1.0, 3.0)])
def test_one_logit_a_pixel(weights):
    networks = NETWORKS | {'s_a': lambda p, x: p * x}
    view = View(networks, PARAMS, BATCH | {'label_a': BATCH['label_a'] % 2 - (BATCH['a'][..., 0] > 1)})
    view.choices = Losses(segmentation='binary_cross_entropy', class_weights=weights)
    expected = losses.binary_cross_entropy(view.s_a(view.a), view.label_a, jnp.asarray(weights or (1.0, 1.0)))
    assert TERMS['seg_a'].value(view) == expected > 0


def test_a_judge_of_one_logit_finds_two_classes():
    one = NETWORKS | {'judge': lambda p, x: p * x}
    view = View(one, PARAMS, BATCH, Losses(segmentation='binary_cross_entropy'))
    found = (BATCH['b'][..., 0] > 0).astype(int)
    expected = losses.binary_cross_entropy(0.8 * 0.75 * BATCH['b'], found, jnp.ones(2))
    assert 0 < found.mean() < 1 and TERMS['judge_b'].value(view) == pytest.approx(float(expected), rel=1e-6)


def test_twins_share_a_layer():
    twins = NETWORKS | {'s_shared': lambda p, x: p * x**2} | {f's_head_{d}': lambda p, x: p + x for d in 'ab'}
    view = View(twins, PARAMS | {'s_shared': 0.5, 's_head_a': 3.0, 's_head_b': -1.0}, BATCH)
    features = 1.1 * BATCH['a'] * jnp.asarray(SLOPES)
    np.testing.assert_array_equal(view.features('a', view.a), features)
    np.testing.assert_array_equal(view.segment('a', view.a), 3.0 + 0.5 * features**2)
    assert TERMS['seg_a'].value(view) == losses.cross_entropy(view.segment('a', view.a), view.label_a, jnp.ones(3))
    assert TERMS['feat'].value(view) == losses.l2(features, view.s_b(view.fake_b))  # not what the shared layer makes


def test_networks_get_the_keys_of_the_rows():
    keys = jax.random.split(jax.random.key(0), 2)
    noise = lambda p, x, keys: p * x + jax.vmap(jax.random.uniform)(keys)[:, None, None, None]  # noqa: E731
    view = View(NETWORKS | {'g_ab': noise}, PARAMS, BATCH, keys=keys)
    np.testing.assert_array_equal(view.fake_b, noise(PARAMS['g_ab'], BATCH['a'], keys))
    np.testing.assert_array_equal(view.judge(view.a), 0.8 * BATCH['a'] * jnp.asarray(SLOPES))  # which is held fixed


KNOWN = {
    'adversarial': losses.ADVERSARIAL,
    'cycle': losses.CYCLE,
    'segmentation': losses.SEGMENTATION,
}


def test_unknown_names():
    for field, known in KNOWN.items():
        with pytest.raises(InputError, match=rf"unknown config\.loss\.{field} 'l3'; known: {', '.join(sorted(known))}"):
            losses.check(Losses(**{field: 'l3'}))
    with pytest.raises(AttributeError, match='neither a network nor an array of the batch: s_c'):
        View(NETWORKS, PARAMS, BATCH).s_c  # noqa: B018
    with pytest.raises(AttributeError, match='neither a network nor an array of the batch: g_ab'):
        View({}, {}, BATCH).fake_b  # noqa: B018


def test_every_term_is_explained():
    assert [name for name, term in TERMS.items() if not term.value.__doc__] == []


@pytest.mark.parametrize('loss', ['cross_entropy', 'dice_cross_entropy'])
def test_the_weight_of_organs(loss):
    """As one weight per class, but for the background; class weights win."""
    logits, labels = jax.random.normal(jax.random.key(3), (2, 4, 4, 3)), jnp.arange(32).reshape(2, 4, 4) % 3
    found = [
        float(View(NETWORKS, PARAMS, BATCH, Losses(segmentation=loss, **weights)).segmentation(logits, labels))
        for weights in (
            {'organ_weight': 2.0},
            {'class_weights': (1.0, 2.0, 2.0)},
            {'class_weights': (1.0, 2.0, 2.0), 'organ_weight': 5.0},
            {},
        )
    ]
    assert found[0] == found[1] == found[2] != found[3]
