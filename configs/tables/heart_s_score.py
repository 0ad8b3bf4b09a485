"""Table 1 of the 3-D paper: S-score, the Dice on synthetic scans of segmentors trained on real ones.

python -m synseg_jax.compare --table=configs/tables/heart_s_score.py
"""

from ml_collections import ConfigDict

from configs import heart3d, variants

ROWS = {
    's_score_without': ('G without shape consistency', '.668', '.675'),
    's_score_with': ('G with shape consistency', '.692', '.696'),
}


def get_config(data: str = '') -> ConfigDict:
    """The rows of Table 1; the reference labels are those of the scans from which the synthetic ones were made."""
    c = heart3d.get_config(data)
    rows = {}
    for set_name, column in (('ct', 1), ('mr', 2)):
        for system, cells in ROWS.items():
            row = {'system': system, 'set': set_name, 'name': cells[0], 'reported': {'dice': cells[column]}}
            rows[f'{system}_{set_name}'] = row
    c.run = tuple(ROWS)
    c.table = variants.table(
        'Heart, shapes in translation',
        'Zhang et al., CVPR 2018, Table 1 (S-score: multi-class Dice of segmentors trained on real scans)',
        runs='heart3d',
        organs=('mean', *heart3d.CLASSES[1:]),
        measures=('dice',),
        reference='G with shape consistency',
        rows=rows,
        sets={'ct': 'synthetic CT', 'mr': 'synthetic MR'},
    )
    return c
