"""NRRD files (.nrrd, .nhdr), read as ITK does. Format: https://teem.sourceforge.net/nrrd/format.html."""

import os
import re
from pathlib import Path

import numpy as np

from synseg_jax.errors import InputError, warn
from synseg_jax.formats import text_header
from synseg_jax.formats.header_fields import HeaderFields
from synseg_jax.formats.text_header import TextHeader
from synseg_jax.imaging.arrays import Float, Shaped

MAGIC = re.compile(rb'NRRD000[1-5]\r?\n')
FIELD = re.compile(r'([^:]+): (.*)')
SYNONYMS = {
    'centerings': 'centers', 'axismins': 'axis mins', 'axismaxs': 'axis maxs', 'blocksize': 'block size',
    'lineskip': 'line skip', 'byteskip': 'byte skip', 'datafile': 'data file', 'oldmin': 'old min',
    'oldmax': 'old max', 'sampleunits': 'sample units',
}  # fmt: skip
FIELDS = {
    *SYNONYMS.values(), 'content', 'number', 'type', 'dimension', 'space', 'space dimension', 'sizes', 'spacings',
    'thicknesses', 'space directions', 'kinds', 'labels', 'units', 'min', 'max', 'endian', 'encoding', 'space units',
    'space origin', 'measurement frame',
}  # fmt: skip
TYPES = {
    'i1': 'signed char, int8, int8_t',
    'u1': 'uchar, unsigned char, uint8, uint8_t',
    'i2': 'short, short int, signed short, signed short int, int16, int16_t',
    'u2': 'ushort, unsigned short, unsigned short int, uint16, uint16_t',
    'i4': 'int, signed int, int32, int32_t',
    'u4': 'uint, unsigned int, uint32, uint32_t',
    'i8': 'longlong, long long, long long int, signed long long, signed long long int, int64, int64_t',
    'u8': 'ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t',
    'f4': 'float',
    'f8': 'double',
}
DTYPES = {name: code for code, names in TYPES.items() for name in names.split(', ')}
ENCODINGS = {
    'raw': 'raw', 'gzip': 'gzip', 'gz': 'gzip', 'bzip2': 'bzip2', 'bz2': 'bzip2',
    'txt': 'text', 'text': 'text', 'ascii': 'text', 'hex': 'hex',
}  # fmt: skip
FLIPPED = {  # signs of x and y from a space to LPS; all other known spaces count as LPS
    'right-anterior-superior': (-1, -1), 'ras': (-1, -1), 'left-anterior-superior': (1, -1), 'las': (1, -1),
}  # fmt: skip
SPACES = {'left-posterior-superior', 'lps', 'scanner-xyz', '3d-right-handed', '3d-left-handed', *FLIPPED}
MAX_AXES = 16
VECTOR = re.compile(r'none|\(([^()]*)\)')
DOMAIN = ('domain', 'space', 'time', '???', 'none')  # kinds of axes that are not channels


def read(path: Path) -> tuple[Shaped[np.ndarray, 'x y z'], Float[np.ndarray, '4 4'], None]:
    """Voxels and affine; raises InputError unless the file is an intact 3-D image of one channel."""
    return parse(path).read()


def grid(path: Path) -> tuple[tuple[int, int, int], Float[np.ndarray, '4 4']]:
    """Shape and affine as `read` returns them, from the header alone."""
    return parse(path).grid()


def parse(path: Path) -> TextHeader:
    """The header; raises InputError for missing, unknown, repeated or malformed fields."""
    fields, end = _fields(path)
    sizes = fields.integers('sizes', fields.axis_count('dimension', MAX_AXES))
    encoding = fields.choice('encoding', ENCODINGS)
    dtype = _dtype(fields, encoding)
    axes = _spatial_axes(fields, sizes)
    shape = tuple(sizes[axis] for axis in axes)
    file, offset, skip = _location(fields, end, shape, dtype, encoding)
    return TextHeader(path, shape, dtype, _affine(fields, axes), file, offset, encoding, skip)


def _fields(path) -> tuple[HeaderFields, int]:
    """The fields of the header, names in lower case, and the offset after the empty line that ends it."""
    content = text_header.read_head(path)
    if not MAGIC.match(content):
        raise InputError(f'{path}: not an NRRD file; replace it')
    end = re.search(rb'\n\r?\n', content)
    lines = content[: end.start() if end else None].split(b'\n')[1:]
    fields = HeaderFields(path)
    for line in (os.fsdecode(line.rstrip(b'\r')) for line in lines):
        field = FIELD.fullmatch(line)
        if line.startswith('#') or not line or not field and ':=' in line:  # a comment, or a user's key and value
            continue
        name = SYNONYMS.get(field[1].lower(), field[1].lower()) if field else ''
        if name not in FIELDS or name in fields:
            cause = 'occurs twice' if name in fields else 'is not a field of NRRD'
            raise InputError(f'{path}: {line[:60]!r} in its header {cause}; repair the header')
        fields[name] = field[2].strip()
    return fields, end.end() if end else len(content)


def _dtype(fields, encoding) -> np.dtype:
    dtype = np.dtype(fields.choice('type', DTYPES))
    if dtype.itemsize == 1 or encoding == 'text':
        return dtype
    return dtype.newbyteorder(fields.choice('endian', {'little': '<', 'big': '>'}))


