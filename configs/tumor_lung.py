"""Lung tumours, CT to T2 MR: tumour-aware translation, then a U-Net on synthetic and few real MR (Jiang et al. 2018).

    python -m synseg_jax.prepare --config=configs/tumor_lung.py --source=NSCLC --target=MR_WEEKLY \\
        --set=week_one=MR_WEEK_ONE:b:train --set=later=MR_LATER:b:test --set=test=MR_OTHER:b:test \\
        --config.data.same_patients="('later',)" --output=records/lung
    python -m synseg_jax.main --config=configs/tumor_lung.py:records/lung --workdir=runs/lung

Reported Dice / HD95 mm on other patients: week-one MR only .55 / 13.2, CycleGAN .66 / 11.9, masked CycleGAN .63 /
11.7, tumour-aware .74 / 8.9 without and .80 / 7.2 with the week-one labels.  Not stated in the paper: number of epochs,
widths, how much simpler the U-Nets of the translation are, which features are compared (here the input of the shared
layer), and the extent of the patches that are rescaled to 256x256 (here 192 mm around the largest tumour).  The paper
crops all MR around tumours; here unlabelled MR are cropped around one half of the body, which needs no labels.  Test
scans are evaluated in such patches, as in the paper, and as a whole; therefore the second stage is also trained on
slices without tumours.  `later` has the patients of the training set at later times, like the paper's validation set,
so its results are optimistic; `test` has other patients.  Masked CycleGAN uses the labels of all MR.

Without data: phantom chests at demonstration scale.  --config.run="('cyclegan',)" trains another system: week_one,
cyclegan, masked_cyclegan, unsupervised; mr_labels, trained on the labels of all MR, in the phantom of 84 additional
patients; kept_tumor_aware, kept_cyclegan and kept_masked_cyclegan, which test whether tumours are detected in synthetic
MR.
"""

from ml_collections import ConfigDict

from configs import base, variants

PATCH_MM = 192.0  # side of the patches around tumours


