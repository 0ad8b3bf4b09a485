"""MetaImage files, .mha and .mhd, as ITK reads them.  Format: https://itk.org/Wiki/ITK/MetaIO/Documentation."""

import difflib
import os
import re
from pathlib import Path

import numpy as np

from synseg_jax.errors import InputError, warn
from synseg_jax.formats import text_header
from synseg_jax.formats.text_header import RAS, TextHeader, numbers, whole
from synseg_jax.imaging.arrays import Float, Shaped

LINE = re.compile(rb'\s*([^=:\n]+?)[ \t]*[=:][ \t]*([^\n]*?)[ \t\r]*(?:\n|\Z)')
TYPES = {
    'MET_CHAR': 'i1', 'MET_UCHAR': 'u1', 'MET_SHORT': 'i2', 'MET_USHORT': 'u2', 'MET_INT': 'i4', 'MET_UINT': 'u4',
    'MET_LONG': 'i4', 'MET_ULONG': 'u4', 'MET_LONG_LONG': 'i8', 'MET_ULONG_LONG': 'u8',
    'MET_FLOAT': 'f4', 'MET_DOUBLE': 'f8',
}  # fmt: skip
FIELDS = (
    'ObjectType ObjectSubType Comment Name ID ParentID Color NDims DimSize BinaryData BinaryDataByteOrderMSB '
    'ElementByteOrderMSB CompressedData CompressedDataSize CompressionLevel TransformMatrix Rotation Orientation '
    'Offset Position Origin CenterOfRotation AnatomicalOrientation DistanceUnits ElementSpacing ElementSize '
    'ElementType ElementNumberOfChannels ElementNBits ElementMin ElementMax ElementToIntensityFunctionSlope '
    'ElementToIntensityFunctionOffset HeaderSize HeaderSizePerSlice Modality SequenceID ImagePosition ElementDataFile'
).split()
ALIKE = 0.8  # of letters, from which on a name that is no field is one that was damaged
TRUE, FALSE = ('true', 't', '1'), ('false', 'f', '0')
MOST_AXES = 10  # as many as ITK has room for
# Every line gives names of one thing; the first is what ITK writes.
SYNONYMS = (
    ('TransformMatrix', 'Rotation', 'Orientation'),
    ('Offset', 'Position', 'Origin'),
    ('BinaryDataByteOrderMSB', 'ElementByteOrderMSB'),
)


def read(path: Path) -> tuple[Shaped[np.ndarray, 'x y z'], Float[np.ndarray, '4 4'], None]:
    """Voxels and affine; InputError for what is not 3-D, not of one channel, or not whole."""
    header = parse(path)
    return header.voxels(), header.affine, None


def grid(path: Path) -> tuple[tuple[int, int, int], Float[np.ndarray, '4 4']]:
    """Shape and affine of what `read` would return, by the header alone."""
    header = parse(path)
    header.check()
    return header.shape_3d, header.affine


def parse(path: Path) -> TextHeader:
    """What the header says; InputError for fields that are missing, contradictory or no numbers."""
    fields, end = _fields(path)
    if (kind := fields.get('ObjectType', 'Image')) != 'Image':
        raise InputError(f'{path}: its ObjectType is {kind[:60]!r}, not Image; give it an image')
    (axes,) = whole(path, 'NDims', _required(path, fields, 'NDims'), 1)
    if not 1 <= axes <= MOST_AXES:
        raise InputError(f'{path}: its NDims is {axes}; repair the header')
    shape = whole(path, 'DimSize', _required(path, fields, 'DimSize'), axes)
    dtype = _dtype(path, fields)
    file, begin = _place(path, fields, end, shape, dtype)
    packed, binary = _true(path, fields, 'CompressedData', False), _true(path, fields, 'BinaryData', True)
    if packed or fields.get('CompressedDataSize', '0') != '0':
        _check_packed(path, fields, file, begin)
    encoding = 'zlib' if packed else 'raw' if binary else 'text'
    return TextHeader(path, shape, dtype, _affine(path, fields, axes), file, begin, encoding)


def _fields(path) -> tuple[dict[str, str], int]:
    """The header's fields, and the byte behind it."""
    content, fields, at = text_header.head(path), {}, 0
    while 'ElementDataFile' not in fields:
        line = LINE.match(content, at)
        if not line:
            raise InputError(f'{path}: not a MetaImage, or its header is damaged at byte {at}; replace the file')
        name, at = os.fsdecode(line[1]), line.end()
        _check_name(path, name, fields)
        fields[name] = os.fsdecode(line[2])
    return _without_synonyms(path, fields), at


