"""The terms that players pay for: one scalar each, from a lazily computed view of one forward pass.

The suffix is the domain of the image: `fake_b = g_ab(a)`, `d_b` judges b-images, `cyc_a` compares a with
`g_ba(g_ab(a))`.  A term says which networks it runs and which arrays of the batch it reads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Key

from synseg_jax.errors import known
from synseg_jax.objective import losses
from synseg_jax.objective.losses import Scalar, Total


@dataclass(frozen=True)
class Choices:
    """Which of the interchangeable losses a run uses, by name."""

    adversarial: str = 'lsgan'
    cycle: str = 'l1'
    segmentation: str = 'cross_entropy'
    class_weights: tuple[float, ...] = ()
    by_weight: bool = False  # cross entropy over the sum of the weights rather than over pixels

    def __post_init__(self):
        known('adversarial loss', self.adversarial, losses.ADVERSARIAL)
        known('cycle loss', self.cycle, losses.CYCLE)
        known('segmentation loss', self.segmentation, losses.SEGMENTATION)


class View:
    """The images of one forward pass, each made once and only if a term asks for it.

    A view lives inside the function that is differentiated: one per player.
    """

    def __init__(
        self,
        networks: Mapping[str, Callable],
        params: Mapping,
        batch: Mapping[str, Array],
        choices: Choices = Choices(),
        show: Callable[[str, Array], Array] = lambda domain, fakes: fakes,
        total: Total = losses.whole,
        keys: Key[Array, 'b'] | None = None,
    ):
        """`show(domain, fakes)` returns the fakes, past or present, that the domain's discriminator is shown.

        `keys`, one per row, are for what networks do at random, dropout; without keys they do nothing at random.
        """
        self.networks, self.params, self.batch = networks, params, batch
        self.choices, self.show, self.total = choices, show, total
        self.random = {} if keys is None else {'keys': keys}

    def __getattr__(self, name):
        if name in self.networks:
            return partial(self.networks[name], self.params[name], **self.random)
        if name in self.batch:
            return self.batch[name]
        raise AttributeError(f'neither a network nor an array of the batch: {name}')

    @cached_property
    def fake_b(self):
        return self.g_ab(self.a)

    @cached_property
    def fake_a(self):
        return self.g_ba(self.b)

    @cached_property
    def rec_a(self):
        return self.g_ba(self.fake_b)

    @cached_property
    def rec_b(self):
        return self.g_ab(self.fake_a)

    def features(self, domain: str, images):
        """What the segmentor of a domain makes of images: logits or, of twins, the input of the layer they share."""
        return getattr(self, f's_{domain}')(images)

    def segment(self, domain: str, images):
        """The segmentor's logits."""
        features = self.features(domain, images)
        twins = 's_shared' in self.networks
        return getattr(self, f's_head_{domain}')(self.s_shared(features)) if twins else features

    def adversarial(self, logits, real):
        return losses.ADVERSARIAL[self.choices.adversarial](logits, real, self.total)

    def cycle(self, x, y):
        return losses.CYCLE[self.choices.cycle](x, y, self.total)

    def segmentation(self, logits, labels):
        loss = losses.SEGMENTATION[self.choices.segmentation]
        if self.choices.segmentation == 'dice':
            return loss(logits, labels, self.total)
        weights = jnp.asarray(self.choices.class_weights or (1.0,) * max(2, logits.shape[-1]), float)
        return loss(logits, labels, weights, self.choices.by_weight, self.total)


class Term(NamedTuple):
    value: Callable[[View], Scalar]
    networks: tuple[str, ...]
    arrays: tuple[str, ...]


TERMS: dict[str, Term] = {}


def term(networks: str, arrays: str):
    """Registers a function of the view as the term of its name, with the networks it runs and the arrays it reads."""

    def register(value):
        TERMS[value.__name__] = Term(value, tuple(networks.split()), tuple(arrays.split()))
        return value

    return register


@term('g_ab d_b', 'a')
def adv_b(v):
    return v.adversarial(v.d_b(v.fake_b), real=True)


@term('g_ba d_a', 'b')
def adv_a(v):
    return v.adversarial(v.d_a(v.fake_a), real=True)


@term('g_ab g_ba', 'a')
def cyc_a(v):
    return v.cycle(v.rec_a, v.a)


@term('g_ab g_ba', 'b')
def cyc_b(v):
    return v.cycle(v.rec_b, v.b)


@term('g_ba', 'a')
def idt_a(v):
    return losses.l1(v.g_ba(v.a), v.a, v.total)


@term('g_ab', 'b')
def idt_b(v):
    return losses.l1(v.g_ab(v.b), v.b, v.total)


@term('g_ba d_a', 'a b')
def dis_a(v):
    shown = v.show('a', v.fake_a)
    return (v.adversarial(v.d_a(v.a), real=True) + v.adversarial(v.d_a(shown), real=False)) / 2


@term('g_ab d_b', 'a b')
def dis_b(v):
    shown = v.show('b', v.fake_b)
    return (v.adversarial(v.d_b(v.b), real=True) + v.adversarial(v.d_b(shown), real=False)) / 2


@term('s_a', 'a label_a')
def seg_a(v):
    return v.segmentation(v.segment('a', v.a), v.label_a)


@term('s_b', 'b label_b')
def seg_b(v):
    return v.segmentation(v.segment('b', v.b), v.label_b)


@term('g_ba s_a', 'b label_b')
def seg_fake_a(v):
    return v.segmentation(v.segment('a', v.fake_a), v.label_b)


@term('g_ab s_b', 'a label_a')
def seg_fake_b(v):
    return v.segmentation(v.segment('b', v.fake_b), v.label_a)


@term('g_ab g_ba s_a', 'a label_a')
def seg_rec_a(v):
    return v.segmentation(v.segment('a', v.rec_a), v.label_a)


@term('g_ab g_ba s_b', 'b label_b')
def seg_rec_b(v):
    return v.segmentation(v.segment('b', v.rec_b), v.label_b)


@term('g_ab s_a s_b', 'a')
def feat(v):
    return losses.l2(v.features('a', v.a), v.features('b', v.fake_b), v.total)
