"""Class probabilities and labels of a whole scan, whatever runs the networks.  No JAX: PyTorch's evaluator uses it too.

A backend supplies a function from a batch of images of the networks' input size to class probabilities; tiling,
left-right mirroring, the second pass about the middle and resampling to the scan's grid are done here, test-time views
in `views.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synseg_jax.errors import InputError, known
from synseg_jax.imaging import slices
from synseg_jax.imaging.arrays import Float, Integer
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.sliding_window import WINDOWS, about_middle, tiled
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.views import View, mean_over

FLIPS = ('', 'lr')  # allowed values of predict.flips


@dataclass(frozen=True)
class ScanOptions:
    """How a scan is presented to the networks; InputError for unknown values of predict.flips and predict.window."""

    size: tuple[int, ...]  # input of the networks: (rows, columns), or (slices, rows, columns) of volumes
    context: int = 0  # neighbouring slices on each side, as channels
    context_mm: float = 0.0  # distance between them; 0: adjacent slices
    flips: str = ''
    window: str = 'tiles'
    views: tuple[View, ...] = ()  # beside the plain one

    def __post_init__(self):
        if self.flips not in FLIPS:
            raise InputError(f"predict.flips {self.flips!r}: give '' or 'lr'")
        known('predict.window', self.window, WINDOWS)


class ScanSegmenter(ABC):
    """Labels and probabilities on a scan's own grid, computed from those on the networks' grid."""

    resample: str  # predict.resample
    organs: tuple[float, float] = (0.0, 1.0)  # predict.darkest, predict.brightest
    progress: Callable[[], None] = staticmethod(lambda: None)  # called after each member of an ensemble
    _last: tuple = (None, None, None)  # scan, domain and probabilities of the last scan

    @property
    def members(self) -> Sequence['ScanSegmenter']:
        """What the probabilities are averaged over: itself, but of an ensemble."""
        return (self,)

    def for_scan(self, file: Path) -> 'ScanSegmenter':
        """Itself or, of folds, those that held the scan out of training."""
        return self

    @abstractmethod
    def compute(self, scan: Volume, domain: str) -> tuple[NetworkGrid, Float[np.ndarray, 'n *space k']]:
        """The networks' grid for a scan of `domain`, and the class probabilities on it."""

    def grid_probabilities(self, scan: Volume, domain: str) -> tuple[NetworkGrid, Float[np.ndarray, 'n *space k']]:
        """`compute`, cached for the last scan."""
        if self._last[0] is not scan or self._last[1] != domain:
            self.forget()  # before the next probabilities take memory
            self._last = scan, domain, self.compute(scan, domain)
        return self._last[2]

    def forget(self) -> None:
        """Free the probabilities of the last scan."""
        self._last = None, None, None

    def segment(self, scan: Volume, domain: str) -> Integer[np.ndarray, 'x y z']:
        """Class indices on the scan's own grid and axes; `domain` is the scan's modality."""
        frame, probabilities = self.grid_probabilities(scan, domain)
        return frame.labels(probabilities, self.resample, *(self.organs if domain == 'b' else (0.0, 1.0)))

    def probability(self, scan: Volume, domain: str, label: int) -> Float[np.ndarray, 'x y z']:
        """The probability of one class on the scan's own grid and axes, 0 outside the region given to the networks."""
        frame, probabilities = self.grid_probabilities(scan, domain)
        return frame.place(frame.values(probabilities[..., label]))


def scan_probabilities(
    network: Callable[[np.ndarray], np.ndarray], frame: NetworkGrid, options: ScanOptions
) -> Float[np.ndarray, 'n *space k']:
    """Class probabilities of a scan on the grid `frame`; `network` maps slices or volumes of any size to theirs."""
    images = frame.images(options.context, options.context_mm)

    def flipped(images):
        probabilities = network(images)
        return (probabilities + _mirrored(network, images, frame)) / 2 if options.flips else probabilities

    def averaged(images):
        return mean_over(options.views, flipped, images)

    probabilities = averaged(images)
    if frame.whole and options.window == 'middle':
        return about_middle(averaged, images[0], probabilities[0], options.size)[None]
    return probabilities


def _mirrored(network, images, frame):
    """Probabilities of the left-right mirrored scan, mirrored back."""
    axis = slices.VIEWS[frame.axis][0].index(0) + frame.whole
    if axis:
        return np.flip(network(np.flip(images, axis)), axis)
    # Mirroring sagittal slices reverses their order, and that of each with its neighbours in the channels.
    slices_of = images.reshape(*images.shape[:-1], -1, len(frame.stacks))
    return np.flip(network(np.flip(slices_of, (0, -2)).reshape(images.shape)), 0)


def in_batches(
    function: Callable[[np.ndarray], np.ndarray],
    stack: Float[np.ndarray, 'n *space c'],
    size: tuple[int, ...],
    batch: int,
) -> Float[np.ndarray, 'n *space k']:
    """`function` in tiles of `size`, on at most `batch` slices at a time; volumes one at a time."""
    count = 1 if stack.ndim == 5 else batch

    def run(tiles):
        return np.concatenate([function(tiles[first : first + count]) for first in range(0, len(tiles), count)])

    return tiled(run, stack, size)
