"""Import weights: match files to networks, and derive the stage from a card, or from the configuration alone."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from synseg_jax.errors import InputError, known
from synseg_jax.exchange.card import PUBLISHED, Card
from synseg_jax.exchange.tensors import SUFFIXES
from synseg_jax.imaging import intensity
from synseg_jax.inference.model_folder import Run
from synseg_jax.objective.methods import OWNER
from synseg_jax.objective.terms import TERMS
from synseg_jax.training.system import KIND, System

OURS = {theirs: ours for ours, theirs in PUBLISHED.items()}
NAMED = re.compile(rf'(?:(?P<epoch>.+?)_)?(?:net_)?(?P<name>{"|".join(OURS)})(?P<suffix>\.pth|\.safetensors)')
# For each network, the player and the term that use it and no other network.
SINGLE_TERMS = {'g_ab': ('gen', 'idt_b'), 'g_ba': ('gen', 'idt_a'), 's_a': ('seg', 'seg_a'), 's_b': ('seg', 'seg_b')}


def weight_files(folder: Path, epoch: str = '') -> dict[str, Path]:
    """{network: file} of one epoch: the given one, else `latest`, else the highest number, else the only one.

    Files are named as by the published code; .safetensors are preferred to .pth.
    """
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder; give the folder of the weights as --weights')
    matches = [(match, path) for path in sorted(folder.iterdir()) if (match := NAMED.fullmatch(path.name))]
    if not matches:
        raise InputError(f'{folder}: no weights; expected card.json, or files such as latest_net_G_A.pth')
    epoch = _epoch(folder, {match['epoch'] or '' for match, _ in matches}, epoch)
    preferred_last = sorted(matches, key=lambda pair: SUFFIXES.index(pair[0]['suffix']), reverse=True)
    return {OURS[match['name']]: path for match, path in preferred_last if (match['epoch'] or '') == epoch}


def _epoch(folder, epochs, requested) -> str:
    if requested:
        return known(f'epoch in {folder}', requested, epochs)
    numbers = sorted(filter(str.isdecimal, epochs), key=int, reverse=True)
    default = [name for name in ('latest', *numbers) if name in epochs] or sorted(epochs)
    if default[0] not in ('latest', *numbers) and len(epochs) > 1:
        raise InputError(f'{folder}: has the epochs {", ".join(default)}; choose one with --epoch')
    return default[0]


def with_card(config: ConfigDict, card: Card) -> Run:
    """The stage of `config` with the fields of the card."""
    data, windows = config.data, {}
    for entry in card.domains.values():
        windows |= {field: tuple(entry[field]) for field in ('window_hu', 'percentiles') if field in entry}
    data.update({'size': card.size, 'spacing_mm': float(card.spacing_mm), 'slice_axis': card.slice_axis, **windows})
    data.target_center = float(card.domains.get('b', {'center': 1.0})['center'])
    data.classes, config.augment.window, config.loss.class_weights = card.classes, (), ()
    config.dtype, config.masked, config.method = card.dtype, card.masked, card.method
    config.context.update({name: value for name, value in card.context.items() if name in config.context})
    config.lesions = tuple(card.predict['lesions'])
    config.predict.update({name: value for name, value in card.predict.items() if name in config.predict})
    for player, weights in config.pays.items():
        config.pays[player] = {term: float(card.pays.get(player, {}).get(term, 0)) for term in weights}
    for name, entry in card.networks.items():
        if not name.startswith(('s_shared', 's_head')):
            config[KIND[OWNER[name[0]]]] = ConfigDict({f: v for f, v in entry['fields'].items() if f != 'channels'})
    one_logit = any(card.networks[names[-1]]['fields'].get('channels') == 1 for names in card.segments.values())
    if one_logit or config.loss.segmentation == 'binary_cross_entropy':
        config.loss.segmentation = 'binary_cross_entropy' if one_logit else 'cross_entropy'
    channels = {domain: entry['channel'] for domain, entry in card.domains.items()}
    typical = {domain: tuple(entry['typical']) for domain, entry in card.domains.items() if 'typical' in entry}
    return Run(Path(), config, card.classes, channels, typical)


def without_card(
    config: ConfigDict, names: Collection[str], channels: Sequence[str], typical: tuple[float, float]
) -> Run:
    """The stage of `config` with the networks `names`, for the two modalities `channels`.

    `typical` are the intensities of 0 and 1 in synthetic scans other than CT, which has data.window_hu.
    """
    if len(channels) != 2 or not all(channels):
        raise InputError('--channels: give the two modalities, source first, e.g. --channels=MR,CT')
    segments = any(name.startswith('s') for name in names)
    if segments and not config.data.classes:
        raise InputError(
            'config.data.classes is empty: give the class names in the order of their labels, '
            """e.g. --config.data.classes="('background','liver')\""""
        )
    set_weights(config, set(names))
    ct = [intensity.is_ct(channel) for channel in channels]
    ranges = {d: tuple(config.data.window_hu) if is_ct else typical for d, is_ct in zip('ab', ct, strict=True)}
    classes = tuple(config.data.classes) or ('background',)
    return Run(Path(), config, classes, dict(zip('ab', channels, strict=True)), ranges)


def set_weights(config: ConfigDict, names: set[str]) -> None:
    """Adapt the terms' weights, so that exactly the networks `names` are used.

    Terms that use other networks get weight 0; a network that no term uses then gets its term of SINGLE_TERMS.
    """

    def weights():
        return System(config, ()).method.pays

    for player, terms in weights().items():
        for term in terms:
            if not set(TERMS[term].networks) <= names:
                config.pays[player][term] = 0.0
    used = {name for terms in weights().values() for term in terms for name in TERMS[term].networks}
    for name in sorted(names & SINGLE_TERMS.keys() - used):
        player, term = SINGLE_TERMS[name]
        config.pays[player][term] = 1.0
