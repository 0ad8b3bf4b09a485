"""The exact settings of the published SynSeg-Net code, github.com/MASILab/SynSeg-Net.

It differs from the paper: one learning rate for all networks, 100 epochs constant and 100 with linear decay, a
segmentor that ends in tanh (with 7 classes its cross entropy cannot fall below 0.594), and random crops of 256x256 from
slices of 286x286.  Use it for comparison, and synseg_spleen.py for training.
"""

from ml_collections import ConfigDict

from configs import synseg_spleen


def get_config(data: str = '') -> ConfigDict:
    """The published defaults; without data the same method on the phantom, at demonstration scale."""
    c = synseg_spleen.get_config(data)
    c.systems, c.run = ConfigDict({'synseg': {}}), ()
    c.segmentor.tanh = True
    c.loss.class_weights = (1.0, 1.0, 10.0, 10.0, 1.0, 10.0, 1.0)
    c.train.balanced = False
    if data:
        c.rate.generator = c.rate.discriminator = c.rate.segmentor = 2e-4
        c.train.epochs, c.train.decay_epochs = 100, 100
        c.data.size, c.augment.window = (286, 286), (256, 256)
    else:
        c.augment.shift, c.augment.rotate, c.augment.scale = 0.0, 0.0, 0.0
    return c
