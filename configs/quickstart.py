"""SynSeg-Net, and the same segmentor without adaptation, on the embedded phantom with labelled MR and unlabelled CT."""

from ml_collections import ConfigDict

from configs import base


def get_config(data: str = '') -> ConfigDict:
    """The demonstration; with `data`, the same small networks on prepared records."""
    c = base.get_config()
    base.compare(c)
    c.data_dir = data
    return c
