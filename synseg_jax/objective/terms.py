"""The terms of the players' losses: one scalar each, from a lazily computed view of one forward pass.

The suffix is the domain of the image: `fake_b = g_ab(a)`, `d_b` judges b-images, `cyc_a` compares a with
`g_ba(g_ab(a))`.  A term declares the networks it uses and the arrays of the batch it reads.
"""

from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from synseg_jax.errors import InputError
from synseg_jax.objective import losses, names
from synseg_jax.objective.losses import Scalar, Total
from synseg_jax.objective.mind import mind
from synseg_jax.objective.patches import sampled
from synseg_jax.specification.objective import Losses


class View:
    """The images of one forward pass, each computed once and only if a term asks for it.

    Networks and arrays of the batch are attributes: `view.g_ab(view.a)`.  A view lives inside the function that is
    differentiated: one per player.
    """

    def __init__(
        self,
        networks: Mapping[str, Callable],
        params: Mapping,
        batch: Mapping[str, Array],
        choices: Losses = Losses(),
        deep: Collection[str] = (),
        show: Callable[[str, Array], Array] = lambda domain, fakes: fakes,
        total: Total = losses.whole,
        keys: Key[Array, 'b'] | None = None,
        average: Mapping | None = None,
    ):
        """`deep` names the networks with deep supervision, which give logits at several resolutions.

        `show(domain, fakes)` returns the fakes, past or present, that the domain's discriminator is shown.

        `keys`, one per row, are for what is random inside a forward pass, such as dropout; without keys nothing is,
        nor in networks that are held fixed.
        `average` holds the moving average of the parameters, where there is one.
        """
        self.networks, self.params, self.batch = networks, params, batch
        self.choices, self.deep, self.show, self.total = choices, deep, show, total
        self.random = {} if keys is None else {'keys': keys}
        self.average = average

    def __getattr__(self, name):
        if hasattr(type(self), name):  # a property failed: its own error again, which names what is missing
            return object.__getattribute__(self, name)
        if name in self.networks:
            random = {} if names.is_fixed(name) else self.random
            return partial(self.networks[name], self.params[name], **random)
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

    @cached_property
    def teacher(self) -> 'View':
        """The forward pass of the moving average of the networks, without dropout and held fixed: a mean teacher."""
        if not self.average:
            raise InputError('a term needs the moving average of the weights; set config.average, for example to .99')
        return View(self.networks, jax.lax.stop_gradient(self.average), self.batch, self.choices, total=self.total)

    def features(self, domain: str, images):
        """The output of a domain's segmentor: logits, or the input of the layer that both segmentors share."""
        return getattr(self, names.segmentor(domain))(images)

    def segment(self, domain: str, images):
        """The logits of a domain's segmentor."""
        features = self.features(domain, images)
        shares = names.SHARED in self.networks
        return getattr(self, names.head(domain))(self.s_shared(features)) if shares else features

    def supervise(self, domain: str, images, labels):
        """The segmentation loss of a domain's segmentor on images; with deep supervision over all its resolutions."""
        name = names.segmentor(domain)
        if name not in self.deep:
            return self.segmentation(self.segment(domain, images), labels)
        logits = getattr(self, name)(images, method='resolutions')
        return losses.over_resolutions(self.segmentation, logits, labels)

    def views(self, domain: str) -> list:
        """The random views of a domain's images, [b, *space, c] each."""
        stacked = getattr(self, names.views(domain))
        return [stacked[:, i] for i in range(stacked.shape[1])]

    def segmentation_of_views(self, domain: str, labels) -> Scalar:
        """The segmentation loss of s_a on the views of a domain against `labels`, or what was pasted; their mean."""
        views, pasted = self.views(domain), self.batch.get(names.pasted(domain))
        values = []
        for i, view in enumerate(views):
            expected = labels if pasted is None else jnp.where(pasted[:, i] == names.OWN, labels, pasted[:, i])
            values.append(self.supervise('a', view, expected))
        return sum(values) / len(values)

    def adversarial(self, logits, real):
        """The adversarial loss of the configuration."""
        return losses.ADVERSARIAL[self.choices.adversarial](logits, real, self.total)

    def cycle(self, x, y):
        """The cycle loss of the configuration."""
        return losses.CYCLE[self.choices.cycle](x, y, self.total)

    def segmentation(self, logits, labels):
        """The segmentation loss of the configuration, with its class weights."""
        weights = jnp.asarray(self.choices.class_weights or (1.0,) * max(2, logits.shape[-1]), float)
        loss = losses.SEGMENTATION[self.choices.segmentation]
        return loss(logits, labels, weights, self.choices.by_weight, self.total)

    def contrast(self, translation, image):
        """PatchNCE of g_ab's encoder: a patch of the translation against those of the image, mean over the layers."""
        encoded = ({'image': x, **self.g_ab(x, encode=True)} for x in (translation, image))
        queries, wanted = map(self.h_ab, sampled(*encoded, keys=self.random.get('keys')))
        pairs = [(queries[layer], jax.lax.stop_gradient(wanted[layer])) for layer in queries]
        return sum(losses.patch_nce(*pair, self.total) for pair in pairs) / len(pairs)


