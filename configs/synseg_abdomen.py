"""CHAOS T2-SPIR MR (labelled) to BTCV CT: liver, kidneys and spleen, the benchmark of unpaired adaptation papers.

    python -m synseg_jax.prepare --config=configs/synseg_abdomen.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/abdomen
    python -m synseg_jax.main --config=configs/synseg_abdomen.py:records/abdomen --workdir=runs/abdomen

--config.run="('cyclegan_seg',)" trains another system: cyclegan_seg, target_labels.

Published mean Dice of the four organs on CT, no CT labels used: SIFA 83.9, GenericSSL 84.6, SHAPE 87.5.
"""

from ml_collections import ConfigDict

from configs import base, variants


def get_config(data: str = '') -> ConfigDict:
    """SynSeg-Net and source-only training; bare: the phantom at demonstration scale."""
    c = base.get_config(data)
    base.compare(c)
    c.systems.cyclegan_seg = variants.two_stages()
    c.systems.target_labels = variants.target_labels()
    c.run = ('synseg', 'source_only')
    c.data.window_hu = (-125.0, 275.0)
    c.data.source_margin = 2  # the CT scans end two slices beyond the organs; so do the MR slices then
    c.data.target_split = (0.75, 0.0, 0.25)
    c.predict.resample = 'linear'
    return c