def get_config(data: str = '') -> ConfigDict:
    """The paper's two stages: translation with auxiliary U-Nets, then the final U-Net, with generators fixed."""
    c = base.get_config(data)
    unet = {'architecture': 'unet', 'width': 64 if data else 16, 'levels': 4 if data else 3, 'extra': 0, 'dropout': 0.0,
            'norm': True}  # fmt: skip
    # Translation uses all slices of the patches: if tumours are more frequent in CT than in MR, generators remove them.
    # The final segmentor must work on whole scans, which it sees in tiles: in the demonstration it is trained on random
    # windows of the slices at tumours and four on each side.  Trained only on patches around tumours, it had false
    # positives in tiles of skin and air.  All segmentors of real MR are trained in the same way.
    whole = {} if data else {'size': (112, 128), 'source_margin': 4, 'target_margin': 4}
    change = {'window': (64, 64), 'flip': 'c', 'rotate': 15.0, 'scale': 0.2, 'contrast': 0.2, 'brightness': 0.1,
              'gamma': 1.3}  # fmt: skip
    length = {'batch': 8, 'steps': 1600, 'decay_steps': 800, 'save_every': 1600}
    demonstration = {'train': length, 'context': {'slices': 1}, 'augment': change}

    def segment(*sets):
        return {
            'method': 'supervised',
            'loss': {'segmentation': 'dice'},
            'data': {'target_labels': True, **whole},
            **({'train': {'batch': 10, 'epochs': 100}} if data else demonstration),
            **variants.on_target(*sets),
        }

    # In such a short training edges of synthetic MR are shifted by a pixel and tumours shrink.  An identity loss of MR,
    # which the paper does not have, prevents it.
    hold = {} if data else {'loss_weights': {'gen': {'idt_b': 2.0}}}

    def made(translate):
        return {
            'translate': {'sets': {'a': ('source',), 'b': ('target',)}, **hold, **translate},
            'synthesis': {
                'kind': 'synthesize',
                'generators_from': 'translate',
                'sets': {'a': ('source',)},
                'data': whole,
            },
        }

    def system(translate, *real):
        own = segment('synthesis', *real)
        if real and not data:
            own = {**own, 'train': {**length, 'mixed': True}}  # as there are few real scans
        return {'stages': {**made(translate), 'segment': own}}

    def kept(translate):
        # Are tumours preserved?  A segmentor trained on real MR is evaluated on translated test scans.
        stages = {**made(translate), 'judge': judge}
        return {'stages': stages, 'evaluate_stage': 'judge', 'test_sets': ('synthesis',)}

    # The phantom has labelled MR of additional patients, used only for this segmentor: six patients are too few for it.
    judge = segment('target') if data else segment('week_one', 'others')
    # Tumours have few pixels, so that their cross entropy is small against the other terms of the generators, and they
    # fade in synthetic MR.  Dice does not depend on their size.
    simplified = {'width': 32 if data else 8, 'levels': 3 if data else 2}
    aware = {'method': 'tumor_aware', 'loss': {'segmentation': 'dice'}, 'segmentor': simplified}
    cyclegan = {'method': 'cyclegan'}
    masked = {**cyclegan, 'label_channel': True, 'data': {'target_labels': True}}
    c.systems = variants.systems(**{
        'tumor_aware': system(aware, 'week_one'),
        'unsupervised': system(aware),
        'cyclegan': system(cyclegan, 'week_one'),
        'masked_cyclegan': system(masked, 'week_one'),
        'week_one': segment('week_one'),
        'mr_labels': {'stages': {'judge': judge}},
        'kept_tumor_aware': kept(aware),
        'kept_cyclegan': kept(cyclegan),
        'kept_masked_cyclegan': kept(masked),
    })  # fmt: skip
    c.default_system, c.run, c.test_sets = 'tumor_aware', ('tumor_aware', 'week_one'), ('test', 'later')
    c.segmentor = ConfigDict(unet)
    c.rate = ConfigDict({'generator': 1e-4, 'discriminator': 1e-4, 'segmentor': 1e-4})
    c.data.size = (256, 256) if data else (64, 64)
    c.data.spacing_mm, c.data.cut_about = PATCH_MM / c.data.size[0], 'lesion'
    c.data.classes = ('background', 'tumour')
    c.data.subject = r'^(.+?)(?:_w\d+)?$'
    c.data.window_hu = (-1000.0, 500.0)
    c.data.same_patients = ('later',)
    c.data.source_split, c.data.target_split = (0.65, 0.1, 0.25), (1.0, 0.0, 0.0)
    c.lesions, c.lesion_patch_mm = ('tumour',), PATCH_MM
    if data:
        return c
    c.rate = ConfigDict({'generator': 4e-4, 'discriminator': 4e-4, 'segmentor': 1e-3})
    c.phantom.region = 'thorax'
    c.phantom.sets = ConfigDict({
        'source': base.phantom_set('CT', 'a', 60),
        'target': base.phantom_set('MR', 'b', 6, role='train', weeks=(0, 1, 2, 3, 4, 5, 6)),
        'week_one': base.phantom_set('MR', 'b', 6, role='train'),
        'others': base.phantom_set('MR', 'b', 84, first=200, role='train'),
        'later': base.phantom_set('MR', 'b', 6, role='test', weeks=(2, 4, 6)),
        'test': base.phantom_set('MR', 'b', 12, first=100, role='test'),
    })  # fmt: skip
    c.generator.resize = True
    c.train.batch, c.train.steps, c.train.decay_steps, c.train.save_every = 2, 2400, 1200, 1200
    return c


def for_tables(data: str = '') -> ConfigDict:
    """The configuration for tables: the phantom has 84 additional patients, for the upper bound mr_labels."""
    c = get_config(data)
    if not data:
        c.phantom.sets.further = base.phantom_set('MR', 'b', 84, first=400, role='train')
        c.systems.mr_labels.stages.judge.sets.b += ('further',)
    return c
