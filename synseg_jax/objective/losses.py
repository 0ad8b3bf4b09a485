"""Losses: arrays to one scalar, computed in float32 or wider.

`total` sums an array over all shards of the batch; a loss divides sums by sums, so that its value does not
depend on how the batch was split.  The default is a batch in one piece.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer

from synseg_jax.errors import InputError, known
from synseg_jax.specification.objective import Losses

Scalar = Float[Array, '']
Total = Callable[[Array], Array]

WINDOW = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)  # of SSIM, along one axis
WINDOW /= WINDOW.sum()


def whole(x: Array) -> Array:
    """`x`: one shard holds the whole batch."""
    return x


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _mean(x, total):
    return total(x.sum()) / total(jnp.asarray(x.size, x.dtype))


def lsgan(logits: Float[Array, '...'], real: bool, total: Total = whole) -> Scalar:
    """mean (logits - real)^2: the least-squares adversarial loss (Mao et al., 2017)."""
    return _mean(jnp.square(_wide(logits) - float(real)), total)


def log_likelihood(logits: Float[Array, '...'], real: bool, total: Total = whole) -> Scalar:
    """mean -log sigmoid(+-logits): the adversarial loss of Goodfellow et al. (2014), non-saturating."""
    logits = _wide(logits)
    return _mean(jax.nn.softplus(-logits if real else logits), total)


def l1(x: Float[Array, '...'], y: Float[Array, '...'], total: Total = whole) -> Scalar:
    """mean |x - y|."""
    return _mean(jnp.abs(_wide(x) - _wide(y)), total)


def l2(x: Float[Array, '...'], y: Float[Array, '...'], total: Total = whole) -> Scalar:
    """mean (x - y)^2."""
    return _mean(jnp.square(_wide(x) - _wide(y)), total)


def ssim(x: Float[Array, 'b *space c'], y: Float[Array, 'b *space c'], total: Total = whole) -> Scalar:
    """1 - the mean of `ssim_map` over images that are in [-1, 1]."""
    return _mean(1 - ssim_map((_wide(x) + 1) / 2, (_wide(y) + 1) / 2), total)


def ssim_map(x: Float[Array, 'b *space c'], y: Float[Array, 'b *space c']) -> Float[Array, 'b *inner c']:
    """Structural similarity (Wang et al., 2004) of images in [0, 1], at every pixel whose whole window lies inside.

    Gaussian window of 11 pixels and sigma 1.5 on every axis; C1 = 0.01^2, C2 = 0.03^2; biased covariance.
    """
    if min(x.shape[1:-1]) < len(WINDOW):
        raise InputError(f'images of {x.shape[1:-1]}: SSIM needs {len(WINDOW)} pixels on every axis; change data.size')
    x, y = _wide(x), _wide(y)
    variances = covariance = jnp.zeros_like(x)
    for axis in range(1, x.ndim - 1):
        # By the law of total variance one axis after the other, from centred values: E[x^2] - E[x]^2 would lose what
        # is small beside C2.
        smooth = partial(_smooth, axis=axis)
        near = [(weight, _shifted(x, i, axis), _shifted(y, i, axis)) for i, weight in enumerate(WINDOW.tolist())]
        x, y = smooth(x), smooth(y)
        variances = smooth(variances) + sum(w * (jnp.square(p - x) + jnp.square(q - y)) for w, p, q in near)
        covariance = smooth(covariance) + sum(w * (p - x) * (q - y) for w, p, q in near)
    luminance = (2 * x * y + 0.01**2) / (x * x + y * y + 0.01**2)
    return luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)


def _shifted(x, by, axis):
    return jax.lax.slice_in_dim(x, by, by + x.shape[axis] - len(WINDOW) + 1, axis=axis)


def _smooth(x, axis):
    """The window's mean along an axis, as a product with a banded matrix: on CPU 8 times faster than summing slices."""
    inner = x.shape[axis] - len(WINDOW) + 1
    band = sum(weight * np.eye(inner, x.shape[axis], i) for i, weight in enumerate(WINDOW))
    mean = jnp.tensordot(x, jnp.asarray(band, x.dtype), (axis, 1), precision='highest')
    return jnp.moveaxis(mean, -1, axis)


