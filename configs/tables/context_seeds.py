"""Neighbouring slices as input of the prostate paper's Res-U-Net, on real MR without translation, with three seeds.

python -m synseg_jax.compare --table=configs/tables/context_seeds.py --seeds=3
"""

from ml_collections import ConfigDict

from configs import base, prostate_ssim, variants

SLICES = (0, 1, 2)  # on each side


def get_config(data: str = '') -> ConfigDict:
    """1, 3 and 5 slices, trained and tested on labelled MR; 20 phantoms for testing."""
    c = prostate_ssim.get_config(data)
    tested = 'source' if data else 'test'
    own = {**c.systems.mri.to_dict(), 'test_sets': (tested,)}
    if not data:
        own['train'] = {'batch': 8, 'steps': 400, 'decay_steps': 200, 'save_every': 200}
    c.systems = variants.systems(
        **{f'slices{2 * n + 1}': {**own, 'context': {'slices': n, 'spacing_mm': 3.6}} for n in SLICES}
    )
    c.run, c.default_system = tuple(c.systems), 'slices3'
    names = {f'slices{2 * n + 1}': f'{2 * n + 1} slice{"s" * (n > 0)}' for n in SLICES}
    c.table = variants.table(
        'Prostate in MR: slices in the input',
        'Liu et al., section 4 (on CT: 1 slice 24 % less than 3, 5 slices no different)',
        runs='context_seeds',
        organs=('prostate',),
        measures=('dice', 'asd_mm'),
        reference='3 slices',
        rows={key: {'system': key, 'set': tested, 'name': name, 'reported': {}} for key, name in names.items()},
    )
    if not data:
        c.fold.of = 0
        c.data.source_split = (0.8, 0.2, 0.0)
        c.phantom.sets = ConfigDict(
            {
                'source': base.phantom_set('MR', 'a', 30),
                'test': base.phantom_set('MR', 'a', 20, first=100, role='test'),
            }
        )
    return c
