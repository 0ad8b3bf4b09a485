"""Resampling between a scan's own grid and the grid of the networks: slices, or one volume."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from synseg_jax.errors import known
from synseg_jax.imaging import body, slices, tissue, volume
from synseg_jax.imaging.arrays import Float, Integer, Shaped
from synseg_jax.imaging.intensity import Normalisation
from synseg_jax.imaging.sliding_window import crop, overlap, shape_at
from synseg_jax.imaging.volume import Volume

RESAMPLE = ('nearest', 'linear')  # values of predict.resample


@dataclass(frozen=True, eq=False)
class NetworkGrid:
    """A normalised scan with the grid of the networks: slices of `size` (rows, columns), or a volume of three axes."""

    scan: Volume
    stacks: tuple[Float[np.ndarray, 'n r c'], ...]  # of each channel upright slices in [0, 1], cropped to `seen`
    seen: tuple[slice, slice]  # rows and columns of the scan's slices that the networks see
    axis: str
    size: tuple[int, ...]  # of all that is in `stacks`
    window: body.Window | None = None  # part of the grid that the networks see, about the body; None: all of it
    antialias: bool = False  # whether images are smoothed before they are made smaller

    @classmethod
    def from_scan(
        cls,
        scan: Volume,
        normalisations: Sequence[Normalisation],
        axis: str,
        size: tuple[int, ...],
        share: float = 1.0,
        spacing_mm: float = 0.0,
        body_of: str = '',
        antialias: bool = False,
    ) -> 'NetworkGrid':
        """The central `share` of rows and columns, resampled to `spacing_mm`, or to `size` if that is 0.

        A volume if `size` has three numbers.  Each channel has its own normalisation.  At a spacing, `body_of`, the
        modality, crops to the window of `size` about the body, enlarged as far as the body reaches.
        """
        upright = [volume.canonical(one) for one in scan.channels]
        whole = [slices.to_stack(one.array, axis) for one in upright]
        seen = slices.central_crop(whole[0].shape[1:3], share)
        stacks = tuple(window.apply(one[:, *seen]) for window, one in zip(normalisations, whole, strict=True))
        if not spacing_mm:
            return cls(scan, stacks, seen, axis, tuple(size), None, antialias)
        axes, stack_mm = slice(-len(size), None), slices.stack_spacing(upright[0].spacing_mm, axis)
        shape = shape_at(stacks[0].shape[axes], stack_mm[axes], spacing_mm)
        if not body_of:
            return cls(scan, stacks, seen, axis, shape, None, antialias)
        found = body.bounds(whole[0][:, *seen], stack_mm, body_of)
        return cls(scan, stacks, seen, axis, shape, body.window(found and found[axes], size, shape), antialias)

    @property
    def stack(self) -> Float[np.ndarray, 'n r c']:
        """The first channel."""
        return self.stacks[0]

    @property
    def whole(self) -> bool:
        """Whether the networks are 3-D."""
        return len(self.size) == 3

    def images(self, context: int = 0, context_mm: float = 0.0) -> Float[np.ndarray, 'n *space k']:
        """Network input; slices have `context` neighbours per side as channels, `context_mm` apart (0: adjacent).

        With several channels, all those of one slice come before those of the next.
        """
        channels = []
        for stack in (one[None] if self.whole else one for one in self.stacks):
            images = self._cropped(slices.resize_linear(stack, self.size, self.antialias))
            step = context_mm / self._stack_mm[0] if context_mm else 1.0
            channels.append(slices.with_neighbours(images, context, step) if context else images[..., None])
        return np.stack(channels, -1).reshape(*channels[0].shape[:-1], -1) if len(channels) > 1 else channels[0]

    def nearest(self, array: Shaped[np.ndarray, 'x y z']) -> Shaped[np.ndarray, 'n *space']:
        """Another array on the scan's grid, e.g. a mask, resampled to the networks' grid by nearest neighbour."""
        upright = volume.canonical(replace(self.scan, array=array, others=())).array
        stack = slices.to_stack(upright, self.axis)[:, *self.seen]
        return self._cropped(slices.resize_nearest(stack[None] if self.whole else stack, self.size))

    def labels(
        self,
        probabilities: Float[np.ndarray, 'n *space k'],
        resample: str,
        darkest: float = 0.0,
        brightest: float = 1.0,
    ) -> Integer[np.ndarray, 'x y z']:
        """Argmax labels on the scan's own grid: labels resampled by nearest neighbour, or probabilities linearly.

        Background where the scan in [0, 1], smoothed within its slices, is darker or brighter than these.
        """
        if known('predict.resample', resample, RESAMPLE) == 'nearest':
            labels = slices.resize_nearest(self._uncropped(probabilities.argmax(-1).astype(np.uint8)), self._grid)
        else:
            parts = (self._uncropped(probabilities[i : i + 1]) for i in range(len(probabilities)))
            labels = np.concatenate([_resized_argmax(part, self._grid) for part in parts])
        labels = labels[0] if self.whole else labels
        if (darkest, brightest) != (0, 1):
            labels[tissue.beyond(self.stack, self._stack_mm[1:], darkest, brightest)] = 0
        return self.place(labels)

    def values(self, array: Float[np.ndarray, 'n *space']) -> Float[np.ndarray, 'n2 r c']:
        """Values on the networks' grid, resampled linearly to the (cropped) slices of the scan; 0 beyond the window."""
        resized = slices.resize_linear(self._uncropped(array), self._grid)
        return resized[0] if self.whole else resized

    def place(self, stack: Shaped[np.ndarray, 'n r c'], outside: float = 0) -> Shaped[np.ndarray, 'x y z']:
        """Cropped slices put back on the scan's own grid and axes, `outside` where the networks see nothing."""
        upright = slices.to_stack(volume.canonical(self.scan).array, self.axis)
        whole = np.full(upright.shape, outside, stack.dtype)  # for axial slices the memory order of NIfTI
        whole[:, *self.seen] = stack
        return volume.restore(slices.from_stack(whole, self.axis), self.scan)

    def _cropped(self, images):
        """The networks' window of images on the grid, zero-padded beyond the grid."""
        return images if self.window is None else np.stack([crop(image, *self.window) for image in images])

    def _uncropped(self, images):
        """Inverse of `_cropped`: zeros beyond the window."""
        if self.window is None:
            return images
        grid, part = overlap(self.size, *self.window)
        whole = np.zeros((len(images), *self.size, *images.shape[1 + len(self.size) :]), images.dtype)
        whole[:, *grid] = images[:, *part]
        return whole

    @property
    def _stack_mm(self):
        """Spacing of slices, rows and columns."""
        return slices.stack_spacing(volume.canonical(self.scan).spacing_mm, self.axis)

    @property
    def _grid(self):
        return self.stack.shape if self.whole else self.stack.shape[1:]


def _resized_argmax(probabilities, grid):
    """Argmax of linearly resized probabilities, one class at a time to save memory; ties go to the first class."""
    best = slices.resize_linear(probabilities[..., 0], grid)
    labels = np.zeros((len(probabilities), *grid), np.uint8)
    for label in range(1, probabilities.shape[-1]):
        resized = slices.resize_linear(probabilities[..., label], grid)
        better = resized > best
        labels[better], best[better] = label, resized[better]
    return labels
