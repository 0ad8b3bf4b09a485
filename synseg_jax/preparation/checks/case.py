"""Checks of a scan and its label: by their headers, and by their voxels."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from synseg_jax.datasets import class_names
from synseg_jax.datasets.cases import Case
from synseg_jax.errors import InputError
from synseg_jax.files.capture_warnings import capture_warnings
from synseg_jax.formats import label_maps, scan_channels, scan_file
from synseg_jax.formats.grid import check_grid
from synseg_jax.formats.label_maps import as_tuple
from synseg_jax.imaging import body, intensity, modality, slices, volume
from synseg_jax.imaging.volume import Volume
from synseg_jax.preparation.checks.fingerprint import digest
from synseg_jax.preparation.split import Split
from synseg_jax.specification.data import Data

NO_BODY = 'no body is found, so it is cropped about the middle of the scan; is its modality named rightly?'
WORKERS = min(4, os.cpu_count() or 1)  # scans in parallel


@dataclass(frozen=True)
class Problem:
    """One line that names a file or folder and the remedy; an error if training would be wrong."""

    text: str
    name: str = ''  # of the set, if it is one's
    role: str = ''
    error: bool = True
    heard: bool = False  # a warning logged while the file was read


@dataclass
class Checked:
    """One case and the results of its checks."""

    split: Split
    case: Case
    problems: list[Problem] = field(default_factory=list)
    snapped: bool = False
    beside: bool = False  # whether the label lies on another grid
    held: list[int | str] = field(default_factory=list)  # values of a label without class names
    modality: str = ''  # by DICOM header
    digest: str = ''
    body: Float[np.ndarray, '3'] | None = None  # its centre, RAS mm
    centres: dict[str, Float[np.ndarray, '3']] | None = None  # of every class in the label, RAS mm; None if not read
    unused: str = ''  # warning about the intensity window
    unlike: str = ''  # warning about the values for the modality
    cut: str = ''  # warning about what the records leave out

    def add(self, text: str, error: bool = True, heard: bool = False) -> None:
        """Add a problem, once."""
        if all(problem.text != text for problem in self.problems):
            self.problems.append(Problem(text, self.split.name, self.split.role, error, heard))

    def tried(self, function: Callable, *arguments):
        """The result of `function`, None on InputError; the error and warnings become problems."""
        with capture_warnings() as said:
            try:
                return function(*arguments)
            except InputError as error:
                self.add(str(error))
            except Exception as error:
                error.add_note(f'while checking {self.case.image}')
                raise
            finally:
                for line in said:
                    self.add(line, error=False, heard=True)


def refuse(problems: Iterable[Problem]) -> None:
    """InputError with one line per error among the problems, if there are any."""
    lines = list(dict.fromkeys(problem.text for problem in problems if problem.error))
    if len(lines) == 1:
        raise InputError(lines[0])
    if lines:
        raise InputError(f'{len(lines)} problems; synseg_jax.verify tells more, and mends grids:', *lines)


def by_headers(splits: Sequence[Split]) -> list[Checked]:
    """All cases, checked by their headers; labels that the records do not carry are not opened.

    If a header is refused, labels are read as well, to report all errors at once.
    """
    checked = [Checked(split, case) for split in splits for case in split.cases]
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(partial(_check_opened, check=label_maps.check), checked))
        if any(problem.error for one in checked for problem in one.problems):
            list(pool.map(partial(_check_opened, check=label_maps.read), checked))
    return checked


def _check_opened(checked, check: Callable) -> None:
    case, split = checked.case, checked.split
    stored = check_headers(checked, split.classes is not None)
    if stored is not None:
        checked.tried(check, case.label, case.image, split.dataset.labels, split.classes, stored)


def check_headers(checked: Checked, labels: bool) -> Volume | None:
    """Check the header of a scan and, if asked, that its label lies on the same grid; the grid of the label."""
    case, label = checked.case, None
    image = checked.tried(scan_channels.grid, case.image, checked.split.channels)
    if image is not None:
        checked.modality = scan_file.dicom_modality(case.image)
    if labels and case.label is not None:
        label = checked.tried(label_maps.grid, case.label, image)
        if image is not None and label is not None:
            snapped = checked.tried(_snapped, image, label, str(case.label))
            checked.snapped, checked.beside = bool(snapped), snapped is None
    return label


def check_voxels(checked: Checked, settings: Data) -> None:
    """Check the voxels of a scan and its label; keeps what is compared between scans."""
    case, split = checked.case, checked.split
    scan = checked.tried(scan_channels.read, case.image, split.channels)
    if scan is not None:
        _check_contrast(checked, scan, settings)
        keep_scan(checked, scan)
        _check_body(checked, scan, settings)
    grid = None if case.label is None else checked.tried(label_maps.grid, case.label, scan)
    if grid is not None and checked.split.dataset.labels:
        _check_label(checked, grid)
    elif grid is not None:  # without class names, but it must be readable
        checked.held = checked.tried(label_maps.present_values, case.label, case.image, grid) or []


def classes_of(split: Split) -> tuple[str, ...]:
    """The classes of a split, or those its set names if its labels are not read; background first."""
    if split.classes is not None:
        return split.classes
    labels = split.dataset.labels
    names = class_names.disjoint(labels)
    return names if names and 0 in as_tuple(labels[names[0]]) else ('background', *names)


def _snapped(image: Volume, label: Volume, name: str) -> bool:
    """Whether two grids within tolerance differ by more than rounding; InputError if they are not the same."""
    one, other = (volume.canonical(grid) for grid in (image, label))
    check_grid(one, other, name)
    return not np.allclose(one.affine, other.affine, rtol=1e-6, atol=1e-6)


def _check_contrast(checked, scan, settings) -> None:
    named, window = checked.split.dataset.channels(len(scan.channels)), (settings.window_hu, settings.percentiles)
    for number, (channel, one) in enumerate(zip(named, scan.channels, strict=True)):
        name = str(scan_channels.files(checked.case.image, len(named))[number])
        found = checked.tried(intensity.for_channel, channel, one.array, *window, name)
        if found is not None and not number:
            checked.unused = intensity.window_warning(found, one.array) or ''
            checked.unlike = modality.hu_warning(channel, one.array)


def _check_body(checked, scan, settings) -> None:
    if settings.spacing_mm and settings.cut_about == 'body':
        upright = volume.canonical(scan)
        stack = slices.to_stack(upright.array, settings.slice_axis)
        spacing_mm = slices.stack_spacing(upright.spacing_mm, settings.slice_axis)
        checked.cut = '' if body.bounds(stack, spacing_mm, checked.split.dataset.channel) else NO_BODY


def keep_scan(checked: Checked, scan: Volume) -> None:
    """Keep fingerprint and body centre of a scan, unless it is constant."""
    if scan.array.min() < scan.array.max():
        checked.digest = digest(volume.canonical(scan).array)
        checked.body = _centre(scan.array > scan.array.mean(), scan.affine)


def _check_label(checked, grid: Volume) -> None:
    """Check values and organs of a label on its own grid; whether that is the scan's is checked by header."""
    case, names = checked.case, classes_of(checked.split)
    label = checked.tried(label_maps.read, case.label, case.image, checked.split.dataset.labels, names, grid)
    if label is not None:
        keep_label(checked, label)
        if not checked.centres:
            checked.add(f'{case.label}: no organ in it; leave the scan out, unless there is none to see', error=False)


def keep_label(checked: Checked, label: Volume) -> None:
    """Keep the centres of the organs in a label of indices into `classes_of` its split."""
    masks = ((name, label.array == index) for index, name in enumerate(classes_of(checked.split)) if index)
    checked.centres = {name: _centre(mask, label.affine) for name, mask in masks if mask.any()}


def _centre(mask: Bool[np.ndarray, 'x y z'], affine) -> Float[np.ndarray, '3']:
    """Centre of mass of a mask, RAS mm."""
    index = [np.average(np.arange(n), weights=mask.sum(tuple({0, 1, 2} - {i}))) for i, n in enumerate(mask.shape)]
    return affine[:3, :3] @ index + affine[:3, 3]
