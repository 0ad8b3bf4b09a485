"""Import weights: match files to networks, and derive the stage from a card, or from the configuration alone."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from synseg_jax.errors import InputError, known
from synseg_jax.exchange.card import PUBLISHED, Card
from synseg_jax.exchange.tensors import SUFFIXES
from synseg_jax.imaging import intensity
from synseg_jax.inference.model_folder import Run
from synseg_jax.objective import names
from synseg_jax.objective.methods import method
from synseg_jax.objective.terms import TERMS
from synseg_jax.specification.field import FrozenMapping
from synseg_jax.specification.parse import replaced
from synseg_jax.specification.stage import Stage
from synseg_jax.training.system import KIND, System

OURS = {theirs: ours for ours, theirs in PUBLISHED.items()}
NAMED = re.compile(rf'(?:(?P<epoch>.+?)_)?(?:net_)?(?P<name>{"|".join(OURS)})(?P<suffix>\.pth|\.safetensors)')
IMAGES = 'size spacing_mm slice_axis cut_about antialias bias_correction'.split()  # fields of data that a card has
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


def with_card(config: Stage, card: Card) -> Run:
    """The stage of `config` with the fields of the card."""
    center = float(card.domains.get('b', {'center': 1.0})['center'])
    data = {'target_center': center}
    data |= {name: getattr(card, name) for name in IMAGES}
    data['channels'] = tuple(len(card.channels(domain)) if domain in card.domains else 1 for domain in names.DOMAINS)
    for entry in card.domains.values():
        data |= {field: tuple(entry[field]) for field in ('window_hu', 'percentiles') if field in entry}
    predict = {name: value for name, value in card.predict.items() if name in vars(config.predict)}
    context = {name: value for name, value in card.context.items() if name in vars(config.context)}
    stage = replaced(
        config,
        {
            **{f'data.{name}': value for name, value in data.items()},
            **{f'predict.{name}': value for name, value in predict.items()},
            **{f'context.{name}': value for name, value in context.items()},
            **{f'loss_weights.{player}': weights for player, weights in _weights(config, card).items()},
            **{field: getattr(card, field) for field in ('dtype', 'label_channel', 'method')},
            **_networks(card),
            'data.classes': card.classes,
            'augment.window': (),
            'loss.class_weights': (),
            'loss.segmentation': _segmentation(config, card),
            'lesions': tuple(card.predict['lesions']),
        },
    )
    stage = set_weights(stage, set(card.networks))
    channels = {domain: entry['channel'] for domain, entry in card.domains.items()}
    typical = {domain: tuple(entry['typical']) for domain, entry in card.domains.items() if 'typical' in entry}
    others = {domain: [{field: one[field] for field in ('channel', 'typical')} for one in entry['others']]
              for domain, entry in card.domains.items() if 'others' in entry}  # fmt: skip
    return Run(Path(), stage, card.classes, channels, typical, others=others)


def _weights(config, card) -> dict[str, dict[str, object]]:
    """The card's weights of terms; 0 for those of its method and of `config` that it lacks."""
    defaults, of_config = method(card.method).loss_weights, vars(config.loss_weights)
    return {
        player: dict.fromkeys((*defaults.get(player, ()), *of_config[player]), 0.0) | card.loss_weights.get(player, {})
        for player in KIND
    }


def _networks(card) -> dict[str, dict[str, object]]:
    """The fields of each kind of network."""
    entries = {KIND[names.player(n)]: entry for n, entry in card.networks.items() if not names.sees_features(n)}
    return {kind: {f: v for f, v in e['fields'].items() if f != 'channels'} for kind, e in entries.items()}


def _segmentation(config, card) -> str:
    """The segmentation loss of `config`, unless it has another number of logits than the card's segmentors."""
    one_logit = any(card.networks[chain[-1]]['fields'].get('channels') == 1 for chain in card.segments.values())
    if one_logit:
        return 'binary_cross_entropy'
    default = config.loss.segmentation
    return 'cross_entropy' if default == 'binary_cross_entropy' else default


def without_card(config: Stage, names: Collection[str], channels: Sequence[str], typical: tuple[float, float]) -> Run:
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
    stage = set_weights(config, set(names))
    ct = [intensity.is_ct(channel) for channel in channels]
    ranges = {d: config.data.window_hu if is_ct else typical for d, is_ct in zip('ab', ct, strict=True)}
    classes = config.data.classes or ('background',)
    return Run(Path(), stage, classes, dict(zip('ab', channels, strict=True)), ranges)


def set_weights(config: Stage, names: set[str]) -> Stage:
    """The stage with terms' weights such that exactly the networks `names` are used.

    Terms that use other networks get weight 0, those of a judge too; a network that no term uses then gets its term of
    SINGLE_TERMS.
    """
    defaults = System(config, ()).method.loss_weights
    kept = {player: {term: w for term, w in terms.items() if set(TERMS[term].networks) <= names}
            for player, terms in defaults.items()}  # fmt: skip
    used = {name for terms in kept.values() for term in terms for name in TERMS[term].networks}
    added = [SINGLE_TERMS[name] for name in sorted(names & SINGLE_TERMS.keys() - used)]
    weights = {
        f'loss_weights.{player}.{term}': 0.0
        for player, terms in defaults.items()
        for term in terms
        if term not in kept[player]
    }
    stage = replaced(config, weights | {f'loss_weights.{player}.{term}': 1.0 for player, term in added})
    return replace(stage, judge_from='', judge=FrozenMapping())
