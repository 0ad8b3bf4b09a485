"""Early stopping when the segmentation loss has not decreased for some epochs (Zhang et al., CVPR 2018).

The paper does not state on which images the loss is measured.  Its reason is overfitting of the segmentors, which the
training loss does not show; so the loss is measured on held-out subjects, at the end of every epoch of the larger
domain.
"""

import math
from typing import NamedTuple


class EarlyStop(NamedTuple):
    """State of early stopping, stored in checkpoints: a resumed run stops at the same step as an uninterrupted one."""

    lowest: float = math.inf  # lowest loss so far
    epoch: int = 0  # epoch with the lowest loss
    measured: int = 0  # last epoch with a measured loss

    def after(self, epoch: int, loss: float) -> 'EarlyStop':
        """The state after the loss of an epoch was measured; NaN does not count as a decrease."""
        return EarlyStop(loss, epoch, epoch) if loss < self.lowest else self._replace(measured=epoch)

    def due(self, patience: int) -> bool:
        """Whether the loss has not decreased for `patience` epochs; patience 0 disables early stopping."""
        return 0 < patience <= self.measured - self.epoch
