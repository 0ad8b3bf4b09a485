"""Images with a text header (NRRD, MetaImage): the layout that the header describes, and reading the voxels."""

import bz2
import gzip
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from synseg_jax.errors import InputError
from synseg_jax.imaging import memory_limit, voxel_bytes
from synseg_jax.imaging.arrays import Float, Shaped

MAX_HEADER = 2**20  # bytes
MAX_SKIP = 2**26  # bytes before the voxels in a decompressed stream
TEXT_MEMORY = 40  # bytes of memory per byte of voxels written as text, at most
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # both formats are in LPS
MAX_RATIO = {  # of decompressed to stored bytes, by encoding
    'raw': 1,
    'hex': 1,
    'text': 8,
    'gzip': voxel_bytes.GZIP_RATIO,
    'zlib': voxel_bytes.GZIP_RATIO,
    'bzip2': 2**21,
}


@dataclass(frozen=True, eq=False)
class TextHeader:
    """A parsed header: errors name `path`, the voxels are in `file`."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    affine: Float[np.ndarray, '4 4']
    file: Path
    offset: int  # of the stored voxels in `file`, in bytes
    encoding: str
    skip: int = 0  # bytes before the voxels in the decompressed stream

    def read(self) -> tuple[Shaped[np.ndarray, 'x y z'], Float[np.ndarray, '4 4'], None]:
        """Voxels and affine."""
        return self.voxels(), self.affine, None

    def grid(self) -> tuple[tuple[int, int, int], Float[np.ndarray, '4 4']]:
        """Shape and affine, without reading the voxels."""
        self.check()
        return self.shape_3d, self.affine

    @property
    def shape_3d(self) -> tuple[int, int, int]:
        """Size in voxels, valid after `check`."""
        return (*self.shape, 1, 1)[:3]

    def check(self) -> int:
        """The bytes of voxels; raises InputError unless the header is plausible and of one 3-D volume."""
        if len(self.shape) < 2 or any(length > 1 for length in self.shape[3:]):
            raise InputError(f'{self.path}: has {len(self.shape)} dimensions {self.shape}; extract one 3-D volume')
        limit = (self.file.stat().st_size - self.offset) * MAX_RATIO[self.encoding]
        return voxel_bytes.expected_bytes(self.path, self.shape, self.dtype.itemsize, limit)

    def voxels(self) -> Shaped[np.ndarray, 'x y z']:
        """Stored values in native byte order; raises InputError, EOFError, OSError or zlib.error for damage."""
        count = self.check()
        with self.file.open('rb') as file:
            file.seek(self.offset)
            stream = self._decoded(file)
            stream.read(self.skip)
            content = voxel_bytes.read_exactly(self.path, stream, count, self.dtype.itemsize)
            voxel_bytes.check_trailing(self.path, stream, count)
        array = content.view(self.dtype).reshape(self.shape_3d, order='F')
        return array.astype(self.dtype.newbyteorder('='), copy=False)

    def _decoded(self, file):
        """The stream of raw bytes."""
        if self.encoding in ('text', 'hex'):
            memory_limit.require(self.path, TEXT_MEMORY * self.file.stat().st_size)
            decode = bytes.fromhex if self.encoding == 'hex' else self._parsed
            return io.BytesIO(decode(file.read().decode('ascii')))
        opener = {'gzip': gzip.open, 'zlib': ZlibFile, 'bzip2': bz2.open}.get(self.encoding)
        return opener(file) if opener else file

    def _parsed(self, text) -> bytes:
        """Raw bytes of numbers written as text; raises InputError for numbers that the type cannot hold."""
        values = np.array([float(word) for word in text.split()])
        with np.errstate(invalid='ignore', over='ignore'):
            stored = values.astype(self.dtype)
        if self.dtype.kind != 'f' and not np.array_equal(stored, values):
            raise InputError(f'{self.path}: holds numbers outside the range of {self.dtype}; repair its type')
        return stored.tobytes()


class ZlibFile:
    """Decompressing reader of a zlib stream; raises zlib.error or EOFError for damage."""

    def __init__(self, file: IO[bytes]):
        self.file, self.decompressor = file, zlib.decompressobj(47)  # 47: zlib or gzip header

    def read(self, count: int) -> bytes:
        """At most `count` bytes; none at the end."""
        while count and not self.decompressor.eof:
            packed = self.decompressor.unconsumed_tail or self.file.read(2**16)
            if content := self.decompressor.decompress(packed, count):
                return content
            if not packed and not self.decompressor.eof:
                raise EOFError('compressed voxels end early')
        return b''


def read_head(path: Path) -> bytes:
    """The first bytes of a file, which contain the header; raises InputError for an empty file."""
    with path.open('rb') as file:
        if content := file.read(MAX_HEADER):
            return content
    raise InputError(f'{path}: the file is empty; replace it')


def ras_affine(columns: Float[np.ndarray, 'n n'], origin: Float[np.ndarray, ' n']) -> Float[np.ndarray, '4 4']:
    """Affine (voxel index -> RAS mm) of the first three axes, from their vectors (columns) and origin in LPS mm."""
    count = min(len(origin), 3)
    affine = np.eye(4)
    affine[:count, :count], affine[:count, 3] = columns[:count, :count], origin[:count]
    return RAS @ affine


def trailing_offset(file: Path, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """The offset of raw voxels that end with their file."""
    return max(0, file.stat().st_size - math.prod(shape) * dtype.itemsize)


def skip_lines(file: Path, offset: int, lines: int) -> int:
    """The offset after `lines` lines."""
    with file.open('rb') as stream:
        stream.seek(offset)
        while lines > 0 and stream.readline(MAX_HEADER):
            lines -= 1
        return stream.tell()
