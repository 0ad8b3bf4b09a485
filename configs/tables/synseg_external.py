"""SynSeg-Net's Table 2: external cohort in three planes, segmented by two networks of Table 1 and a supervised one.

    python -m synseg_jax.compare --table=configs/tables/synseg_external.py

With data, the records must include the sets of the three planes:

    python -m synseg_jax.prepare --config=configs/synseg_spleen.py --source=MR --target=CT \\
        --set=axial=CT_AXIAL:b:test --set=coronal=CT_CORONAL:b:test --set=sagittal=CT_SAGITTAL:b:test \\
        --output=records/spleen
    python -m synseg_jax.compare --table=configs/tables/synseg_external.py:records/spleen
"""

from ml_collections import ConfigDict

from configs import synseg_spleen, variants

REPORTED = {
    # plane: DSC, ASD mm of Seg., CycleGAN+Seg. and SynSeg-Net
    'axial': (('.929 ± .025', '2.28 ± 1.01'), ('.884 ± .057', '4.07 ± 2.22'), ('.906 ± .058', '3.16 ± 1.80')),
    'coronal': (('.914 ± .031', '2.12 ± 0.77'), ('.876 ± .037', '4.28 ± 3.12'), ('.882 ± .087', '2.94 ± 2.13')),
    'sagittal': (('.863 ± .166', '3.93 ± 5.73'), ('.850 ± .066', '5.08 ± 3.29'), ('.872 ± .064', '4.04 ± 2.91')),
}
NAMES = {'target_labels_all': 'Seg.', 'cyclegan_seg': 'CycleGAN+Seg.', 'synseg': 'SynSeg-Net'}


def get_config(data: str = '') -> ConfigDict:
    """The rows of Table 2."""
    c = synseg_spleen.get_config(data)
    c.transductive = bool(data)  # as for the networks of Table 1
    c.run, c.test_sets = tuple(NAMES), ('target', *REPORTED)
    c.oracle = not data  # as in synseg_spleen.py, whose runs are shared
    rows = {}
    for plane, cells in REPORTED.items():
        for (system, name), (dice, asd) in zip(NAMES.items(), cells, strict=True):
            reported = variants.cells(dice, asd)
            rows[f'{system}_{plane}'] = {'system': system, 'set': plane, 'name': name, 'reported': reported}
    c.table = variants.table(
        'Spleen, MRI to CT, another cohort in three acquisition planes',
        'Huo et al., IEEE TMI 2019, Table 2 (66 CT scans)',
        runs='synseg_spleen',
        organs=('spleen', 'mean'),
        measures=('dice', 'asd_mm'),
        reference='SynSeg-Net',
        rows=rows,
    )
    return c
