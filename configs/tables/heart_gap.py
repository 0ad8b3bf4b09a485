"""Figure 8 of the 3-D paper: few real scans with additional real scans, or with as many synthetic ones.

python -m synseg_jax.compare --table=configs/tables/heart_gap.py
"""

from ml_collections import ConfigDict

from configs import heart3d, variants

LINES = {'more': 'Baseline (R+R)', 'ada_made': 'ADA (R+S)', 'joint_made': 'Ours (R+S)'}


def get_config(data: str = '') -> ConfigDict:
    """MR, as in the paper; all rows start from the segmentor trained on the smallest share of real scans."""
    c = heart3d.get_config(data)
    start = {'system': f'baseline_mr_{heart3d.LEAST}', 'set': 'source', 'name': 'Baseline (R)', 'count': heart3d.LEAST}
    rows = {'start': start | {'reported': {'dice': '.703'}, 'line': 'Baseline (R)'}}
    for system, name in LINES.items():
        for share in heart3d.SHARES[1:]:
            row = {'system': f'{system}_mr_{share}', 'set': 'source', 'name': f'{name}, {share} %', 'reported': {}}
            rows[row['system']] = row | {'count': share, 'line': name}
    c.run = tuple(row['system'] for row in rows.values())
    c.table = variants.table(
        'Heart MR, real against synthetic scans',
        'Zhang et al., CVPR 2018, Figure 8 (mean Dice)',
        runs='heart3d',
        organs=('mean',),
        measures=('dice',),
        reference='',
        rows=rows,
        counted='percent of scans, real or synthetic',
    )
    return c
