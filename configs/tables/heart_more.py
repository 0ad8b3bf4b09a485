"""The 3-D paper's second data set: many more CT for synthesis only, to segment MR (Figure 7, right).

python -m synseg_jax.compare --table=configs/tables/heart_more.py
"""

from ml_collections import ConfigDict

from configs import base, heart3d, variants

LINES = {'ada': 'ADA (R+S)', 'joint': 'Ours (R+S)'}
SCANS = 48  # further CT of the phantom, four times those that the other tables train on


def get_config(data: str = '') -> ConfigDict:
    """All real MR, and MR made of a growing share of the further CT; the paper prints no number of this figure."""
    c = heart3d.get_config(data)
    rows = {'all_real': {'system': 'all_real', 'set': 'source', 'name': 'Baseline (R)', 'reported': {}, 'count': 0}}
    for system, name in LINES.items():
        for share in heart3d.FURTHER:
            row = {'system': f'{system}_more_{share}', 'set': 'source', 'name': f'{name}, {share} % of further CT'}
            rows[row['system']] = row | {'reported': {}, 'count': share, 'line': name}
    rows['all_real']['line'] = 'Baseline (R)'
    c.run = tuple(row['system'] for row in rows.values())
    if not data:
        first = c.phantom.sets.target.subjects  # other people
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
