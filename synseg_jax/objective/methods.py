"""Every method as a table: the weight of each term in each player's loss."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from synseg_jax.errors import InputError, known
from synseg_jax.objective import names
from synseg_jax.objective.names import PLAYERS

CYCLE_GAN = {'adv_a': 1.0, 'adv_b': 1.0, 'cyc_a': 10.0, 'cyc_b': 10.0}


# All players see the networks before the step, or each as updated by the players before it.
ORDERS = ('simultaneous', 'alternating')


@dataclass(frozen=True)
class Method:
    """`loss_weights[player][term]` is the weight of a term in the loss that a player minimises; a number or a Schedule.

    With `shared_layer` the segmentors share their penultimate layer: s_a and s_b make features, s_shared takes those of
    either, s_head_a and s_head_b end in logits.
    """

    name: str
    cite: str
    loss_weights: Mapping[str, Mapping[str, float | tuple]]
    shared_layer: bool = False

    def terms(self) -> tuple[str, ...]:
        """Every term that some player minimises, sorted by name."""
        return tuple(sorted({term for weights in self.loss_weights.values() for term in weights}))

    def pay(self, changes: Mapping[str, Mapping[str, float | tuple | None]]) -> 'Method':
        """The method at other weights: None keeps the method's own, and a term at weight 0 is not computed."""
        for player in changes:
            known('player', player, PLAYERS)
        given = {player: {t: w for t, w in own.items() if w is not None} for player, own in changes.items()}
        loss_weights = {player: {**self.loss_weights.get(player, {}), **given.get(player, {})} for player in PLAYERS}
        loss_weights = {player: {t: w for t, w in weights.items() if w} for player, weights in loss_weights.items()}
        return replace(self, loss_weights={player: weights for player, weights in loss_weights.items() if weights})

    def networks(self, terms: Mapping) -> dict[str, tuple[str, ...]]:
        """The networks that each player trains; InputError for unknown terms, and for networks that none trains.

        Those of `fixed` belong to no player.
        """
        for player, weights in self.loss_weights.items():
            for term in weights:
                _check_term(player, term, terms)
        uses = {term: self._parts(terms[term].networks) for term in self.terms()}
        owned = {player: set() for player in self.loss_weights}
        for name in sorted(set().union(*uses.values()) - {*self.fixed(terms)}):
            owner = names.player(name)
            if owner not in self.loss_weights or not any(name in uses[term] for term in self.loss_weights[owner]):
                raise InputError(
                    f'method {self.name}: network {name} is not trained; give player {owner} a weight for a term that '
                    'uses it'
                )
            owned[owner].add(name)
        return {player: tuple(sorted(own)) for player, own in owned.items()}

    def fixed(self, terms: Mapping) -> tuple[str, ...]:
        """The networks that terms use as an earlier stage trained them."""
        return tuple(sorted({name for term in self.terms() for name in filter(names.is_fixed, terms[term].networks)}))

    def _parts(self, networks) -> set[str]:
        """The networks and, where segmentors share a layer, the layers after them."""
        segmentors = [name for name in networks if self.shared_layer and names.player(name) == 'seg']
        heads = {names.head(names.domain(name)) for name in segmentors}
        return {*networks, *heads, *([names.SHARED] if segmentors else [])}


METHODS = {
    method.name: method
    for method in (
        Method(
            'cyclegan',
            'Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, ICCV 2017',
            {'gen': CYCLE_GAN, 'dis': {'dis_a': 1.0, 'dis_b': 1.0}},
        ),
        Method(
            'synseg',
            'Huo et al., SynSeg-Net: Synthetic segmentation without target modality ground truth, IEEE TMI 2019',
            {
                'gen': {**CYCLE_GAN, 'seg_fake_b': 1.0},
                'dis': {'dis_a': 1.0, 'dis_b': 1.0},
                'seg': {'seg_fake_b': 1.0},
            },
        ),
        Method(
            'synseg_hc',
            'Huo et al., IEEE TMI 2019: the half cycle, source to target only',
            {'gen': {'adv_b': 1.0, 'seg_fake_b': 1.0}, 'dis': {'dis_b': 1.0}, 'seg': {'seg_fake_b': 1.0}},
        ),
        Method(
            'shape_consistency',
            'Zhang et al., Translating and segmenting multimodal medical volumes with cycle- and shape-consistency '
            'generative adversarial network, CVPR 2018',
            {
                'gen': {**CYCLE_GAN, 'seg_fake_a': 1.0, 'seg_fake_b': 1.0},
                'dis': {'dis_a': 1.0, 'dis_b': 1.0},
                'seg': {
                    **{'seg_a': 1.0, 'seg_fake_a': 1.0, 'seg_rec_a': 1.0},
                    **{'seg_b': 1.0, 'seg_fake_b': 1.0, 'seg_rec_b': 1.0},
                },
            },
        ),
        Method(
            'tumor_aware',
            'Jiang et al., Tumor-aware, adversarial domain adaptation from CT to MRI for lung cancer segmentation, '
            'MICCAI 2018',
            {
                'gen': {**CYCLE_GAN, 'seg_fake_b': 5.0, 'feat': 1.0},
                'dis': {'dis_a': 1.0, 'dis_b': 1.0},
                'seg': {'seg_a': 1.0, 'seg_fake_b': 1.0, 'feat': 1.0},
            },
            shared_layer=True,
        ),
        Method(
            'cut',
            'Park et al., Contrastive learning for unpaired image-to-image translation, ECCV 2020; with the '
            'segmentor of Huo et al., IEEE TMI 2019',
            {
                'gen': {'adv_b': 1.0, 'nce_a': 1.0, 'nce_b': 1.0, 'seg_fake_b': 1.0},
                'dis': {'dis_b': 1.0},
                'seg': {'seg_fake_b': 1.0},
            },
        ),
        Method(
            'generalise',
            'Ouyang et al., Causality-inspired single-source domain generalization for medical image segmentation, '
            'IEEE TMI 2023; Su et al., Rethinking data augmentation for single-source domain generalization in '
            'medical image segmentation, AAAI 2023',
            {'seg': {'seg_views_a': 1.0}},
        ),
        Method(
            'mean_teacher',
            'Tarvainen & Valpola, Mean teachers are better role models, NeurIPS 2017; on randomised views',
            {'seg': {'seg_views_a': 1.0, 'pseudo_b': ('ramp', 0.0, 1.0, 1000)}},
        ),
        Method('supervised', 'cross entropy on labelled images of one or both domains', {'seg': {'seg_a': 1.0}}),
    )
}


def method(name: str) -> Method:
    """The method called `name`."""
    return METHODS[known('method', name, METHODS)]


def _check_term(player, term, terms):
    if term not in terms:
        alike = difflib.get_close_matches(term, terms, 1)
        remedy = f'is {alike[0]} meant?' if alike else f'known: {", ".join(sorted(terms))}'
        raise InputError(f'config.loss_weights.{player}.{term}: no such term; {remedy}')
