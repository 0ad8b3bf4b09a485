"""How a scan becomes what networks look at, slices or one volume, and how what they find comes back to its grid."""

from dataclasses import dataclass, replace

import numpy as np

from synseg_jax.errors import known
from synseg_jax.imaging import slices, volume
from synseg_jax.imaging.arrays import Float, Integer, Shaped
from synseg_jax.imaging.intensity import Normalisation
from synseg_jax.imaging.sliding_window import shape_at
from synseg_jax.imaging.volume import Volume

RESAMPLE = ('nearest', 'linear')  # what predict.resample may be


@dataclass(frozen=True, eq=False)
class Frame:
    """A scan in [0, 1] as pictures of `size` (rows, columns) or as one volume of `size` (slices, rows, columns)."""

    scan: Volume
    stack: Float[np.ndarray, 'n r c']  # upright slices, as far as the networks look at them
    seen: tuple[slice, slice]  # the rows and columns of the scan's slices that these are
    axis: str
    size: tuple[int, ...]

    @classmethod
    def of(
        cls,
        scan: Volume,
        normalisation: Normalisation,
        axis: str,
        size: tuple[int, ...],
        share: float = 1.0,
        spacing_mm: float = 0.0,
    ) -> 'Frame':
        """The central `share` of rows and columns; at `spacing_mm`, if not 0, whatever size that is, else at `size`.

        A volume, if `size` has three numbers.
        """
        upright = volume.canonical(scan)
        stack = slices.to_stack(normalisation.apply(upright.array), axis)
        seen = slices.centre(stack.shape[1:3], share)
        stack = stack[:, *seen]
        if spacing_mm:
            axes = slice(-len(size), None)
            size = shape_at(stack.shape[axes], slices.stack_spacing(upright.spacing_mm, axis)[axes], spacing_mm)
        return cls(scan, stack, seen, axis, tuple(size))

    @property
    def whole(self) -> bool:
        """Whether the networks look at the volume rather than at its slices."""
        return len(self.size) == 3

    def images(self, context: int = 0, context_mm: float = 0.0) -> Float[np.ndarray, 'n *space k']:
        """What the networks see; of slices with `context` neighbours `context_mm` apart as channels (0: the next)."""
        images = slices.resize_linear(self.stack[None] if self.whole else self.stack, self.size)
        if not context:
            return images[..., None]
        slice_mm = slices.stack_spacing(volume.canonical(self.scan).spacing_mm, self.axis)[0]
        return slices.with_neighbours(images, context, context_mm / slice_mm if context_mm else 1.0)

    def nearest(self, found: Shaped[np.ndarray, 'x y z']) -> Shaped[np.ndarray, 'n *space']:
        """Something else on the scan's grid, such as a mask, as the networks look at it, by the nearest sample."""
        upright = volume.canonical(replace(self.scan, array=found)).array
        stack = slices.to_stack(upright, self.axis)[:, *self.seen]
        return slices.resize_nearest(stack[None] if self.whole else stack, self.size)

    def labels(self, votes: Float[np.ndarray, 'n *space k'], resample: str) -> Integer[np.ndarray, 'x y z']:
        """The class with the most votes on the scan's own grid: by the nearest vote, or by votes interpolated."""
        if known('predict.resample', resample, RESAMPLE) == 'nearest':
            found = slices.resize_nearest(votes.argmax(-1).astype(np.uint8), self._grid)
        else:
            found = np.concatenate([_winner(votes[i : i + 1], self._grid) for i in range(len(votes))])
        return self.place(found[0] if self.whole else found)

    def values(self, found: Float[np.ndarray, 'n *space']) -> Float[np.ndarray, 'n2 r c']:
        """What was found, interpolated on the slices of the scan."""
        resized = slices.resize_linear(found, self._grid)
        return resized[0] if self.whole else resized

    def place(self, found: Shaped[np.ndarray, 'n r c'], outside: float = 0) -> Shaped[np.ndarray, 'x y z']:
        """What was found on the slices, on the scan's own grid and axes, and `outside` where nobody looked."""
        upright = slices.to_stack(volume.canonical(self.scan).array, self.axis)
        whole = np.full(upright.shape, outside, found.dtype)  # in memory as NIfTI wants it, where slices are axial
        whole[:, *self.seen] = found
        return volume.restore(slices.from_stack(whole, self.axis), self.scan)

    @property
    def _grid(self):
        return self.stack.shape if self.whole else self.stack.shape[1:]


def _winner(votes, grid):
    """The first class with the most votes at every place of the grid, one class at a time to save memory."""
    most, winner = slices.resize_linear(votes[..., 0], grid), np.zeros((len(votes), *grid), np.uint8)
    for label in range(1, votes.shape[-1]):
        more = slices.resize_linear(votes[..., label], grid)
        better = more > most
        winner[better], most[better] = label, more[better]
    return winner
