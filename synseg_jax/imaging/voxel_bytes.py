"""Bytes of voxels in a file: never more than its header claims, nor claims that the file or memory cannot hold."""

import gzip
import math
from collections.abc import Sequence

import numpy as np

from synseg_jax.errors import InputError, warn
from synseg_jax.imaging import memory_limit
from synseg_jax.imaging.arrays import UInt8

MAX_VOXELS = 2**30  # a whole-body CT of 512 x 512 x 4096; more is a broken header
GZIP_RATIO = 1100  # deflate cannot do better than 1032:1, so a larger claim is a truncated file
FLOAT = 4  # bytes of a voxel in the float32 copy that `volume.read` makes
PIECE = 2**22  # bytes at a time


def claimed(path, shape: Sequence[int], itemsize: int, held: int) -> int:
    """The bytes of voxels that a header claims; InputError unless they are believable and at most `held`."""
    voxels = math.prod(shape)
    if min(shape) < 1 or voxels > MAX_VOXELS:
        raise InputError(f'{path}: its header claims {" x ".join(map(str, shape))} voxels; replace the file')
    if (claim := voxels * itemsize) > held:
        raise InputError(f'{path}: truncated, its header promises {claim} bytes of voxels; replace the file')
    return claim


def exactly(path, stream, count: int, itemsize: int) -> UInt8[np.ndarray, ' count']:
    """`count` bytes of the stream; InputError where it ends before, or where they do not fit into memory."""
    memory_limit.require(path, count + count // itemsize * FLOAT)
    buffer = np.empty(count, np.uint8)
    view, filled = memoryview(buffer), 0
    while filled < count:
        piece = stream.read(min(count - filled, PIECE))
        if not piece:
            raise InputError(f'{path}: truncated, {filled} of {count} bytes of voxels; replace the file')
        view[filled : filled + len(piece)] = piece
        filled += len(piece)
    return buffer


def check_rest(path, stream, claim: int) -> None:
    """Reads to the end, where checksums are verified, but no further than a header can be wrong by."""
    rest = 0
    try:
        while rest <= max(claim, 2**20) and (piece := stream.read(2**16)):
            rest += len(piece)
    except gzip.BadGzipFile as error:
        if 'Not a gzipped' not in str(error):  # bytes after the end of a sound stream do no harm
            raise
    if rest:
        warn('%s: more follows the %d bytes of voxels that its header promises; is it right?', path, claim)
