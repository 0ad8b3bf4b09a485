"""Figure 3 of the prostate paper: 1, 3, 5 and 7 slices as input of the Res-U-Net.

python -m synseg_jax.compare --table=configs/tables/prostate_context.py
"""

from ml_collections import ConfigDict

from configs import prostate_ssim, variants

SYSTEMS = {0: 'context0', 1: 'prostate_ssim', 2: 'context2', 3: 'context3'}


def get_config(data: str = '') -> ConfigDict:
    """Rows share one CycleGAN.  Reported Dice on CT against 3 slices: 1 slice -24 %, 5 no difference, 7 -41 %."""
    c = prostate_ssim.get_config(data)
    c.run = tuple(SYSTEMS.values())
    rows = {}
    for set_name in ('synthesis', 'target'):
        for slices, system in SYSTEMS.items():
            name = f'{2 * slices + 1} slice{"s" * (slices > 0)}'
            rows[f'{system}_{set_name}'] = {'system': system, 'set': set_name, 'name': name, 'reported': {}}
            rows[f'{system}_{set_name}']['count'] = 2 * slices + 1
    c.table = variants.table(
        'Prostate, MR to CT: slices in the input',
        'Liu et al., Figure 3 and section 4',
        runs='prostate',
        organs=('prostate',),
        measures=('dice', 'asd_mm'),
        reference='3 slices',
        rows=rows,
        sets={'synthesis': 'synthetic CT', 'target': 'real CT'},
        counted='slices in the input',
    )
    return c
