"""SynSeg-Net's Table 3: total intracranial volume on MRI.

python -m synseg_jax.compare --table=configs/tables/synseg_ticv.py
"""

from ml_collections import ConfigDict

from configs import synseg_ticv, variants

ROWS = {
    'source_only': ('no adaptation', '', ''),
    'target_labels': ('Seg.', '.979 ± .006', '0.99 ± 0.46'),
    'cyclegan_seg': ('CycleGAN+Seg.', '.952 ± .010', '2.32 ± 0.98'),
    'synseg': ('SynSeg-Net', '.963 ± .008', '1.44 ± 0.32'),
    'synseg_log_likelihood': ('SynSeg-Net, log-likelihood', '', ''),
    'self_training': ('views and self-training', '', ''),
}


def get_config(data: str = '') -> ConfigDict:
    """The rows of Table 3."""
    c = synseg_ticv.get_config(data)
    c.transductive = bool(data)  # as in the paper: all 10 scans are tested, and their images used in training
    c.run, c.oracle = tuple(ROWS), not data  # at full size all checkpoints would need many gigabytes
    c.table = variants.table(
        'Total intracranial volume, CT to MRI',
        'Huo et al., IEEE TMI 2019, Table 3',
        runs='synseg_ticv',
        organs=('mean',),
        measures=('dice', 'asd_mm'),
        reference='SynSeg-Net',
        rows={
            system: {'system': system, 'set': 'target', 'name': name, 'reported': variants.cells(dice, asd)}
            for system, (name, dice, asd) in ROWS.items()
        },
    )
    return c
