"""The recipe of configs/adapt_laptop.py on CT of the whole trunk, when the MR that it learns from shows the abdomen.

`whole` and `whole_test` are folders of CT at their whole length: other scans to adapt to, and those that
Dataset102_AbdomenCT holds out, where they are cut to the organs.

    python -m synseg_jax.prepare --config=configs/tables/adapt_whole.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/whole \\
        --set=whole=whole:b:train --set=whole_test=whole_test:b:test
    python -m synseg_jax.compare --table=configs/tables/adapt_whole.py:records/whole
"""

from ml_collections import ConfigDict

from configs import variants
from configs.tables import adapt_laptop

ROWS = (
    ('generalise', 'target', 'randomised views'),
    ('generalise', 'whole_test', 'randomised views'),
    ('adapt', 'target', 'self-training on scans that are cut'),
    ('adapt', 'whole_test', 'self-training on scans that are cut'),
    ('whole', 'target', 'self-training on whole scans'),
    ('whole', 'whole_test', 'self-training on whole scans'),
)
SETS = {'target': 'cut to the organs', 'whole_test': 'the same, whole'}


def get_config(data: str = '') -> ConfigDict:
    """Three systems, each on scans cut to the organs and on the same scans whole."""
    c = adapt_laptop.get_config(data)
    c.run = ('generalise', 'adapt', 'whole')
    names = {(system, tested): f'{words}, {SETS[tested]}' for system, tested, words in ROWS}
    c.table = variants.table(
        'Liver, kidneys and spleen, CHAOS MR to BTCV CT, whole scans',
        'no paper reports it',
        runs='adapt_laptop',
        organs=('mean',) if not data else (*c.data.classes[1:], 'mean'),
        measures=('dice', 'asd_mm'),
        reference=names['whole', 'target'],
        rows={
            f'{system}_{tested}': {'system': system, 'set': tested, 'name': name, 'reported': {}}
            for (system, tested), name in names.items()
        },
        sets=SETS,
    )
    return c
