"""Post-processing of label maps; no JAX."""

from collections.abc import Collection, Sequence

import numpy as np

from synseg_jax.imaging.arrays import Float, Integer


def processed(
    labels: Integer[np.ndarray, 'x y z'],
    affine: Float[np.ndarray, '4 4'],
    classes: Sequence[str],
    lesions: Collection[str],
    components: str = '',
    holes: str = '',
) -> Integer[np.ndarray, 'x y z']:
    """`labels` as the fields predict.components and predict.holes ask; classes in `lesions` stay as they are."""
    keep = {value for value, name in enumerate(classes) if name in lesions}
    if components:
        labels = largest_components(labels, keep)
    if holes:
        labels = filled(labels, keep, axial_axis(affine) if holes == 'slices' else None)
    return labels


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


def axial_axis(affine: Float[np.ndarray, '4 4']) -> int:
    """The axis of voxels that runs most nearly from feet to head."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return int(np.abs(directions[2]).argmax())


def filled(
    labels: Integer[np.ndarray, 'x y z'], keep: Collection[int] = (), axis: int | None = None
) -> Integer[np.ndarray, 'x y z']:
    """`labels` with background that one class encloses turned into that class; classes in `keep` enclose nothing.

    Enclosed is what no path through faces of voxels of other classes or background connects to the border of the scan;
    with `axis`, to the border of its slice across that axis.  Of nested classes the innermost is filled first; voxels
    of other classes stay.
    """
    from scipy import ndimage  # optional for the PyTorch evaluator

    structure = ndimage.generate_binary_structure(3, 1)
    if axis is not None:
        structure = structure & (np.indices(structure.shape)[axis] == 1)
    full, wholes = labels.copy(), []
    for value, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None and value not in keep:
            wholes.append((value, box, ndimage.binary_fill_holes(labels[box] == value, structure)))
    for value, box, whole in sorted(wholes, key=lambda found: np.count_nonzero(found[2])):
        full[box][whole & (full[box] == 0)] = value
    return full
