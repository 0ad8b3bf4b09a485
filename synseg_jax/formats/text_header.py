"""Images whose header is text, NRRD or MetaImage: how the voxels lie in their file, and the voxels themselves."""

import bz2
import gzip
import io
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from synseg_jax.errors import InputError
from synseg_jax.imaging import memory_limit, voxel_bytes
from synseg_jax.imaging.arrays import Float, Shaped

LONGEST = 2**20  # bytes in which a header must end
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # both formats count to the left and to the back
WHOLE = re.compile(r'[+-]?\d{1,18}')
NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?')
WORD = 40  # bytes of memory for a byte of numbers in digits, at most
MAX_SKIP = 2**26  # bytes in front of packed voxels


@dataclass(frozen=True, eq=False)
class TextHeader:
    """What a header says; errors name `path`, the voxels are in `file`."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    affine: Float[np.ndarray, '4 4']
    file: Path
    begin: int  # byte of `file`
    encoding: str
    skip: int = 0  # bytes before the voxels once they are unpacked

    @property
    def shape_3d(self) -> tuple[int, int, int]:
        """Size in voxels, which is what `check` found believable."""
        return (*self.shape, 1, 1)[:3]

    def check(self) -> int:
        """The bytes of voxels; InputError for headers that cannot be right."""
        if len(self.shape) < 2 or any(length > 1 for length in self.shape[3:]):
            told = f'has {len(self.shape)} dimensions {self.shape}'
            raise InputError(f'{self.path}: {told}; extract the one 3-D volume that is meant')
        held = (self.file.stat().st_size - self.begin) * RATIOS[self.encoding]
        return voxel_bytes.claimed(self.path, self.shape, self.dtype.itemsize, held)

    def voxels(self) -> Shaped[np.ndarray, 'x y z']:
        """The stored values in native byte order; damage is an InputError, EOFError, OSError or zlib.error."""
        claim = self.check()
        with self.file.open('rb') as file:
            file.seek(self.begin)
            stream = self._unpacked(file)
            stream.read(self.skip)
            content = voxel_bytes.exactly(self.path, stream, claim, self.dtype.itemsize)
            voxel_bytes.check_rest(self.path, stream, claim)
        array = content.view(self.dtype).reshape(self.shape_3d, order='F')
        return array.astype(self.dtype.newbyteorder('='), copy=False)

    def _unpacked(self, file):
        """The stream of bytes that `file` stands for."""
        if self.encoding in ('text', 'hex'):
            memory_limit.require(self.path, WORD * self.file.stat().st_size)
            decode = bytes.fromhex if self.encoding == 'hex' else self._coded
            return io.BytesIO(decode(file.read().decode('ascii')))
        opened = {'gzip': gzip.open, 'zlib': Inflated, 'bzip2': bz2.open}.get(self.encoding)
        return opened(file) if opened else file

    def _coded(self, content) -> bytes:
        """Numbers written in digits as bytes of the type; InputError for those that it cannot hold."""
        values = np.array([float(word) for word in content.split()])
        with np.errstate(invalid='ignore', over='ignore'):
            stored = values.astype(self.dtype)
        if self.dtype.kind != 'f' and not np.array_equal(stored, values):
            raise InputError(f'{self.path}: holds numbers that {self.dtype} does not; repair its type')
        return stored.tobytes()


RATIOS = {  # bytes that one byte of a file can stand for
    'raw': 1,
    'hex': 1,
    'text': 8,
    'gzip': voxel_bytes.GZIP_RATIO,
    'zlib': voxel_bytes.GZIP_RATIO,
    'bzip2': 2**21,
}


class Inflated:
    """A stream of zlib, unpacked; zlib.error or EOFError where it is damaged."""

    def __init__(self, file: IO[bytes]):
        self.file, self.engine = file, zlib.decompressobj(47)

    def read(self, count: int) -> bytes:
        """At most `count` bytes, none at the end."""
        while count and not self.engine.eof:
            packed = self.engine.unconsumed_tail or self.file.read(2**16)
            if found := self.engine.decompress(packed, count):
                return found
            if not packed and not self.engine.eof:
                raise EOFError('packed voxels end too early')
        return b''


def head(path: Path) -> bytes:
    """The bytes in which the header must end; InputError for an empty file."""
    with path.open('rb') as file:
        if found := file.read(LONGEST):
            return found
    raise InputError(f'{path}: the file is empty; replace it')


def whole(path: Path, name: str, text: str, count: int) -> tuple[int, ...]:
    """`count` whole numbers of a field."""
    return tuple(int(word) for word in _words(path, name, text, count, WHOLE))


def numbers(path: Path, name: str, text: str, count: int) -> Float[np.ndarray, ' count']:
    """`count` finite numbers of a field."""
    found = np.array([float(word) for word in _words(path, name, text, count, NUMBER)])
    if not np.isfinite(found).all():  # 1e999
        raise _unlike(path, name, text, count)
    return found


def _words(path, name, text, count, kind) -> list[str]:
    words = text.split()
    if len(words) != count or not all(kind.fullmatch(word) for word in words):
        raise _unlike(path, name, text, count)
    return words


def _unlike(path, name, text, count) -> InputError:
    expected = f'{count} numbers' if count > 1 else 'a number'
    return InputError(f'{path}: its {name} is {text[:60]!r}, not {expected}; repair the header')


def beside(path: Path, name: str) -> Path:
    """The file of voxels that a header names; InputError unless it is one file in the same folder."""
    file = path.parent / name
    if name in ('', '.', '..') or '/' in name or '\\' in name or not file.is_file():
        raise InputError(f'{path}: its voxels are in {name[:60]!r}, which is no file beside it; bring it there')
    return file


def last(file: Path, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """The byte where voxels begin that end with their file."""
    return max(0, file.stat().st_size - math.prod(shape) * dtype.itemsize)


def behind_lines(file: Path, begin: int, lines: int) -> int:
    """The byte behind as many lines of a file."""
    with file.open('rb') as stream:
        stream.seek(begin)
        while lines > 0 and stream.readline(LONGEST):
            lines -= 1
        return stream.tell()