def _check_name(path, name, fields) -> None:
    """Refuses fields that come twice or were damaged; others are a user's own."""
    if name in fields:
        raise InputError(f'{path}: gives {name[:60]!r} twice; repair the header')
    if name not in FIELDS and (alike := difflib.get_close_matches(name, FIELDS, 1, ALIKE)):
        raise InputError(f'{path}: {name[:60]!r} in its header is no field of MetaImage; is it {alike[0]}? repair it')


def _without_synonyms(path, fields) -> dict[str, str]:
    for first, *others in SYNONYMS:
        values = [fields.pop(name) for name in (first, *others) if name in fields]
        if len(set(values)) > 1:
            raise InputError(f'{path}: gives {first} twice, and not the same; repair the header')
        if values:
            fields[first] = values[0]
    return fields


def _required(path, fields, name) -> str:
    if name not in fields:
        raise InputError(f'{path}: its header has no {name}; replace the file')
    return fields[name]


def _true(path, fields, name, unsaid) -> bool:
    said = fields.get(name, str(unsaid)).lower()
    if said not in TRUE + FALSE:
        raise InputError(f'{path}: its {name} is {said[:60]!r}, not True or False; repair the header')
    return said in TRUE


def _dtype(path, fields) -> np.dtype:
    kind = _required(path, fields, 'ElementType')
    channels = fields.get('ElementNumberOfChannels', '1')
    if whole(path, 'ElementNumberOfChannels', channels, 1) != (1,):
        raise InputError(f'{path}: holds {channels} numbers per voxel (colour or vectors); convert it to grey values')
    if kind not in TYPES:
        raise InputError(f'{path}: its ElementType is {kind[:60]!r}, not one of {", ".join(TYPES)}; convert it')
    return np.dtype(TYPES[kind]).newbyteorder('>' if _true(path, fields, 'BinaryDataByteOrderMSB', False) else '<')


def _place(path, fields, end, shape, dtype) -> tuple[Path, int]:
    """The file of the voxels and the byte in it where they begin."""
    name, (skipped,) = fields['ElementDataFile'], whole(path, 'HeaderSize', fields.get('HeaderSize', '0'), 1)
    local = name.upper() == 'LOCAL'
    if name.upper().split()[:1] == ['LIST'] or '%' in name:
        raise InputError(f'{path}: its voxels are in several files; save it as one .mha file')
    if skipped < -1 or skipped and (local or _true(path, fields, 'CompressedData', False)):
        raise InputError(f'{path}: its HeaderSize is {skipped}; repair the header')
    file = path if local else text_header.beside(path, name)
    begin = end if local else max(0, skipped)
    return file, max(begin, text_header.last(file, shape, dtype)) if skipped == -1 else begin


def _check_packed(path, fields, file, begin) -> None:
    """Refuses packed voxels that have lost bytes, by the size that the header states."""
    packed = file.stat().st_size - begin
    stated = fields.get('CompressedDataSize', str(packed) if file != path else '0')
    if whole(path, 'CompressedDataSize', stated, 1) != (packed,):
        raise InputError(f'{path}: its CompressedDataSize is not that of its packed voxels; replace the file')


def _affine(path, fields, axes) -> Float[np.ndarray, '4 4']:
    """Voxel index -> RAS mm; the rows of TransformMatrix are the directions of the axes."""
    if axes > 2 and 'TransformMatrix' not in fields:
        warn('%s: has no TransformMatrix, so left and right are a guess; repair the header', path)
    spacing = fields.get('ElementSpacing', fields.get('ElementSize', ' '.join(['1'] * axes)))
    identity = ' '.join(str(number) for number in np.eye(axes).ravel())
    directions = numbers(path, 'TransformMatrix', fields.get('TransformMatrix', identity), axes**2)
    origin = numbers(path, 'Offset', fields.get('Offset', ' '.join(['0'] * axes)), axes)
    columns = directions.reshape(axes, axes).T * numbers(path, 'ElementSpacing', spacing, axes)
    placed, kept = np.eye(4), min(axes, 3)
    placed[:kept, :kept], placed[:kept, 3] = columns[:kept, :kept], origin[:kept]
    return RAS @ placed
