"""What pictures call domains, networks and terms: modalities in place of the letters a and b."""

from collections.abc import Mapping

from synseg_jax.imaging.modality import of_channel
from synseg_jax.objective import names

LETTERS = {domain: domain for domain in names.DOMAINS}  # where nothing is known of the modalities
_TERMS = {  # by the part of a name before its domain; others are called by their domain alone
    'adv': '{other} to {own}',
    'mind': '{own} to {other}',
    'judge': '{own} to {other}',
    'seg_fake': 'synthetic {own}',
    'seg_rec': 'reconstructed {own}',
    'seg_views': 'views of {own}',
    'dice_fake': 'synthetic {own}',
}
_NETWORKS = {'g': '{source} to {own}', 'd': '{own} discr.', 's': '{own} segm.', 's_head': '{own} head'}
_OTHERS = {
    'feat': '',
    'change': '',
    'randomised_dice': 'randomised',
    names.SHARED: 'shared layer',
    names.PATCHES: 'patches',
}


def modalities(channels: Mapping[str, str]) -> dict[str, str]:
    """{'a': 'MR', 'b': 'CT'} of the channels of the domains; those of one modality are told apart by their channels."""
    known = {domain: channel for domain, channel in channels.items() if channel}
    short = {domain: of_channel(channel) or channel for domain, channel in known.items()}
    roles = {d: f'{role} {short[d]}' for d, role in zip(names.DOMAINS, ('source', 'target'), strict=True) if d in short}
    told = next(found for found in (short, known, roles) if len({*found.values()}) == len(found))
    return LETTERS | told


def column(name: str, modality: Mapping[str, str]) -> str:
    """A column of metrics.csv or validation.csv in words: `grad_norm/g_ab` is 'MR to CT', `seg_fake_b` 'synthetic CT'.

    '' where the title of its group says all.
    """
    group, _, name = name.rpartition('/')
    if name in _OTHERS or group not in ('', 'grad_norm', 'lr'):
        return _OTHERS.get(name, name)
    stem, _, last = name.rpartition('_')
    if not stem or last[-1] not in names.DOMAINS or len(last) > 2:
        return name
    words = {'own': modality[last[-1]], 'other': modality[names.other(last[-1])], 'source': modality[last[0]]}
    return (_NETWORKS if group else _TERMS).get(stem, '{own}').format(**words)
