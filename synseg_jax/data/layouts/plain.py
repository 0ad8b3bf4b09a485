"""Two folders side by side, images and labels, whose files have the same names; or scans alone."""

import re
from collections.abc import Iterable
from pathlib import Path

from synseg_jax.data import dicom, volume
from synseg_jax.data.dataset import Case, Dataset, checked_id, subject_of
from synseg_jax.data.layouts.layout import paired
from synseg_jax.errors import InputError

IMAGES, LABELS = 'images', ('labels', 'masks')
OF_IMAGES = ('0000', 'image', 'img', 'scan')
ENDING = re.compile(rf'[_-]({"|".join(OF_IMAGES)}|labels?|masks?|seg|segmentation)$', re.IGNORECASE)


class Plain:
    """Scans and labels by the same names; what channel and labels mean, --channel and --labels say.

    images/p1.nii.gz, or p1_image.nii.gz, or p1/ with a DICOM series
    labels/p1.nii.gz, or p1_label.nii.gz, or p1.dcm (RTSTRUCT), or p1/ (an RTSTRUCT, or PNG for the files of a series);
    masks/ does as well; none of them, where nothing is labelled
    """

    word = 'plain'
    tree = 'images/<case>.nii.gz, labels/<case>.nii.gz'

    def fits(self, folder: Path) -> bool:
        return (folder / IMAGES).is_dir() and not (folder / 'dataset.json').exists()

    def read(self, folder: Path, subject: str) -> Dataset:
        there = [folder / name for name in LABELS if (folder / name).is_dir()]
        if len(there) > 1:
            raise InputError(f'{there[1]}: labels lie in {there[0].name} too; keep one of the two folders')
        images = _by_case(volume.found(folder / IMAGES).items())
        if not images:
            raise InputError(f'{folder / IMAGES}: no scans in it (known kinds: {volume.KINDS})')
        place = there[0] if there else folder / LABELS[0]
        labels = _by_case(_label_files(place)) if there else {}
        cases = paired(images, labels, subject, place)
        return Dataset(folder, (), {}, cases, named_in=str(folder / 'dataset.json'))


class Alone:
    """Scans without labels, where they lie; what their channel is, --channel says.

    p1.nii.gz, or p1/ with a DICOM series, or the files of one series
    """

    word = 'scans'
    tree = '<case>.nii.gz, without labels'

    def fits(self, folder: Path) -> bool:
        return any(volume.kind(path) not in ('', '/', '.dcm') for path in folder.iterdir()) or any(
            path.is_file() and not path.name.startswith('.') and dicom.is_dicom(path)
            for part in ('*', '*/*')
            for path in folder.glob(part)
        )

    def read(self, folder: Path, subject: str) -> Dataset:
        found = volume.found(folder)
        for name, path in found.items():
            first = f'{name[:-4]}0000'
            if first != name and first in found:
                raise InputError(f'{path}: another channel of {found[first].name}; leave the one that is meant')
            if (ending := ENDING.search(name)) and ending[1].lower() not in OF_IMAGES:
                raise InputError(f'{path}: a label map by its name; put scans into images/ and label maps into labels/')
        images = _by_case(found.items())
        cases = [Case(checked_id(key), subject_of(key, subject), images[key], None) for key in sorted(images)]
        return Dataset(folder, (), {}, tuple(cases), named_in=str(folder / 'dataset.json'))


def _by_case(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Paths by their names without a last word such as `_image` or `_label`."""
    found: dict[str, Path] = {}
    for name, path in named:
        key = ENDING.sub('', name)
        if key in found:
            raise InputError(f'{path}: the same case as {found[key].name}; keep one of the two')
        found[key] = path
    return found


def _label_files(folder) -> list[tuple[str, Path]]:
    """Name without suffix, and path, of whatever may hold labels."""
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith('.') and volume.kind(path)]
    return [(volume.name(path), path) for path in inside]