class Term(NamedTuple):
    """A term of a loss, with the networks it uses and the arrays of the batch it reads."""

    value: Callable[[View], Scalar]
    networks: tuple[str, ...]
    arrays: tuple[str, ...]


TERMS: dict[str, Term] = {}


def term(networks: str, arrays: str):
    """Registers a function of the view as the term of its name; `networks` it uses and `arrays` it reads, by name."""

    def register(value):
        TERMS[value.__name__] = Term(value, tuple(networks.split()), tuple(arrays.split()))
        return value

    return register


@term('g_ab d_b', 'a')
def adv_b(v):
    """adversarial(d_b(g_ab(a)), real): g_ab is to fool d_b (Goodfellow et al., 2014; Zhu et al., 2017)."""
    return v.adversarial(v.d_b(v.fake_b), real=True)


@term('g_ba d_a', 'b')
def adv_a(v):
    """adversarial(d_a(g_ba(b)), real): g_ba is to fool d_a (Goodfellow et al., 2014; Zhu et al., 2017)."""
    return v.adversarial(v.d_a(v.fake_a), real=True)


@term('g_ab g_ba', 'a')
def cyc_a(v):
    """cycle(g_ba(g_ab(a)), a): cycle consistency (Zhu et al., 2017)."""
    return v.cycle(v.rec_a, v.a)


@term('g_ab g_ba', 'b')
def cyc_b(v):
    """cycle(g_ab(g_ba(b)), b): cycle consistency (Zhu et al., 2017)."""
    return v.cycle(v.rec_b, v.b)


@term('g_ba', 'a')
def idt_a(v):
    """mean |g_ba(a) - a|: identity loss, an image that is in the domain already stays (Zhu et al., 2017)."""
    return losses.l1(v.g_ba(v.a), v.a, v.total)


@term('g_ab', 'b')
def idt_b(v):
    """mean |g_ab(b) - b|: identity loss, an image that is in the domain already stays (Zhu et al., 2017)."""
    return losses.l1(v.g_ab(v.b), v.b, v.total)


@term('g_ba d_a', 'a b')
def dis_a(v):
    """(adversarial(d_a(a), real) + adversarial(d_a(fake_a), fake)) / 2, fakes of the image pool (Zhu et al., 2017)."""
    shown = v.show('a', v.fake_a)
    return (v.adversarial(v.d_a(v.a), real=True) + v.adversarial(v.d_a(shown), real=False)) / 2


@term('g_ab d_b', 'a b')
def dis_b(v):
    """(adversarial(d_b(b), real) + adversarial(d_b(fake_b), fake)) / 2, fakes of the image pool (Zhu et al., 2017)."""
    shown = v.show('b', v.fake_b)
    return (v.adversarial(v.d_b(v.b), real=True) + v.adversarial(v.d_b(shown), real=False)) / 2


@term('s_a', 'a label_a')
def seg_a(v):
    """segmentation(s_a(a), label_a): supervised on the source."""
    return v.supervise('a', v.a, v.label_a)


