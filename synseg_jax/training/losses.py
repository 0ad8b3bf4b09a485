"""Losses: arrays to one scalar, computed in float32 or wider.

`total` sums an array over all shards of the batch; a loss divides sums by sums, so that its value does not
depend on how the batch was split.  The default is a batch in one piece.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer

Scalar = Float[Array, '']
Total = Callable[[Array], Array]


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


def cross_entropy(
    logits: Float[Array, '*bs k'],
    labels: Integer[Array, '*bs'],
    class_weights: Float[Array, 'k'],
    by_weight: bool = False,
    total: Total = whole,
) -> Scalar:
    """sum w[label] * -log softmax(logits)[label] / number of pixels, or / sum w[label] if `by_weight`.

    Pixels with a negative label are unlabelled: they count in neither sum.  0 if no pixel is labelled.
    """
    labelled = labels >= 0
    labels = jnp.where(labelled, labels, 0)
    values = optax.softmax_cross_entropy_with_integer_labels(_wide(logits), labels)
    weights = class_weights.astype(values.dtype)[labels] * labelled
    count = weights.sum() if by_weight else labelled.sum(dtype=values.dtype)
    return total((weights * values).sum()) / jnp.maximum(total(count), 1e-7)


def soft_dice(logits: Float[Array, 'b *s k'], labels: Integer[Array, 'b *s'], total: Total = whole) -> Scalar:
    """1 - mean over the classes 1.. of (2 sum p g + 2e) / (sum p^2 + sum g^2 + e), sums over batch and pixels, e 1e-7.

    p = softmax(logits), g the one-hot labels; class 0, the background, is left out.  Published in SynSeg-Net's code.
    """
    p = jax.nn.softmax(_wide(logits), axis=-1)[..., 1:]
    g = jax.nn.one_hot(labels, logits.shape[-1], dtype=p.dtype)[..., 1:]
    axes = tuple(range(p.ndim - 1))
    overlap, sizes = total((p * g).sum(axes)), total((p * p).sum(axes) + g.sum(axes))
    return 1 - (2 * (overlap + 1e-7) / (sizes + 1e-7)).mean()


ADVERSARIAL = {'lsgan': lsgan, 'log_likelihood': log_likelihood}
CYCLE = {'l1': l1}
SEGMENTATION = {'cross_entropy': cross_entropy, 'dice': soft_dice}
