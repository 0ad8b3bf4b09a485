"""CHAOS T2-SPIR MR (labelled) to BTCV CT: liver, kidneys and spleen, the benchmark of unpaired adaptation papers.

    python -m synseg_jax.prepare --config=configs/synseg_abdomen.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/abdomen
    python -m synseg_jax.main --config=configs/synseg_abdomen.py:records/abdomen --workdir=runs/abdomen

--config.run="('cyclegan_seg',)" trains another system: cyclegan_seg, target_labels.

Published mean Dice of four organs in %, without target labels in training, MR to CT / CT to MR: SIFA 83.4 / 85.4
according to its authors, with the epoch selected by target labels, and 81.4 / 85.0 when a user ran the released weights
(SIFA's issues 19 and 56); SLAug 83.05 / 88.63, last checkpoint, whole volumes, no target images in training (its
README).  SHAPE's 87.5 / 86.9 are means over slices with zeros dropped, with the epoch selected on test labels (its
code); GenericSSL's 84.6 / 84.9 are found only in SHAPE's table.
"""

from ml_collections import ConfigDict

from configs import base, variants


def get_config(data: str = '') -> ConfigDict:
    """SynSeg-Net and source-only training; without data the phantom at demonstration scale."""
    c = base.get_config(data)
    base.compare(c)
    c.systems.cyclegan_seg = variants.two_stages()
    c.systems.target_labels = variants.target_labels()
    c.run = ('synseg', 'source_only')
    c.data.window_hu = (-125.0, 275.0)
    c.data.source_margin = 2  # the CT scans end two slices beyond the organs; the same for MR slices
    c.data.target_split = (0.75, 0.0, 0.25)
    c.predict.resample = 'linear'
    return c
