"""Records on disk: slices or volumes in [0, 1] with random access, and the manifest that describes them.

A record is the safetensors bytes of one slice,

    image   uint16 [rows, columns, c]   [0, 1] times 65535; c channels, 1 unless data.channels says more
    label   uint8  [rows, columns]      index into the manifest's classes; only where labelled
            int16                       of pseudo labels, -1 where there is none
    case    int32                       index into the cases of the set and role
    slice   int32                       index along the slice axis of the canonical volume

or of one whole volume, [slices, rows, columns, c] and [slices, rows, columns], its slice 0.
"""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Float, Integer
from safetensors import SafetensorError
from safetensors.numpy import load, save

from synseg_jax.datasets.dataset_json import Phantom
from synseg_jax.errors import InputError, known
from synseg_jax.files import atomic_file, disk, read_json, write_json
from synseg_jax.files.schema import Check, between, conform, inside
from synseg_jax.files.stage_schema import Axis, Classes, Length, Percentiles, Range, Share, Size
from synseg_jax.formats.names import checked_id

MANIFEST = 'manifest.json'
FORMAT = 3
WHITE = 65535
AGAIN = 'prepare the records again'


def encode(
    image: Float[np.ndarray, '*space c'], label: Integer[np.ndarray, '*space'] | None, case: int, slice_index: int
) -> bytes:
    """The bytes of one record; `image` in [0, 1]; labels are stored as int16 if they are, else as uint8."""
    stored = {'image': np.rint(image * WHITE).astype(np.uint16)}
    if label is not None:
        stored['label'] = np.ascontiguousarray(label, np.int16 if label.dtype == np.int16 else np.uint8)
    return save(stored | {'case': np.array(case, np.int32), 'slice': np.array(slice_index, np.int32)})


def decode(record: bytes) -> dict[str, np.ndarray]:
    """The arrays of one record, its image as float32 in [0, 1]."""
    arrays = load(record)
    return arrays | {'image': arrays['image'].astype(np.float32) / np.float32(WHITE)}


