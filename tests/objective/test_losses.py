"""Losses have the values that one works out by hand, true gradients, and do not depend on how a batch is split."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from sklearn.metrics import log_loss

from synseg_jax.errors import InputError
from synseg_jax.objective import losses

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


def test_l2_by_hand():
    assert losses.l2(jnp.asarray([[1.0, -2.0]]), jnp.asarray([[0.5, 1.0]])) == pytest.approx((0.25 + 9) / 2)


def pictures(size, seed=0):
    """Pairs of images in [0, 1] that are unlike, alike but for noise, smooth, and flat but for a corner."""
    random = np.random.RandomState(seed)
    noise, other = random.uniform(size=(2, *size))
    smooth = gaussian_filter(random.uniform(size=size), 3)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    flat = np.where(smooth > 0.7, smooth, 1)
    return [(noise, other), (smooth, 0.9 * smooth + 0.1 * noise), (smooth, smooth**2), (flat, 0.97 * flat)]


def similarity(x, y):
    return structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=-1
    )


@pytest.mark.parametrize('size', [(24, 31), (11, 11), (12, 13, 14)])
def test_ssim_is_scikit_images(size):
    ssim, ssim_map = jax.jit(losses.ssim), jax.jit(losses.ssim_map)
    for pair in pictures(size):
        x, y = (np.stack([image, 1 - image], -1) for image in pair)
        narrow = [jnp.asarray(image, jnp.float32)[None] for image in (x, y)]
        assert np.asarray(ssim_map(*narrow), np.float64).mean() == pytest.approx(similarity(x, y), abs=1e-6)
        assert 1 - ssim(*(2 * image - 1 for image in narrow)) == pytest.approx(similarity(x, y), abs=1e-5)
        with jax.enable_x64(True):
            precise = ssim_map(jnp.asarray(x)[None], jnp.asarray(y)[None])
            assert precise.shape == (1, *(n - 10 for n in size), 2)
            assert precise.mean() == pytest.approx(similarity(x, y), abs=1e-12)


def test_ssim_by_hand():
    x = jnp.full((1, 12, 12, 1), 0.5)
    assert losses.ssim(x, x) == 0
    assert losses.ssim_map(*[x.astype(jnp.bfloat16)] * 2).dtype == jnp.float32
    luminance = (2 * 0.75 * 0.5 + 1e-4) / (0.75**2 + 0.5**2 + 1e-4)
    assert losses.ssim(x, 0 * x) == pytest.approx(1 - luminance, rel=1e-5)
    with pytest.raises(InputError, match=r'images of \(12, 10\): SSIM needs 11 pixels on every axis; change data.size'):
        losses.ssim(x[:, :, :10], x[:, :, :10])


@pytest.mark.parametrize('by_weight', [False, True])
def test_binary_cross_entropy_is_scikit_learns(by_weight):
    random = np.random.RandomState(0)
    logits, labels = random.normal(0, 2, 50).astype(np.float32), random.randint(-1, 2, 50)
    weights, seen = np.asarray([1.0, 3.0]), labels >= 0
    p, w = 1 / (1 + np.exp(-logits[seen])), weights[labels[seen]]
    expected = log_loss(labels[seen], p, sample_weight=w, normalize=False) / (w.sum() if by_weight else seen.sum())
    found = losses.binary_cross_entropy(logits_1(logits), jnp.asarray(labels), jnp.asarray(weights), by_weight)
    assert found == pytest.approx(expected, rel=1e-5)
    slope = jax.grad(losses.binary_cross_entropy)(logits_1(logits), jnp.asarray(labels), jnp.asarray(weights))
    assert not slope[~seen].any() and slope[seen].all()


def logits_1(values):
    return jnp.asarray(values)[..., None]


def test_binary_cross_entropy_is_stable():
    for logit, label, value, slope in ((1e4, 1, 0, 0), (1e4, 0, 1e4, 1), (-1e4, 1, 1e4, -1)):
        loss = functools.partial(losses.binary_cross_entropy, labels=jnp.asarray([label]), class_weights=jnp.ones(2))
        found = jax.value_and_grad(loss)(jnp.asarray([[logit]]))
        assert float(found[0]) == value and float(found[1][0, 0]) == slope


def test_two_classes():
    logits = jnp.asarray([[0.0], [3.0], [-60.0]])
    p = jax.nn.softmax(losses.two_classes(logits))
    np.testing.assert_allclose(p[:, 1:], jax.nn.sigmoid(logits), rtol=1e-6)


def test_cross_entropy_by_pixels_and_by_weights():
    logits = logits_of([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75], [0.25, 0.5, 0.25]])
    labels = jnp.asarray([0, 2, 0])
    weighted = np.log(2) - 4 * np.log(0.75) + np.log(4)
    assert losses.cross_entropy(logits, labels, WEIGHTS) == pytest.approx(weighted / 3, rel=1e-6)
    assert losses.cross_entropy(logits, labels, WEIGHTS, by_weight=True) == pytest.approx(weighted / 6, rel=1e-6)
    same = losses.cross_entropy(logits, labels, jnp.ones(3)), losses.cross_entropy(logits, labels, jnp.ones(3), True)
    assert same[0] == same[1] == pytest.approx((np.log(2) - np.log(0.75) + np.log(4)) / 3, rel=1e-6)


@pytest.mark.parametrize('by_weight', [False, True])
@pytest.mark.parametrize('name', sorted({*losses.SEGMENTATION} - losses.ONE_LOGIT))
def test_unlabelled_pixels_count_for_nothing(name, by_weight):
    loss = losses.SEGMENTATION[name]
    random = np.random.RandomState(0)
    logits, labels = jnp.asarray(random.normal(size=(2, 5, 3)), jnp.float32), jnp.asarray([[0, 1, 2, 1, 2]] * 2)
    cut = labels.at[:, 3:].set(-1)
    expected = loss(logits[:, :3], labels[:, :3], WEIGHTS, by_weight)
    value, slope = jax.value_and_grad(loss)(logits, cut, WEIGHTS, by_weight)
    assert value == pytest.approx(float(expected), rel=1e-6)
    assert not slope[:, 3:].any() and slope[:, :3].all()
    slope = jax.grad(loss)(logits, jnp.full_like(labels, -1), WEIGHTS, by_weight)
    assert not slope.any()


def test_cross_entropy_without_labelled_pixels_is_0():
    assert losses.cross_entropy(jnp.ones((2, 5, 3)), jnp.full((2, 5), -1), WEIGHTS) == 0


def test_a_label_without_a_class_is_not_hidden():
    assert not np.isfinite(losses.cross_entropy(jnp.zeros((2, 3)), jnp.asarray([0, 3]), WEIGHTS))


def test_soft_dice_perfect_and_worst():
    labels = jnp.asarray([[[0, 1], [2, 1]]])
    perfect = 100 * jax.nn.one_hot(labels, 3)
    assert losses.soft_dice(perfect, labels, WEIGHTS) == pytest.approx(0, abs=1e-6)
    assert losses.soft_dice(jnp.roll(perfect, 1, -1), labels, WEIGHTS) == pytest.approx(3, abs=1e-6)
    assert losses.soft_dice(jnp.roll(perfect, 1, -1), labels, WEIGHTS, True) == pytest.approx(1, abs=1e-6)


def test_soft_dice_by_hand():
    """The background counts in no sum, classes count alike, and the batch is one volume."""
    logits = logits_of([[[0.5, 0.5], [0.75, 0.25]], [[0.25, 0.75], [0.5, 0.5]]])
    labels = jnp.asarray([[1, 0], [1, 1]])
    dice = 2 * (0.5 + 0.75 + 0.5) / (0.25 + 0.0625 + 0.5625 + 0.25 + 3)
    assert losses.soft_dice(logits, labels, jnp.ones(2)) == pytest.approx(1 - dice, rel=1e-5)


def test_soft_dice_with_weights_is_the_mean_over_classes():
    logits = jnp.asarray(LOGITS, jnp.float32)
    labels = jnp.asarray(np.abs(LABELS))
    one, two = (float(losses.soft_dice(logits, labels, jnp.eye(3)[c], True)) for c in (1, 2))
    assert losses.soft_dice(logits, labels, jnp.ones(3)) == pytest.approx((one + two) / 2, rel=1e-6)
    assert losses.soft_dice(logits, labels, WEIGHTS, True) == pytest.approx((2 * one + 4 * two) / 6, rel=1e-6)
    assert losses.soft_dice(logits, labels, WEIGHTS) == pytest.approx((2 * one + 4 * two) / 2, rel=1e-6)


def test_focal_by_hand():
    """Lin et al.: pixels that are right already hardly count; gamma 0 is cross entropy."""
    logits, labels = logits_of([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]), jnp.asarray([0, 2])
    expected = (0.5**2 * np.log(2) - 4 * 0.25**2 * np.log(0.75)) / 2
    assert losses.focal(logits, labels, WEIGHTS) == pytest.approx(expected, rel=1e-5)
    assert losses.focal(logits, labels, WEIGHTS, gamma=0.0) == losses.cross_entropy(logits, labels, WEIGHTS)
    both = losses.focal(logits, labels, WEIGHTS) + losses.soft_dice(logits, labels, WEIGHTS)
    assert losses.SEGMENTATION['focal_dice'](logits, labels, WEIGHTS) == both
    sure, slope = jax.value_and_grad(losses.focal)(jnp.asarray([[1e4, 0.0, 0.0]]), jnp.asarray([0]), WEIGHTS)
    assert sure == 0 and not slope.any()


def test_losses_of_resolutions_by_hand():
    """Weights 4/7, 2/7 and 1/7; the middle label of every 2 and 4 pixels, none beyond an axis of 6 of the padded 8."""
    labels = jnp.asarray(np.arange(6 * 8).reshape(1, 6, 8))
    half, quarter = losses.reduced_labels(labels, 2, (4, 4)), losses.reduced_labels(labels, 4, (2, 2))
    assert half[0].tolist() == [[1, 3, 5, 7], [17, 19, 21, 23], [33, 35, 37, 39], [-1] * 4]
    assert quarter[0].tolist() == [[10, 14], [42, 46]]
    logits = [jnp.full((1, *size, 1), value) for size, value in (((6, 8), 1.0), ((4, 4), 10.0), ((2, 2), 100.0))]
    found = losses.over_resolutions(lambda x, y: x.mean() * y.max(), logits, labels)
    assert found == pytest.approx((4 * 47 + 2 * 10 * 39 + 100 * 46) / 7)


def test_views_that_agree_cost_nothing():
    p, q = (np.array([[[x, 1 - x]]]) for x in (0.5, 0.75))
    middle = (p + q) / 2
    expected = np.mean([(own * np.log(own / middle)).mean() for own in (p, q)])
    assert losses.disagreement([logits_of(p), logits_of(q)]) == pytest.approx(expected, rel=1e-5)
    assert losses.disagreement([logits_of(p), logits_of(p)]) == pytest.approx(0, abs=1e-7)


def test_the_most_certain_of_each_class_are_labelled():
    """In every image alone, a rare class keeps the same share of its pixels as a frequent one."""
    p = np.array([[0.9, 0.8, 0.7, 0.6, 0.4, 0.3], [0.95, 0.99, 0.4, 0.3, 0.2, 0.1]])
    logits = logits_of(np.stack([p, 1 - p], -1))
    np.testing.assert_array_equal(losses.certain_labels(logits, 0.5), [[0, 0, -1, -1, -1, 1], [-1, 0, -1, -1, 1, 1]])
    one = logits[..., 1:] - logits[..., :1]
    np.testing.assert_array_equal(losses.certain_labels(one, 0.5), losses.certain_labels(logits, 0.5))
    np.testing.assert_array_equal(losses.certain_labels(logits, 1.0), [[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]])
    np.testing.assert_array_equal(losses.certain_labels(logits, 0.1), [[0, -1, -1, -1, -1, 1], [-1, 0, -1, -1, -1, 1]])


RANDOM = np.random.RandomState(1)
IMAGES, OTHERS = RANDOM.normal(size=(2, 4, 3, 2, 1))
LOGITS, LABELS = RANDOM.normal(size=(4, 3, 2, 3)), RANDOM.randint(-1, 3, (4, 3, 2))
LABELS[0] = -1  # a shard without a label
X, Y = RANDOM.uniform(-1, 1, (2, 4, 12, 13, 1))
VOLUME = RANDOM.uniform(-1, 1, (4, 11, 12, 11, 1))
LOSSES = {
    'lsgan real': (functools.partial(losses.lsgan, real=True), (IMAGES,)),
    'lsgan fake': (functools.partial(losses.lsgan, real=False), (IMAGES,)),
    'log_likelihood real': (functools.partial(losses.log_likelihood, real=True), (IMAGES,)),
    'log_likelihood fake': (functools.partial(losses.log_likelihood, real=False), (IMAGES,)),
    'l1': (losses.l1, (IMAGES, OTHERS)),
    'l2': (losses.l2, (IMAGES, OTHERS)),
    'ssim': (losses.ssim, (X, Y)),
    'ssim in 3-D': (losses.ssim, (VOLUME, VOLUME[:, ::-1] ** 2)),
    'binary cross entropy': (
        functools.partial(losses.binary_cross_entropy, class_weights=WEIGHTS[:2]),
        (LOGITS[..., :1], np.minimum(LABELS, 1)),
    ),
    'cross entropy': (functools.partial(losses.cross_entropy, class_weights=WEIGHTS), (LOGITS, LABELS)),
    'cross entropy by weight': (
        functools.partial(losses.cross_entropy, class_weights=WEIGHTS, by_weight=True),
        (LOGITS, LABELS),
    ),
    'dice': (functools.partial(losses.soft_dice, class_weights=WEIGHTS), (LOGITS, LABELS)),
    'dice and cross entropy': (functools.partial(losses.dice_cross_entropy, class_weights=WEIGHTS), (LOGITS, LABELS)),
    'focal and dice': (functools.partial(losses.focal_dice, class_weights=WEIGHTS), (LOGITS, LABELS)),
}
every_loss = pytest.mark.parametrize('loss, arrays', LOSSES.values(), ids=LOSSES)


def test_every_loss_is_here():
    named = {*losses.ADVERSARIAL.values(), *losses.CYCLE.values(), *losses.SEGMENTATION.values()}
    assert named == {getattr(loss, 'func', loss) for loss, _ in LOSSES.values()}


@every_loss
def test_finite_differences(loss, arrays, x64):
    loss, (x, *rest) = jax.jit(loss), map(jnp.asarray, arrays)
    direction = jnp.asarray(np.random.RandomState(2).normal(size=x.shape))
    slope = jnp.vdot(jax.jit(jax.grad(loss))(x, *rest), direction)
    h = 1e-5
    found = (loss(x + h * direction, *rest) - loss(x - h * direction, *rest)) / (2 * h)
    assert found == pytest.approx(float(slope), rel=1e-7)


@every_loss
@pytest.mark.parametrize('shards', [2, 4])
def test_shards_make_the_whole(loss, arrays, shards, x64):
    arrays = [jnp.asarray(array) for array in arrays]
    split = [array.reshape(shards, -1, *array.shape[1:]) for array in arrays]
    found = jax.vmap(lambda *a: loss(*a, total=lambda x: lax.psum(x, 'rows')), axis_name='rows')
    np.testing.assert_allclose(jax.jit(found)(*split), jax.jit(loss)(*arrays), rtol=1e-12)


@every_loss
def test_narrow_input_is_summed_wide(loss, arrays):
    narrow = [jnp.asarray(a, jnp.bfloat16 if a.dtype.kind == 'f' else jnp.int32) for a in arrays]
    wide = [a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a for a in narrow]
    assert loss(*narrow).dtype == jnp.float32
    assert float(loss(*narrow)) == float(loss(*wide))
