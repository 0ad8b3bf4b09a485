"""Table 1 of the tumour-aware paper: tumours in MR, of other patients and of the training patients at later times.

Dice and HD95 in patches around the tumours, as in the paper, and on whole scans.

python -m synseg_jax.compare --table=configs/tables/tumor.py
"""

from ml_collections import ConfigDict

from configs import tumor_lung, variants

ROWS = {
    # system: name, Dice and HD95 mm on other patients, on the training patients later
    'week_one': ('week-one MR alone', ('.55', '13.2'), ('.63', '7.2')),
    'cyclegan': ('CycleGAN', ('.66', '11.9'), ('.57', '11.4')),
    'masked_cyclegan': ('masked CycleGAN', ('.63', '11.7'), ('.67', '7.8')),
    'unsupervised': ('tumour-aware, unsupervised', ('.74', '8.9'), ('.62', '7.5')),
    'tumor_aware': ('tumour-aware, semi-supervised', ('.80', '7.2'), ('.70', '5.9')),
    'mr_labels': ('labels of many MR', (), ()),
}


def get_config(data: str = '') -> ConfigDict:
    """The rows of Table 1, and an upper bound that is not in the paper: labels of many MR."""
    c = tumor_lung.for_tables(data)
    rows = {}
    for set_name, column in (('test', 1), ('later', 2)):
        for system, cells in ROWS.items():
            reported = dict(zip(('patch_dice', 'patch_hd95_mm'), cells[column], strict=False))
            rows[f'{system}_{set_name}'] = {'system': system, 'set': set_name, 'name': cells[0], 'reported': reported}
    c.run = tuple(ROWS)
    c.table = variants.table(
        'Lung tumours in MR',
        'Jiang et al., MICCAI 2018, Table 1 (test and validation)',
        runs='tumor_lung',
        organs=('tumour',),
        measures=('patch_dice', 'patch_hd95_mm', 'dice', 'hd95_mm', 'lesions', 'false_lesions'),
        reference='tumour-aware, semi-supervised',
        rows=rows,
        sets={'test': 'other patients', 'later': 'the same patients later'},
    )
    return c