def patch_nce(
    queries: Float[Array, 'b p c'], keys: Float[Array, 'b p c'], total: Total = whole, temperature: float = 0.07
) -> Scalar:
    """mean over patches p of -log softmax_q(query_p . key_q / temperature)[p] (Park et al., 2020).

    Queries and keys are unit vectors.  The other patches q are those of the same image.
    """
    similarity = jnp.einsum('bpc,bqc->bpq', _wide(queries), _wide(keys)) / temperature
    return _mean(jax.nn.logsumexp(similarity, -1) - jnp.diagonal(similarity, axis1=1, axis2=2), total)


def cross_entropy(
    logits: Float[Array, '*bs k'],
    labels: Integer[Array, '*bs'],
    class_weights: Float[Array, 'k'],
    by_weight: bool = False,
    total: Total = whole,
) -> Scalar:
    """sum w[label] * -log softmax(logits)[label] / number of labelled pixels, or / sum w[label] if `by_weight`."""
    return _over_pixels(_surprise(logits, labels), labels, class_weights, by_weight, total)


def _surprise(logits, labels):
    """-log softmax(logits)[label] of every pixel, of unlabelled ones that of label 0."""
    return optax.softmax_cross_entropy_with_integer_labels(_wide(logits), jnp.where(labels >= 0, labels, 0))


def _over_pixels(values, labels, class_weights, by_weight, total):
    """sum w[label] * values / number of labelled pixels, or / sum w[label] if `by_weight`; 0 if none is labelled."""
    labelled = labels >= 0
    weights = class_weights.astype(values.dtype)[jnp.where(labelled, labels, 0)] * labelled
    count = weights.sum() if by_weight else labelled.sum(dtype=values.dtype)
    return total((weights * values).sum()) / jnp.maximum(total(count), 1e-7)


def two_classes(logits: Float[Array, '*bs 1']) -> Float[Array, '*bs 2']:
    """Logits whose softmax is 1 - p, p with p = sigmoid(logits)."""
    return jnp.concatenate([jnp.zeros_like(logits), logits], -1)


def binary_cross_entropy(
    logits: Float[Array, '*bs 1'],
    labels: Integer[Array, '*bs'],
    class_weights: Float[Array, '2'],
    by_weight: bool = False,
    total: Total = whole,
) -> Scalar:
    """`cross_entropy` of two classes with one logit per pixel: sigmoid(logits) is the probability of label 1."""
    return cross_entropy(two_classes(logits), labels, class_weights, by_weight, total)


def soft_dice(
    logits: Float[Array, 'b *s k'],
    labels: Integer[Array, 'b *s'],
    class_weights: Float[Array, 'k'],
    by_weight: bool = False,
    total: Total = whole,
) -> Scalar:
    """mean over the classes 1.. of w (1 - dice), or the mean weighted by w if `by_weight`; class 0 is left out.

    dice = (2 sum p g + 2e) / (sum p^2 + sum g^2 + e), sums over batch and labelled pixels, p = softmax(logits), g the
    one-hot labels, e 1e-7: the form of the published code of SynSeg-Net (Huo et al., 2019).
    """
    p = jax.nn.softmax(_wide(logits), axis=-1)[..., 1:] * (labels >= 0)[..., None]
    g = jax.nn.one_hot(labels, logits.shape[-1], dtype=p.dtype)[..., 1:]
    axes = tuple(range(p.ndim - 1))
    overlap, sizes = total((p * g).sum(axes)), total((p * p).sum(axes) + g.sum(axes))
    weights = class_weights.astype(p.dtype)[1:]
    count = weights.sum() if by_weight else weights.size
    return weights.sum() / count - (weights * (2 * (overlap + 1e-7) / (sizes + 1e-7))).sum() / count


def focal(
    logits: Float[Array, '*bs k'],
    labels: Integer[Array, '*bs'],
    class_weights: Float[Array, 'k'],
    by_weight: bool = False,
    total: Total = whole,
    gamma: float = 2.0,
) -> Scalar:
    """`cross_entropy` whose pixels also weigh (1 - p)^gamma, p the probability of their label (Lin et al., 2017)."""
    values = _surprise(logits, labels)
    return _over_pixels((-jnp.expm1(-values)) ** gamma * values, labels, class_weights, by_weight, total)


def focal_dice(
    logits: Float[Array, 'b *s k'],
    labels: Integer[Array, 'b *s'],
    class_weights: Float[Array, 'k'],
    by_weight: bool = False,
    total: Total = whole,
) -> Scalar:
    """`focal` with gamma 2 plus `soft_dice`."""
    arguments = logits, labels, class_weights, by_weight, total
    return focal(*arguments) + soft_dice(*arguments)


