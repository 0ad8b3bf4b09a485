"""CHAOS MR to BTCV CT, the recipe of configs/adapt_laptop.py ingredient by ingredient, on 2 CPU cores.

    python -m synseg_jax.prepare --config=configs/tables/adapt_laptop.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/mr_to_ct
    python -m synseg_jax.compare --table=configs/tables/adapt_laptop.py:records/mr_to_ct --seeds=2

The rows up to the bound are tested on the scans held out of the target's training side.  Those that see no target
image are shown once more on all scans of the target; --protocol=csdg then measures as their publications do.

The other direction: adapt_laptop_reverse.py.
"""

from ml_collections import ConfigDict

from configs import adapt_laptop, variants

ROWS = {
    'none': 'source labels, ResNet',
    'source_only': 'U-Net, photometry',
    'generalise': 'randomised views',
    'round1': 'self-training, one round',
    'round2': 'two rounds',
    'adapt': 'three rounds',
    'views': 'views at prediction',
    'target_labels': 'target labels',
    'none_all': 'source labels, ResNet; all scans',
    'source_only_all': 'U-Net, photometry; all scans',
    'generalise_all': 'randomised views; all scans',
}
ALL_SCANS = {'test_all': True, 'oracle': False}
RESNET = {'architecture': 'resnet', 'width': 16, 'blocks': 6, 'levels': None, 'extra': None, 'dropout': None,
          'norm': None}  # fmt: skip


def get_config(data: str = '', organs: tuple = (0.3, 0.95), runs: str = 'adapt_laptop') -> ConfigDict:
    """Every row adds an ingredient to the one above; the last is the bound, the same U-Net on labels of the target.

    `organs` of the window: -5 to 255 HU, which leaves out fat, bone and contrast medium.
    """
    c = adapt_laptop.get_config(data, organs)
    c.data.window_hu, c.data.target_split, c.data.target_labels = (-125.0, 275.0), (0.75, 0.0, 0.25), True
    c.data.classes = ('background', 'liver', 'right kidney', 'left kidney', 'spleen')
    resnet = {
        'segmentor': RESNET,
        'loss': {'segmentation': 'cross_entropy'},
        'predict': {'darkest': 0.0, 'brightest': 1.0},
    }
    c.systems.none = {'method': 'supervised', **resnet, 'train': c.systems.source_only.train}
    for name in ('none', 'source_only', 'generalise'):
        c.systems[f'{name}_all'] = {**c.systems[name].to_dict(), **ALL_SCANS}
    stages = c.systems.adapt.stages.to_dict()
    c.systems.round1 = {'stages': first_rounds(stages, 1)}
    c.systems.round2 = {'stages': first_rounds(stages, 2)}
    c.systems.whole = {'stages': on_whole_scans(stages)}
    c.protocols = ('native', 'csdg')
    c.run, c.oracle = tuple(ROWS), True
    c.table = variants.table(
        'Liver, kidneys and spleen, CHAOS and BTCV, by ingredient',
        'SLAug 83.05 MR to CT and 88.63 CT to MR, at full size and without target images (mean Dice of four organs, %)',
        runs=runs,
        organs=('mean',) if not data else c.data.classes[1:] + ('mean',),
        measures=('dice', 'asd_mm'),
        reference=ROWS['adapt'],
        rows={name: {'system': name, 'set': 'target', 'name': words, 'reported': {}} for name, words in ROWS.items()},
    )
    return c


def first_rounds(stages: dict, rounds: int) -> dict:
    """The first training and so many rounds of self-training."""
    return {name: stage for name, stage in stages.items() if not name[-1].isdigit() or int(name[-1]) <= rounds}


def on_whole_scans(stages: dict) -> dict:
    """The stages with pseudo labels of the set `whole`; see adapt_whole.py."""
    return {name: {**stage, 'sets': {'b': ('whole',)}} if stage.get('kind') == 'label' else stage
            for name, stage in stages.items()}  # fmt: skip
