"""The terms of the players' losses: one scalar each, from a lazily computed view of one forward pass.

The suffix is the domain of the image: `fake_b = g_ab(a)`, `d_b` judges b-images, `cyc_a` compares a with
`g_ba(g_ab(a))`.  A term declares the networks it uses and the arrays of the batch it reads.
"""

from collections.abc import Callable
from typing import NamedTuple

from synseg_jax.objective import losses
from synseg_jax.objective.losses import Scalar
from synseg_jax.objective.mind import mind
from synseg_jax.objective.view import View


class Term(NamedTuple):
    """A term of a loss, with the networks it uses and the arrays of the batch it reads.

    `crosses`: it compares images of both domains, or shows those of one to a network of the other.
    """

    value: Callable[[View], Scalar]
    networks: tuple[str, ...]
    arrays: tuple[str, ...]
    crosses: bool = False


TERMS: dict[str, Term] = {}


def term(networks: str, arrays: str, crosses: bool = False):
    """Registers a function of the view as the term of its name; `networks` it uses and `arrays` it reads, by name."""

    def register(value):
        TERMS[value.__name__] = Term(value, tuple(networks.split()), tuple(arrays.split()), crosses)
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


@term('g_ba', 'a', crosses=True)
def idt_a(v):
    """mean |g_ba(a) - a|: identity loss, an image that is in the domain already stays (Zhu et al., 2017)."""
    return losses.l1(v.g_ba(v.a), v.a, v.total)


@term('g_ab', 'b', crosses=True)
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


@term('g_ab', 'a', crosses=True)
def mind_a(v):
    """mean |MIND(g_ab(a)) - MIND(a)|: structure stays (Heinrich et al., 2012; Yang et al., 2018)."""
    return losses.l1(mind(v.fake_b), mind(v.a), v.total)


@term('g_ba', 'b', crosses=True)
def mind_b(v):
    """mean |MIND(g_ba(b)) - MIND(b)|: the same of translated target images."""
    return losses.l1(mind(v.fake_a), mind(v.b), v.total)


@term('g_ab judge', 'a label_a', crosses=True)
def judge_a(v):
    """segmentation(judge(g_ab(a)), label_a): semantic consistency, organs stay in place (Hoffman et al., ICML 2018)."""
    return v.segmentation(v.judge(v.fake_b), v.label_a)


@term('g_ba judge', 'b', crosses=True)
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


@term('s_a', 'b views_b', crosses=True)
def pseudo_b(v):
    """segmentation(s_a(view of b), what the teacher is certain of in b): mean teacher (Tarvainen & Valpola, 2017)."""
    return v.segmentation_of_views('b', losses.certain_labels(v.teacher.segment('a', v.b), v.choices.pseudo_share))


@term('s_a', 'views_b label_b', crosses=True)
def seg_views_b(v):
    """segmentation(s_a(view of b), label_b), mean over the views: on pseudo labels of an earlier stage."""
    return v.segmentation_of_views('b', v.label_b)


@term('g_ab h_ab', 'a', crosses=True)
def nce_a(v):
    """PatchNCE(g_ab(a), a): a patch of the translation is like that patch of the image (Park et al., 2020)."""
    return v.contrast(v.fake_b, v.a)


@term('g_ab h_ab', 'b', crosses=True)
def nce_b(v):
    """PatchNCE(g_ab(b), b): the same of target images, in place of an identity loss (Park et al., 2020)."""
    return v.contrast(v.g_ab(v.b), v.b)
