"""Every method as a table: which player pays how much for which term."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from synseg_jax.errors import InputError, known

OWNER = {'g': 'gen', 'd': 'dis', 's': 'seg'}  # by the first letter of a network's name

CYCLE_GAN = {'adv_a': 1.0, 'adv_b': 1.0, 'cyc_a': 10.0, 'cyc_b': 10.0}


ORDERS = ('together', 'in turn')  # all players look at the same old networks, or each at what those before it made


@dataclass(frozen=True)
class Method:
    """A game: `pays[player][term]` is the weight with which the player descends the term.

    The segmentors of `twins` share their penultimate layer: s_a and s_b make features, s_shared goes on with those of
    either, s_head_a and s_head_b end in logits.
    """

    name: str
    cite: str
    pays: Mapping[str, Mapping[str, float]]
    twins: bool = False

    def terms(self) -> tuple[str, ...]:
        """Every term that somebody pays for, in a fixed order."""
        return tuple(sorted({term for bill in self.pays.values() for term in bill}))

    def pay(self, changes: Mapping[str, Mapping[str, float]]) -> 'Method':
        """The same game at other weights; a term at weight 0 is no longer computed."""
        for player in changes:
            known('player', player, OWNER.values())
        bills = {player: {**self.pays.get(player, {}), **changes.get(player, {})} for player in OWNER.values()}
        bills = {player: {t: w for t, w in bill.items() if w} for player, bill in bills.items()}
        return replace(self, pays={player: bill for player, bill in bills.items() if bill})

    def networks(self, terms: Mapping) -> dict[str, tuple[str, ...]]:
        """The networks that each player moves; a network that nobody's payments reach is an InputError."""
        for term in self.terms():
            known('term', term, terms)
        runs = {term: self._parts(terms[term].networks) for term in self.terms()}
        owned = {player: set() for player in self.pays}
        for name in sorted(set().union(*runs.values())):
            owner = OWNER[name[0]]
            if owner not in self.pays or not any(name in runs[term] for term in self.pays[owner]):
                raise InputError(f'method {self.name}: nobody trains {name}; let {owner} pay for a term that runs it')
            owned[owner].add(name)
        return {player: tuple(sorted(names)) for player, names in owned.items()}

    def _parts(self, networks) -> set[str]:
        """The networks and, of twins, what a segmentor goes on with."""
        twins = [name for name in networks if self.twins and name[0] == 's']
        return {*networks, *(f's_head_{name[-1]}' for name in twins), *('s_shared' for _ in twins[:1])}


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
            twins=True,
        ),
        Method('supervised', 'cross entropy on labelled images of one or both domains', {'seg': {'seg_a': 1.0}}),
    )
}


def method(name: str) -> Method:
    """The method called `name`."""
    return METHODS[known('method', name, METHODS)]
