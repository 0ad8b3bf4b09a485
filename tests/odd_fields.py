"""Fields of headers and JSON replaced one by one by values that nobody should believe; checksums are made to fit.

Each function takes the bytes of a file and returns them changed, with the name of what was changed.
"""

import gzip
import io
import json
import re

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

LONG = 'x' * 5000
WORDS = (
    '-3', '0', '1', '1e99', 'nan', 'inf', '-inf', '8589934592', '4294967297', '', LONG, '9' * 400, 'ÿ\u0301日',
    '\udcff', '../x', '/etc/passwd', '%s%n', '\x1b[31m', '1 1 1 1 1 1 1 1 1 1', '(0,0,0)', 'none', '-0', '0.5', '[/b]',
)  # fmt: skip
INTEGERS = (-(2**15), -3, -1, 0, 1, 2, 7, 255, 2**15 - 1)
FLOATS = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e30, -1e30, 1e-30, 3.4e38, 1e5)
NIFTI = (
    'sizeof_hdr dim datatype bitpix pixdim vox_offset scl_slope scl_inter xyzt_units qform_code sform_code quatern_b '
    'quatern_c quatern_d qoffset_x qoffset_y qoffset_z srow_x srow_y srow_z magic intent_code slice_end'
).split()
JSON = (
    None, True, False, -1, 0, 1, 2**70, 1e308, float('nan'), float('inf'), 0.5, 'nan', '-1', '', LONG, '../x.nii.gz',
    '/etc/passwd', '\ud800', 'é', '[/b]', '\n', [], [[]], {}, {'': None}, [None], ['a', 1], {'a': [1]},
)  # fmt: skip


