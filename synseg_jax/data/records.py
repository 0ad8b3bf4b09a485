"""Records on disk: slices or volumes in [0, 1] that can be read in any order, and the manifest that says what they are.

A record is the safetensors bytes of one slice,

    image   uint16 [rows, columns, 1]   [0, 1] times 65535
    label   uint8  [rows, columns]      index into the manifest's classes; only where labelled
    case    int32                       index into the cases of the set and role
    slice   int32                       index along the slice axis of the canonical volume

or of one whole volume, [slices, rows, columns, 1] and [slices, rows, columns], its slice 0.
"""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.numpy import load, save

from synseg_jax.data.names import checked_id
from synseg_jax.errors import InputError, known
from synseg_jax.files import atomic_file, read_json, write_json

MANIFEST = 'manifest.json'
FORMAT = 3
WHITE = 65535


def encode(
    image: Float[np.ndarray, '*space 1'], label: UInt8[np.ndarray, '*space'] | None, case: int, slice_index: int
) -> bytes:
    """The bytes of one record; `image` in [0, 1]."""
    stored = {'image': np.rint(image * WHITE).astype(np.uint16)}
    if label is not None:
        stored['label'] = np.ascontiguousarray(label, np.uint8)
    return save(stored | {'case': np.array(case, np.int32), 'slice': np.array(slice_index, np.int32)})


def decode(record: bytes) -> dict[str, np.ndarray]:
    """The arrays of one record, its image as float32 in [0, 1]."""
    arrays = load(record)
    return arrays | {'image': arrays['image'].astype(np.float32) / np.float32(WHITE)}


class RecordWriter:
    """A record file that appears under its name when the `with` block ends well, and not at all otherwise."""

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
        """Appends one record."""
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
    """Random access to the records of one file; cheap to pickle, opened by whoever reads first."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f'{self.path}: no such file; prepare the records again')
        try:
            self._source = ArrayRecordDataSource(str(self.path))
        except Exception as error:  # the reader's C++ errors have no common type
            raise InputError(f'{self.path}: damaged ({error}); prepare the records again') from error

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Record `index`, decoded."""
        if not 0 <= index < len(self):
            raise IndexError(f'record {index} of {len(self)}')
        try:
            return decode(self._source[index])
        except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
            raise InputError(f'{self.path}: record {index} is damaged ({error}); prepare the records again') from error

    def __repr__(self) -> str:
        return f'Records({str(self.path)!r})'


@dataclass(frozen=True)
class Manifest:
    """What a folder of records holds and how it was made; `sets` as in manifest.json."""

    folder: Path
    classes: tuple[str, ...]
    size: tuple[int, ...]
    spacing_mm: float
    slice_axis: str
    window_hu: tuple[float, float]
    percentiles: tuple[float, float]
    target_center: float
    seed: int
    sets: Mapping[str, Any] = field(repr=False)
    packages: Mapping[str, str]
    request: str
    version: str
    format: int = FORMAT
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)  # all of them; none in older manifests

    def role(self, name: str, role: str) -> dict:
        """What the manifest says of one set's role: file, records, labelled, cases; InputError listing the known."""
        return self.sets[known('set', name, self.sets)]['roles'][
            known(f'role of set {name}', role, self.sets[name]['roles'])
        ]

    def path(self, name: str, role: str) -> Path:
        """The record file of one set's role."""
        return self.folder / self.role(name, role)['file']

    def records(self, name: str, role: str) -> Records:
        """The records of one set's role; InputError where their number is not the manifest's."""
        records = Records(self.path(name, role))
        promised = self.role(name, role)['records']
        if len(records) != promised:
            raise InputError(f'{records.path}: {len(records)} records, not {promised}; prepare the records again')
        return records

    def save(self) -> None:
        """Writes manifest.json into the folder, whole or not at all."""
        content = asdict(self)
        del content['folder']
        write_json(self.folder / MANIFEST, content)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> 'Manifest':
        """The manifest of a folder of records; InputError naming the field that is wrong."""
        folder = Path(folder)
        content = _content(folder)
        path = folder / MANIFEST
        if content.get('format') != FORMAT:
            raise InputError(f'{path}: format {content.get("format")!r}, not {FORMAT}; prepare the records again')
        for name, (kind, length) in _FIELDS.items():
            value = content.get(name)
            if not isinstance(value, kind) or length and len(value) not in length:
                raise InputError(f'{path}: field {name!r} is missing or wrong; prepare the records again')
        for name, entry in content['sets'].items():
            _check_set(path, name, entry)
        settings = content.get('settings', {})
        if not isinstance(settings, dict):
            raise InputError(f"{path}: field 'settings' is wrong; prepare the records again")
        content = _with_tuples({name: value for name, value in content.items() if name in _FIELDS})
        return cls(folder=folder, settings=_with_tuples(settings), **content)


_FIELDS = {
    'classes': (list, None),
    'size': (list, (2, 3)),
    'spacing_mm': (float, None),
    'slice_axis': (str, None),
    'window_hu': (list, (2,)),
    'percentiles': (list, (2,)),
    'target_center': (float, None),
    'seed': (int, None),
    'sets': (dict, None),
    'packages': (dict, None),
    'request': (str, None),
    'version': (str, None),
}
_ROLE_FIELDS = {'file': str, 'records': int, 'sha256': str, 'labelled': bool, 'cases': list}
_CASE_FIELDS = {'id': str, 'subject': str, 'image': str, 'shape': list, 'affine': list, 'low': float, 'high': float}
_CASE_FIELDS |= {'slice_mm': float, 'kept': list, 'records': int}


def _with_tuples(content):
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def _content(folder):
    """The JSON of a folder's manifest, or an InputError that knows what the folder is instead."""
    path = folder / MANIFEST
    if (folder / 'dataset.json').is_file() and not path.is_file():
        raise InputError(
            f'{folder}: holds scans, not records; run python -m synseg_jax.prepare --config=FILE '
            f'--source={folder} --target=FOLDER --output=RECORDS, then give RECORDS here'
        )
    if not path.is_file():
        raise InputError(f'{path}: no such file; give the folder that synseg_jax.prepare wrote')
    content = read_json(path, 'prepare the records again')
    if not isinstance(content, dict):
        raise InputError(f'{path}: not a manifest; prepare the records again')
    return content


def _check_set(path, name, entry):
    """InputError, unless a set's entry has what its readers rely on."""
    _check(path, f'sets.{name}', entry, {'domain': str, 'channel': str, 'labels': dict, 'roles': dict})
    for role, content in entry['roles'].items():
        where = f'sets.{name}.roles.{role}'
        _check(path, where, content, _ROLE_FIELDS)
        if Path(content['file']).name != content['file']:
            raise InputError(f'{path}: {where}.file may not leave the folder; prepare the records again')
        for index, case in enumerate(content['cases']):
            _check(path, f'{where}.cases[{index}]', case, _CASE_FIELDS)
            checked_id(case['id'])


def _check(path, where, entry, fields):
    for name, kind in fields.items():
        if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
            raise InputError(f'{path}: field {where}.{name} is missing or wrong; prepare the records again')
