"""EssNet's Tables 3 and 4: U-Net trained on real MR and increasing numbers of synthetic MR from EssNet or CycleGAN.

python -m synseg_jax.compare --table=configs/tables/essnet_liver.py
"""

from ml_collections import ConfigDict

from configs import essnet_liver, variants

REPORTED = {
    # number of synthetic slices in addition to 350 real ones: Dice, IoU
    0: ('.9459', '.8974'),
    354: ('.9467', '.8989'),
    714: ('.9524', '.9091'),
    1034: ('.9485', '.9020'),
    1487: ('.9475', '.9002'),
    2050: ('.9505', '.9058'),
}


def get_config(data: str = '') -> ConfigDict:
    """The rows of Tables 3 and 4, and a row without adaptation; Table 5 is in essnet_speed.md."""
    c = essnet_liver.get_config(data)
    rows = {'source_only': {'system': 'source_only', 'name': 'CT labels, no adaptation', 'reported': {}}}
    for count, (dice, iou) in REPORTED.items():
        system, name = (f'essnet_{count}', f'real + {count} of EssNet') if count else ('real_only', 'real MR only')
        if count and not data:
            name = f'real + {round(100 * count / 2050)} % of EssNet'
        rows[system] = {'system': system, 'name': name, 'reported': {'dice': dice, 'iou': iou}, 'count': count}
    part = '714' if data else '35 %'
    name, reported = f'real + {part} of CycleGAN', {'dice': '.9460', 'iou': '.8976'}
    rows['cyclegan_714'] = {'system': 'cyclegan_714', 'name': name, 'reported': reported}
    name = 'CT labels, views and self-training'
    rows['self_training'] = {'system': 'self_training', 'name': name, 'reported': {}}
    c.run = tuple(rows)
    c.table = variants.table(
        'Liver, CT to T2-SPIR MR',
        'EssNet + U-Net, Tables 3 and 4 (Dice and IoU on 58 MR slices)',
        runs='essnet_liver',
        organs=('liver',),
        measures=('dice', 'iou', 'auc', 'asd_mm'),
        reference='real MR only',
        rows={key: {**row, 'set': 'target'} for key, row in rows.items()},
        counted='synthetic slices (of 2,050 in the paper)',
    )
    return c
