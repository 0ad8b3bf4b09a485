"""Names of the Brain Imaging Data Structure (BIDS): sub-01_ses-1_run-2_T2w.nii.gz in sub-01/ses-1/anat.

A name is a sequence of entities, KEY-VALUE, and a suffix; https://bids-specification.readthedocs.io.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from synseg_jax.errors import InputError
from synseg_jax.formats.scan_file import stem

STEM = re.compile(r'sub-[a-zA-Z0-9]+(_[a-z]+-[a-zA-Z0-9+]+)*_[a-zA-Z0-9]+')
DERIVED = {'space', 'seg', 'atlas', 'scale', 'res', 'den', 'label', 'desc'}  # entities that only derivatives have
LABELS = 'dseg'  # suffix of label maps, and of the table of their classes
NO_SCANS = {LABELS, 'probseg', 'mask', 'defacemask'}  # suffixes of images that are not scans
DATATYPES = ('anat', 'ct', 'pet')  # folders of scans that are 3-D; label maps lie in anat alone


@dataclass(frozen=True)
class BidsName:
    """Entities by their keys, in the order of the name, and the suffix."""

    entities: Mapping[str, str]
    suffix: str

    @classmethod
    def parse(cls, path: Path) -> 'BidsName | None':
        """The parts of a file's name; None if it is not one of BIDS."""
        text = stem(path)
        if not STEM.fullmatch(text):
            return None
        *entities, suffix = text.split('_')
        return cls(dict(entity.split('-', 1) for entity in entities), suffix)

    @property
    def is_scan(self) -> bool:
        """Whether it is the name of a scan, as acquired."""
        return self.suffix not in NO_SCANS and not DERIVED & self.entities.keys()

    @property
    def source(self) -> str:
        """The entities of the scan that a derivative was made of, sub-01_ses-1."""
        return '_'.join(f'{key}-{value}' for key, value in self.entities.items() if key not in DERIVED)

    @property
    def folder(self) -> PurePosixPath:
        """sub-01 or sub-01/ses-1."""
        return PurePosixPath(*(f'{key}-{self.entities[key]}' for key in ('sub', 'ses') if key in self.entities))


def label_maps(scans: Mapping[str, Path]) -> dict[str, str]:
    """{case: path of its label map below the folder of a derivative}, which lies on the grid of the scan.

    Raises InputError for scans that are not named by BIDS, and for two of one name but for the suffix.
    """
    places: dict[str, str] = {}
    for case, scan in scans.items():
        name = BidsName.parse(scan)
        if name is None or not name.is_scan:
            raise InputError(f'{scan}: not named as a scan in BIDS, e.g. sub-01_T2w.nii.gz; leave out --names=bids')
        place = str(name.folder / 'anat' / f'{name.source}_space-orig_{LABELS}.nii.gz')
        if place in places.values():
            raise InputError(f'{scan}: its label map would be {place}, as that of another scan; segment one by one')
        places[case] = place
    return places
