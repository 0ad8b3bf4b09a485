"""Training settings stated in the papers, compared with those of the configurations at full scale.

    python -m configs.papers > docs/reproduction.md

`STATED` has the values that a paper states, `DEPARTURES` the reason if a configuration differs.  Values that a paper
does not state are marked as silent.  A test fails if configurations, STATED and DEPARTURES are inconsistent.
"""

import importlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import cache

import jax
import jax.numpy as jnp

from synseg_jax.objective import names
from synseg_jax.phantom.dataset import REGIONS
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.parse import parse
from synseg_jax.specification.stage import Stage
from synseg_jax.training.optimizers import in_game
from synseg_jax.training.state import initial_params
from synseg_jax.training.system import KIND, System

TITLES = {
    'synseg_spleen': 'SynSeg-Net, MRI to CT, spleen and five others (Huo et al., IEEE TMI 2019)',
    'synseg_ticv': 'SynSeg-Net, head CT to MRI, intracranial volume (Huo et al., IEEE TMI 2019)',
    'prostate_ssim': 'Prostate, SSIM-CycleGAN and 2.5D Res-U-Net (Liu et al.)',
    'heart3d': 'Cycle and shape consistency in 3-D (Zhang et al., CVPR 2018)',
    'essnet_liver': 'EssNet and U-Net, liver, CT to MRI',
    'tumor_lung': 'Tumour-aware adaptation, CT to MRI (Jiang et al., MICCAI 2018)',
}

OURS = ('self_training',)  # systems that no paper has

