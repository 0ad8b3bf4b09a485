"""NRRD files, .nrrd and .nhdr, as ITK reads them.  Format: https://teem.sourceforge.net/nrrd/format.html."""

import os
import re
from pathlib import Path

import numpy as np

from synseg_jax.errors import InputError, warn
from synseg_jax.formats import text_header
from synseg_jax.formats.text_header import RAS, TextHeader, numbers, whole
from synseg_jax.imaging.arrays import Float, Shaped

MAGIC = re.compile(rb'NRRD000[1-5]\r?\n')
FIELD = re.compile(r'([^:]+): (.*)')
# Fields by the names that have several, then the others.
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
FLIPPED = {  # to the left and to the back, from the axes of a space; no other is turned
    'right-anterior-superior': (-1, -1), 'ras': (-1, -1), 'left-anterior-superior': (1, -1), 'las': (1, -1),
}  # fmt: skip
SPACES = {'left-posterior-superior', 'lps', 'scanner-xyz', '3d-right-handed', '3d-left-handed', *FLIPPED}
MOST_AXES = 16
VECTOR = re.compile(r'none|\(([^()]*)\)')
DOMAIN = ('domain', 'space', 'time', '???', 'none')  # kinds of axes that do not number channels


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
    """What the header says; InputError for fields that are missing, unknown, given twice or no numbers."""
    fields, end = _fields(path)
    (axes,) = whole(path, 'dimension', _required(path, fields, 'dimension'), 1)
    if not 1 <= axes <= MOST_AXES:
        raise InputError(f'{path}: its dimension is {axes}; repair the header')
    sizes = whole(path, 'sizes', _required(path, fields, 'sizes'), axes)
    encoding = _known(path, fields, 'encoding', ENCODINGS)
    dtype = _dtype(path, fields, encoding)
    kept = _axes_of_space(path, fields, sizes)
    shape = tuple(sizes[axis] for axis in kept)
    return TextHeader(
        path, shape, dtype, _affine(path, fields, kept), *_place(path, fields, end, shape, dtype, encoding)
    )


def _fields(path) -> tuple[dict[str, str], int]:
    """The header's fields in lower case, and the byte behind the empty line that ends it."""
    content = text_header.head(path)
    if not MAGIC.match(content):
        raise InputError(f'{path}: not an NRRD file; replace it')
    ended = re.search(rb'\n\r?\n', content)
    lines = content[: ended.start() if ended else None].split(b'\n')[1:]
    fields: dict[str, str] = {}
    for line in (os.fsdecode(line.rstrip(b'\r')) for line in lines):
        found = FIELD.fullmatch(line)
        if line.startswith('#') or not line or not found and ':=' in line:  # a comment, or a user's key and value
            continue
        name = SYNONYMS.get(found[1].lower(), found[1].lower()) if found else ''
        if name not in FIELDS or name in fields:
            told = 'is given twice' if name in fields else 'is no field of NRRD'
            raise InputError(f'{path}: {line[:60]!r} in its header {told}; repair the header')
        fields[name] = found[2].strip()
    return fields, ended.end() if ended else len(content)


def _required(path, fields, name) -> str:
    if name not in fields:
        raise InputError(f'{path}: its header has no {name!r}; replace the file')
    return fields[name]


def _known(path, fields, name, values) -> str:
    """The meaning of a field that has one of `values`."""
    said = _required(path, fields, name).lower()
    if said not in values:
        raise InputError(f'{path}: its {name} is {said[:60]!r}, which is unknown; save it anew')
    return values[said]


def _dtype(path, fields, encoding) -> np.dtype:
    dtype = np.dtype(_known(path, fields, 'type', DTYPES))
    if dtype.itemsize == 1 or encoding == 'text':
        return dtype
    return dtype.newbyteorder(_known(path, fields, 'endian', {'little': '<', 'big': '>'}))


def _axes_of_space(path, fields, sizes) -> list[int]:
    """The axes that are not channels; InputError where there are several channels."""
    kinds = fields.get('kinds', ' '.join(['domain'] * len(sizes))).lower().split()
    directions = VECTOR.findall(fields.get('space directions', '() ' * len(sizes)))
    if len(kinds) != len(sizes) or len(directions) != len(sizes):
        raise InputError(f'{path}: not one of its kinds or space directions for each of {len(sizes)} axes; repair it')
    beside = [axis for axis, kind in enumerate(kinds) if kind not in DOMAIN]
    for axis in beside:
        if sizes[axis] != 1:
            told = f'{sizes[axis]} numbers per voxel ({kinds[axis][:20]}: colour, vectors or overlapping segments)'
            raise InputError(f'{path}: holds {told}; convert it to one grey value')
    return [axis for axis in range(len(sizes)) if axis not in beside]


