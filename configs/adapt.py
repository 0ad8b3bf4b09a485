"""Adaptation without target labels for any two modalities and organs: randomised views of the source, then
self-training on the target.

    python -m synseg_jax.prepare --config=configs/adapt.py --source=LABELLED --target=UNLABELLED --output=records/mine
    python -m synseg_jax.main --config=configs/adapt.py:records/mine --workdir=runs/mine

1. `generalise`: a U-Net learns the source's labels on views of no scanner's contrast (GIN and its blend: Ouyang et al.,
   IEEE TMI 2023; a gain and an offset for each class, in place of the curves of Su et al., AAAI 2023).  It sees no
   target scan.
2. `pseudo1`: it labels the target's training scans; of each organ the largest component stays.
3. `adapt1`: the same network goes on, on views of the source with its labels and of the target with those pseudo
   labels.  2 and 3 are repeated, each time with better labels.

Organs weigh 2 in the first stage, which else misses parts of them, and 1 later, or pseudo labels would grow.  What is
darker or brighter than any organ, as air, and in CT fat, bone and contrast medium, can be background in pseudo labels
and predictions.

All scans are at one scale, pixels of 1.5 mm about the middle of the body, in both domains.  For the other direction
prepare the records with --config.data.reverse=True.  configs/adapt_laptop.py is the same for 2 CPU cores.
"""

from ml_collections import ConfigDict

from configs import base, variants


def get_config(data: str = '') -> ConfigDict:
    """The recipe at full size; without data the phantom at demonstration scale."""
    c = base.get_config(data)
    recipe(c, steps=20000, more=4000)
    c.data.size, c.data.spacing_mm, c.segmentor.width = (256, 256), 1.5, 32
    c.train.batch = 16
    if not data:
        demonstrate(c)
    return c


def recipe(c: ConfigDict, steps: int, more: int, rounds: int = 3, organs: tuple = (0.0, 1.0)) -> None:
    """Networks, views, losses and stages; `steps` on the source, then `more` in each of the rounds of self-training.

    `organs`: the range of intensities in [0, 1] that all organs of the target lie in.  Of solid organs in CT with a
    window from -125 to 275 HU it is (.3, .95), which leaves out air, fat, bone and contrast medium; in MR (.07, 1).
    """
    c.generator.width, c.generator.blocks, c.discriminator.width = 32, 6, 32
    for name, value in fields(organs).items():
        c[name] = ConfigDict(variants.merged(c[name].to_dict(), value)) if isinstance(value, dict) else value
    c.systems = systems(steps, more, rounds, organs)
    c.run, c.default_system = ('adapt', 'generalise', 'source_only'), 'adapt'


def fields(organs: tuple = (0.0, 1.0)) -> dict:
    """The fields of the recipe but sizes, lengths and stages."""
    views = {'gin': 0.8, 'blend': 0.5, 'gamma': 1.65, 'contrast': 0.25, 'brightness': 0.1}
    return {
        'data': {'cut_about': 'body', 'percentiles': (0.5, 99.5)},
        'segmentor': {'architecture': 'unet', 'levels': 4, 'norm': True, 'extra': 0, 'dropout': 0.0, 'blocks': None,
                      'resize': None},
        'loss': {'segmentation': 'dice_cross_entropy'},
        'augment': {'shift': 0.1, 'rotate': 15.0, 'scale': 0.3, 'elastic': 0.05, 'noise': 0.1,
                    'noise_probability': 0.2, 'blur': 1.0, 'low_resolution': 2.0},
        'views': {'a': {**views, 'class_maps': 0.5}, 'b': {**views, 'gin': 0.5}},
        'rate': {'segmentor': 1e-3},
        'average': 0.995,
        'train': {'balanced': True},
        'predict': {'resample': 'linear', 'components': 'largest', 'darkest': organs[0], 'brightest': organs[1]},
        'selection': 'last',
    }  # fmt: skip


def system(records: str, spacing_mm: float, organs: tuple = (0.0, 1.0), **own: dict) -> dict:
    """The recipe as one system of another configuration, with fields of its `own`.

    Without records at demonstration scale, with pixels of `spacing_mm`.
    """
    steps, more, rounds = (20000, 4000, 3) if records else (1200, 300, 2)
    side, width, batch = (256, 32, 16) if records else (64, 12, 4)
    first = {'method': 'generalise', 'loss': {'organ_weight': 2.0}, 'train': length(steps)}
    scale = {
        'data': {'size': (side, side), 'spacing_mm': 1.5 if records else spacing_mm},
        'segmentor': {'width': width},
        'train': {'batch': batch} if records else {'batch': batch, 'save_every': 300},
        'stages': self_training(first, more, rounds, organs),
        'transductive': False,  # it labels training scans alone
    }
    return variants.merged(variants.merged(fields(organs), scale), own)


def systems(steps: int, more: int, rounds: int, organs: tuple) -> ConfigDict:
    """The recipe, its ingredients one by one, and the segmentor on labels of the target."""
    first = {'method': 'generalise', 'loss': {'organ_weight': 2.0}, 'train': length(steps)}
    stages = self_training(first, more, rounds, organs)
    plain = {'augment': {'gamma': 1.65, 'contrast': 0.25, 'brightness': 0.1}, 'train': length(steps // 3)}
    return variants.systems(
        source_only={'method': 'supervised', **plain},
        generalise={'stages': {'generalise': first}},
        translated={'stages': {**translation(steps), **self_training(on_both(first), more, rounds, organs)}},
        adapt={'stages': stages},
        views={'stages': stages, 'predict': {'rotate': 10.0, 'zoom': 1.1, 'gamma': 1.3, 'holes': 'fill'}},
        target_labels={**variants.target_labels(), **plain},
    )


def self_training(first: dict, more: int, rounds: int, organs: tuple) -> dict:
    """The stages: `first`, then rounds of `more` steps on pseudo labels, whose organs lie in a range of intensities."""
    later = {'train': length(more), 'rate': {'segmentor': 5e-4}}
    return variants.self_training(first, rounds, later, {'label_darkest': organs[0], 'label_brightest': organs[1]})


def translation(steps: int) -> dict:
    """Stages that translate the source scans; the structure of an image stays in its translation (MIND)."""
    structure = {'gen': {'mind_a': 1.0, 'mind_b': 1.0}}
    return {
        'translate': {'method': 'cyclegan', 'loss_weights': structure, 'train': length(steps)},
        'synthesis': {'kind': 'synthesize', 'generators_from': 'translate', 'sets': {'a': ('source',)}},
    }


def on_both(first: dict) -> dict:
    """The first stage on real and translated source scans in turn."""
    return {**first, 'sets': {'a': ('source', 'synthesis')}, 'train': {**first['train'], 'mixed': True}}


def length(steps: int) -> dict:
    """A training whose learning rate falls linearly to 0 from its first step."""
    return {'epochs': 0, 'steps': steps, 'decay_steps': steps}


def demonstrate(c: ConfigDict) -> None:
    """Reduce the recipe to a size that 2 CPU cores train on the phantom in minutes."""
    recipe(c, steps=1200, more=300, rounds=2)
    c.data.size, c.data.spacing_mm, c.segmentor.width = (64, 64), 6.0, 12
    c.generator.width = c.discriminator.width = 16
    c.train.batch, c.train.save_every = 4, 300