GAN = {'weights of G': 'adv_a 1, adv_b 1, cyc_a 10, cyc_b 10', 'weights of D': 'dis_a 1, dis_b 1'}
SYNSEG = {
    **GAN,
    'weights of G': GAN['weights of G'] + ', seg_fake_b 1',
    'weights of S': 'seg_fake_b 1',
    'adversarial loss': 'log_likelihood',
    'cycle loss': 'l1',
    'segmentation loss': 'cross_entropy',
    'rate of G': '0.0001',
    'rate of D': '0.0002',
    'rate of S': '0.0001',
    'image': '256 x 256',
    'sampling': 'slices at random over all scans',
    'G': 'resnet, width 64, 9 blocks',
}
SEG = {k: SYNSEG[k] for k in ('image', 'sampling', 'segmentation loss', 'rate of S')}
PROSTATE_GAN = {
    **GAN,
    'adversarial loss': 'lsgan',
    'rate of G': '0.0002',
    'rate of D': '0.0002',
    'length': '200 epochs',
}
PROSTATE_SEG = {'length': '300 epochs', 'segmentation loss': 'binary_cross_entropy'}
WILD = {'augmentation': 'crop 0.5, rotate 15, flip c'}
HEART = {'image': '86 x 112 x 112', 'spacing': '1.5 mm', 'rate of S': '0.0002'}
HEART_GAN = {**GAN, 'rate of G': '0.0002', 'rate of D': '0.0002', 'cycle loss': 'l1', 'adversarial loss': 'lsgan'}
SHAPES = {
    **HEART_GAN,
    'weights of G': GAN['weights of G'] + ', seg_fake_a 1, seg_fake_b 1',
    'segmentation loss': 'cross_entropy',
    'length': '50 epochs + 50 linear to 0',
    'early stop': '5 epochs',
}
ESSNET = {
    **{field: value for field, value in SYNSEG.items() if field not in ('sampling', 'image')},
    'sets': 'a: source:350',
    'target labels': 'not read',
    'length': '100 epochs',
    'batch': '1',
    'channels': '1',
    'D': 'patchgan, width 64, 3 layers, 2,762,689 parameters',
}
UNET = {
    'target labels': 'read',
    'length': '300 epochs',
    'batch': '2',
    'channels': '1',
    'rate of S': '0.0001',
    'S': 'unet, width 64, 31,031,685 parameters',
    'image': '256 x 256',
}
TUMOUR = {'image': '256 x 256', 'cut': 'about the tumours'}
TUMOUR_GAN = {
    **TUMOUR,
    **GAN,
    'rate of G': '0.0001',
    'rate of D': '0.0001',
    'batch': '1',
    'adversarial loss': 'log_likelihood',
    'cycle loss': 'l1',
}
TUMOUR_AWARE = {
    'weights of G': GAN['weights of G'] + ', feat 1, seg_fake_b 5',
    'weights of S': 'feat 1, seg_a 1, seg_fake_b 1',
    'rate of S': '0.0001',
    'segmentation loss': 'cross_entropy',
    'S': 'a simplified U-Net',
}
TUMOUR_SEG = {**TUMOUR, 'batch': '10', 'rate of S': '0.0001', 'segmentation loss': 'dice'}
SILENT, UNEXPLAINED = 'silent', '?'
# configuration -> (system, stage) with wildcards -> field -> the paper's value; later entries override earlier ones.
STATED = {
    'synseg_spleen': {
        ('synseg', 'train'): {**SYNSEG, 'length': '100 epochs'},
        ('target_labels*', 'train'): {**SEG, 'length': '100 epochs'},
        ('synseg_log_likelihood', 'train'): {**SYNSEG, 'length': '100 epochs'},
        ('synseg_no_identity', 'train'): {**SYNSEG, 'length': '100 epochs'},
        ('target_labels', 'train'): {'folds': '19'},
        ('half_cycle', 'train'): {
            'weights of G': 'adv_b 1, seg_fake_b 1',
            'weights of D': 'dis_b 1',
            'length': '100 epochs',
        },
        ('cyclegan_seg', 'translate'): {**GAN, 'length': '100 epochs'},
        ('cyclegan_seg', 'segment'): {'length': '100 epochs'},
        ('ssnet', 'train'): {'length': '100 epochs', 'S': 'global convolutional network'},
    },
    'synseg_ticv': {
        ('synseg', 'train'): {**SYNSEG, 'length': '200 epochs'},
        ('synseg_log_likelihood', 'train'): {**SYNSEG, 'length': '200 epochs'},
        ('target_labels', 'train'): {**SEG, 'length': '200 epochs', 'folds': '10'},
        ('cyclegan_seg', 'translate'): {**GAN, 'length': '200 epochs'},
        ('cyclegan_seg', 'segment'): {'length': '200 epochs'},
    },
    'prostate_ssim': {
        ('*', 'translate'): {**PROSTATE_GAN, 'cycle loss': 'ssim', **WILD},
        ('plain', 'translate'): {'cycle loss': 'l2', 'window': '-1000 to 1000 HU', 'augmentation': 'cut to 256 x 256'},
        ('soft_tissue', 'translate'): {'cycle loss': 'l2', 'augmentation': 'cut to 256 x 256'},
        ('augmented', 'translate'): {'cycle loss': 'l2'},
        ('prostate_ssim', '*'): {'window': '-500 to 500 HU'},
        ('*', 'segment'): {**PROSTATE_SEG, 'channels': '3', 'folds': '6, stratified'},
        ('context0', 'segment'): {'channels': '1'},
        ('context2', 'segment'): {'channels': '5'},
        ('context3', 'segment'): {'channels': '7'},
        ('mri', '*'): {**PROSTATE_SEG, 'channels': '3', 'folds': '6, stratified'},
        ('target_labels', '*'): {},
    },
    'heart3d': {
        ('*', 'segment'): {**HEART, 'length': '100 epochs', 'segmentation loss': 'cross_entropy'},
        ('*', 'translate'): {'image': HEART['image'], 'spacing': HEART['spacing'], **HEART_GAN, 'length': '60 epochs'},
        ('*', 'joint'): {**HEART, **SHAPES},
    },
    'essnet_liver': {
        ('*', 'translate'): {**ESSNET, **GAN},
        ('essnet_*', 'translate'): {**ESSNET, 'S': 'resnet, width 64, 9 blocks'},
        ('*', 'segment'): UNET,
        ('cyclegan_714', 'segment'): {'sets': 'b: target, synthesis:714'},
        **{(f'essnet_{n}', 'segment'): {'sets': f'b: target, synthesis:{n}'} for n in (354, 714, 1034, 1487, 2050)},
        ('real_only', '*'): {**UNET, 'sets': 'b: target'},
    },
    'tumor_lung': {
        ('*', 'translate'): TUMOUR_GAN,
        ('*tumor_aware', 'translate'): TUMOUR_AWARE,
        ('unsupervised', 'translate'): TUMOUR_AWARE,
        ('*', 'segment'): TUMOUR_SEG,
        ('week_one', '*'): TUMOUR_SEG,
    },
}
# (configuration, system, stage, field) with wildcards -> why the value differs from the paper's.
DEPARTURES = {
    ('synseg_*', '*', '*', 'adversarial loss'): 'the published code trains with least squares; '
    'synseg_log_likelihood with the printed loss',
    ('essnet_liver', '*', 'translate', 'adversarial loss'): 'the published code of SynSeg-Net, which the paper adapts, '
    'trains with least squares; --config.loss.adversarial=log_likelihood is the printed loss',
    ('synseg_spleen', 'ssnet', 'train', 'S'): 'that network is from another paper and not described in this one',
    ('prostate_ssim', '*', 'translate', 'length'): 'no decay is stated: 100 epochs constant and 100 to 0, as in '
    'CycleGAN',
}
CUT = (
    'the extent of the patches is not stated; unlabelled MR are cropped by intensities only, where the '
    'paper uses their tumours'
)
DEPARTURES |= {
    ('tumor_lung', '*', 'translate', 'adversarial loss'): 'the paper prints a log-likelihood and uses the networks of '
    'CycleGAN, which trains with least squares; --config.loss.adversarial=log_likelihood is the printed loss',
    ('tumor_lung', '*', '*', 'cut'): CUT,
    ('tumor_lung', '*', 'translate', 'segmentation loss'): 'with cross entropy, tumours, which have few pixels, faded '
    'in synthetic MR (held-out CT of the demonstration); Dice does not depend on their size',
    ('tumor_lung', '*', 'translate', 'S'): 'how it is simplified is not stated: half the width of the final one, and '
    'one level fewer',
}
FIELDS = (
    'method', 'sets', 'target labels', 'folds', 'length', 'early stop', 'batch', 'sampling', 'image', 'spacing', 'cut',
    'window', 'channels', 'augmentation', 'adversarial loss', 'cycle loss', 'segmentation loss', 'weights of classes',
    'weights of G', 'weights of D', 'weights of S', 'rate of G', 'rate of D', 'rate of S', 'Adam', 'image pool',
    'G', 'D', 'S',
)  # fmt: skip


