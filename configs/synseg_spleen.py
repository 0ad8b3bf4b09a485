"""SynSeg-Net, MRI to CT: spleen, left and right kidney, stomach, liver, body (Huo et al., IEEE TMI 2019, section 1).

    python -m synseg_jax.prepare --config=configs/synseg_spleen.py --source=MR --target=CT --output=records/spleen
    python -m synseg_jax.main --config=configs/synseg_spleen.py:records/spleen --workdir=runs/spleen

Reported on 19 splenomegaly CT scans: spleen DSC .895+-.063, ASD 3.90 mm.  Without data: the phantom at demonstration
scale.  Slices are sampled at random over all scans, as in the paper, which mentions the bias to scans with many slices;
--config.train.balanced=True avoids it.  --config.run="('half_cycle',)" trains another of the paper's systems:
half_cycle, cyclegan_seg, target_labels (leave-one-out over the test subjects), target_labels_all (for scans of another
cohort), multi_atlas, synseg_log_likelihood (with the printed adversarial loss) and ssnet, trained on labelled CT of
another cohort, in the paper 75 subjects with a normal spleen, given to `prepare` as --set=cohort=FOLDER:b:train.  Not
in the paper: source_only, without adaptation; synseg_no_identity, without the identity loss that the demonstration
adds; s_score_cyclegan and s_score_synseg, which evaluate the generators by the Dice, on synthetic CT, of a segmentor
trained on real CT labels.  self_training is the recipe of configs/adapt.py.
"""

from ml_collections import ConfigDict

from configs import adapt, base, variants


def get_config(data: str = '') -> ConfigDict:
    """The paper's training, with the class weights of the published code."""
    c = base.get_config(data)
    # In such a short training generator and segmentor agree on edges that are shifted by a pixel.  An identity loss,
    # which the paper does not have, is meant to prevent it; synseg_no_identity shows its effect.
    held = {'loss_weights': {'gen': {'idt_b': 2.0}}} if not data else {}
    short = {'train': {'steps': 500, 'decay_steps': 250, 'save_every': 250}} if not data else {}
    long = {'train': {'steps': 1000, 'decay_steps': 250, 'save_every': 250}} if not data else {}
    c.systems = variants.systems(**{
        'synseg': {**held},
        'synseg_no_identity': {},
        'synseg_log_likelihood': {'loss': {'adversarial': 'log_likelihood'}, **held},
        'half_cycle': {'method': 'synseg_hc', **held},
        'cyclegan_seg': variants.two_stages(translate=held, segment=short),
        'target_labels': {**variants.target_labels(folds=19 if data else 4), **long},
        # Not transductive: it would train on labels of test scans.
        'target_labels_all': {**variants.target_labels(), **long, 'transductive': False},
        'ssnet': {**variants.other_cohort(), **long},
        'multi_atlas': variants.multi_atlas(folds=19 if data else 8),
        's_score_cyclegan': variants.s_score({'method': 'cyclegan', **held}, long),
        's_score_synseg': variants.s_score(held, long),
        'source_only': {**variants.source_only(), **short},
        'self_training': adapt.system(data, 6.0),
    })  # fmt: skip
    c.run = ('synseg', 'source_only')
    c.sets.a, c.sets.b, c.test_sets = ('source',), ('target',), ('target',)  # not the other cohort
    c.data.classes = ('background', 'spleen', 'left kidney', 'right kidney', 'stomach', 'liver', 'body')
    if data:
        c.loss.class_weights = (1.0, 1.0, 10.0, 10.0, 1.0, 10.0, 1.0)
        return c
    c.atlases.spacing_mm = 5.0
    c.data.target_split = (0.75, 0.0, 0.25)
    c.train.steps, c.train.decay_steps, c.train.save_every = 1400, 700, 350
    for number, plane in enumerate(('axial', 'coronal', 'sagittal')):  # a second cohort, acquired in three planes
        c.phantom.sets[plane] = base.phantom_set('CT', 'b', 8, 100 + 8 * number, 'test', plane=plane)
    c.phantom.sets.cohort = base.phantom_set('CT', 'b', 24, 200, 'train', cohort='normal spleen')
    return c
