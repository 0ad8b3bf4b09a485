"""Datasets of the Brain Imaging Data Structure (BIDS), with label maps as derivatives.

    dataset_description.json
    sub-01/[ses-1/]anat/sub-01[_ses-1]_T2w.nii.gz
    derivatives/<pipeline>/sub-01/[ses-1/]anat/sub-01[_ses-1][_space-orig]_dseg.nii.gz    of labelled scans
    derivatives/<pipeline>/dseg.tsv                                                       columns index and name

Scans may lie in folders ct and pet, too.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synseg_jax.datasets import class_names
from synseg_jax.datasets.cases import Case, Dataset
from synseg_jax.dicom.series_names import chosen
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.formats.bids_names import DATATYPES, LABELS, BidsName
from synseg_jax.formats.label_maps import Values

DESCRIPTION = 'dataset_description.json'
TABLE = f'{LABELS}.tsv'
STRUCTURE = f'{DESCRIPTION}, sub-<id>/anat/sub-<id>_<suffix>.nii.gz'


@dataclass(frozen=True)
class Bids:
    """The scans of one suffix, e.g. T2w, which names their channel; FOLDER#T2w selects it."""

    name: str

    @property
    def structure(self) -> str:
        return STRUCTURE.replace('<suffix>', self.name)

    def fits(self, folder: Path) -> bool:
        return self.name in _suffixes(folder)

    def read(self, folder: Path, subject: str) -> Dataset:
        labels = _label_maps(folder)
        cases = []
        for path, name in _scans(folder):
            if name.suffix == self.name:
                expected = folder / 'derivatives/labels' / name.folder / 'anat' / f'{name.source}_{LABELS}.nii.gz'
                sub = f'sub-{name.entities["sub"]}'
                cases.append(Case(scan_file.stem(path), sub, path, labels.get(name.source), expected))
        table = _table([case.label for case in cases if case.label], folder)
        values = _classes(table) if table else {}
        return Dataset(folder, (self.name,), values, tuple(cases), named_in=str(table or folder / TABLE))


def layouts(folder: Path) -> list[Bids]:
    """A layout for each suffix of the scans in a BIDS dataset; none for other folders."""
    return [Bids(suffix) for suffix in _suffixes(folder)]


def scans(path: Path) -> dict[str, Path]:
    """{case: scan} of a BIDS dataset, given as FOLDER#T2w if there are scans of several suffixes; {} for others."""
    folder, wanted = chosen(path)
    suffixes = _suffixes(folder)
    if not suffixes:
        return {}
    if (wanted or len(suffixes) > 1) and wanted not in suffixes:
        raise InputError(f'{path}: scans are {", ".join(suffixes)}; name one, e.g. {folder}#{suffixes[0]}')
    found = [scan for scan, name in _scans(folder) if name.suffix == (wanted or suffixes[0])]
    return {scan_file.stem(scan): scan for scan in found}


def _suffixes(folder) -> list[str]:
    return sorted({name.suffix for _, name in _scans(folder)}) if (folder / DESCRIPTION).is_file() else []


def _scans(folder) -> Iterator[tuple[Path, BidsName]]:
    for path in _images(folder):
        name = BidsName.parse(path)
        if name and name.is_scan:
            yield path, name


def _images(folder) -> list[Path]:
    """The images of all people and sessions of a dataset, or of a derivative."""
    found = (path for part in ('sub-*/*/*', 'sub-*/ses-*/*/*') for path in folder.glob(part))
    return sorted(path for path in found if path.parent.name in DATATYPES and path.name.endswith(('.nii', '.nii.gz')))


def _label_maps(folder) -> dict[str, Path]:
    """{entities of a scan: its label map}; InputError for two of a scan."""
    found: dict[str, Path] = {}
    for path in (path for pipeline in sorted(folder.glob('derivatives/*')) for path in _images(pipeline)):
        name = BidsName.parse(path)
        if name and name.suffix == LABELS:
            if name.source in found:
                raise InputError(f'{path}: a label map of the same scan as {found[name.source]}; keep one of the two')
            found[name.source] = path
    return found


def _table(labels, folder) -> Path | None:
    """The table that names the classes: beside the first label map, or above it as far as the dataset."""
    if not labels:
        return None
    beside = labels[0].with_name(f'{scan_file.stem(labels[0])}.tsv')
    above = (place / TABLE for place in labels[0].parents if place.is_relative_to(folder))
    return next((path for path in (beside, *above) if path.is_file()), None)


def _classes(table) -> Values:
    """{name: index} of a table; background is 0 where it does not say so."""
    with table.open(newline='', encoding='utf-8-sig', errors='surrogateescape') as file:
        first, *rows = [*csv.reader(file, delimiter='\t')] or [[]]
    try:
        index, name = first.index('index'), first.index('name')
        values = {row[name].strip(): int(row[index]) for row in rows if row}
    except (IndexError, ValueError) as error:
        raise InputError(f'{table}: needs the columns index, a whole number, and name; repair it') from error
    values = values if 0 in values.values() else {'background': 0, **values}
    class_names.check(values, str(table))
    return values