@term('s_b', 'b label_b')
def seg_b(v):
    """segmentation(s_b(b), label_b): supervised on the target."""
    return v.supervise('b', v.b, v.label_b)


@term('g_ba s_a', 'b label_b')
def seg_fake_a(v):
    """segmentation(s_a(g_ba(b)), label_b): shape consistency of translated target images (Zhang et al., 2018)."""
    return v.supervise('a', v.fake_a, v.label_b)


@term('g_ab s_b', 'a label_a')
def seg_fake_b(v):
    """segmentation(s_b(g_ab(a)), label_a): the segmentor of synthetic target images (Huo et al., 2019)."""
    return v.supervise('b', v.fake_b, v.label_a)


@term('g_ab g_ba s_a', 'a label_a')
def seg_rec_a(v):
    """segmentation(s_a(g_ba(g_ab(a))), label_a): of reconstructed source images (Zhang et al., 2018)."""
    return v.supervise('a', v.rec_a, v.label_a)


@term('g_ab g_ba s_b', 'b label_b')
def seg_rec_b(v):
    """segmentation(s_b(g_ab(g_ba(b))), label_b): of reconstructed target images (Zhang et al., 2018)."""
    return v.supervise('b', v.rec_b, v.label_b)


@term('g_ab s_a s_b', 'a')
def feat(v):
    """mean (f_a(a) - f_b(g_ab(a)))^2, f the segmentors' features: tumour-aware loss (Jiang et al., 2018)."""
    return losses.l2(v.features('a', v.a), v.features('b', v.fake_b), v.total)


@term('g_ab', 'a')
def mind_a(v):
    """mean |MIND(g_ab(a)) - MIND(a)|: structure stays (Heinrich et al., 2012; Yang et al., 2018)."""
    return losses.l1(mind(v.fake_b), mind(v.a), v.total)


@term('g_ba', 'b')
def mind_b(v):
    """mean |MIND(g_ba(b)) - MIND(b)|: the same of translated target images."""
    return losses.l1(mind(v.fake_a), mind(v.b), v.total)


@term('g_ab judge', 'a label_a')
def judge_a(v):
    """segmentation(judge(g_ab(a)), label_a): semantic consistency, organs stay in place (Hoffman et al., ICML 2018)."""
    return v.segmentation(v.judge(v.fake_b), v.label_a)


@term('g_ba judge', 'b')
def judge_b(v):
    """segmentation(judge(g_ba(b)), what the judge finds in b): the same of target images, without their labels."""
    return v.segmentation(v.judge(v.fake_a), losses.most_probable(v.judge(v.b)))


@term('s_a', 'views_a label_a')
def seg_views_a(v):
    """segmentation(s_a(view of a), label_a), mean over the views: supervised on randomised source images."""
    return v.segmentation_of_views('a', v.label_a)


@term('s_a', 'views_a')
def agree_a(v):
    """KL of s_a's probabilities of each view of a from their mean (Ouyang et al., IEEE TMI 2023)."""
    return losses.disagreement([v.segment('a', view) for view in v.views('a')], v.total)


@term('s_a', 'b views_b')
def pseudo_b(v):
    """segmentation(s_a(view of b), what the teacher is certain of in b): mean teacher (Tarvainen & Valpola, 2017)."""
    return v.segmentation_of_views('b', losses.certain_labels(v.teacher.segment('a', v.b), v.choices.pseudo_share))


@term('s_a', 'views_b label_b')
def seg_views_b(v):
    """segmentation(s_a(view of b), label_b), mean over the views: on pseudo labels of an earlier stage."""
    return v.segmentation_of_views('b', v.label_b)


@term('g_ab h_ab', 'a')
def nce_a(v):
    """PatchNCE(g_ab(a), a): a patch of the translation is like that patch of the image (Park et al., 2020)."""
    return v.contrast(v.fake_b, v.a)


@term('g_ab h_ab', 'b')
def nce_b(v):
    """PatchNCE(g_ab(b), b): the same of target images, in place of an identity loss (Park et al., 2020)."""
    return v.contrast(v.g_ab(v.b), v.b)
