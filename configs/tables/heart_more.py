"""Figure 7 (right) of the 3-D paper: many additional CT, used only for synthesis, to improve segmentation of MR.

python -m synseg_jax.compare --table=configs/tables/heart_more.py
"""

from ml_collections import ConfigDict

from configs import base, heart3d, variants

LINES = {'ada': 'ADA (R+S)', 'joint': 'Ours (R+S)'}
SCANS = 48  # additional CT of the phantom, four times the training CT of the other tables


def get_config(data: str = '') -> ConfigDict:
    """All real MR, and MR synthesized from an increasing share of the additional CT; the paper gives no numbers."""
    c = heart3d.get_config(data)
    rows = {'all_real': {'system': 'all_real', 'set': 'source', 'name': 'Baseline (R)', 'reported': {}, 'count': 0}}
    for system, name in LINES.items():
        for share in heart3d.FURTHER:
            row = {'system': f'{system}_more_{share}', 'set': 'source', 'name': f'{name}, {share} % of further CT'}
            rows[row['system']] = row | {'reported': {}, 'count': share, 'line': name}
    rows['all_real']['line'] = 'Baseline (R)'
    c.run = tuple(row['system'] for row in rows.values())
    if not data:
        first = c.phantom.sets.target.subjects  # other subjects
        c.phantom.sets.more = base.phantom_set('CT', 'b', SCANS, first=first, role='train')
    c.table = variants.table(
        'Heart MR, with many more CT for synthesis',
        'Zhang et al., CVPR 2018, Figure 7, right (mean Dice; its text: Ours with 23 % of the synthetic volumes is as '
        'good as ADA with all)',
        runs='heart3d_more',
        organs=('mean',),
        measures=('dice',),
        reference='',
        rows=rows,
        counted='percent of further CT that MR are made of',
    )
    return c
