"""Organs in a label map: how large they are, and the largest piece of each."""

from collections.abc import Collection, Sequence

import numpy as np

from synseg_jax.imaging.arrays import Float, Integer


def volumes_ml(
    labels: Integer[np.ndarray, 'x y z'], affine: Float[np.ndarray, '4 4'], classes: Sequence[str]
) -> dict[str, float]:
    """Millilitres of every class but the background; `affine` takes voxels to mm, at right angles or not."""
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    return {name: float(np.count_nonzero(labels == i) * voxel_ml) for i, name in enumerate(classes) if i}


def largest_pieces(
    labels: Integer[np.ndarray, '*space'], spared: Collection[int] = ()
) -> Integer[np.ndarray, '*space']:
    """The labels with the largest piece of each class alone, the others 0; classes in `spared` stay as they are.

    A piece hangs together by faces, edges or corners.  Of pieces of one size the first in the array stays.
    """
    from scipy import ndimage  # which those who only keep labels need not have

    kept, connected = labels.copy(), np.ones((3,) * labels.ndim, bool)
    for value, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None or value in spared:
            continue
        pieces, _ = ndimage.label(labels[box] == value, connected)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0  # what is not of this class
        kept[box][(pieces > 0) & (pieces != sizes.argmax())] = 0
    return kept
