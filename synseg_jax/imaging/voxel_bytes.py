"""Reading the voxels of a file, guarded against headers that claim more than the file or the memory holds."""

import gzip
import math
from collections.abc import Sequence

import numpy as np

from synseg_jax.errors import InputError, warn
from synseg_jax.imaging import memory_limit
from synseg_jax.imaging.arrays import UInt8

MAX_VOXELS = 2**30  # a whole-body CT of 512 x 512 x 4096; a header with more is broken
GZIP_RATIO = 1100  # deflate compresses at most 1032:1, so a file with a larger claim is truncated
FLOAT = 4  # bytes per voxel of the float32 copy that `scan_file.read` makes
CHUNK = 2**22  # bytes


def expected_bytes(path, shape: Sequence[int], itemsize: int, limit: int) -> int:
    """Bytes of voxels by the header; raises InputError if implausible or more than the file can hold (`limit`)."""
    voxels = math.prod(shape)
    if min(shape) < 1 or voxels > MAX_VOXELS:
        raise InputError(f'{path}: its header claims {" x ".join(map(str, shape))} voxels; replace the file')
    if (expected := voxels * itemsize) > limit:
        raise InputError(f'{path}: truncated, its header promises {expected} bytes of voxels; replace the file')
    return expected


def read_exactly(path, stream, count: int, itemsize: int) -> UInt8[np.ndarray, ' count']:
    """Read `count` bytes; raises InputError if the stream ends before, or if they do not fit into memory."""
    memory_limit.require(path, count + count // itemsize * FLOAT)
    buffer = np.empty(count, np.uint8)
    view, filled = memoryview(buffer), 0
    while filled < count:
        chunk = stream.read(min(count - filled, CHUNK))
        if not chunk:
            raise InputError(f'{path}: truncated, {filled} of {count} bytes of voxels; replace the file')
        view[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return buffer


def check_trailing(path, stream, expected: int) -> None:
    """Read to the end, which verifies checksums, and warn of trailing bytes; stops after `expected` more of them."""
    trailing = 0
    try:
        while trailing <= max(expected, 2**20) and (chunk := stream.read(2**16)):
            trailing += len(chunk)
    except gzip.BadGzipFile as error:
        if 'Not a gzipped' not in str(error):  # bytes after the end of an intact stream are harmless
            raise
    if trailing:
        warn('%s: more follows the %d bytes of voxels that its header promises; is it right?', path, expected)