def _spatial_axes(fields, sizes) -> list[int]:
    """The indices of the axes that are not channels; raises InputError for several channels."""
    kinds = fields.get('kinds', ' '.join(['domain'] * len(sizes))).lower().split()
    directions = VECTOR.findall(fields.get('space directions', '() ' * len(sizes)))
    if len(kinds) != len(sizes) or len(directions) != len(sizes):
        raise InputError(f'{fields.path}: kinds and space directions must have {len(sizes)} entries; repair the header')
    channels = [axis for axis, kind in enumerate(kinds) if kind not in DOMAIN]
    for axis in channels:
        if sizes[axis] != 1:
            content = f'{sizes[axis]} numbers per voxel ({kinds[axis][:20]}: colour, vectors or overlapping segments)'
            raise InputError(f'{fields.path}: holds {content}; convert it to one grey value')
    return [axis for axis in range(len(sizes)) if axis not in channels]


def _location(fields, end, shape, dtype, encoding) -> tuple[Path, int, int]:
    """File and offset of the stored voxels, and the bytes to skip after decompression."""
    file, offset = (fields.data_file('data file', '.nrrd'), 0) if 'data file' in fields else (fields.path, end)
    lines, skip = fields.integer('line skip', '0'), fields.integer('byte skip', '0')
    compressed = encoding not in ('raw', 'text', 'hex')
    if lines < 0 or not (0 if compressed else -1) <= skip <= text_header.MAX_SKIP:
        raise InputError(f'{fields.path}: its line skip is {lines}, its byte skip {skip}; repair the header')
    offset = text_header.skip_lines(file, offset, lines)
    if skip == -1:  # the voxels end with the file
        return file, max(offset, text_header.trailing_offset(file, shape, dtype)), 0
    return (file, offset, skip) if compressed else (file, offset + skip, 0)


def _affine(fields, axes) -> Float[np.ndarray, '4 4']:
    """Voxel index -> RAS mm, from space directions if there is a space, else from spacings."""
    from_header = _from_directions if 'space' in fields or 'space dimension' in fields else _from_spacings
    return text_header.ras_affine(*from_header(fields, axes))


def _from_directions(fields, axes) -> tuple[np.ndarray, np.ndarray]:
    """Axis vectors (columns) and origin in LPS mm of a header with a space."""
    space, count = fields.get('space', '').lower(), fields.integer('space dimension', '3')
    if space and space not in SPACES or count != len(axes):
        found = f'{space[:40] or "without a name"!r} of {count} dimensions'
        raise InputError(f'{fields.path}: its space is {found} for {len(axes)} axes; save a 3-D volume in LPS or RAS')
    if 'spacings' in fields or 'axis mins' in fields:
        raise InputError(f'{fields.path}: has a space, and spacings or axis mins besides; give space directions alone')
    signs = np.array([*FLIPPED.get(space, ()), *[1] * count][:count])
    origin = _vectors(fields, 'space origin', (1, count), f'({",".join("0" * count)})')[0]
    if 'space directions' not in fields:
        _warn_no_directions(fields)
        return np.eye(count), signs * origin
    directions = _vectors(fields, 'space directions', (count, count))
    return signs[:, None] * directions.T, signs * origin


def _from_spacings(fields, axes) -> tuple[np.ndarray, np.ndarray]:
    """Axis vectors and origin of a header without a space: spacings and axis mins, taken for LPS as ITK does."""
    if 'space directions' in fields or 'space origin' in fields:
        raise InputError(f'{fields.path}: space directions or origin without a space; name the space in the header')
    if 'axis mins' in fields and 'spacings' not in fields:
        raise InputError(f'{fields.path}: has axis mins but no spacings; add spacings')
    _warn_no_directions(fields)
    spacings = _per_axis(fields, 'spacings', '1', axes)
    centers = fields.get('centers', '').lower().split() or ['cell'] * (max(axes) + 1)
    half = np.array([0.0 if centers[axis : axis + 1] == ['node'] else 0.5 for axis in axes])
    mins = _per_axis(fields, 'axis mins', '0', axes)
    return np.diag(spacings), mins + half * spacings if 'axis mins' in fields else mins


def _per_axis(fields, name, default, axes) -> Float[np.ndarray, ' axes']:
    """The numbers of `axes` from a field with one number for each axis of the file."""
    words = fields.get(name, ' '.join([default] * (max(axes) + 1))).split()
    return fields.parse_floats(name, ' '.join(words[axis] for axis in axes if axis < len(words)), len(axes))


def _vectors(fields, name, shape, default='') -> Float[np.ndarray, 'vectors space']:
    """The vectors of a field, without those that are 'none'."""
    text = fields.get(name, default)
    vectors = [vector for vector in VECTOR.findall(text) if vector]
    if VECTOR.sub('', text).strip() or len(vectors) != shape[0]:
        raise InputError(
            f'{fields.path}: its {name} is {text[:60]!r}, not {shape[0]} vectors (x,y,z); repair the header'
        )
    return np.array([fields.parse_floats(name, vector.replace(',', ' '), shape[1]) for vector in vectors])


def _warn_no_directions(fields) -> None:
    warn('%s: has no space directions, so left and right are a guess; repair the header', fields.path)
