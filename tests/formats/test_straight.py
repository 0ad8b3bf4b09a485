"""Scans of a tilted gantry on grids without shear: values where they were, and files that every program reads."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from synseg_jax.formats import scan_file
from synseg_jax.formats.nifti import is_sheared
from synseg_jax.formats.straight import straighten
from synseg_jax.imaging.volume import Volume

SHAPE = (40, 44, 24)
CENTRE, RADIUS = np.array([10.0, -20.0, 35.0]), 21.0


def sheared(tilt: float = 0.4, order=(0, 1, 2)) -> np.ndarray:
    """An oblique affine of voxels of 1.5 x 1.25 x 3 mm, slices pushed along the columns by `tilt` of their distance."""
    shear = np.diag([1.5, 1.25, 3.0])
    shear[1, 2] = 3 * tilt
    affine = np.eye(4)
    affine[:3, :3] = (Rotation.from_euler('xyz', (10, 20, -15), degrees=True).as_matrix() @ shear)[:, order]
    affine[:3, 3] = CENTRE - affine[:3, :3] @ (np.array(SHAPE)[list(order)] - 1) / 2
    return affine


def _places(affine, shape):
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def _ball(affine, shape):
    return (np.linalg.norm(_places(affine, shape) - CENTRE, axis=-1) < RADIUS).astype(np.uint8)


def _linear(affine, shape):
    return (_places(affine, shape) @ [1.0, -2.0, 3.0] + 500).astype(np.float32)


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 0, 1)])
def test_a_phantom_keeps_its_place(order):
    affine, shape = sheared(order=order), tuple(np.array(SHAPE)[list(order)])
    scan = straighten(Volume(_linear(affine, shape), affine))
    labels = straighten(Volume(_ball(affine, shape), affine), labels=True)
    assert not is_sheared(scan.affine, scan.array.shape) and scan.array.shape == labels.array.shape
    axes = scan.affine[:3, :3] / np.linalg.norm(scan.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(scan.spacing_mm, np.array([1.5, 1.25, 3.0])[list(order)])
    index = _places(np.linalg.inv(affine) @ scan.affine, scan.array.shape)
    inside = ((index > -1e-6) & (index < np.array(shape) - 1 + 1e-6)).all(-1)
    expected = _linear(scan.affine, scan.array.shape)
    np.testing.assert_allclose(scan.array[inside], expected[inside], atol=0.01)
    assert inside.sum() > 0.9 * np.prod(shape) and (scan.array[~inside] == _linear(affine, shape).min()).all()
    ball = _ball(scan.affine, scan.array.shape)
    wrong = np.linalg.norm(_places(scan.affine, ball.shape)[ball != labels.array] - CENTRE, axis=-1)
    assert np.abs(wrong - RADIUS).max() < 1.5 and labels.array.mean() == pytest.approx(ball.mean(), rel=0.01)
    assert set(np.unique(labels.array)) == {0, 1} and labels.array.dtype == np.uint8


def test_every_voxel_is_covered():
    affine = sheared()
    scan = straighten(Volume(np.ones(SHAPE, np.float32), affine))
    corners = _places(affine, SHAPE)[:: SHAPE[0] - 1, :: SHAPE[1] - 1, :: SHAPE[2] - 1].reshape(-1, 3)
    index = np.c_[corners, np.ones(8)] @ np.linalg.inv(scan.affine).T
    assert (index[:, :3] > -1e-4).all() and (index[:, :3] < np.array(scan.array.shape) - 1 + 1e-4).all()


def test_what_has_no_shear_stays():
    scan = Volume(np.zeros(SHAPE, np.float32), sheared(tilt=0.0))
    assert straighten(scan) is scan


def test_itk_places_what_is_written(tmp_path):
    """With the shear it refuses the file rather than read it somewhere else; without, it agrees."""
    affine = sheared()
    labels = Volume(_ball(affine, SHAPE), affine)
    scan_file.write(tmp_path / 'sheared.nii.gz', labels.array, labels, 'label')
    with pytest.raises(RuntimeError, match='orthonormal'):
        sitk.ReadImage(tmp_path / 'sheared.nii.gz')
    straight = straighten(labels, labels=True)
    scan_file.write(tmp_path / 'straight.nii.gz', straight.array, straight, 'label')
    image = sitk.ReadImage(tmp_path / 'straight.nii.gz')
    for index in ((0, 0, 0), tuple(length - 1 for length in straight.array.shape)):
        there = np.array([-1, -1, 1]) * image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(there, (straight.affine @ [*index, 1])[:3], atol=1e-3)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(image)
    np.testing.assert_allclose(np.array([-1, -1, 1]) * shape.GetCentroid(1), CENTRE, atol=0.1)
