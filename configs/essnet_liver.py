"""EssNet + U-Net: SynSeg-Net from CT to T2-SPIR MR, then the classic U-Net on real and synthetic MR (liver, CHAOS).

    python -m synseg_jax.prepare --config=configs/essnet_liver.py \\
        --source=CHAOS_CT --target=CHAOS_T2SPIR --output=records/liver
    python -m synseg_jax.main --config=configs/essnet_liver.py:records/liver --workdir=runs/liver

Reported on 58 MR slices: Dice .9459 without, .9524 with 714 synthetic slices, IoU .8974 and .9091.  The U-Net is
trained with real MR labels, as in the paper; EssNet is not.  As in the paper, slices without liver are left out of both
sets, by their labels; EssNet is trained on 350 random CT slices and on the MR of the training patients (350 slices in
the paper, 16 of the 20 patients here), and translates all CT slices.  Without data: phantom livers at demonstration
scale with the same shares of synthetic slices, but EssNet is trained on all CT, as the paper's share would be six
slices per scan.  --config.run="('essnet_1034',)" trains another row: real_only, essnet_354 ... essnet_2050,
cyclegan_714, source_only; self_training is the recipe of configs/adapt.py.
"""

from ml_collections import ConfigDict

from configs import adapt, base, variants

TRANSLATED = 350  # number of CT slices, of 2050, that EssNet is trained on
COUNTS = (354, 714, 1034, 1487, 2050)  # numbers of synthetic slices added, of 2050


def get_config(data: str = '') -> ConfigDict:
    """The paper's two stages; sets.b gives the number of synthetic slices, as part of a set.

    All U-Nets are trained for the same number of epochs, so that synthetic slices add steps to those on real ones.
    """
    c = base.get_config(data)
    unet = {'architecture': 'unet', 'width': 64 if data else 16}
    segment = {
        'method': 'supervised',
        'segmentor': unet,
        'loss': {'segmentation': 'binary_cross_entropy'},
        'rate': {'segmentor': 1e-4 if data else 5e-4},
        'train': {'epochs': 300, 'batch': 2}
        if data
        else {'steps': 0, 'epochs': 6, 'decay_epochs': 6, 'save_every': 500},
        'average': 0.0 if data else 0.99,
        'data': {'target_labels': True, 'source_margin': 0, 'target_margin': 0},
    }

    def system(method, count):
        part = f'synthesis:{count}' if data else f'synthesis:{round(100 * count / COUNTS[-1])}%'
        seen = {'sets': {'a': (f'source:{TRANSLATED}',)}} if data else {}
        held = {} if data else {'loss_weights': {'gen': {'idt_b': 2.0}}}
        stages = {
            'translate': {'method': method, **seen, **held},
            'synthesis': {'kind': 'synthesize', 'generators_from': 'translate', 'sets': {'a': ('source',)}},
            'segment': {**segment, **variants.on_target('target', part)},
        }
        return {'stages': stages}

    c.systems = variants.systems(**{
        'real_only': {**segment, **variants.on_target('target')},
        **{f'essnet_{count}': system('synseg', count) for count in COUNTS},
        'cyclegan_714': system('cyclegan', 714),
        'source_only': {**segment, 'data': {'source_margin': 0, 'target_margin': 0}},
        'self_training': adapt.system(data, 6.0, (0.07, 1.0), data={'source_margin': -1}),
    })  # fmt: skip
    c.default_system, c.run = 'essnet_714', ('essnet_714', 'real_only', 'source_only')
    c.data.classes = ('background', 'liver')
    c.data.source_split, c.data.target_split = (1.0, 0.0, 0.0), (0.8, 0.0, 0.2)
    c.data.source_margin = 0
    c.data.window_hu = (-200.0, 300.0) if not data else c.data.window_hu
    if data:
        c.data.target_labels, c.data.target_margin = True, 0
        return c
    c.data.target_split = (0.4, 0.0, 0.6)
    c.phantom.region = 'liver'
    c.phantom.sets = ConfigDict({'source': base.phantom_set('CT', 'a', 32), 'target': base.phantom_set('MR', 'b', 20)})
    c.train.steps, c.train.decay_steps, c.train.save_every = 1800, 900, 450
    return c
