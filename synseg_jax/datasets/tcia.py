"""Collections of The Cancer Imaging Archive (TCIA): folders patient/study/series of DICOM files.

    PROSTATEx/ProstateX-0000/<study>/<series>/*.dcm                 without labels
    Prostate-3T/Prostate3T-01-0001/<study>/<series>/*.dcm           NCI-ISBI 2013: the folder above these three
    PROSTATE-DIAGNOSIS/ProstateDx-01-0001/<study>/<series>/*.dcm
    <anywhere>/Prostate3T-01-0001*.nrrd
    NSCLC-Radiomics/LUNG1-001/<study>/<series>/*.dcm                a CT, and an RTSTRUCT in a series of its own

Names are those of the downloads as of 2019.  Series are selected by their DICOM header, since folder names differ
between download tools.
"""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import pydicom

from synseg_jax.datasets.cases import Case, Dataset
from synseg_jax.dicom import rtstruct
from synseg_jax.dicom import series as dicom
from synseg_jax.errors import InputError, warn
from synseg_jax.formats.names import checked_id

Series = tuple[Path, pydicom.Dataset | None]  # the first file of a folder and its header; None if damaged
TRANSVERSAL_T2 = r'^(?!.*(sag|cor)).*t2'


@dataclass(frozen=True)
class Collection:
    """A collection: one series per patient, selected by modality and description, and its labels."""

    name: str
    channel: str
    patients: tuple[str, ...]  # glob patterns of patient folders
    modality: str
    description: str  # regular expression searched in the series description in lower case
    labels: Mapping[str, int | str | tuple[int | str, ...]]
    label_format: str = ''  # RTSTRUCT in a series of the patient, or NRRD anywhere, named by the patient

    @property
    def structure(self) -> str:
        return f'{self.patients[0]}/<study>/<series>'

    def fits(self, folder: Path) -> bool:
        return bool(self._patients(folder))

    def read(self, folder: Path, subject: str) -> Dataset:
        """One case per patient; if some have labels, those without are left out with a warning."""
        patients = self._patients(folder)
        nrrd = _nrrd(folder, patients) if self.label_format == 'NRRD' else {}
        cases = [self._case(patient, nrrd) for patient in patients]
        kept = [case for case in cases if case.label] or cases
        if len(kept) < len(cases):
            unlabelled = [case.id for case in cases if not case.label]
            first = f'{", ".join(unlabelled[:5])}{", ..." if len(unlabelled) > 5 else ""}'
            warn('%s: %d patients have no labels and are left out: %s', folder, len(unlabelled), first)
        return Dataset(folder, (self.channel,), dict(self.labels), tuple(kept), (), f'{self.name} ({folder})')

    def _patients(self, folder) -> list[Path]:
        """The patient folders, in this folder or one level below."""
        paths = {path for name in self.patients for depth in ('', '*/') for path in folder.glob(depth + name)}
        return sorted(path for path in paths if path.is_dir())

    def _case(self, patient, nrrd) -> Case:
        series = _series(patient)
        if damaged := [file for file, header in series if header is None]:  # reading the series raises the error
            label = damaged[0] if self.label_format else None
            return Case(checked_id(patient.name), patient.name, damaged[0].parent, label)
        label = _contours(patient, series) if self.label_format == 'RTSTRUCT' else nrrd.get(patient.name)
        referenced = rtstruct.referenced(label) if label and self.label_format == 'RTSTRUCT' else set()
        return Case(checked_id(patient.name), patient.name, self._image(patient, series, referenced), label)

    def _image(self, patient, series: Sequence[Series], referenced: Set[str]) -> Path:
        """The folder of the series that the contours reference by UID, else of the last one, e.g. a repeat."""
        candidates = [(file, header) for file, header in series if header.get('Modality') == self.modality]
        matching = [s for s in candidates if re.search(self.description, _description(s[1]).lower())]
        if not matching and len(candidates) == 1 and not _description(candidates[0][1]):
            matching = candidates
        if not matching:
            descriptions = ', '.join(repr(_description(header)) for _, header in candidates) or 'none'
            raise InputError(
                f'{patient}: no series of {self.channel} by its description; of {self.modality} it has {descriptions}; '
                'leave the patient out'
            )
        contoured = [s for s in matching if str(s[1].get('SeriesInstanceUID', '')) in referenced]
        *others, (file, header) = sorted(contoured or matching, key=_number)
        if others:
            _warn_ignored(patient, self.channel, _title(header), (_title(other) for _, other in others))
        return file.parent


def _contours(patient, series: Sequence[Series]) -> Path | None:
    """The last RTSTRUCT of a patient; None without."""
    files = sorted(file for file, header in series if header.get('Modality') == 'RTSTRUCT')
    if len(files) > 1:
        *others, last = (str(file.relative_to(patient)) for file in files)
        _warn_ignored(patient, 'RTSTRUCT', last, others)
    return files[-1] if files else None


def _warn_ignored(patient, noun, selected, ignored) -> None:
    warn('%s: of several %s the last is read, %s; passed over: %s', patient, noun, selected, ', '.join(ignored))


def _title(header) -> str:
    return f'series {header.get("SeriesNumber")} {_description(header)!r}'


def _number(series: Series) -> tuple[int, str]:
    """Sort key: the series number, then the path."""
    number = str(series[1].get('SeriesNumber') or '')
    return int(number) if number.isdecimal() else 0, str(series[0])


def _series(patient) -> list[Series]:
    """The first DICOM file of every folder below a patient's."""
    series = []
    for folder in sorted(path for path in patient.rglob('*') if path.is_dir()):
        files = (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith('.'))
        if first := next((path for path in files if dicom.is_dicom(path)), None):
            series.append((first, _header(first)))
    return series


def _header(file) -> pydicom.Dataset | None:
    try:
        return dicom.header(file)
    except InputError:
        return None


def _description(header) -> str:
    return str(header.get('SeriesDescription') or '')


def _nrrd(folder, patients) -> dict[str, Path]:
    """{patient: label map} of the NRRD files below a folder whose names begin with a patient's name."""
    labels: dict[str, Path] = {}
    files = [path for path in sorted(folder.rglob('*.nrrd')) if not path.name.startswith('.')]
    for patient in patients:
        matches = [path for path in files if path.name.lower().startswith(patient.name.lower())]
        if len(matches) > 1:
            raise InputError(f'{matches[1]}: the same patient as {matches[0].name}; keep one of the two')
        if matches:
            labels[patient.name] = matches[0]
    return labels


COLLECTIONS = (
    Collection('PROSTATEx', 'T2 MR', ('ProstateX-*',), 'MR', TRANSVERSAL_T2, {}),
    # Prostate-3T and PROSTATE-DIAGNOSIS, with the labels of the NCI-ISBI 2013 challenge
    Collection(
        'NCI-ISBI',
        'T2 MR',
        ('Prostate3T-*', 'ProstateDx-*'),
        'MR',
        TRANSVERSAL_T2,
        {'background': 0, 'peripheral zone': 1, 'central gland': 2, 'prostate': (1, 2)},
        'NRRD',
    ),
    # where contours overlap the last class wins, so the tumour is last
    Collection(
        'NSCLC-Radiomics',
        'CT',
        ('LUNG1-*',),
        'CT',
        '',
        {
            'background': 0,
            'lungs': 'Lung*',
            'heart': 'Heart*',
            'esophagus': '*Esophagus*',
            'spinal cord': 'Spinal*Cord*',
            'tumour': 'GTV-1*',
        },
        'RTSTRUCT',
    ),
)
