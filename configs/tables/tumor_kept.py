"""Preservation of tumours in translation: intensities in tumours, and detection by a segmentor trained on real MR.

python -m synseg_jax.compare --table=configs/tables/tumor_kept.py
"""

from ml_collections import ConfigDict

from configs import tumor_lung, variants

ROWS = {
    'kept_cyclegan': ('CycleGAN', '1.69'),
    'kept_masked_cyclegan': ('masked CycleGAN', '.32'),
    'kept_tumor_aware': ('tumour-aware', '.069'),
}


def get_config(data: str = '') -> ConfigDict:
    """KL divergence over all scans pooled, as in the paper, and for each scan; Dice is the S-score."""
    c = tumor_lung.for_tables(data)
    rows = {
        system: {'system': system, 'set': 'synthesis', 'name': name, 'reported': {'kl_pooled': kl}}
        for system, (name, kl) in ROWS.items()
    }
    c.run = tuple(ROWS)
    c.table = variants.table(
        'Lung tumours in synthetic MR',
        'Jiang et al., MICCAI 2018, section 4 (KL divergence of intensities within tumours)',
        runs='tumor_lung',
        organs=('tumour',),
        measures=('kl', 'kl_pooled', 'lesions', 'false_lesions', 'dice', 'hd95_mm'),
        reference='tumour-aware',
        rows=rows,
    )
    return c