def dice_cross_entropy(
    logits: Float[Array, 'b *s k'],
    labels: Integer[Array, 'b *s'],
    class_weights: Float[Array, 'k'],
    by_weight: bool = False,
    total: Total = whole,
) -> Scalar:
    """`cross_entropy` plus `soft_dice`, as in nnU-Net (Isensee et al., 2021)."""
    arguments = logits, labels, class_weights, by_weight, total
    return cross_entropy(*arguments) + soft_dice(*arguments)


def disagreement(logits: Sequence[Float[Array, 'b *s k']], total: Total = whole) -> Scalar:
    """KL divergence of every view's class probabilities from their mean, averaged over views and all elements."""
    log_p = [jax.nn.log_softmax(_wide(view)) for view in logits]
    middle = jnp.log(jnp.maximum(sum(map(jnp.exp, log_p)) / len(log_p), 1e-7))
    return sum(_mean(jnp.exp(own) * (own - middle), total) for own in log_p) / len(log_p)


def most_probable(logits: Float[Array, '*bs k']) -> Integer[Array, '*bs']:
    """The most probable class of every pixel, also of two classes with one logit."""
    return (two_classes(logits) if logits.shape[-1] == 1 else logits).argmax(-1)


def certain_labels(logits: Float[Array, 'b *s k'], share: float) -> Integer[Array, 'b *s']:
    """The most probable class of every pixel; -1, unlabelled, but for the most certain `share` of the pixels of each
    class in each image."""
    labels = most_probable(logits)
    if share >= 1:
        return labels
    certainty = jax.nn.softmax(_wide(two_classes(logits) if logits.shape[-1] == 1 else logits)).max(-1)
    return jax.vmap(partial(_certain_pixels, share=share))(labels, certainty)


def _certain_pixels(labels, certainty, share):
    flat = labels.ravel()
    order = jnp.lexsort((-certainty.ravel(), flat))  # class by class, the most certain first
    ordered = flat[order]
    first = jnp.searchsorted(ordered, ordered, side='left')
    count = jnp.searchsorted(ordered, ordered, side='right') - first
    kept = jnp.arange(len(flat)) - first < share * count
    return jnp.full_like(flat, -1).at[order].set(jnp.where(kept, ordered, -1)).reshape(labels.shape)


def over_resolutions(
    loss: Callable[[Array, Array], Scalar],
    logits: Sequence[Float[Array, 'b ... k']],
    labels: Integer[Array, 'b *s'],
) -> Scalar:
    """sum 2^-l loss(logits[l], labels reduced by 2^l) / sum 2^-l: deep supervision, weighted as in nnU-Net."""
    full, *lower = logits
    reduced = [reduced_labels(labels, 2**level, x.shape[1:-1]) for level, x in enumerate(lower, 1)]
    values = [loss(*pair) for pair in zip(logits, [labels, *reduced], strict=True)]
    weights = [0.5**level for level in range(len(values))]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def reduced_labels(labels: Integer[Array, 'b *s'], factor: int, size: Sequence[int]) -> Integer[Array, 'b *s2']:
    """Labels at `size` by nearest neighbour, the middle one of each `factor` pixels; -1 beyond the image's border."""
    missing = [wanted * factor - length for length, wanted in zip(labels.shape[1:], size, strict=True)]
    pads = [(0, 0), *((more // 2, more - more // 2) for more in missing)]
    middle = (slice(factor // 2, None, factor),) * len(missing)
    return jnp.pad(labels, pads, constant_values=-1)[:, *middle]


ADVERSARIAL = {'lsgan': lsgan, 'log_likelihood': log_likelihood}
CYCLE = {'l1': l1, 'l2': l2, 'ssim': ssim}
# All of one signature.  Pixels with a negative label are unlabelled and count in no sum.
SEGMENTATION = {
    'cross_entropy': cross_entropy,
    'binary_cross_entropy': binary_cross_entropy,
    'dice': soft_dice,
    'focal_dice': focal_dice,
    'dice_cross_entropy': dice_cross_entropy,
}
ONE_LOGIT = {'binary_cross_entropy'}  # of two classes, where the others take one logit per class


def check(names: Losses) -> None:
    """InputError for a loss that does not exist."""
    for field, known_names in {'adversarial': ADVERSARIAL, 'cycle': CYCLE, 'segmentation': SEGMENTATION}.items():
        known(f'config.loss.{field}', getattr(names, field), known_names)
