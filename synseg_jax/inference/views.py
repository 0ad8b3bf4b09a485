"""Test-time views: the mean of the probabilities of a scan that is rotated, zoomed or of another contrast.  No JAX.

One thing changes at a time: with all of predict.rotate, predict.zoom and predict.gamma there are seven views, the plain
one among them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from synseg_jax.imaging import warp
from synseg_jax.imaging.arrays import Float

Images = Float[np.ndarray, 'n *space c']  # in [0, 1]
Probabilities = Float[np.ndarray, 'n *space k']


@dataclass(frozen=True)
class View:
    """A change of the images of a scan."""

    degrees: float = 0.0  # of rotation within slices
    zoom: float = 1.0
    gamma: float = 1.0

    def of(self, images: Images) -> Images:
        """The changed images, of the same shape."""
        images = images**self.gamma if self.gamma != 1 else images
        return _moved(images, self.degrees, self.zoom)

    def back(self, probabilities: Probabilities) -> Probabilities:
        """Probabilities of the changed images on the grid of the unchanged ones; 0 where the view shows nothing."""
        return _moved(probabilities, -self.degrees, 1 / self.zoom)

    def coverage(self, space: tuple[int, ...]) -> Float[np.ndarray, '1 *space 1']:
        """1 in the pixels of the unchanged images that the view shows, 0 in the others."""
        return self.back(np.ones((1, *space, 1), np.float32))


def views(rotate: float, zoom: float, gamma: float) -> tuple[View, ...]:
    """The views of predict.rotate, predict.zoom and predict.gamma, without the plain one; none at their defaults."""
    turned = [View(degrees=degrees) for degrees in (-rotate, rotate)] if rotate else []
    sized = [View(zoom=factor) for factor in (1 / zoom, zoom)] if zoom != 1 else []
    shaded = [View(gamma=power) for power in (1 / gamma, gamma)] if gamma != 1 else []
    return (*turned, *sized, *shaded)


def mean_over(others: Sequence[View], network: Callable[[Images], Probabilities], images: Images) -> Probabilities:
    """The mean of the plain probabilities and those of other views; each counts in the pixels that it shows."""
    total = network(images)
    if not others:
        return total
    total, weight = np.array(total, np.float32), np.ones((1, *total.shape[1:-1], 1), np.float32)
    for view in others:  # a running sum: one view at a time takes memory
        total += view.back(network(view.of(images)))
        weight += view.coverage(total.shape[1:-1])
    total /= weight
    return total


def _moved(stack, degrees, zoom):
    stack = warp.rotated(stack, degrees) if degrees else stack
    return warp.zoomed(stack, zoom) if zoom != 1 else stack
