"""Post-processing and volumetry of label maps; no JAX."""

from collections.abc import Collection, Sequence

import numpy as np

from synseg_jax.imaging.arrays import Float, Integer


def volumes_ml(
    labels: Integer[np.ndarray, 'x y z'], affine: Float[np.ndarray, '4 4'], classes: Sequence[str]
) -> dict[str, float]:
    """The volume of every class except the background, in mL; `affine` maps voxels to mm and may shear."""
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    return {name: float(np.count_nonzero(labels == i) * voxel_ml) for i, name in enumerate(classes) if i}


def largest_organs(
    labels: Integer[np.ndarray, '*space'], classes: Sequence[str], lesions: Collection[str]
) -> Integer[np.ndarray, '*space']:
    """`labels` with only the largest component of each class; lesions, which may be several, are kept."""
    return largest_components(labels, {value for value, name in enumerate(classes) if name in lesions})


def largest_components(
    labels: Integer[np.ndarray, '*space'], keep: Collection[int] = ()
) -> Integer[np.ndarray, '*space']:
    """`labels` with only the largest connected component of each class, the others set to 0; classes in `keep` stay.

    Voxels are connected by faces, edges or corners.  Of components of the same size the first in the array stays.
    """
    from scipy import ndimage  # optional for the PyTorch evaluator

    kept, connected = labels.copy(), np.ones((3,) * labels.ndim, bool)
    for value, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None or value in keep:
            continue
        components, _ = ndimage.label(labels[box] == value, connected)
        sizes = np.bincount(components.ravel())
        sizes[0] = 0  # voxels of other classes
        kept[box][(components > 0) & (components != sizes.argmax())] = 0
    return kept
