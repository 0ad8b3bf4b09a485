"""Folders images/ and labels/ with files of the same names, and folders of scans without labels."""

import glob
from collections.abc import Collection, Mapping
from pathlib import Path

from synseg_jax.datasets.cases import Case, Dataset, subject_of
from synseg_jax.datasets.layout import paired
from synseg_jax.dicom import series
from synseg_jax.errors import InputError
from synseg_jax.formats import names, scan_file, slicer
from synseg_jax.formats.label_maps import Values

IMAGES, LABELS = 'images', ('labels', 'masks')


class Plain:
    """Scans and labels of the same names; --channel and --labels name the channel and the label values.

    images/p1.nii.gz, or p1_image.nii.gz, or p1/ with a DICOM series
    labels/p1.nii.gz, or p1_label.nii.gz, or p1.seg.nrrd (3D Slicer), or p1.dcm (RTSTRUCT), or p1/ (an RTSTRUCT, or PNG
    for the files of a series); or masks/; neither if nothing is labelled
    """

    name = 'plain'
    structure = 'images/<case>.nii.gz, labels/<case>.nii.gz'

    def fits(self, folder: Path) -> bool:
        return (folder / IMAGES).is_dir() and not (folder / 'dataset.json').exists()

    def read(self, folder: Path, subject: str) -> Dataset:
        label_folders = [folder / name for name in LABELS if (folder / name).is_dir()]
        if len(label_folders) > 1:
            raise InputError(f'{label_folders[1]}: labels lie in {label_folders[0].name} too; keep one of the folders')
        images = _single_channel(scan_file.list_scans(folder / IMAGES))
        if not images:
            raise InputError(f'{folder / IMAGES}: no scans in it (known formats: {scan_file.FORMATS})')
        label_folder = label_folders[0] if label_folders else folder / LABELS[0]
        labels = names.by_case(_label_files(label_folder)) if label_folders else {}
        cases = paired(images, names.match_cases(labels, images), subject, label_folder)
        return Dataset(folder, (), _segment_names(labels.values()), cases, named_in=str(folder / 'dataset.json'))


class ScansOnly:
    """Scans without labels; --channel names their channel.

    p1.nii.gz, or p1/ with a DICOM series, or the files of one series
    """

    name = 'scans'
    structure = '<case>.nii.gz, without labels'

    def fits(self, folder: Path) -> bool:
        return any(scan_file.suffix(path) not in ('', '/', '.dcm') for path in folder.iterdir()) or any(
            path.is_file() and not path.name.startswith('.') and series.is_dicom(path)
            for part in ('*', '*/*')
            for path in folder.glob(part)
        )

    def read(self, folder: Path, subject: str) -> Dataset:
        if label_map := next(filter(_is_label_map, sorted(folder.iterdir())), None):
            raise InputError(f'{label_map}: named like a label map; put scans into images/ and label maps into labels/')
        images = _single_channel(scan_file.list_scans(folder))
        cases = [Case(names.checked_id(case), subject_of(case, subject), images[case], None) for case in images]
        return Dataset(folder, (), {}, tuple(cases), named_in=str(folder / 'dataset.json'))


def _segment_names(labels: Collection[Path]) -> Values:
    """The classes of 3D Slicer's segmentations by name, since label values differ between files; {} for others."""
    segments = [slicer.segments(path) for path in labels]
    classes = {name: glob.escape(name) for own in segments for name in own if names.normalised(name) != 'background'}
    return {'background': 0, **classes} if classes and all(segments) else {}


def _single_channel(files: Mapping[str, Path]) -> dict[str, Path]:
    """{case: scan}; raises InputError for cases of several channels, since nothing names them."""
    scans, others = names.split_channels(files)
    if others:
        first = next(path for case, path in files.items() if case.endswith('_0000'))
        raise InputError(f'{others[0]}: another channel of {first.name}; keep only the channel to use')
    return scans


def _is_label_map(path) -> bool:
    """Whether a scan is named like a label map."""
    is_scan = series.series_in(path) if path.is_dir() else scan_file.suffix(path) not in ('', '.dcm')
    return bool(is_scan) and not path.name.startswith('.') and names.is_label_name(scan_file.stem(path))


def _label_files(folder) -> list[tuple[str, Path]]:
    """(name without suffix, path) of all files and folders that may contain labels."""
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith('.') and scan_file.suffix(path)]
    return [(scan_file.stem(path), path) for path in paths]
