"""Weights from elsewhere: which files hold which network, and the stage that they make, by a card or without one."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from synseg_jax.errors import InputError, known
from synseg_jax.exchange.card import PUBLISHED, Card
from synseg_jax.exchange.tensors import SUFFIXES
from synseg_jax.imaging import intensity
from synseg_jax.inference.model_folder import Run
from synseg_jax.objective import names
from synseg_jax.objective.terms import TERMS
from synseg_jax.training.system import KIND, System

OURS = {theirs: ours for ours, theirs in PUBLISHED.items()}
NAMED = re.compile(rf'(?:(?P<epoch>.+?)_)?(?:net_)?(?P<name>{"|".join(OURS)})(?P<suffix>\.pth|\.safetensors)')
# The term by which a network is trained without any other.
ALONE = {'g_ab': ('gen', 'idt_b'), 'g_ba': ('gen', 'idt_a'), 's_a': ('seg', 'seg_a'), 's_b': ('seg', 'seg_b')}


def found(folder: Path, epoch: str = '') -> dict[str, Path]:
    """{network: file} of one epoch: the one that is named, else `latest`, else the highest number, else the only one.

    Files are named as the published code names them; of .safetensors and .pth the first is taken.
    """
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder; --weights is the folder that holds the weights')
    matches = [(match, path) for path in sorted(folder.iterdir()) if (match := NAMED.fullmatch(path.name))]
    if not matches:
        raise InputError(f'{folder}: holds no weights; expected card.json, or files such as latest_net_G_A.pth')
    chosen = _epoch(folder, {match['epoch'] or '' for match, _ in matches}, epoch)
    order = sorted(matches, key=lambda one: SUFFIXES.index(one[0]['suffix']), reverse=True)
    return {OURS[match['name']]: path for match, path in order if (match['epoch'] or '') == chosen}


def _epoch(folder, epochs, asked) -> str:
    if asked:
        return known(f'epoch in {folder}', asked, epochs)
    numbers = sorted(filter(str.isdecimal, epochs), key=int, reverse=True)
    default = [name for name in ('latest', *numbers) if name in epochs] or sorted(epochs)
    if default[0] not in ('latest', *numbers) and len(epochs) > 1:
        raise InputError(f'{folder}: weights of {", ".join(default)}; name one with --epoch')
    return default[0]


def with_card(config: ConfigDict, card: Card) -> Run:
    """The stage of `config` as the card describes it."""
    data, windows = config.data, {}
    for of in card.domains.values():
        windows |= {field: tuple(of[field]) for field in ('window_hu', 'percentiles') if field in of}
    data.update({'size': card.size, 'spacing_mm': float(card.spacing_mm), 'slice_axis': card.slice_axis, **windows})
    data.target_center = float(card.domains.get('b', {'center': 1.0})['center'])
    data.classes, config.augment.window, config.loss.class_weights = card.classes, (), ()
    config.dtype, config.masked, config.method = card.dtype, card.masked, card.method
    config.context.update({name: value for name, value in card.context.items() if name in config.context})
    config.lesions = tuple(card.predict['lesions'])
    config.predict.update({name: value for name, value in card.predict.items() if name in config.predict})
    for player, weights in config.pays.items():
        given = {term: card.pays.get(player, {}).get(term, 0.0) for term in weights}
        config.pays[player] = {term: tuple(w) if isinstance(w, list) else float(w) for term, w in given.items()}
    for name, of in card.networks.items():
        if not names.sees_features(name):
            config[KIND[names.player(name)]] = ConfigDict({f: v for f, v in of['fields'].items() if f != 'channels'})
    one_logit = any(card.networks[chain[-1]]['fields'].get('channels') == 1 for chain in card.segments.values())
    if one_logit or config.loss.segmentation == 'binary_cross_entropy':
        config.loss.segmentation = 'binary_cross_entropy' if one_logit else 'cross_entropy'
    pay_for(config, set(card.networks))
    channels = {domain: of['channel'] for domain, of in card.domains.items()}
    typical = {domain: tuple(of['typical']) for domain, of in card.domains.items() if 'typical' in of}
    return Run(Path(), config, card.classes, channels, typical)


def without_card(
    config: ConfigDict, names: Collection[str], channels: Sequence[str], typical: tuple[float, float]
) -> Run:
    """The stage of `config` with the networks `names`, for scans of the two `channels`.

    `typical` is what 0 and 1 of synthetic scans stand for, but in CT.
    """
    if len(channels) != 2 or not all(channels):
        raise InputError('--channels: name the two modalities, source first, e.g. --channels=MR,CT')
    segments = any(name.startswith('s') for name in names)
    if segments and not config.data.classes:
        raise InputError(
            'config.data.classes is empty: name the classes in the order of their labels, '
            """e.g. --config.data.classes="('background','liver')\""""
        )
    pay_for(config, set(names))
    ct = [intensity.is_ct(channel) for channel in channels]
    ranges = {d: tuple(config.data.window_hu) if is_ct else typical for d, is_ct in zip('ab', ct, strict=True)}
    classes = tuple(config.data.classes) or ('background',)
    return Run(Path(), config, classes, dict(zip('ab', channels, strict=True)), ranges)


def pay_for(config: ConfigDict, names: set[str]) -> None:
    """Lets players pay for no term that runs other networks than `names`, and for one that runs each of these."""

    def terms():
        return System(config, ()).method.pays

    for player, bill in terms().items():
        for term in bill:
            if not set(TERMS[term].networks) <= names:
                config.pays[player][term] = 0.0
    run = {name for bill in terms().values() for term in bill for name in TERMS[term].networks}
    for name in sorted(names & ALONE.keys() - run):
        player, term = ALONE[name]
        config.pays[player][term] = 1.0
