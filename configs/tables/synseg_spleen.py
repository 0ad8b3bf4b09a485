"""SynSeg-Net's Table 1: spleen segmentation in CT, all systems of the paper.

python -m synseg_jax.compare --table=configs/tables/synseg_spleen.py
"""

from ml_collections import ConfigDict

from configs import synseg_spleen, variants

ROWS = {
    # system: the paper's name, DSC, ASD mm
    'ssnet': ('SSNet (here: our segmentor, CT of normal spleens)', '.630 ± .269', '18.34 ± 27.99'),
    'multi_atlas': ('AGMM MAS (here: locally weighted voting)', '.861 ± .101', '6.73 ± 7.71'),
    'target_labels': ('Seg.', '.911 ± .040', '3.00 ± 2.80'),
    'half_cycle': ('SynSeg-Net-HC', '.605 ± .084', '14.38 ± 4.52'),
    'cyclegan_seg': ('CycleGAN+Seg.', '.878 ± .056', '5.60 ± 3.62'),
    'synseg': ('SynSeg-Net', '.895 ± .063', '3.90 ± 3.40'),
    'synseg_log_likelihood': ('SynSeg-Net, log-likelihood', '', ''),
    'synseg_no_identity': ('SynSeg-Net, no identity loss', '', ''),
    'source_only': ('no adaptation', '', ''),
    'self_training': ('views and self-training', '', ''),
}


def get_config(data: str = '') -> ConfigDict:
    """The rows of Table 1, SynSeg-Net with the printed loss and without our identity loss, and no adaptation."""
    c = synseg_spleen.get_config(data)
    c.transductive = bool(data)  # as in the paper: all 19 scans are tested, and their images used in training
    # At full size SynSeg-Net has no identity loss; keeping all checkpoints would need many gigabytes.
    shown = {system: row for system, row in ROWS.items() if not (data and system == 'synseg_no_identity')}
    c.run, c.oracle = tuple(shown), not data
    c.table = variants.table(
        'Spleen, MRI to CT',
        'Huo et al., IEEE TMI 2019, Table 1 (DSC and ASD on 19 CT scans; best epoch by test labels)',
        runs='synseg_spleen',
        organs=('spleen', 'mean'),
        measures=('dice', 'asd_mm'),
        reference='SynSeg-Net',
        rows={
            system: {'system': system, 'set': 'target', 'name': name, 'reported': variants.cells(dice, asd)}
            for system, (name, dice, asd) in shown.items()
        },
    )
    return c