class RecordWriter:
    """Writes a record file atomically: it appears under its name only if the `with` block succeeds."""

    def __init__(self, path: str | os.PathLike):
        self._path, self._open = path, ExitStack()
        self.count = 0

    def __enter__(self) -> 'RecordWriter':
        temporary = self._open.enter_context(atomic_file(self._path))
        # one record a group: reading one must not unpack its neighbours
        self._writer = ArrayRecordWriter(str(temporary), 'group_size:1,zstd:1')
        self._open.callback(self._close)
        return self

    def write(self, record: bytes) -> None:
        """Append one record."""
        with self._disk():
            self._writer.write(record)
        self.count += 1

    def _close(self) -> None:
        with self._disk():
            self._writer.close()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """OSError where the C++ writer meets a full disk: RuntimeError('write() failed: REASON; writing PATH; ...')."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition(' failed: ')[2].partition(';')[0] or str(error)
            raise OSError(errno.EIO, reason, str(self._path)) from error

    def __exit__(self, *error) -> None:
        self._open.__exit__(*error)


class Records(Sequence):
    """Random access to the records of one file; cheap to pickle."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f'{self.path}: no such file; {AGAIN}')
        try:
            with disk.reading(self.path):
                self._source = ArrayRecordDataSource(str(self.path))
        except InputError:
            raise
        except Exception as error:  # the reader's C++ errors have no common type
            disk.require_readable(self.path)
            raise InputError(f'{self.path}: damaged ({error}); {AGAIN}') from error

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Record `index`, decoded."""
        if not 0 <= index < len(self):
            raise IndexError(f'record {index} of {len(self)}')
        try:
            with disk.reading(self.path):
                return decode(self._source[index])
        except InputError:
            raise
        except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
            if not self.path.is_file():
                raise InputError(f'{self.path}: has vanished; {AGAIN}') from error
            disk.require_readable(self.path)
            raise InputError(f'{self.path}: record {index} is damaged ({error}); {AGAIN}') from error

    def __repr__(self) -> str:
        return f'Records({str(self.path)!r})'


Named = Annotated[str, Check('of some length', bool)]


class Scan(TypedDict):
    """Manifest entry of a scan; `others`: what `low` and `high` are in its further channels."""

    id: str
    subject: str
    image: Named
    label: Named | None
    shape: list[int]
    affine: list[list[float]]
    slice_mm: Annotated[float, between(1e-3, 1e4)]
    low: float
    high: float
    kept: list[int]
    records: Annotated[int, between(0, 2**40)]
    volumes_ml: NotRequired[dict[str, float]]
    others: NotRequired[list[Range]]


class RecordFile(TypedDict):
    """Manifest entry of a record file: the scans of one set in one role."""

    file: Annotated[str, Check('that may not leave the folder', lambda name: inside(name) and Path(name).name == name)]
    records: Annotated[int, between(0, 2**40)]
    bytes: NotRequired[int]
    sha256: str
    labelled: bool
    cases: list[Scan]


class Set(TypedDict):
    """Manifest entry of a set; `of` and `by`: made of that set by that stage; `pseudo`: that stage found its labels;
    `phantom`: its parameters; `channels`: the names of all channels where there are several."""

    domain: Literal['a', 'b']
    channel: str
    channels: NotRequired[list[str]]
    labels: dict[str, int | str | Annotated[tuple[int | str, ...], Check('of values', bool)]]
    roles: dict[str, RecordFile]
    of: NotRequired[str]
    by: NotRequired[str]
    pseudo: NotRequired[bool]
    phantom: NotRequired[Phantom]


class Format(TypedDict):
    """The version of a manifest."""

    format: int


@dataclass(frozen=True)
class Manifest:
    """Contents of a folder of records and the settings they were made with; `sets` as in manifest.json."""

    folder: Path
    classes: Classes
    size: Size
    spacing_mm: Length
    slice_axis: Axis
    window_hu: Range
    percentiles: Percentiles
    target_center: Share
    seed: int
    sets: Mapping[str, Set] = field(repr=False)
    packages: Mapping[str, str]
    request: str
    version: str
    format: int = FORMAT
    antialias: bool = False  # as in manifests of earlier versions, which lack it and the two below
    bias_correction: bool = False
    channels: tuple[int, int] = (1, 1)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)  # all of them; empty in older manifests

    def role(self, name: str, role: str) -> dict:
        """The entry of a set in a role: file, records, labelled, cases; InputError listing the known names."""
        return self.sets[known('set', name, self.sets)]['roles'][
            known(f'role of set {name}', role, self.sets[name]['roles'])
        ]

    def path(self, name: str, role: str) -> Path:
        """The record file of a set in a role."""
        return self.folder / self.role(name, role)['file']

    def records(self, name: str, role: str) -> Records:
        """The records of a set in a role; InputError if their number differs from the manifest's."""
        records = Records(self.path(name, role))
        promised = self.role(name, role)['records']
        if len(records) != promised:
            raise InputError(f'{records.path}: {len(records)} records, not {promised}; {AGAIN}')
        return records

    def save(self) -> None:
        """Write manifest.json atomically."""
        content = asdict(self)
        del content['folder']
        write_json(self.folder / MANIFEST, content)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> 'Manifest':
        """Read the manifest of a folder of records; InputError naming an invalid field."""
        folder = Path(folder)
        content, path = _content(folder), folder / MANIFEST
        if (form := conform(content, Format, str(path), AGAIN)['format']) != FORMAT:
            raise InputError(f'{path}: format {form}, not {FORMAT}; {AGAIN}')
        fields = conform(content, cls, str(path), AGAIN)
        fields['settings'] = _with_tuples(fields.get('settings', {}))
        manifest = cls(folder=folder, **fields)
        for name, entry in manifest.sets.items():
            for role, described in entry['roles'].items():
                _check_counts(f'{path}: sets.{name}.roles.{role}', described)
        return manifest


def _with_tuples(content):
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def _content(folder):
    """The JSON of a folder's manifest; InputError with a hint if the folder holds scans."""
    path = folder / MANIFEST
    if (folder / 'dataset.json').is_file() and not path.is_file():
        raise InputError(
            f'{folder}: holds scans, not records; run python -m synseg_jax.prepare --config=FILE '
            f'--source={folder} --target=FOLDER --output=RECORDS, then give RECORDS here'
        )
    if not path.is_file():
        raise InputError(f'{path}: no such file; give the folder that synseg_jax.prepare wrote')
    return read_json(path, AGAIN)


def _check_counts(where, role) -> None:
    """InputError unless the record counts of a role and of its scans agree, one record for each slice kept."""
    for index, scan in enumerate(role['cases']):
        checked_id(scan['id'])
        if len(scan['kept']) != scan['records']:
            raise InputError(f'{where}.cases[{index}]: records are not as many as kept; {AGAIN}')
    if sum(scan['records'] for scan in role['cases']) != role['records']:
        raise InputError(f'{where}.records: not the sum of those of its cases; {AGAIN}')
