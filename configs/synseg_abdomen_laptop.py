"""CHAOS MR to BTCV CT, reduced to 128x128, width 16 and 6 blocks: about half an hour of training on 2 CPU cores.

    python -m synseg_jax.prepare --config=configs/synseg_abdomen_laptop.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/abdomen
    python -m synseg_jax.main --config=configs/synseg_abdomen_laptop.py:records/abdomen --workdir=runs/abdomen

Published results at full size: see synseg_abdomen.py.  Measured here: mean Dice .663 on 6 test CT scans.
"""

from ml_collections import ConfigDict

from configs import synseg_abdomen, variants


def get_config(data: str = '') -> ConfigDict:
    """synseg_abdomen at reduced size; without data the phantom at demonstration scale."""
    c = synseg_abdomen.get_config(data)
    if not data:
        return c
    held = {'loss_weights': {'gen': {'idt_b': 1.0}}}
    c.systems = variants.systems(
        synseg=held,
        source_only=variants.source_only(),
        cyclegan_seg=variants.two_stages(translate=held),
        target_labels=variants.target_labels(),
    )
    c.data.size = (128, 128)
    c.generator.width = c.segmentor.width = c.discriminator.width = 16
    c.generator.blocks = c.segmentor.blocks = 6
    c.rate.generator = c.rate.segmentor = c.rate.discriminator = 2e-4
    c.data.classes = ('background', 'liver', 'right kidney', 'left kidney', 'spleen')
    c.loss.class_weights = (1.0, 1.0, 3.0, 3.0, 1.0)
    c.augment.shift, c.augment.rotate, c.augment.scale = 0.06, 8.0, 0.1
    c.average = 0.99
    c.train.steps, c.train.decay_steps, c.train.save_every, c.train.balanced = 4000, 2000, 500, True
    return c
