"""Prostate, MR to CT: CycleGAN with SSIM cycle loss, then a 2.5-D Res-U-Net trained on synthetic CT (Liu et al.).

    python -m synseg_jax.prepare --config=configs/prostate_ssim.py --source=NCI_ISBI --target=CT \\
        --set=source_unlabelled=PROSTATEx:a:train --output=records/prostate
    python -m synseg_jax.main --config=configs/prostate_ssim.py:records/prostate --workdir=runs/prostate

CT has the unlabelled scans in imagesTr, and the labelled ones, the test scans, in imagesTs and labelsTs.

Reported Dice on 19 real CT .73+-.09, on synthetic CT .80+-.12, in 6-fold cross-validation.  Not stated in the paper:
decay of the learning rate (constant, then linear to 0), window and constants of SSIM, class weights, batch size,
widths.  Without data: phantom pelves at demonstration scale.  --config.run="('plain',)" trains another system: plain,
soft_tissue, augmented (Table 1, each adds one component), mri (trained and tested on MR), context0, context2, context3;
and, not in the paper, target_labels, an upper bound, and self_training, the recipe of configs/adapt.py.
"""

from ml_collections import ConfigDict

from configs import adapt, base, variants

CLASSES = ('background', 'prostate')


def get_config(data: str = '') -> ConfigDict:
    """The paper's two stages and its ablations; folds divide the labelled MR, and share one CycleGAN."""
    c = base.get_config(data)
    res_unet = {'architecture': 'res_unet', 'width': 64 if data else 16, 'levels': 4}
    epochs = (
        {'epochs': 300, 'decay_epochs': 0, 'batch': 16}
        if data
        else {'steps': 700, 'decay_steps': 350, 'batch': 8, 'save_every': 350}
    )
    gentle = {'rotate': 10.0, 'shift': 0.05, 'scale': 0.1, 'crop': 1.0, 'flip': 'c', 'window': ()}
    segment = {
        'segmentor': res_unet,
        'loss': {'segmentation': 'binary_cross_entropy'},
        'augment': gentle,
        'train': epochs,
        'average': 0.0 if data else 0.99,
    }
    wild = {'crop': 0.5 if data else 0.75, 'rotate': 15.0, 'flip': 'c', 'window': ()}
    fixed = (284, 284) if data else (72, 72)
    # 1 - SSIM is several times larger than an L1: with weight 10 it dominates, and fat stays as bright as in MR.
    weights = {'ssim': {} if data else {'gen': {'cyc_a': 3.0, 'cyc_b': 3.0}}, 'l2': {}}

    def system(cycle, augment, window_hu, context=1, size=None):
        own = variants.two_stages(
            {'sets': {'a': ('source_unlabelled',), 'b': ('target',)}, 'loss': {'cycle': cycle}, 'augment': augment,
             'data': {'size': size} if size else {}, 'loss_weights': weights[cycle]},
            {**segment, 'context': {'slices': context, 'spacing_mm': 3.6}},
        )  # fmt: skip
        own.data = ConfigDict({'window_hu': window_hu})
        return own

    whole, soft = (-1000.0, 1000.0), (-500.0, 500.0) if data else (-200.0, 300.0)
    cut = {'window': (256, 256) if data else (64, 64), 'crop': 1.0, 'rotate': 0.0, 'shift': 0.0, 'scale': 0.0}
    no_folds = {'fold': {'set': '', 'of': 0, 'strata': ''}, 'sets': {'a': ('source',)}, 'test_sets': ('target',)}
    organs = (0.5, 0.75) if data else (0.39, 0.91)  # -5 to 255 HU
    c.systems = variants.systems(**{
        'plain': system('l2', cut, whole, size=fixed),
        'soft_tissue': system('l2', cut, soft, size=fixed),
        'augmented': system('l2', wild, soft),
        'prostate_ssim': system('ssim', wild, soft),
        **{f'context{n}': system('ssim', wild, soft, n) for n in (0, 2, 3)},
        'mri': {'method': 'supervised', 'sets': {'a': ('source',)}, **segment, 'test_sets': ('source',),
                'context': {'slices': 1, 'spacing_mm': 3.6}},
        'target_labels': {**variants.target_labels(3), **segment, 'test_sets': ('target',),
                          'context': {'slices': 1, 'spacing_mm': 3.6}},
        'self_training': adapt.system(data, 4.0, organs, data={'target_center': 1.0}, **no_folds),
    })  # fmt: skip
    c.default_system, c.run = 'prostate_ssim', ('prostate_ssim',)
    c.test_sets = ('target', 'synthesis')
    scanner = r'^(Prostate\w+?)-' if data else ''  # NCI-ISBI: half at 3 T, half at 1.5 T with an endorectal coil
    c.fold = ConfigDict({'set': 'source', 'of': 6 if data else 3, 'strata': scanner})
    c.rate = ConfigDict({'generator': 2e-4, 'discriminator': 2e-4, 'segmentor': 2e-4})
    c.data.classes = CLASSES
    c.data.window_hu, c.data.target_center = soft, 0.5
    c.data.source_split = (1.0, 0.0, 0.0)
    if data:
        c.data.target_split = (1.0, 0.0, 0.0)
        c.train.epochs, c.train.decay_epochs = 100, 100
        return c
    c.rate = ConfigDict({'generator': 4e-4, 'discriminator': 4e-4, 'segmentor': 1e-3})
    c.data.target_split = (0.75, 0.0, 0.25)
    c.phantom.region = 'pelvis'
    c.phantom.sets = ConfigDict({
        'source': base.phantom_set('MR', 'a', 24),
        'source_unlabelled': base.phantom_set('MR', 'a', 24, first=100, role='train', labelled=False),
        'target': base.phantom_set('CT', 'b', 32),
    })  # fmt: skip
    c.train.steps, c.train.decay_steps, c.train.save_every = 1800, 900, 450
    return c
