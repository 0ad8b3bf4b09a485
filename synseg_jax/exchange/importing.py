"""Weights from elsewhere: which files hold which network, and the stage that they make, by a card or without one."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from synseg_jax.errors import InputError, known
from synseg_jax.exchange.card import PUBLISHED, Card
from synseg_jax.exchange.tensors import SUFFIXES
from synseg_jax.imaging import intensity
from synseg_jax.inference.model_folder import Run
from synseg_jax.objective import names
from synseg_jax.objective.methods import method
from synseg_jax.objective.terms import TERMS
from synseg_jax.specification.parse import replaced
from synseg_jax.specification.stage import Stage
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


def with_card(config: Stage, card: Card) -> Run:
    """The stage of `config` as the card describes it."""
    center = float(card.domains.get('b', {'center': 1.0})['center'])
    data = {'size': card.size, 'spacing_mm': card.spacing_mm, 'slice_axis': card.slice_axis, 'target_center': center}
    for of in card.domains.values():
        data |= {field: tuple(of[field]) for field in ('window_hu', 'percentiles') if field in of}
    predict = {name: value for name, value in card.predict.items() if name in vars(config.predict)}
    context = {name: value for name, value in card.context.items() if name in vars(config.context)}
    own = replaced(
        config,
        {
            **{f'data.{name}': value for name, value in data.items()},
            **{f'predict.{name}': value for name, value in predict.items()},
            **{f'context.{name}': value for name, value in context.items()},
            **{f'pays.{player}': weights for player, weights in _weights(card).items()},
            **{field: getattr(card, field) for field in ('dtype', 'masked', 'method')},
            **_networks(card),
            'data.classes': card.classes,
            'augment.window': (),
            'loss.class_weights': (),
            'loss.segmentation': _segmentation(config, card),
            'lesions': tuple(card.predict['lesions']),
        },
    )
    own = pay_for(own, set(card.networks))
    channels = {domain: of['channel'] for domain, of in card.domains.items()}
    typical = {domain: tuple(of['typical']) for domain, of in card.domains.items() if 'typical' in of}
    return Run(Path(), own, card.classes, channels, typical)


def _weights(card) -> dict[str, dict[str, object]]:
    """The card's weights of terms; 0 for those of the method that it lacks."""
    usual, given = method(card.method).pays, {player: card.pays.get(player, {}) for player in KIND}
    return {player: dict.fromkeys(usual.get(player, {}), 0.0) | dict(own) for player, own in given.items()}


def _networks(card) -> dict[str, dict[str, object]]:
    """The fields of each kind of network."""
    kinds = {KIND[names.player(name)]: of for name, of in card.networks.items() if not names.sees_features(name)}
    return {kind: {f: v for f, v in of['fields'].items() if f != 'channels'} for kind, of in kinds.items()}


def _segmentation(config, card) -> str:
    """The segmentation loss of `config`, unless it has another number of logits than the card's segmentors."""
    one_logit = any(card.networks[chain[-1]]['fields'].get('channels') == 1 for chain in card.segments.values())
    if one_logit:
        return 'binary_cross_entropy'
    usual = config.loss.segmentation
    return 'cross_entropy' if usual == 'binary_cross_entropy' else usual


def without_card(config: Stage, names: Collection[str], channels: Sequence[str], typical: tuple[float, float]) -> Run:
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
    own = pay_for(config, set(names))
    ct = [intensity.is_ct(channel) for channel in channels]
    ranges = {d: config.data.window_hu if is_ct else typical for d, is_ct in zip('ab', ct, strict=True)}
    classes = config.data.classes or ('background',)
    return Run(Path(), own, classes, dict(zip('ab', channels, strict=True)), ranges)


def pay_for(config: Stage, names: set[str]) -> Stage:
    """The stage with weight 0 for terms that need networks besides `names`, and a term for each of these."""
    usual = System(config, ()).method.pays
    kept = {player: {term: w for term, w in bill.items() if set(TERMS[term].networks) <= names}
            for player, bill in usual.items()}  # fmt: skip
    run = {name for bill in kept.values() for term in bill for name in TERMS[term].networks}
    added = [ALONE[name] for name in sorted(names & ALONE.keys() - run)]
    weights = {
        f'pays.{player}.{term}': 0.0 for player, bill in usual.items() for term in bill if term not in kept[player]
    }
    return replaced(config, weights | {f'pays.{player}.{term}': 1.0 for player, term in added})
