"""SynSeg-Net and the same segmentor without adaptation on the embedded phantom: MR labels, CT unlabelled.

Expected on 2 CPU cores in about 10 minutes: see README.md.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(data: str = '') -> ConfigDict:
    """The demonstration; with `data`, the same small networks on prepared records."""
    c = base.get_config(data)
    c.systems = ConfigDict(
        {
            'synseg': {},
            'source_only': {'method': 'supervised', 'train': {'steps': 600, 'decay_steps': 300}},
        }
    )
    c.generator.width = c.segmentor.width = c.discriminator.width = 16
    c.generator.blocks = c.segmentor.blocks = 6
    c.rate.generator = c.rate.segmentor = c.rate.discriminator = 4e-4
    c.loss.class_weights = (1.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0)
    c.data.size = (64, 64)
    c.augment.shift = 0.1
    c.train.batch = 4
    c.train.steps, c.train.decay_steps = 2000, 1000
    c.train.save_every = 250
    c.train.balanced = True
    c.predict.resample = 'linear'
    return c
