"""Figure 7 of the 3-D paper: Dice against the share of real scans, without and with synthetic ones.

python -m synseg_jax.compare --table=configs/tables/heart_share.py
"""

from ml_collections import ConfigDict

from configs import heart3d, variants

LINES = {'baseline': 'Baseline (R)', 'ada': 'ADA (R+S)', 'joint': 'Ours (R+S)'}
MODALITIES = {'ct': ('target', 'CT'), 'mr': ('source', 'MR')}


def get_config(data: str = '') -> ConfigDict:
    """A row for every system, modality and share; the paper gives numbers only for the smallest share."""
    c = heart3d.get_config(data)
    rows = {}
    for modality, (set_name, shown) in MODALITIES.items():
        for system, name in LINES.items():
            for share in heart3d.SHARES:
                row = {'system': f'{system}_{modality}_{share}', 'set': set_name, 'name': f'{name}, {share} %'}
                rows[row['system']] = row | {'reported': {}, 'count': share, 'line': f'{name}, {shown}'}
    c.run = tuple(rows)
    c.table = variants.table(
        'Heart, as real scans become more',
        'Zhang et al., CVPR 2018, Figure 7 (mean Dice)',
        runs='heart3d',
        organs=('mean',),
        measures=('dice',),
        reference='',
        rows=rows,
        sets=dict(MODALITIES.values()),
        counted='percent of real scans',
    )
    return c
