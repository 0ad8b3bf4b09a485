"""A few scans of a role, of each some slices that are evenly spread: enough to compare checkpoints by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from synseg_jax.batches.selection import Chosen
from synseg_jax.imaging.slices import resize
from synseg_jax.specification.data import channels_in


@dataclass(frozen=True)
class Sample:
    """Some records of one scan, read when they are asked for."""

    records: Sequence
    rows: tuple[int, ...]
    record_ml: float  # volume of the body region that one of these records stands for
    own: int = 0  # which channel is the first of the slice itself, not of its neighbours

    def images(self, size: tuple[int, ...]) -> Float[np.ndarray, 'n *space c']:
        """The images in [0, 1], resized to `size` unless that is empty."""
        return resize(np.stack([self.records[row]['image'] for row in self.rows]), size)

    def labels(self, size: tuple[int, ...]) -> Integer[np.ndarray, 'n *space']:
        """The labels, resized in the same way."""
        return resize(np.stack([self.records[row]['label'] for row in self.rows]), size)

    def pixel_ml(self, shape: tuple[int, ...]) -> float:
        """Volume that one pixel of a record of `shape` stands for."""
        return self.record_ml / float(np.prod(shape))


def samples(read: Sequence[Chosen], scans: int, slices: int) -> list[Sample]:
    """At most `scans` scans of all that were chosen, of each at most `slices` records; always the same ones."""
    found = [sample for chosen in read for sample in _of(chosen, slices)]
    return [found[i] for i in spread(len(found), scans)]


def _of(chosen, slices) -> list[Sample]:
    records, first, found = chosen.open(), 0, []
    own = chosen.context * channels_in(chosen.manifest, chosen.manifest.sets[chosen.set]['domain'])
    for case, count in zip(chosen.described, records.scans, strict=True):
        rows = tuple(first + i for i in spread(count, slices))
        if rows:
            found.append(Sample(records, rows, _scan_ml(chosen.manifest, case) / len(rows), own))
        first += count
    return found


def _scan_ml(manifest, case) -> float:
    """Volume of a scan's records together: of all its slices, or of the box that its volume shows."""
    if len(manifest.size) == 3:
        return float(np.prod(manifest.size)) * manifest.spacing_mm**3 / 1000
    slice_mm2 = float(np.prod(manifest.size)) * manifest.spacing_mm**2
    if not manifest.spacing_mm:  # resized, whatever the pixel size
        voxel_mm3 = abs(np.linalg.det(np.array(case['affine'])[:3, :3]))
        slice_mm2 = float(np.prod(case['scan_size'])) * voxel_mm3 / case['slice_mm']
    return float(slice_mm2 * case['slice_mm'] * case['records'] / 1000)


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the indices below `count`, evenly spread."""
    kept = min(count, most)
    return [int((i + 0.5) * count / kept) for i in range(kept)]
