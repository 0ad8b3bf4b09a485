"""Table 2 of the 3-D paper: few real volumes with synthetic ones added, offline (ADA) or in joint training (Ours).

python -m synseg_jax.compare --table=configs/tables/heart.py
"""

from ml_collections import ConfigDict

from configs import heart3d, variants

ROWS = {
    # system: name, Dice on CT, on MR
    'baseline': ('Baseline (R)', '.678', '.703'),
    'ada': ('ADA (R+S)', '.660', '.710'),
    'joint': ('Ours (R+S)', '.744', '.732'),
}


def get_config(data: str = '') -> ConfigDict:
    """The rows of Table 2, and an upper bound that is not in the paper: all real scans."""
    c = heart3d.get_config(data)
    rows = {}
    for modality, set_name, column in (('ct', 'target', 1), ('mr', 'source', 2)):
        for system, cells in ROWS.items():
            row = {'system': f'{system}_{modality}_{heart3d.LEAST}', 'set': set_name, 'name': cells[0]}
            rows[f'{system}_{modality}'] = row | {'reported': {'dice': cells[column]}}
        rows[f'all_{modality}'] = {'system': 'all_real', 'set': set_name, 'name': 'all real scans', 'reported': {}}
    c.run = tuple(dict.fromkeys(row['system'] for row in rows.values()))
    c.table = variants.table(
        'Heart, with few real scans of the modality',
        'Zhang et al., CVPR 2018, Table 2 (multi-class Dice; 14 % of the real scans)',
        runs='heart3d',
        organs=('mean', *heart3d.CLASSES[1:]),
        measures=('dice', 'asd_mm'),
        reference='Ours (R+S)',
        rows=rows,
        sets={'target': 'CT', 'source': 'MR'},
    )
    return c
