"""The networks of a stage: of each player's group of the configuration, and the judge, which none of them trains."""

from collections.abc import Mapping

import flax.linen as nn

from synseg_jax.errors import InputError
from synseg_jax.networks import build, dtype
from synseg_jax.networks.patch_head import PatchHead
from synseg_jax.networks.unet import Head, Shared
from synseg_jax.objective import names
from synseg_jax.objective.losses import ONE_LOGIT
from synseg_jax.objective.methods import Method
from synseg_jax.objective.terms import TERMS
from synseg_jax.specification.stage import Stage

KIND = {'gen': 'generator', 'dis': 'discriminator', 'seg': 'segmentor'}  # configuration group of each player's networks


def stage_networks(config: Stage, method: Method, channels: Mapping[str, int], classes: int) -> dict[str, nn.Module]:
    """The networks that a method's terms use, by name; those that are held fixed last.

    Images of each domain have `channels`; InputError for networks that cannot be.
    """
    _check_channels(config, method, channels)
    types = {'dtype': dtype(config.dtype), 'param_dtype': dtype(config.param_dtype)}
    whole = types | ({'remat': True} if config.remat else {})
    count = _logits(config, classes)
    logits = 0 if method.shared_layer else count
    outputs = {'gen': whole, 'dis': types, 'seg': {'channels': logits, **whole}}
    made = {name: {'channels': channels[names.domain(name)]} for name in map(names.generator, names.DOMAINS)}
    ends = {names.SHARED: Shared(**types), **{names.head(d): Head(count, **types) for d in names.DOMAINS}}
    ends |= {names.PATCHES: PatchHead(**types)}
    trained = {
        name: ends.get(name) or build(**getattr(config, KIND[player]).given(), **outputs[player], **made.get(name, {}))
        for player, own in method.networks(TERMS).items()
        for name in own
    }
    return trained | {name: build(**config.judge, channels=count, **whole) for name in _fixed(method, config.judge)}


def _check_channels(config, method, channels) -> None:
    """InputError for what mixes images of both domains, unless these have as many channels."""
    mixing = {'augment.fourier': config.augment.fourier, 'views.b.paste': config.views.b.paste}
    mixing |= {f'the term {term}': TERMS[term].crosses for term in method.terms()}
    found = [name for name, mixes in mixing.items() if mixes]
    if found and channels['a'] != channels['b']:
        raise InputError(
            f'data.channels={tuple(config.data.channels)}: {found[0]} needs as many channels in both domains; '
            'read as many, or leave it out'
        )


def _logits(config, classes) -> int:
    if config.loss.segmentation not in ONE_LOGIT:
        return classes
    if classes != 2:
        raise InputError(f'loss.segmentation {config.loss.segmentation} requires 2 classes, not {classes}')
    return 1


def _fixed(method: Method, judge: Mapping) -> tuple[str, ...]:
    """The networks that are held fixed; InputError if terms need a judge that is not given, or none uses it."""
    used = method.fixed(TERMS)
    if used and not judge:
        terms = ', '.join(term for term in method.terms() if {*used} & {*TERMS[term].networks})
        raise InputError(f'a judge is needed by {terms}; name an earlier stage that trains a segmentor as judge_from')
    if judge and not used:
        raise InputError('no term uses the judge; set loss_weights.gen.judge_a or judge_b, or leave out judge_from')
    return used
