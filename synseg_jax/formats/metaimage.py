"""MetaImage files (.mha, .mhd), read as ITK does. Format: https://itk.org/Wiki/ITK/MetaIO/Documentation."""

import difflib
import os
import re
from pathlib import Path

import numpy as np

from synseg_jax.errors import InputError, warn
from synseg_jax.formats import text_header
from synseg_jax.formats.header_fields import HeaderFields
from synseg_jax.formats.text_header import TextHeader
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
SIMILARITY = 0.8  # difflib ratio from which an unknown field counts as a misspelt or damaged one
BOOLEANS = {'true': True, 't': True, '1': True, 'false': False, 'f': False, '0': False}
MAX_AXES = 10  # of ITK
# Synonyms; the first is the one that ITK writes.
SYNONYMS = (
    ('TransformMatrix', 'Rotation', 'Orientation'),
    ('Offset', 'Position', 'Origin'),
    ('BinaryDataByteOrderMSB', 'ElementByteOrderMSB'),
)


def read(path: Path) -> tuple[Shaped[np.ndarray, 'x y z'], Float[np.ndarray, '4 4'], None]:
    """Voxels and affine; raises InputError unless the file is an intact 3-D image of one channel."""
    return parse(path).read()


def grid(path: Path) -> tuple[tuple[int, int, int], Float[np.ndarray, '4 4']]:
    """Shape and affine as `read` returns them, from the header alone."""
    return parse(path).grid()


def parse(path: Path) -> TextHeader:
    """The header; raises InputError for missing, contradictory or malformed fields."""
    fields, end = _fields(path)
    if (kind := fields.get('ObjectType', 'Image')) != 'Image':
        raise InputError(f'{path}: its ObjectType is {kind[:60]!r}, not Image; give an image')
    axes = fields.axis_count('NDims', MAX_AXES)
    shape = fields.integers('DimSize', axes)
    dtype = _dtype(fields)
    file, offset = _location(fields, end, shape, dtype)
    compressed = fields.choice('CompressedData', BOOLEANS, 'false')
    binary = fields.choice('BinaryData', BOOLEANS, 'true')
    if compressed or fields.get('CompressedDataSize', '0') != '0':
        _check_compressed_size(fields, file, offset)
    encoding = 'zlib' if compressed else 'raw' if binary else 'text'
    return TextHeader(path, shape, dtype, _affine(fields, axes), file, offset, encoding)


def _fields(path) -> tuple[HeaderFields, int]:
    """The fields of the header, and the offset of its end."""
    content, fields, offset = text_header.read_head(path), HeaderFields(path), 0
    while 'ElementDataFile' not in fields:
        line = LINE.match(content, offset)
        if not line:
            raise InputError(f'{path}: not a MetaImage, or its header is damaged at byte {offset}; replace the file')
        name, offset = os.fsdecode(line[1]), line.end()
        _check_name(fields, name)
        fields[name] = os.fsdecode(line[2])
    _merge_synonyms(fields)
    return fields, offset


def _check_name(fields, name) -> None:
    """Refuse repeated and misspelt fields; other unknown ones are a user's own."""
    if name in fields:
        raise InputError(f'{fields.path}: {name[:60]!r} occurs twice in its header; repair the header')
    if name not in FIELDS and (similar := difflib.get_close_matches(name, FIELDS, 1, SIMILARITY)):
        raise InputError(f'{fields.path}: unknown field {name[:60]!r} in its header; is it {similar[0]}? repair it')


def _merge_synonyms(fields) -> None:
    for first, *others in SYNONYMS:
        values = [fields.pop(name) for name in (first, *others) if name in fields]
        if len(set(values)) > 1:
            raise InputError(f'{fields.path}: its header gives {first} twice with different values; repair the header')
        if values:
            fields[first] = values[0]


def _dtype(fields) -> np.dtype:
    kind = fields.required('ElementType')
    if (channels := fields.integer('ElementNumberOfChannels', '1')) != 1:
        raise InputError(f'{fields.path}: {channels} numbers per voxel (colour or vectors); convert it to grey values')
    if kind not in TYPES:
        raise InputError(f'{fields.path}: unknown ElementType {kind[:60]!r}; convert it to one of {", ".join(TYPES)}')
    return np.dtype(TYPES[kind]).newbyteorder(
        '>' if fields.choice('BinaryDataByteOrderMSB', BOOLEANS, 'false') else '<'
    )


def _location(fields, end, shape, dtype) -> tuple[Path, int]:
    """File and offset of the stored voxels; a HeaderSize of -1 puts them at the end of the file."""
    skip = fields.integer('HeaderSize', '0')
    local = fields['ElementDataFile'].upper() == 'LOCAL'
    file = fields.path if local else fields.data_file('ElementDataFile', '.mha')
    if skip < -1 or skip and (local or fields.choice('CompressedData', BOOLEANS, 'false')):
        raise InputError(f'{fields.path}: its HeaderSize is {skip}; repair the header')
    offset = end if local else max(0, skip)
    return file, max(offset, text_header.trailing_offset(file, shape, dtype)) if skip == -1 else offset


def _check_compressed_size(fields, file, offset) -> None:
    """Refuse truncated compressed voxels, by the size in the header."""
    size = file.stat().st_size - offset
    if fields.integer('CompressedDataSize', str(size) if file != fields.path else '0') != size:
        raise InputError(f'{fields.path}: its CompressedDataSize is not that of its voxels; replace the file')


def _affine(fields, axes) -> Float[np.ndarray, '4 4']:
    """Voxel index -> RAS mm; the rows of TransformMatrix are the directions of the axes."""
    if axes > 2 and 'TransformMatrix' not in fields:
        warn('%s: has no TransformMatrix, so left and right are a guess; repair the header', fields.path)
    identity = ' '.join(str(number) for number in np.eye(axes).ravel())
    directions = fields.floats('TransformMatrix', axes**2, identity).reshape(axes, axes).T
    spacing = fields.floats('ElementSpacing', axes, fields.get('ElementSize', ' '.join(['1'] * axes)))
    return text_header.ras_affine(directions * spacing, fields.floats('Offset', axes, ' '.join(['0'] * axes)))
