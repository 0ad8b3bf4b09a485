"""Multi-atlas segmentation: labelled scans (atlases) are registered to the scan, and their labels fused.

The classical baseline of SynSeg-Net's Table 1.  Registration uses SimpleITK: affine by Mattes mutual information, then
symmetric demons (Vercauteren et al., 2007), which suits scans of one modality.  Fusion is locally weighted voting
(Artaechevarria et al., IEEE TMI 2009): an atlas weighs more in a voxel the smaller its intensity difference to the
scan in the neighbourhood.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, TypedDict

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter

from synseg_jax.errors import InputError, known
from synseg_jax.files import schema
from synseg_jax.formats import label_maps, scan_file
from synseg_jax.imaging import slices, volume
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.whole_scan import ScanSegmenter
from synseg_jax.specification.parse import replaced
from synseg_jax.specification.stage import Stage

LISTED = 'atlases.json'  # the atlases of a stage

BINS, SAMPLED = 32, 0.25  # mutual information: histogram bins, share of the voxels sampled
ITERATIONS, SMOOTHING = 80, 1.5  # demons: iterations, standard deviation in voxels of the displacement smoothing
SIGMA_MM = 6.0  # fusion: standard deviation of the Gaussian neighbourhood
TOLERANCE = 0.1  # fusion: root mean square intensity difference, of [0, 1], at which the weight is exp(-1/2)


class AtlasFiles(TypedDict):
    """A labelled scan: its name, image file and label map."""

    id: str
    image: str
    label: str


class AtlasList(TypedDict):
    """atlases.json: the atlases of a stage, and the label values of the classes."""

    cases: Annotated[list[AtlasFiles], schema.Check('with a scan', bool)]
    labels: dict[str, int | str | tuple[int | str, ...]]


@dataclass(frozen=True, eq=False)
class Atlas:
    """A labelled scan in [0, 1] with isotropic voxels; axes are slices, rows and columns."""

    image: Float[np.ndarray, 'd h w']
    labels: UInt8[np.ndarray, 'd h w']
    spacing_mm: float


def register(
    fixed: Float[np.ndarray, 'd h w'], moving: Float[np.ndarray, 'd2 h2 w2'], spacing_mm: float
) -> sitk.Transform:
    """Transform of points of `fixed` to points of `moving`: affine, then a dense displacement field.

    Points are in mm from the centre of the first voxel.  Deterministic.  InputError for volumes that are too thin.
    """
    with _one_thread():
        try:
            return _transform(_image(fixed, spacing_mm), _image(moving, spacing_mm))
        except RuntimeError as error:  # ITK's, of scans that are too thin
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f'cannot be registered to an atlas ({reason}); leave the scan out') from error


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run ITK in one thread: the order of its sums, and so their rounding, depends on the number of threads.

    ITK has one setting for the whole process.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _transform(fixed, moving) -> sitk.Transform:
    affine = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SAMPLED, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel((4, 2))
    method.SetSmoothingSigmasPerLevel((2, 1))
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 40, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(affine, inPlace=True)
    method.Execute(fixed, moving)
    resampled = sitk.Resample(moving, fixed, affine, sitk.sitkLinear, 0.0)
    demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfIterations(ITERATIONS)
    demons.SetStandardDeviations(SMOOTHING)
    field = sitk.Cast(demons.Execute(fixed, resampled), sitk.sitkVectorFloat64)
    return sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)])  # the last is applied first


def warp(atlas: Atlas, fixed: Float[np.ndarray, 'd h w'], transform: sitk.Transform) -> Atlas:
    """The atlas resampled to the grid of `fixed`: image linearly, labels by the nearest voxel; 0 outside the atlas."""
    grid = _image(fixed, atlas.spacing_mm)
    image = sitk.Resample(_image(atlas.image, atlas.spacing_mm), grid, transform, sitk.sitkLinear, 0.0)
    labels = sitk.Resample(_image(atlas.labels, atlas.spacing_mm), grid, transform, sitk.sitkNearestNeighbor, 0)
    return Atlas(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(labels), atlas.spacing_mm)


def fuse(scan: Float[np.ndarray, 'd h w'], atlases: Iterable[Atlas], classes: int) -> Float[np.ndarray, 'd h w k']:
    """Class probabilities: the atlases' labels, weighted by the local intensity similarity to the scan."""
    votes = np.zeros((*scan.shape, classes), np.float32)
    for atlas in atlases:
        sigma = SIGMA_MM / atlas.spacing_mm
        difference = gaussian_filter(np.square(scan - atlas.image), sigma)
        weight = np.exp(-difference / (2 * TOLERANCE**2)).astype(np.float32) + 1e-6
        np.add.at(votes.reshape(-1, classes), (np.arange(scan.size), atlas.labels.ravel()), weight.ravel())
    return votes / votes.sum(-1, keepdims=True)


def _image(array, spacing_mm) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing_mm,) * 3)
    return image


class Atlases(ScanSegmenter):
    """The atlases of a stage, a Segmenter as trained networks are."""

    arrays = frozenset({'b', 'label_b'})  # that it uses, as of methods
    translates = False

    def __init__(self, run: Run):
        """Load the list of atlases in the stage's folder; their files are read when first needed."""
        self.run, self.step = run, None
        content = schema.load(run.folder / LISTED, AtlasList, 'train again')
        self.cases, self.values = content['cases'], content['labels']

    @property
    def config(self) -> Stage:
        return self.run.config

    @property
    def resample(self) -> str:
        return self.config.predict.resample

    def segments(self, domain: str) -> bool:
        """Whether it segments scans of a domain."""
        return domain == 'b'

    def with_fields(self, fields: Mapping[str, object]) -> 'Atlases':
        """The same atlases with other values of configuration fields."""
        return Atlases(replace(self.run, config=replaced(self.run.config, fields)))

    def uncut(self) -> 'Atlases':
        return self

    def compute(self, scan: Volume, domain: str) -> tuple[NetworkGrid, Float[np.ndarray, '1 d h w k']]:
        """The grid of the atlases for a scan, and the fused labels on it."""
        known('domain of atlases', domain, ('b',))
        frame, fixed = self._isotropic(scan)
        warped = (warp(atlas, fixed, register(fixed, atlas.image, atlas.spacing_mm)) for atlas in self._atlases)
        return frame, fuse(fixed, warped, len(self.run.classes))[None]

    def _isotropic(self, scan):
        """The isotropic grid of `config.atlases.spacing_mm`, and the scan on it."""
        frame = self.run.frame(scan, 'b', (0, 0, 0), self.config.atlases.spacing_mm)
        return frame, frame.images()[0, ..., 0]

    @cached_property
    def _atlases(self) -> list[Atlas]:
        return [self._read(case) for case in self.cases]

    def _read(self, case) -> Atlas:
        scan = scan_file.read(case['image'])
        labels = label_maps.read(case['label'], case['image'], self.values, self.run.classes, scan)
        frame, image = self._isotropic(scan)
        stack = slices.to_stack(volume.canonical(labels).array, frame.axis)[:, *frame.seen]
        return Atlas(image, slices.resize_nearest(stack[None], frame.size)[0], self.config.atlases.spacing_mm)


def load(run: Run, network: str) -> Atlases | None:
    """The atlases of a stage, if a segmentor is asked for."""
    return Atlases(run) if network == 's' else None
