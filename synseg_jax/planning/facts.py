"""What a folder of scans is like: by the headers of all scans, and the voxels of a few."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

import numpy as np

from synseg_jax.datasets.cases import Case, Dataset
from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.errors import InputError
from synseg_jax.formats import label_maps, scan_file
from synseg_jax.imaging import body, modality, slices, volume
from synseg_jax.preparation.checks.case import WORKERS
from synseg_jax.preparation.split import Scans
from synseg_jax.specification.data import Data

OPENED = 6  # scans whose voxels are read
AXIS = 'axial'
RANGE = (0.5, 99.5)  # percentiles of intensities in organs: nnU-Net clips CT there


@dataclass(frozen=True)
class Facts:
    """A folder of scans; lengths in mm, of axial slices, with the slices first."""

    dataset: Dataset
    labelled: int  # number of scans with labels
    shape: tuple[int, int, int]  # median
    spacing_mm: tuple[float, float, float]  # median
    body_mm: float  # longest side of the body in a slice, over the scans that were opened; 0 if none is found
    organs: tuple[float, float] | None  # range of intensities in the labels that were opened

    @property
    def scans(self) -> int:
        """The number of scans."""
        return len(self.dataset.cases)

    @property
    def subjects(self) -> int:
        """The number of patients."""
        return len({case.subject for case in self.dataset.cases})

    @property
    def modality(self) -> str:
        """CT, MR, PET or US; the name of the channel if it is none of them."""
        return modality.of_channel(self.dataset.channel) or self.dataset.channel

    @property
    def field_mm(self) -> float:
        """The longer side of the field of view of a slice."""
        return max(n * mm for n, mm in zip(self.shape[1:], self.spacing_mm[1:], strict=True))


def read(scans: Scans, settings: Data) -> Facts:
    """The facts of a folder, whose labels are opened only where it is the source; InputError for what is unreadable."""
    dataset = read_dataset(scans.folder, settings.subject, scans.channel, scans.labels)
    if not dataset.cases:
        raise InputError(f'{scans.folder}: no scans')
    with ThreadPoolExecutor(WORKERS) as pool:
        grids = list(pool.map(_grid, dataset.cases))
        opened = list(pool.map(lambda case: _voxels(case, dataset, scans.name == 'source'), spread(dataset.cases)))
    shapes, spacings = zip(*grids, strict=True)
    values = [organs for _, organs in opened if len(organs)]
    return Facts(
        dataset=dataset,
        labelled=sum(case.label is not None for case in dataset.cases),
        shape=tuple(int(median(sides)) for sides in zip(*shapes, strict=True)),
        spacing_mm=tuple(round(float(median(sides)), 2) for sides in zip(*spacings, strict=True)),
        body_mm=max(side for side, _ in opened),
        organs=tuple(np.percentile(np.concatenate(values), RANGE).round(1).tolist()) if values else None,
    )


def spread(cases: Sequence[Case], most: int = OPENED) -> list[Case]:
    """At most so many of the cases, evenly spread."""
    return [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, min(most, len(cases))).astype(int))]


def _grid(case):
    """(shape, spacing in mm) of a scan's axial slices, from its header."""
    upright = volume.canonical(scan_file.grid(case.image))
    stack = slices.to_stack(upright.array, AXIS)
    return stack.shape, slices.stack_spacing(upright.spacing_mm, AXIS)


def _voxels(case, dataset, labels):
    """(longest side of the body in a slice in mm, intensities in the organs of a source scan)."""
    scan = scan_file.read(case.image)
    upright = volume.canonical(scan)
    stack, spacing_mm = slices.to_stack(upright.array, AXIS), slices.stack_spacing(upright.spacing_mm, AXIS)
    found = body.bounds(stack, spacing_mm, dataset.channel) or ((0, 0),) * 3
    sides = [(last - first) * n * mm for (first, last), n, mm in zip(found, stack.shape, spacing_mm, strict=True)]
    organs = np.zeros(0, np.float32)
    if labels and case.label is not None and dataset.labels:
        names = tuple(dataset.labels)
        organs = scan.array[label_maps.read(case.label, case.image, dataset.labels, names, scan).array > 0]
    return max(sides[1:]), organs