def trained(config: Experiment) -> Iterator[tuple[str, str, Stage]]:
    """(system, stage, configuration of the stage) of every training stage, the default system first; without OURS."""
    systems = [name for name in config.systems if name not in OURS]
    for system in sorted(systems, key=lambda name: name != config.default_system):
        for stage, own in config.stages(system).items():
            if own.kind == 'train':
                yield system, stage, own


def facts(own: Stage, made: Sequence[str], region: str = '') -> dict[str, str]:
    """{field of FIELDS: value} of a stage; `made` are the sets written by stages of its system."""
    system = System(own, own.data.classes or REGIONS[region].classes)
    players = {'gen': 'G', 'dis': 'D', 'seg': 'S'}
    found = {
        'method': own.method,
        'sets': '; '.join(f'{d}: {", ".join(own.sets.of(d))}' for d in system.domains if own.sets.of(d)) or 'all',
        'target labels': 'read' if 'label_b' in system.arrays and _real(own.sets.b, made) else 'not read',
        'folds': f'{own.fold.of or "none"}' + ', stratified' * bool(own.fold.of and own.fold.strata),
        'length': _length(own.train),
        'early stop': f'{own.train.patience} epochs' if own.train.patience else 'none',
        'batch': str(own.train.batch),
        'sampling': 'every scan equally often' if own.train.balanced else 'slices at random over all scans',
        'image': ' x '.join(map(str, system.size)),
        'spacing': f'{own.data.spacing_mm:g} mm' if own.data.spacing_mm else 'resized',
        'window': '{:g} to {:g} HU'.format(*own.data.window_hu),
        'channels': str(max(system.channels.values())),
        'augmentation': _augmentation(own.augment),
        'segmentation loss': own.loss.segmentation,
        'weights of classes': ', '.join(f'{w:g}' for w in own.loss.class_weights) or 'all 1',
        'Adam': 'b1 {b1:g}, b2 {b2:g}'.format(**in_game(vars(own.optimizer), 'dis' in system.method.loss_weights)),
    }
    if own.data.cut_about == 'lesion':
        found['cut'] = 'about the largest tumour; scans without labels about one half of the body'
    for player, weights in system.method.loss_weights.items():
        letter = players[player]
        found[f'weights of {letter}'] = ', '.join(f'{term} {weight:g}' for term, weight in sorted(weights.items()))
        found[f'rate of {letter}'] = f'{getattr(own.rate, KIND[player]):g}'
        found[letter] = _network(getattr(own, KIND[player]), system, player)
    if 'dis' in system.method.loss_weights:
        found |= {'adversarial loss': own.loss.adversarial, 'cycle loss': own.loss.cycle}
        found['image pool'] = str(own.image_pool)
    return found


def _real(sets, made) -> bool:
    """Whether any of the sets has real scans; true if no sets are named."""
    return not sets or any(text.partition(':')[0] not in made for text in sets)


def _length(train) -> str:
    return f'{train.epochs} epochs' + (f' + {train.decay_epochs} linear to 0' if train.decay_epochs else '')


