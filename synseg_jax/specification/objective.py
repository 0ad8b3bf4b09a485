"""Fields of the objective: weights of terms, and the losses that terms are made of."""

from collections.abc import Mapping
from dataclasses import dataclass

from synseg_jax.specification.field import NOT_NEGATIVE, POSITIVE_COUNT, SHARE, FrozenMapping, Rule, field


def _is_weight(value) -> bool:
    """Whether a value is a finite number >= 0, or a schedule of such numbers over a number of steps."""
    if not isinstance(value, tuple | list):
        return NOT_NEGATIVE.holds(value)
    if len(value) != 4:
        return False
    kind, *numbers, steps = value
    return isinstance(kind, str) and all(map(NOT_NEGATIVE.holds, numbers)) and POSITIVE_COUNT.holds(steps)


Weight = float | tuple[str, float, float, int]
WEIGHT = Rule(_is_weight, "a finite number from 0 on, or a schedule ('linear', first, last, steps)")


@dataclass(frozen=True)
class Weights:
    """{term: weight} of each player, for the terms whose weight differs from the method's table.

    Terms are those of synseg_jax/objective/terms.py, schedules those of synseg_jax/objective/weights.py.
    """

    gen: Mapping[str, Weight] = field(
        FrozenMapping(), 'weights of the terms that generators minimise, see synseg_jax/objective/terms.py', WEIGHT
    )
    dis: Mapping[str, Weight] = field(FrozenMapping(), 'weights of the terms that discriminators minimise', WEIGHT)
    seg: Mapping[str, Weight] = field(FrozenMapping(), 'weights of the terms that segmentors minimise', WEIGHT)


@dataclass(frozen=True)
class Losses:
    """Loss functions used by the terms, by their names in synseg_jax/objective/losses.py."""

    adversarial: str = field(
        'lsgan',
        'adversarial loss: lsgan (least squares) or log_likelihood; see ADVERSARIAL in synseg_jax/objective/losses.py',
    )
    cycle: str = field('l1', 'cycle-consistency loss between an image and its reconstruction: l1, l2 or ssim')
    segmentation: str = field(
        'cross_entropy',
        'segmentation loss, one of SEGMENTATION in synseg_jax/objective/losses.py; binary_cross_entropy is for 2 '
        'classes and networks with one logit',
    )
    class_weights: tuple[float, ...] = field(
        (), 'one weight per class of the segmentation loss, in the order of the classes; empty: all 1', NOT_NEGATIVE
    )
    organ_weight: float = field(
        1.0,
        'weight of every class but the background in the segmentation loss, where class_weights is empty',
        NOT_NEGATIVE,
        added=True,
    )
    pseudo_share: float = field(
        1.0,
        'share of the most certain pixels of each class in an image whose pseudo labels a mean teacher gives',
        SHARE,
        added=True,
    )
    by_weight: bool = field(
        False, 'normalise by the sum of the class weights instead of the number of pixels (dice: number of classes)'
    )
