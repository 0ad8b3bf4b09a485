"""Losses have the values that one works out by hand, true gradients, and do not depend on how a batch is split."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from synseg_jax.training import losses

WEIGHTS = jnp.asarray([1.0, 2.0, 4.0])


def logits_of(probabilities):
    return jnp.log(jnp.asarray(probabilities))


def test_adversarial_by_hand():
    logits = jnp.asarray([[0.0, 1.0], [2.0, -1.0]])
    assert losses.lsgan(logits, True) == pytest.approx((1 + 0 + 1 + 4) / 4)
    assert losses.lsgan(logits, False) == pytest.approx((0 + 1 + 4 + 1) / 4)
    p = 1 / (1 + np.exp(-np.asarray(logits)))
    assert losses.log_likelihood(logits, True) == pytest.approx(-np.log(p).mean(), rel=1e-6)
    assert losses.log_likelihood(logits, False) == pytest.approx(-np.log(1 - p).mean(), rel=1e-6)


def test_log_likelihood_is_stable():
    for logits, real, value, slope in ((1e4, True, 0, 0), (1e4, False, 1e4, 1), (-1e4, True, 1e4, -1)):
        found = jax.value_and_grad(lambda x, real=real: losses.log_likelihood(x, real))(jnp.asarray([logits]))
        assert float(found[0]) == value and float(found[1][0]) == slope


def test_l1_by_hand():
    assert losses.l1(jnp.asarray([[1.0, -2.0]]), jnp.asarray([[0.5, 1.0]])) == pytest.approx(1.75)


def test_cross_entropy_by_pixels_and_by_weights():
    logits = logits_of([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75], [0.25, 0.5, 0.25]])
    labels = jnp.asarray([0, 2, 0])
    weighted = np.log(2) - 4 * np.log(0.75) + np.log(4)
    assert losses.cross_entropy(logits, labels, WEIGHTS) == pytest.approx(weighted / 3, rel=1e-6)
    assert losses.cross_entropy(logits, labels, WEIGHTS, by_weight=True) == pytest.approx(weighted / 6, rel=1e-6)
    same = losses.cross_entropy(logits, labels, jnp.ones(3)), losses.cross_entropy(logits, labels, jnp.ones(3), True)
    assert same[0] == same[1] == pytest.approx((np.log(2) - np.log(0.75) + np.log(4)) / 3, rel=1e-6)


@pytest.mark.parametrize('by_weight', [False, True])
def test_unlabelled_pixels_count_for_nothing(by_weight):
    random = np.random.RandomState(0)
    logits, labels = jnp.asarray(random.normal(size=(2, 5, 3)), jnp.float32), jnp.asarray([[0, 1, 2, 1, 2]] * 2)
    cut = labels.at[:, 3:].set(-1)
    expected = losses.cross_entropy(logits[:, :3], labels[:, :3], WEIGHTS, by_weight)
    value, slope = jax.value_and_grad(losses.cross_entropy)(logits, cut, WEIGHTS, by_weight)
    assert value == pytest.approx(float(expected), rel=1e-6)
    assert not slope[:, 3:].any() and slope[:, :3].all()
    value, slope = jax.value_and_grad(losses.cross_entropy)(logits, jnp.full_like(labels, -1), WEIGHTS, by_weight)
    assert value == 0 and not slope.any()


def test_a_label_without_a_class_is_not_hidden():
    assert not np.isfinite(losses.cross_entropy(jnp.zeros((2, 3)), jnp.asarray([0, 3]), WEIGHTS))


def test_soft_dice_perfect_and_worst():
    labels = jnp.asarray([[[0, 1], [2, 1]]])
    perfect = 100 * jax.nn.one_hot(labels, 3)
    assert losses.soft_dice(perfect, labels) == pytest.approx(0, abs=1e-6)
    assert losses.soft_dice(jnp.roll(perfect, 1, -1), labels) == pytest.approx(1, abs=1e-6)


def test_soft_dice_by_hand():
    """The background counts in no sum, classes count alike, and the batch is one volume."""
    logits = logits_of([[[0.5, 0.5], [0.75, 0.25]], [[0.25, 0.75], [0.5, 0.5]]])
    labels = jnp.asarray([[1, 0], [1, 1]])
    dice = 2 * (0.5 + 0.75 + 0.5) / (0.25 + 0.0625 + 0.5625 + 0.25 + 3)
    assert losses.soft_dice(logits, labels) == pytest.approx(1 - dice, rel=1e-5)


RANDOM = np.random.RandomState(1)
IMAGES, OTHERS = RANDOM.normal(size=(2, 4, 3, 2, 1))
LOGITS, LABELS = RANDOM.normal(size=(4, 3, 2, 3)), RANDOM.randint(-1, 3, (4, 3, 2))
LABELS[0] = -1  # a shard without a label
LOSSES = {
    'lsgan real': (functools.partial(losses.lsgan, real=True), (IMAGES,)),
    'lsgan fake': (functools.partial(losses.lsgan, real=False), (IMAGES,)),
    'log_likelihood real': (functools.partial(losses.log_likelihood, real=True), (IMAGES,)),
    'log_likelihood fake': (functools.partial(losses.log_likelihood, real=False), (IMAGES,)),
    'l1': (losses.l1, (IMAGES, OTHERS)),
    'cross entropy': (functools.partial(losses.cross_entropy, class_weights=WEIGHTS), (LOGITS, LABELS)),
    'cross entropy by weight': (
        functools.partial(losses.cross_entropy, class_weights=WEIGHTS, by_weight=True),
        (LOGITS, LABELS),
    ),
    'dice': (losses.soft_dice, (LOGITS, np.abs(LABELS))),
}
every_loss = pytest.mark.parametrize('loss, arrays', LOSSES.values(), ids=LOSSES)


def test_every_loss_is_here():
    named = {*losses.ADVERSARIAL.values(), *losses.CYCLE.values(), *losses.SEGMENTATION.values()}
    assert named == {getattr(loss, 'func', loss) for loss, _ in LOSSES.values()}


@every_loss
def test_finite_differences(loss, arrays, x64):
    x, *rest = map(jnp.asarray, arrays)
    direction = jnp.asarray(np.random.RandomState(2).normal(size=x.shape))
    slope = jnp.vdot(jax.grad(loss)(x, *rest), direction)
    h = 1e-5
    found = (loss(x + h * direction, *rest) - loss(x - h * direction, *rest)) / (2 * h)
    assert found == pytest.approx(float(slope), rel=1e-7)


@every_loss
@pytest.mark.parametrize('shards', [2, 4])
def test_shards_make_the_whole(loss, arrays, shards, x64):
    arrays = [jnp.asarray(array) for array in arrays]
    split = [array.reshape(shards, -1, *array.shape[1:]) for array in arrays]
    found = jax.vmap(lambda *a: loss(*a, total=lambda x: lax.psum(x, 'rows')), axis_name='rows')(*split)
    np.testing.assert_allclose(found, loss(*arrays), rtol=1e-12)


@every_loss
def test_narrow_input_is_summed_wide(loss, arrays):
    narrow = [jnp.asarray(a, jnp.bfloat16 if a.dtype.kind == 'f' else jnp.int32) for a in arrays]
    wide = [a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a for a in narrow]
    assert loss(*narrow).dtype == jnp.float32
    assert float(loss(*narrow)) == float(loss(*wide))
