"""SynSeg-Net, MRI to CT: spleen, left and right kidney, stomach, liver, body (Huo et al., IEEE TMI 2019, section 1).

    python -m synseg_jax.prepare --config=configs/synseg_spleen.py --source=MR --target=CT --output=records/spleen
    python -m synseg_jax.main --config=configs/synseg_spleen.py:records/spleen --workdir=runs/spleen

Reported on 19 splenomegaly CT scans: spleen DSC .895+-.063, ASD 3.90 mm.  Bare: the phantom at demonstration scale.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(data: str = '') -> ConfigDict:
    """The paper's training; its class weights are those of the published code."""
    c = base.get_config(data)
    base.compare(c)
    c.data.classes = ('background', 'spleen', 'left kidney', 'right kidney', 'stomach', 'liver', 'body')
    if data:
        c.loss.class_weights = (1.0, 1.0, 10.0, 10.0, 1.0, 10.0, 1.0)
        c.train.balanced = True  # the paper names the bias of drawing slices over all scans
    return c
