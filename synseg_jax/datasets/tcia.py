"""Collections of The Cancer Imaging Archive (TCIA): a folder for every patient, in it studies, in them DICOM series.

    PROSTATEx/ProstateX-0000/<study>/<series>/*.dcm                 without labels
    Prostate-3T/Prostate3T-01-0001/<study>/<series>/*.dcm           NCI-ISBI 2013: the folder above these three
    PROSTATE-DIAGNOSIS/ProstateDx-01-0001/<study>/<series>/*.dcm
    <anywhere>/Prostate3T-01-0001*.nrrd
    NSCLC-Radiomics/LUNG1-001/<study>/<series>/*.dcm                a CT, and an RTSTRUCT in a series of its own

Names are those of the downloads as of 2019.  A series is chosen by what its header says, since the names of folders
differ between download tools.
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

Series = tuple[Path, pydicom.Dataset | None]  # the first file of a folder and what it says; None if it is damaged
TRANSVERSAL_T2 = r'^(?!.*(sag|cor)).*t2'


@dataclass(frozen=True)
class Collection:
    """Patients by the names of their folders, one series of each by its description, and its labels."""

    word: str
    channel: str
    patients: tuple[str, ...]  # patterns of the names of their folders
    modality: str
    described: str  # expression that the series description has, in small letters, where there are several series
    labels: Mapping[str, int | str | tuple[int | str, ...]]
    labelled_by: str = ''  # RTSTRUCT in a series of the patient, NRRD anywhere, beginning with the patient's name

    @property
    def tree(self) -> str:
        return f'{self.patients[0]}/<study>/<series>'

    def fits(self, folder: Path) -> bool:
        return bool(self._patients(folder))

    def read(self, folder: Path, subject: str) -> Dataset:
        """One case a patient; where some have labels, those without are left out, which is said."""
        drawn = _nrrd(folder, self._patients(folder)) if self.labelled_by == 'NRRD' else {}
        cases = [self._case(patient, drawn) for patient in self._patients(folder)]
        kept = [case for case in cases if case.label] or cases
        if len(kept) < len(cases):
            lacking = [case.id for case in cases if not case.label]
            words = f'{", ".join(lacking[:5])}{", ..." if len(lacking) > 5 else ""}'
            warn('%s: %d patients have no labels and are left out: %s', folder, len(lacking), words)
        return Dataset(folder, (self.channel,), dict(self.labels), tuple(kept), (), f'{self.word} ({folder})')

    def _patients(self, folder) -> list[Path]:
        """Their folders, in this one or one level below."""
        found = {path for name in self.patients for depth in ('', '*/') for path in folder.glob(depth + name)}
        return sorted(path for path in found if path.is_dir())

    def _case(self, patient, nrrd) -> Case:
        series = _series(patient)
        if damaged := [file for file, header in series if header is None]:  # whoever reads the series names it
            label = damaged[0] if self.labelled_by else None
            return Case(checked_id(patient.name), patient.name, damaged[0].parent, label)
        label = _contours(patient, series) if self.labelled_by == 'RTSTRUCT' else nrrd.get(patient.name)
        meant = rtstruct.referenced(label) if label and self.labelled_by == 'RTSTRUCT' else set()
        return Case(checked_id(patient.name), patient.name, self._image(patient, series, meant), label)

    def _image(self, patient, series: Sequence[Series], meant: Set[str]) -> Path:
        """The folder of the series that is meant: of several the last, which repeats what went wrong before.

        Where contours were drawn on one of them, `meant` by its UID, it is that one.
        """
        known = [(file, header) for file, header in series if header.get('Modality') == self.modality]
        fitting = [s for s in known if re.search(self.described, _description(s[1]).lower())]
        if not fitting and len(known) == 1 and not _description(known[0][1]):
            fitting = known
        if not fitting:
            has = ', '.join(repr(_description(header)) for _, header in known) or 'none'
            raise InputError(
                f'{patient}: no series of {self.channel} by its description; of {self.modality} it has {has}; '
                'leave the patient out'
            )
        drawn_on = [s for s in fitting if str(s[1].get('SeriesInstanceUID', '')) in meant]
        *others, (file, header) = sorted(drawn_on or fitting, key=_number)
        if others:
            _say(patient, self.channel, _named(header), (_named(other) for _, other in others))
        return file.parent


def _contours(patient, series: Sequence[Series]) -> Path | None:
    """The last RTSTRUCT of a patient, None without."""
    drawn = sorted(file for file, header in series if header.get('Modality') == 'RTSTRUCT')
    if len(drawn) > 1:
        *others, last = (str(file.relative_to(patient)) for file in drawn)
        _say(patient, 'RTSTRUCT', last, others)
    return drawn[-1] if drawn else None


def _say(patient, what, chosen, others) -> None:
    """Warns of what is read and what is passed over."""
    warn('%s: of several %s the last is read, %s; passed over: %s', patient, what, chosen, ', '.join(others))


def _named(header) -> str:
    return f'series {header.get("SeriesNumber")} {_description(header)!r}'


def _number(series: Series) -> tuple[int, str]:
    """The number of a series and, where several have it, their folders' names decide."""
    said = str(series[1].get('SeriesNumber') or '')
    return int(said) if said.isdecimal() else 0, str(series[0])


def _series(patient) -> list[Series]:
    """The first DICOM file of every folder below a patient's."""
    found = []
    for folder in sorted(path for path in patient.rglob('*') if path.is_dir()):
        inside = (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith('.'))
        if first := next((path for path in inside if dicom.is_dicom(path)), None):
            found.append((first, _header(first)))
    return found


def _header(file) -> pydicom.Dataset | None:
    try:
        return dicom.header(file)
    except InputError:
        return None


def _description(header) -> str:
    return str(header.get('SeriesDescription') or '')


def _nrrd(folder, patients) -> dict[str, Path]:
    """{patient: label map} of the NRRD files below a folder that begin with a patient's name."""
    found: dict[str, Path] = {}
    files = [path for path in sorted(folder.rglob('*.nrrd')) if not path.name.startswith('.')]
    for patient in patients:
        own = [path for path in files if path.name.lower().startswith(patient.name.lower())]
        if len(own) > 1:
            raise InputError(f'{own[1]}: the same patient as {own[0].name}; keep one of the two')
        if own:
            found[patient.name] = own[0]
    return found


COLLECTIONS = (
    Collection('PROSTATEx', 'T2 MR', ('ProstateX-*',), 'MR', TRANSVERSAL_T2, {}),
    # Prostate-3T and PROSTATE-DIAGNOSIS, of which the NCI-ISBI challenge of 2013 drew the labels
    Collection(
        'NCI-ISBI',
        'T2 MR',
        ('Prostate3T-*', 'ProstateDx-*'),
        'MR',
        TRANSVERSAL_T2,
        {'background': 0, 'peripheral zone': 1, 'central gland': 2, 'prostate': (1, 2)},
        'NRRD',
    ),
    # where contours overlap the last class is seen, so the tumour is last
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
