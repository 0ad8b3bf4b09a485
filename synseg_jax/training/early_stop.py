"""Early stopping: training ends once the segmentation loss has not fallen for some epochs (Zhang et al., CVPR 2018).

The paper does not say on which images.  It stops because segmentors overfit, which does not show in the loss that they
are trained on: here it is the loss on held-out subjects, measured at the end of every epoch of the larger domain.
"""

import math
from typing import NamedTuple


class EarlyStop(NamedTuple):
    """What a checkpoint keeps, so that a resumed run ends where an uninterrupted one does."""

    lowest: float = math.inf  # loss so far
    epoch: int = 0  # that reached it
    measured: int = 0  # the last epoch whose loss is known

    def after(self, epoch: int, loss: float) -> 'EarlyStop':
        """With the loss at the end of an epoch; NaN is no fall."""
        return EarlyStop(loss, epoch, epoch) if loss < self.lowest else self._replace(measured=epoch)

    def due(self, patience: int) -> bool:
        """Whether the loss has not fallen for `patience` epochs; never for 0."""
        return 0 < patience <= self.measured - self.epoch