def _augmentation(augment) -> str:
    parts = [f'cut to {" x ".join(map(str, augment.window))}'] if augment.window else []
    parts += [f'crop {augment.crop:g}'] if augment.crop < 1 else []
    amounts = ('shift', 'rotate', 'shear', 'scale', 'elastic', 'brightness', 'contrast', 'fourier', 'noise', 'blur')
    parts += [f'{name} {getattr(augment, name):g}' for name in amounts if getattr(augment, name)]
    parts += [f'flip {augment.flip}'] if augment.flip else []
    parts += [f'gamma {augment.gamma:g}'] if augment.gamma != 1 else []
    parts += [f'low resolution {augment.low_resolution:g}'] if augment.low_resolution > 1 else []
    return ', '.join(parts) or 'none'


def _network(described, system, player) -> str:
    """Architecture, width, and number of parameters of the player's first network."""
    name = sorted(system.method.networks(_terms())[player])[0]
    more = [f'{value} {field}' for field in ('blocks', 'levels', 'layers') if (value := getattr(described, field))]
    count = f'{_parameters(system.networks[name], (1, *system.size, _channels(system, name))):,} parameters'
    return ', '.join([described.architecture, f'width {described.width}', *more, count])


def _terms():
    from synseg_jax.objective.terms import TERMS

    return TERMS


def _channels(system, name) -> int:
    inner = system.method.shared_layer and names.sees_features(name)
    return system.config.segmentor.width if inner else system.channels[names.source(name)]


@cache
def _parameters(network, shape) -> int:
    """Number of parameters of a network, by abstract evaluation."""

    def build(image):
        return initial_params({'network': network}, {'network': image}, jax.random.key(0))

    made = jax.eval_shape(build, jax.ShapeDtypeStruct(shape, jnp.float32))
    return sum(leaf.size for leaf in jax.tree.leaves(made))


def stated(name: str, system: str, stage: str) -> dict[str, str]:
    """{field: value} that the paper states for a stage."""
    found = {}
    for (systems, stage_names), fields in STATED[name].items():
        if fnmatch(system, systems) and fnmatch(stage, stage_names):
            found |= fields
    return found


def departure(*place: str) -> str:
    """Why (configuration, system, stage, field) differs from the paper; '' if no reason is given."""
    return next((why for key, why in DEPARTURES.items() if all(map(fnmatch, place, key))), '')


@cache
def rows(name: str) -> dict[tuple, list[str]]:
    """{((field, our value, the paper's value, reason), ...): stages with these values} of a configuration."""
    config = parse(importlib.import_module(f'configs.{name}').get_config('records'))
    found: dict[tuple, list[str]] = {}
    for system, stage, own in trained(config):
        ours, theirs = facts(own, list(config.stages(system)), config.phantom.region), stated(name, system, stage)
        table = []
        for field in (field for field in FIELDS if field in ours):
            value = theirs.get(field, SILENT)
            why = '' if same(ours[field], value) else departure(name, system, stage, field) or UNEXPLAINED
            table.append((field, ours[field], value, why))
        found.setdefault(tuple(table), []).append(f'{system}, {stage}')
    return found


def same(ours: str, theirs: str) -> bool:
    """Whether our value agrees with the paper's; true if the paper does not state it."""
    return theirs == SILENT or ours == theirs or ours.startswith(f'{theirs},')


def page() -> str:
    """docs/reproduction.md."""
    lines = [
        '# The papers and the configurations',
        '',
        'Generated by `python -m configs.papers > docs/reproduction.md`: the settings of every stage at full scale,',
        'and those stated in its paper. "silent": the paper does not state the value, so it is ours.',
    ]
    for name, title in TITLES.items():
        lines += ['', f'## {title}', '', f'`configs/{name}.py`']
        printed: list[tuple] = []
        for table, stages in rows(name).items():
            lines += ['', *_table(table, '; '.join(stages), printed)]
            printed.append((table, stages[0]))
    return '\n'.join(lines) + '\n'


def _table(table, title, printed) -> list[str]:
    """The table of a stage in Markdown: only the differences to the most similar stage in `printed`, or all rows."""
    like, like_title = min(printed, key=lambda other: len(set(table) ^ set(other[0])), default=((), ''))
    changed = [row for row in table if row not in like]
    gone = sorted({row[0] for row in like} - {row[0] for row in table})
    if not like or len(changed) > len(table) / 2:
        changed, words = table, ''
    else:
        words = f': as {like_title}, but' + (f' without {", ".join(gone)}, and' if gone and changed else '')
        words += f' without {", ".join(gone)}' if gone and not changed else ''
    lines = [
        f'**{title}**{words}',
        '',
        '| field | configuration | paper | reason for the difference |',
        '|---|---|---|---|',
    ]
    return lines + [f'| {field} | {ours} | {theirs} | {why} |' for field, ours, theirs, why in changed]


if __name__ == '__main__':
    print(page(), end='')
