"""CHAOS MR to BTCV CT, comparison of systems on real scans at a size that 2 CPU cores can train.

    python -m synseg_jax.prepare --config=configs/synseg_abdomen_laptop.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/abdomen
    python -m synseg_jax.compare --table=configs/tables/synseg_abdomen_laptop.py:records/abdomen
"""

from ml_collections import ConfigDict

from configs import synseg_abdomen_laptop, variants

ROWS = {
    'source_only': 'MR labels, no adaptation',
    'cyclegan_seg': 'CycleGAN+Seg.',
    'synseg': 'SynSeg-Net',
    'target_labels': 'CT labels',
}


def get_config(data: str = '') -> ConfigDict:
    """SynSeg-Net, CycleGAN + segmentor, no adaptation, and CT labels, on the same CT test subjects."""
    c = synseg_abdomen_laptop.get_config(data)
    c.run, c.oracle = tuple(ROWS), True
    c.table = variants.table(
        'Liver, kidneys and spleen, CHAOS MR to BTCV CT',
        'No paper reports this size; at full size SIFA 83.4 (81.4 run by a user), SLAug 83.05 without target images '
        '(mean Dice of four organs, %)',
        runs='synseg_abdomen_laptop',
        organs=('mean',) if not data else ('mean', 'liver', 'right kidney', 'left kidney', 'spleen'),
        measures=('dice', 'asd_mm'),
        reference='SynSeg-Net',
        rows={name: {'system': name, 'set': 'target', 'name': words, 'reported': {}} for name, words in ROWS.items()},
    )
    return c