def _place(path, fields, end, shape, dtype, encoding) -> tuple[Path, int, str, int]:
    """The file of the voxels, the byte in it where they begin, how they are packed, and what to skip once unpacked."""
    file, begin = path, end
    if (name := fields.get('data file')) is not None:
        if name.upper().split()[:1] == ['LIST'] or '%' in name:
            raise InputError(f'{path}: its voxels are in several files; save it as one .nrrd file')
        file, begin = text_header.beside(path, name), 0
    (lines,) = whole(path, 'line skip', fields.get('line skip', '0'), 1)
    (skipped,) = whole(path, 'byte skip', fields.get('byte skip', '0'), 1)
    packed = encoding not in ('raw', 'text', 'hex')
    if lines < 0 or not (0 if packed else -1) <= skipped <= text_header.MAX_SKIP:
        raise InputError(f'{path}: its line skip is {lines}, its byte skip {skipped}; repair the header')
    begin = text_header.behind_lines(file, begin, lines)
    if skipped == -1:
        return file, max(begin, text_header.last(file, shape, dtype)), encoding, 0
    return (file, begin, encoding, skipped) if packed else (file, begin + skipped, encoding, 0)


def _affine(path, fields, kept) -> Float[np.ndarray, '4 4']:
    """Voxel index -> RAS mm, by directions where there are any, else by spacings along the axes."""
    columns, origin = (_oriented if 'space' in fields or 'space dimension' in fields else _plain)(path, fields, kept)
    placed, count = np.eye(4), min(len(kept), 3)
    placed[:count, :count], placed[:count, 3] = columns[:count, :count], origin[:count]
    return RAS @ placed


def _oriented(path, fields, kept) -> tuple[np.ndarray, np.ndarray]:
    """Axes and origin in a space that has a name or a number of dimensions."""
    space = fields.get('space', '').lower()
    (count,) = whole(path, 'space dimension', fields.get('space dimension', '3'), 1)
    if space and space not in SPACES or count != len(kept):
        told = f'{space[:40] or "without a name"!r} of {count} dimensions'
        raise InputError(f'{path}: its space is {told} for {len(kept)} axes; save it as a 3-D volume in LPS or RAS')
    if 'spacings' in fields or 'axis mins' in fields:
        raise InputError(f'{path}: has a space, and spacings or axis mins besides; give space directions alone')
    signs = np.array([*FLIPPED.get(space, ()), *[1] * count][:count])
    origin = _vectors(path, 'space origin', fields.get('space origin', f'({",".join("0" * count)})'), (1, count))[0]
    if 'space directions' not in fields:
        _tell(path)
        return np.eye(count), signs * origin
    directions = _vectors(path, 'space directions', fields['space directions'], (count, count))
    return signs[:, None] * directions.T, signs * origin


def _plain(path, fields, kept) -> tuple[np.ndarray, np.ndarray]:
    """Axes and origin without a space: a spacing and the lower border of every axis, all as if they were LPS."""
    if 'space directions' in fields or 'space origin' in fields:
        raise InputError(f'{path}: has directions or an origin, and no space in which they are; name it in the header')
    if 'axis mins' in fields and 'spacings' not in fields:
        raise InputError(f'{path}: has axis mins and no spacings; give it spacings')
    _tell(path)
    spacings = _of_axes(path, fields, 'spacings', '1', kept)
    centers = fields.get('centers', '').lower().split() or ['cell'] * (max(kept) + 1)
    half = np.array([0.0 if centers[axis : axis + 1] == ['node'] else 0.5 for axis in kept])
    mins = _of_axes(path, fields, 'axis mins', '0', kept)
    return np.diag(spacings), mins + half * spacings if 'axis mins' in fields else mins


def _of_axes(path, fields, name, unsaid, kept) -> Float[np.ndarray, ' axes']:
    """The numbers of a field with one for each axis, 'nan' where there is none, of the axes that are kept."""
    words = fields.get(name, ' '.join([unsaid] * (max(kept) + 1))).split()
    return numbers(path, name, ' '.join(words[axis] for axis in kept if axis < len(words)), len(kept))


def _vectors(path, name, text, shape) -> Float[np.ndarray, 'vectors space']:
    """The vectors of a field, but for those that are 'none'."""
    found = [vector for vector in VECTOR.findall(text) if vector]
    if VECTOR.sub('', text).strip() or len(found) != shape[0]:
        raise InputError(f'{path}: its {name} is {text[:60]!r}, not {shape[0]} vectors (x,y,z); repair the header')
    return np.array([numbers(path, name, vector.replace(',', ' '), shape[1]) for vector in found])


def _tell(path) -> None:
    warn('%s: has no space directions, so left and right are a guess; repair the header', path)
