"""Multi-atlas segmentation: labelled scans registered to the one at hand, their labels fused by local likeness.

The classical baseline of SynSeg-Net's Table 1.  Registration is SimpleITK's: affine by Mattes' mutual information, then
symmetric demons (Vercauteren et al., 2007), which suits scans of one modality.  Fusion is locally weighted voting
(Artaechevarria et al., IEEE TMI 2009): near a voxel an atlas counts the more, the less its intensities differ from the
scan's.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, TypedDict

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float, Integer, UInt8
from scipy.ndimage import gaussian_filter

from synseg_jax.errors import InputError, known
from synseg_jax.files import schema
from synseg_jax.formats import label_maps, scan_file
from synseg_jax.imaging import slices, volume
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.model_folder import Run
from synseg_jax.specification.parse import replaced
from synseg_jax.specification.stage import Stage

LISTED = 'atlases.json'  # the labelled scans of a stage

BINS, SAMPLED = 32, 0.25  # of mutual information: histogram bins, share of the voxels that it looks at
ITERATIONS, STIFF = 80, 1.5  # of demons; standard deviation in voxels of the Gaussian that smooths displacements
NEAR_MM, ALIKE = 6.0, 0.1  # radius and root mean square difference, in [0, 1], over which atlases compete


class Listing(TypedDict):
    """A labelled scan: its name, and where it lies."""

    id: str
    image: str
    label: str


class Listed(TypedDict):
    """atlases.json: the labelled scans of a stage, and the values of their labels."""

    cases: Annotated[list[Listing], schema.Check('with a scan', bool)]
    labels: dict[str, int | str | tuple[int | str, ...]]


@dataclass(frozen=True, eq=False)
class Atlas:
    """A labelled scan in [0, 1] in voxels of one size; axes are slices, rows and columns."""

    image: Float[np.ndarray, 'd h w']
    labels: UInt8[np.ndarray, 'd h w']
    spacing_mm: float


def register(
    fixed: Float[np.ndarray, 'd h w'], moving: Float[np.ndarray, 'd2 h2 w2'], spacing_mm: float
) -> sitk.Transform:
    """Where in `moving` each point of `fixed` lies: affine, then a displacement of every voxel.

    Points are in mm from the middle of the first voxel.  The same volumes give the same transform.  InputError for
    volumes that are too thin.
    """
    with _one_thread():
        try:
            return _registered(_image(fixed, spacing_mm), _image(moving, spacing_mm))
        except RuntimeError as error:  # ITK's, of scans that are too thin
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f'cannot be registered to an atlas ({reason}); leave the scan out') from error


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in another order are other numbers; how many threads ITK takes is set for the whole process alone."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _registered(one, other) -> sitk.Transform:
    affine = sitk.CenteredTransformInitializer(
        one, other, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY
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
    method.Execute(one, other)
    moved = sitk.Resample(other, one, affine, sitk.sitkLinear, 0.0)
    demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfIterations(ITERATIONS)
    demons.SetStandardDeviations(STIFF)
    field = sitk.Cast(demons.Execute(one, moved), sitk.sitkVectorFloat64)
    return sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)])  # the last is applied first


def carried(atlas: Atlas, fixed: Float[np.ndarray, 'd h w'], transform: sitk.Transform) -> Atlas:
    """The atlas on the voxels of `fixed`; 0 beyond its border."""
    grid = _image(fixed, atlas.spacing_mm)
    image = sitk.Resample(_image(atlas.image, atlas.spacing_mm), grid, transform, sitk.sitkLinear, 0.0)
    labels = sitk.Resample(_image(atlas.labels, atlas.spacing_mm), grid, transform, sitk.sitkNearestNeighbor, 0)
    return Atlas(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(labels), atlas.spacing_mm)


def fuse(scan: Float[np.ndarray, 'd h w'], atlases: Iterable[Atlas], classes: int) -> Float[np.ndarray, 'd h w k']:
    """The share of the votes that each class gets at every voxel, each atlas weighted by how alike it is near by."""
    votes = np.zeros((*scan.shape, classes), np.float32)
    for atlas in atlases:
        sigma = NEAR_MM / atlas.spacing_mm
        difference = gaussian_filter(np.square(scan - atlas.image), sigma)
        weight = np.exp(-difference / (2 * ALIKE**2)).astype(np.float32) + 1e-6
        np.add.at(votes.reshape(-1, classes), (np.arange(scan.size), atlas.labels.ravel()), weight.ravel())
    return votes / votes.sum(-1, keepdims=True)


def _image(array, spacing_mm) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing_mm,) * 3)
    return image


class Atlases:
    """The labelled scans of a stage, which segment others as trained networks do."""

    arrays = frozenset({'b', 'label_b'})  # what it reads, as methods say of theirs
    translates = False

    def __init__(self, run: Run):
        """Those that the stage's folder lists."""
        self.run = run
        content = schema.load(run.folder / LISTED, Listed, 'train again')
        self.cases, self.values = content['cases'], content['labels']

    @property
    def config(self) -> Stage:
        return self.run.config

    def segments(self, domain: str) -> bool:
        """Whether it segments scans of a domain."""
        return domain == 'b'

    def with_fields(self, fields: Mapping[str, object]) -> 'Atlases':
        """The same atlases, applied as other values of these fields say."""
        return Atlases(replace(self.run, config=replaced(self.run.config, fields)))

    def uncut(self) -> 'Atlases':
        return self

    def segment(self, scan: Volume, domain: str) -> Integer[np.ndarray, 'x y z']:
        """Class indices on the scan's own grid and axes."""
        frame, votes = self._votes(scan, domain)
        return frame.labels(votes[None], self.config.predict.resample)

    def probability(self, scan: Volume, domain: str, label: int) -> Float[np.ndarray, 'x y z']:
        """The share of the votes of one class on the scan's own grid and axes."""
        frame, votes = self._votes(scan, domain)
        return frame.place(frame.values(votes[None, ..., label]))

    def _votes(self, scan, domain):
        known('domain of atlases', domain, ('b',))
        frame, fixed = self._seen(scan)
        moved = (carried(atlas, fixed, register(fixed, atlas.image, atlas.spacing_mm)) for atlas in self._atlases)
        return frame, fuse(fixed, moved, len(self.run.classes))

    def _seen(self, scan):
        frame = self.run.frame(scan, 'b', (0, 0, 0), self.config.atlases.spacing_mm)
        return frame, frame.images()[0, ..., 0]

    @cached_property
    def _atlases(self) -> list[Atlas]:
        found = []
        for case in self.cases:
            scan = scan_file.read(case['image'])
            labels = label_maps.read(case['label'], case['image'], self.values, self.run.classes, scan)
            frame, image = self._seen(scan)
            upright = volume.canonical(labels).array
            stack = slices.to_stack(upright, frame.axis)[:, *frame.seen]
            found.append(
                Atlas(image, slices.resize_nearest(stack[None], frame.size)[0], self.config.atlases.spacing_mm)
            )
        return found
