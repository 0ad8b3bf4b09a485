"""Two folders side by side, images and labels, whose files have the same names; or scans alone."""

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
    """Scans and labels by the same names; what channel and labels mean, --channel and --labels say.

    images/p1.nii.gz, or p1_image.nii.gz, or p1/ with a DICOM series
    labels/p1.nii.gz, or p1_label.nii.gz, or p1.seg.nrrd (3D Slicer), or p1.dcm (RTSTRUCT), or p1/ (an RTSTRUCT, or PNG
    for the files of a series); masks/ does as well; none of them, where nothing is labelled
    """

    word = 'plain'
    tree = 'images/<case>.nii.gz, labels/<case>.nii.gz'

    def fits(self, folder: Path) -> bool:
        return (folder / IMAGES).is_dir() and not (folder / 'dataset.json').exists()

    def read(self, folder: Path, subject: str) -> Dataset:
        there = [folder / name for name in LABELS if (folder / name).is_dir()]
        if len(there) > 1:
            raise InputError(f'{there[1]}: labels lie in {there[0].name} too; keep one of the two folders')
        images = _one_channel(scan_file.list_scans(folder / IMAGES))
        if not images:
            raise InputError(f'{folder / IMAGES}: no scans in it (known formats: {scan_file.FORMATS})')
        place = there[0] if there else folder / LABELS[0]
        labels = names.by_case(_label_files(place)) if there else {}
        cases = paired(images, names.match_cases(labels, images), subject, place)
        return Dataset(folder, (), _segments(labels.values()), cases, named_in=str(folder / 'dataset.json'))


class Alone:
    """Scans without labels, where they lie; what their channel is, --channel says.

    p1.nii.gz, or p1/ with a DICOM series, or the files of one series
    """

    word = 'scans'
    tree = '<case>.nii.gz, without labels'

    def fits(self, folder: Path) -> bool:
        return any(scan_file.suffix(path) not in ('', '/', '.dcm') for path in folder.iterdir()) or any(
            path.is_file() and not path.name.startswith('.') and series.is_dicom(path)
            for part in ('*', '*/*')
            for path in folder.glob(part)
        )

    def read(self, folder: Path, subject: str) -> Dataset:
        if drawn := next(filter(_drawn, sorted(folder.iterdir())), None):
            raise InputError(f'{drawn}: a label map by its name; put scans into images/ and label maps into labels/')
        images = _one_channel(scan_file.list_scans(folder))
        cases = [Case(names.checked_id(key), subject_of(key, subject), images[key], None) for key in images]
        return Dataset(folder, (), {}, tuple(cases), named_in=str(folder / 'dataset.json'))


def _segments(labels: Collection[Path]) -> Values:
    """The classes of 3D Slicer's segmentations, if all labels are such: by name, for every file has its own values."""
    named = [slicer.segments(path) for path in labels]
    found = {name: glob.escape(name) for own in named for name in own if names.normalised(name) != 'background'}
    return {'background': 0, **found} if found and all(named) else {}


def _one_channel(found: Mapping[str, Path]) -> dict[str, Path]:
    """The scans of cases that have one channel; InputError for several, of which nothing says which is meant."""
    scans, others = names.split_channels(found)
    if others:
        first = next(path for key, path in found.items() if key.endswith('_0000'))
        raise InputError(f'{others[0]}: another channel of {first.name}; leave the one that is meant')
    return scans


def _drawn(path) -> bool:
    """Whether a scan is a label map by its name."""
    scan = series.series_in(path) if path.is_dir() else scan_file.suffix(path) not in ('', '.dcm')
    return bool(scan) and not path.name.startswith('.') and names.is_label_name(scan_file.stem(path))


def _label_files(folder) -> list[tuple[str, Path]]:
    """Name without suffix, and path, of whatever may hold labels."""
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith('.') and scan_file.suffix(path)]
    return [(scan_file.stem(path), path) for path in inside]
