"""Files of named tensors: safetensors, and PyTorch's .pth, of which nothing but tensors is ever unpickled."""

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
SUFFIXES = ('.safetensors', '.pth')  # the first that is there is read
# safetensors' names of types -> numpy's; bfloat16, which numpy lacks, is read as its bits.
DTYPES = {'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'BF16': '<u2', 'BOOL': '?', 'U8': '|u1', 'I8': '|i1'}
DTYPES |= {f'{letter}{bits}': f'<{letter.lower()}{bits // 8}' for letter in 'UI' for bits in (16, 32, 64)}


def read_tensors(path: Path) -> Tensors:
    """The tensors of one .safetensors or .pth file, bfloat16 as float32; InputError for a damaged or any other file."""
    if not path.is_file():
        raise InputError(f'{path}: no such file')
    return pth.read(path) if path.suffix == '.pth' else _read_safetensors(path)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """One file of tensors, of the kind that its suffix names; a .pth is a state dict.  bfloat16 becomes float32."""
    # numpy knows bfloat16 from JAX alone, and PyTorch not from numpy
    tensors = {name: of.astype(np.float32) if of.dtype.name == 'bfloat16' else of for name, of in tensors.items()}
    if path.suffix == '.pth':
        torch = pth.pytorch(f'{path.name} cannot be written')
        with path.open('wb') as file:  # given a path, torch hides the reason where the disk is full
            torch.save({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}, file)
    else:
        # not save_file, whose files nobody but their owner may read
        path.write_bytes(safetensors.numpy.save({name: np.ascontiguousarray(of) for name, of in tensors.items()}))


def check_weights(tensors: Mapping[str, np.ndarray], place: str = '') -> None:
    """InputError, beginning with `place`, for the first tensor that holds no weights: whole numbers, NaN, infinities.

    What float32 cannot hold counts as infinite.
    """
    for name, tensor in tensors.items():
        if tensor.dtype.kind != 'f':
            raise InputError(f'{place}tensor {printable(name)} holds {tensor.dtype}, no weights; convert it to float32')
        with np.errstate(over='ignore'):
            finite = np.isfinite(tensor.astype(np.float32, copy=False))
        if not finite.all():
            wrong = f'{finite.size - finite.sum()} of {finite.size} weights are NaN or infinite'
            raise InputError(f'{place}tensor {printable(name)}: {wrong}; take an earlier epoch')


def _read_safetensors(path) -> Tensors:
    try:
        stored = safetensors.deserialize(path.read_bytes())
    except SafetensorError as error:
        raise InputError(f'{path} is not a readable safetensors file: {error}; copy it again') from error
    return {name: _array(path, name, **described) for name, described in stored}


def _array(path, name, dtype, shape, data) -> Shaped[np.ndarray, '...']:
    if dtype not in DTYPES:
        raise InputError(f'{path}: tensor {printable(name)} holds {dtype}, which cannot be read; convert it to float32')
    try:
        array = np.frombuffer(data, DTYPES[dtype]).reshape(shape)
    except ValueError as error:  # sizes beyond what numpy knows, of tensors without a number
        told = f'tensor {printable(name)} of shape {shape} cannot be read'
        raise InputError(f'{path}: {told} ({error}); copy it again') from error
    return widened(array) if dtype == 'BF16' else array


def widened(bits: UInt16[np.ndarray, '...']) -> Float32[np.ndarray, '...']:
    """bfloat16 numbers, given by their bits, as float32: the upper half of its bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
