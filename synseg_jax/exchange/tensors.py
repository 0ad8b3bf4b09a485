"""Read and write files of named tensors: safetensors, and PyTorch's .pth, from which only tensors are unpickled."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from safetensors import SafetensorError

from synseg_jax.errors import InputError
from synseg_jax.exchange import pth
from synseg_jax.files.schema import printable
from synseg_jax.imaging.arrays import Float32, Shaped, UInt16

Tensors = dict[str, Shaped[np.ndarray, '...']]
SUFFIXES = ('.safetensors', '.pth')  # in order of preference
# safetensors dtypes -> numpy dtypes; bfloat16, which numpy lacks, is read as uint16 and widened.
DTYPES = {'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'BF16': '<u2', 'BOOL': '?', 'U8': '|u1', 'I8': '|i1'}
DTYPES |= {f'{letter}{bits}': f'<{letter.lower()}{bits // 8}' for letter in 'UI' for bits in (16, 32, 64)}


def read_tensors(path: Path) -> Tensors:
    """Read a .safetensors or .pth file, bfloat16 as float32; InputError for a damaged file or another format."""
    if not path.is_file():
        raise InputError(f'{path}: no such file; give a .safetensors or .pth file')
    return pth.read(path) if path.suffix == '.pth' else _read_safetensors(path)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a .safetensors or .pth file (a state dict), by the suffix of `path`; bfloat16 becomes float32."""
    # JAX adds bfloat16 to numpy, and PyTorch does not convert such arrays
    tensors = {
        name: array.astype(np.float32) if array.dtype.name == 'bfloat16' else array for name, array in tensors.items()
    }
    if path.suffix == '.pth':
        torch = pth.pytorch(f'{path.name} cannot be written')
        with path.open('wb') as file:  # given a path, torch hides an OSError such as a full disk
            torch.save({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}, file)
    else:
        # not save_file, which makes files readable only by their owner
        path.write_bytes(safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in tensors.items()}))


def check_weights(tensors: Mapping[str, np.ndarray], prefix: str = '') -> None:
    """InputError, beginning with `prefix`, for the first tensor of integers, or with NaN or infinite values.

    Values beyond the range of float32 count as infinite.
    """
    for name, tensor in tensors.items():
        if tensor.dtype.kind != 'f':
            raise InputError(f'{prefix}tensor {printable(name)} holds {tensor.dtype}; convert it to float32')
        with np.errstate(over='ignore'):
            finite = np.isfinite(tensor.astype(np.float32, copy=False))
        if not finite.all():
            count = f'{finite.size - finite.sum()} of {finite.size}'
            raise InputError(
                f'{prefix}tensor {printable(name)}: {count} weights are NaN or infinite; take an earlier epoch'
            )


def _read_safetensors(path) -> Tensors:
    try:
        stored = safetensors.deserialize(path.read_bytes())
    except SafetensorError as error:
        raise InputError(f'{path} is not a readable safetensors file: {error}; copy it again') from error
    return {name: _array(path, name, **fields) for name, fields in stored}


def _array(path, name, dtype, shape, data) -> Shaped[np.ndarray, '...']:
    if dtype not in DTYPES:
        raise InputError(f'{path}: tensor {printable(name)} has the unsupported type {dtype}; convert it to float32')
    try:
        array = np.frombuffer(data, DTYPES[dtype]).reshape(shape)
    except ValueError as error:  # empty tensors with dimensions beyond numpy's limit
        reason = f'tensor {printable(name)} of shape {shape} cannot be read ({error})'
        raise InputError(f'{path}: {reason}; copy it again') from error
    return widened(array) if dtype == 'BF16' else array


def widened(bits: UInt16[np.ndarray, '...']) -> Float32[np.ndarray, '...']:
    """bfloat16 bit patterns as float32: a bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
