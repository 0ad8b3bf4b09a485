"""SynSeg-Net, head CT to MRI: total intracranial volume (Huo et al., IEEE TMI 2019, section 1).

    python -m synseg_jax.prepare --config=configs/synseg_ticv.py --source=CT --target=MR --output=records/ticv
    python -m synseg_jax.main --config=configs/synseg_ticv.py:records/ticv --workdir=runs/ticv

Reported on 10 MRI scans: DSC .963+-.008, ASD 1.44 mm.  Without data: phantom heads at demonstration scale.
--config.run="('cyclegan_seg',)" trains another of the paper's systems: cyclegan_seg, target_labels,
synseg_log_likelihood (with the printed adversarial loss); source_only, without adaptation; or self_training, the recipe
of configs/adapt.py.
"""

from ml_collections import ConfigDict

from configs import adapt, base, variants


def get_config(data: str = '') -> ConfigDict:
    """The paper's training: 200 epochs, two classes, named in the source's dataset.json."""
    c = base.get_config(data)
    short = {'train': {'steps': 300, 'decay_steps': 150, 'save_every': 150}} if not data else {}
    c.systems = variants.systems(**{
        'synseg': {},
        'synseg_log_likelihood': {'loss': {'adversarial': 'log_likelihood'}},
        'cyclegan_seg': variants.two_stages(segment=short),
        'target_labels': {**variants.target_labels(folds=10 if data else 4), **short},
        'source_only': {**variants.source_only(), **short},
        'self_training': adapt.system(data, 4.0),
    })  # fmt: skip
    c.run = ('synseg', 'source_only')
    if data:
        c.train.epochs = 200
        return c
    c.phantom.region = 'head'
    c.phantom.sets = ConfigDict({'source': base.phantom_set('CT', 'a', 24), 'target': base.phantom_set('MR', 'b', 24)})
    c.data.target_split = (0.66, 0.0, 0.34)
    # The only fat is the scalp: at the 97.5th percentile, brains would be brighter in heads with a thin scalp.
    c.data.percentiles = (0.5, 99.5)
    c.train.steps, c.train.decay_steps, c.train.save_every = 1800, 900, 450
    return c
