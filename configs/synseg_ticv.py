"""SynSeg-Net, head CT to MRI: total intracranial volume (Huo et al., IEEE TMI 2019, section 1).

    python -m synseg_jax.prepare --config=configs/synseg_ticv.py --source=CT --target=MR --output=records/ticv
    python -m synseg_jax.main --config=configs/synseg_ticv.py:records/ticv --workdir=runs/ticv

Reported on 19 MRI scans: DSC .963+-.008, ASD 1.44 mm.  Bare: the abdomen phantom, every organ, in place of a head.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(data: str = '') -> ConfigDict:
    """The paper's training: 200 epochs, two classes, as the source's dataset.json names them."""
    c = base.get_config(data)
    base.compare(c)
    if data:
        c.train.epochs = 200
    return c