def text_header(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """One line of an NRRD or MetaImage header: its value, or one number of it, replaced, doubled or left out."""
    end = header_end(content)
    lines = content[:end].split(b'\n')
    places = [i for i, line in enumerate(lines) if re.match(rb'[\w ]+\s*(:=?|=)', line)]
    at = int(rng.choice(places))
    name, mark, value = re.match(rb'([\w ]+?)(\s*(?::=?|=)\s*)(.*)', lines[at], re.DOTALL).groups()
    odd = WORDS[rng.integers(len(WORDS))].encode('utf-8', 'surrogateescape')
    numbers = list(re.finditer(rb'[-+.\de]+', value))
    how = rng.choice(['value', 'value', 'number', 'left out', 'doubled'])
    if how == 'number' and numbers:
        number = numbers[rng.integers(len(numbers))]
        odd = value[: number.start()] + odd + value[number.end() :]
    changed = {'left out': [], 'doubled': [lines[at], name + mark + odd]}.get(how, [name + mark + odd])
    return b'\n'.join([*lines[:at], *changed, *lines[at + 1 :]]) + content[end:], f'{how} {name.decode()} {odd[:20]}'


def header_end(content: bytes) -> int:
    """Where the voxels of an NRRD or MetaImage file begin: its length where they are in another file."""
    if content.startswith(b'NRRD'):
        blank = re.search(rb'\r?\n\r?\n', content)
        return blank.end() if blank else len(content)
    local = re.search(rb'ElementDataFile\s*=[^\n]*\n', content)
    return local.end() if local else len(content)


def nifti(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """One number of a NIfTI header."""
    packed = content[:2] == b'\x1f\x8b'
    plain = bytearray(gzip.decompress(content) if packed else content)
    kind = nib.Nifti2Header if plain[:2] == b'\x1c\x02' else nib.Nifti1Header
    block = np.frombuffer(plain, kind.template_dtype, 1)
    name = NIFTI[rng.integers(len(NIFTI))]
    field = block[name].reshape(-1)
    at = int(rng.integers(len(field)))
    if field.dtype.kind == 'S':
        odd = rng.bytes(4)
    elif field.dtype.kind == 'f':
        odd = FLOATS[rng.integers(len(FLOATS))]
    else:
        odd = _integer(field.dtype, rng)
    with np.errstate(all='ignore'):
        block[name].reshape(-1)[at : at + 1] = np.array([odd]).astype(field.dtype)
    made = bytes(plain)
    return gzip.compress(made, mtime=0) if packed else made, f'{name}[{at}] = {odd}'


def _integer(dtype, rng):
    limits = np.iinfo(dtype)
    odd = [n for n in (*INTEGERS, limits.min, limits.max, limits.max // 2) if limits.min <= n <= limits.max]
    return odd[rng.integers(len(odd))]


def dicom(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """One element of a DICOM file, at any depth, replaced or left out."""
    for _ in range(20):
        read = pydicom.dcmread(io.BytesIO(content))
        holders = [(holder, tag) for holder in _datasets(read) for tag in holder.keys()]
        holder, tag = holders[rng.integers(len(holders))]
        name = pydicom.datadict.keyword_for_tag(tag) or str(tag)
        told = _replace(holder, tag, rng)
        stream = io.BytesIO()
        try:
            read.save_as(stream, implicit_vr=read.original_encoding[0], little_endian=read.original_encoding[1])
        except Exception:  # pydicom cannot write all that can be read
            continue
        return stream.getvalue(), f'{name} {told}'
    raise ValueError('no element could be changed')


def _datasets(read):
    found = [read]
    for element in read:
        if element.VR == 'SQ':
            found += [inner for item in element.value for inner in _datasets(item)]
    return found + ([read.file_meta] if hasattr(read, 'file_meta') else [])


def _replace(holder, tag, rng) -> str:
    kind = holder[tag].VR
    if kind == 'SQ':
        if rng.integers(2):
            holder[tag].value = list(holder[tag].value)[1:] if rng.integers(2) else [*holder[tag].value] * 2
            return f'of {len(holder[tag].value)} items'
        del holder[tag]
        return 'left out'
    if rng.integers(4) == 0:
        del holder[tag]
        return 'left out'
    value = _odd_value(holder, kind, rng)
    little = getattr(holder, 'is_little_endian', True)
    holder[tag] = RawDataElement(Tag(tag), kind, len(value), value, 0, False, little is not False, True)
    return f'= {value[:20]}'


def _odd_value(holder, kind, rng) -> bytes:
    if kind in ('US', 'SS', 'UL', 'SL', 'FD', 'FL', 'OB', 'OW', 'AT'):
        odd = (b'', b'\0\0', b'\xff\xff', b'\1\0', b'\0\1', b'\1', b'\xff' * 4, b'\0' * 8, b'\x00\xff' * 40)
        return odd[rng.integers(len(odd))]
    words = (*WORDS, '1\\2', '1\\2\\3\\4\\5\\6\\7', '1\\nan', '1\\0', 'abc', '2147483648', '1.2.3', '1/2')
    word = words[rng.integers(len(words))].encode('utf-8', 'surrogateescape')
    return word + b' ' * (len(word) % 2)


def json_value(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """One value at any depth by one of another type, a key left out or renamed; or the text as a whole."""
    read = json.loads(content)
    if rng.integers(12) == 0:
        return _odd_text(content, rng)
    places = list(_places(read))
    holder, key = places[rng.integers(len(places))]
    how = rng.choice(['value'] * 4 + ['left out', 'renamed'])
    odd = JSON[rng.integers(len(JSON))]
    if how == 'value':
        holder[key] = odd
    elif how == 'left out' or isinstance(holder, list):
        del holder[key]
    else:
        holder[str(odd)] = holder.pop(key)
    return json.dumps(read).encode(), f'{how} {str(key)[:20]} {str(odd)[:20]!r}'


def _places(read):
    for key in list(read) if isinstance(read, dict) else range(len(read)):
        yield read, key
        if isinstance(read[key], (dict, list)):
            yield from _places(read[key])


def _odd_text(content, rng) -> tuple[bytes, str]:
    made = {
        'BOM': b'\xef\xbb\xbf' + content,
        'UTF-16': content.decode().encode('utf-16'),
        'deep': b'[' * 100_000,
        'deep objects': b'{"a":' * 100_000,
        'long number': b'{"labels": ' + b'9' * 10_000 + b'}',
        'a number': b'3',
        'a list': b'[1]',
        'null': b'null',
        'empty': b'',
        'twice': content + content,
        'Latin-1': content.replace(b'a', b'\xe4', 1),
        'NUL': bytes(len(content)),
    }
    how = sorted(made)[rng.integers(len(made))]
    return made[how], how
