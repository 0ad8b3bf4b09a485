"""Table 1 of the prostate paper: ablation of soft-tissue window, augmentation and SSIM, on synthetic and real CT.

python -m synseg_jax.compare --table=configs/tables/prostate.py
"""

from ml_collections import ConfigDict

from configs import prostate_ssim, variants

ROWS = {
    # system: name, Dice on synthetic CT, on real CT
    'plain': ('SynCT', '.83 ± .13', '.45 ± .29'),
    'soft_tissue': ('Soft-tissue SynCT', '.82 ± .12', '.62 ± .15'),
    'augmented': ('+ augmentation', '.65 ± .09', '.68 ± .09'),
    'prostate_ssim': ('+ SSIM loss', '.80 ± .12', '.73 ± .09'),
}


def get_config(data: str = '') -> ConfigDict:
    """The rows of Table 1, and an upper bound that is not in the paper: trained on labels of real CT."""
    c = prostate_ssim.get_config(data)
    c.run = ('mri', *ROWS, 'target_labels', 'self_training')
    rows = {'mri': {'system': 'mri', 'set': 'source', 'name': 'MRI', 'reported': {'dice': '.90 ± .05'}}}
    for set_name, column in (('synthesis', 1), ('target', 2)):
        for system, cells in ROWS.items():
            row = {'system': system, 'set': set_name, 'name': cells[0], 'reported': {'dice': cells[column]}}
            rows[f'{system}_{set_name}'] = row
    rows['target_labels'] = {'system': 'target_labels', 'set': 'target', 'name': 'CT labels', 'reported': {}}
    name = 'views and self-training'
    rows['self_training'] = {'system': 'self_training', 'set': 'target', 'name': name, 'reported': {}}
    c.table = variants.table(
        'Prostate, MR to CT',
        'Liu et al., Table 1 (Dice; 6-fold cross validation, 19 real CT scans)',
        runs='prostate',
        organs=('prostate',),
        measures=('dice', 'asd_mm'),
        reference='+ SSIM loss',
        rows=rows,
        sets={'source': 'real MR', 'synthesis': 'synthetic CT', 'target': 'real CT'},
        unpaired=('synthesis', 'target'),  # the paper: "no statistical difference (p > 0.05)", by an unnamed test
    )
    return c
