"""Scans that are the same, whatever they are called and however they are stored."""

import hashlib

import numpy as np
from jaxtyping import Shaped

STEPS = 32  # voxels of a lattice along each axis, at least; fewer than twice as many


def digest(array: Shaped[np.ndarray, 'x y z']) -> str:
    """The same for the same voxels in any type and at any scale: the order of intensities on a lattice, as a hash."""
    sample = array[tuple(slice(None, None, max(1, length // STEPS)) for length in array.shape)]
    ranks = np.unique(sample, return_inverse=True)[1]  # which neither a slope nor rounding changes
    return hashlib.sha256(repr(array.shape).encode() + ranks.astype(np.uint32).tobytes()).hexdigest()
