"""Safe reading of PyTorch's .pth files that are state dicts of dense tensors with storage of their own.

torch.load neither verifies the checksums of a file nor rejects tensors larger than their storage.
"""

import errno
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from synseg_jax.errors import InputError, warn
from synseg_jax.files.schema import printable
from synseg_jax.imaging.arrays import Shaped

ZIP = b'PK\x03\x04'  # signature of the format since PyTorch 1.6, a zip archive with checksums
DTYPES = 'float16 bfloat16 float32 float64 bool uint8 int8 int16 int32 int64'.split()
REMEDY = 'save the state_dict() of a single network, or copy it again'


def pytorch(purpose: str):
    """The optional package torch; InputError, beginning with `purpose`, if it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{purpose}: PyTorch is not installed; pip install 'synseg_jax[torch]', or use .safetensors files"
        ) from error
    return torch


def read(path: Path) -> dict[str, Shaped[np.ndarray, '...']]:
    """Read a state dict, bfloat16 as float32; InputError for any other content, or a damaged file.

    Warns about files of PyTorch before 1.6, which have no checksums.
    """
    torch = pytorch(f'{path} cannot be read')
    _check_archive(path)
    content = _load(path, torch)
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise InputError(f'{path} is not a state dict of tensors; save the state_dict() of a single network')
    content = {str(name): tensor for name, tensor in content.items()}
    for name, tensor in content.items():
        if unsupported := _unsupported(tensor, torch):
            raise InputError(f'{path}: tensor {printable(name)} is {unsupported}; save a dense float32 tensor')
    _check_storages(path, content)
    widened = {name: t.float() if t.dtype == torch.bfloat16 else t for name, t in content.items()}
    return {name: tensor.detach().numpy() for name, tensor in widened.items()}  # numpy has no bfloat16


def _check_archive(path) -> None:
    """InputError for a damaged archive, or one that unpacks to more than its own size (a zip bomb)."""
    with path.open('rb') as file:
        if file.read(len(ZIP)) != ZIP:
            warn('%s: saved by PyTorch before 1.6, without checksums: damage may go unnoticed', path)
            return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            larger = unpacked > path.stat().st_size
            damaged = None if larger else archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # raised by seeks to negative offsets
            raise
        raise InputError(f'{path} is a damaged archive ({error}); copy it again') from error
    if larger:
        raise InputError(
            f'{path}: unpacks to {unpacked} bytes, more than the file size, unlike files of torch.save; save it again'
        )
    if damaged:
        raise InputError(f'{path}: checksum error in its entry {damaged}; copy it again, or save it again')


def _load(path, torch):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about beta tensor types, which are rejected below
            return torch.load(path, map_location='cpu', weights_only=True)  # rejects pickles that would run code
    except OSError:
        raise
    except Exception as error:  # torch, zip and pickle raise anything on damaged or malicious files
        raise InputError(f'{path} is not a state dict of tensors: {_reason(error)}; {REMEDY}') from error


def _unsupported(tensor, torch) -> str:
    """The property of a tensor that numpy does not support; '' if there is none."""
    if tensor.is_nested:
        return 'nested'
    if tensor.layout != torch.strided:
        return 'sparse'
    if tensor.is_meta:
        return 'without data (meta)'
    if tensor.is_quantized:
        return 'quantised'
    dtype = str(tensor.dtype).removeprefix('torch.')
    return '' if dtype in DTYPES else f'of {dtype}'


def _check_storages(path, tensors) -> None:
    """InputError if tensors are larger than their storage: expanded, or sharing it with one another (tied)."""
    claimed = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        so_far, first = claimed.get(storage.data_ptr(), (0, name))
        total = so_far + tensor.numel() * tensor.element_size()
        if total > storage.nbytes():
            shared = f'with {printable(first)} ' if first != name else ''
            raise InputError(
                f'{path}: tensor {printable(name)} {shared}needs {total} bytes, but '
                f'{storage.nbytes()} are stored (expanded or tied); save clones'
            )
        claimed[storage.data_ptr()] = total, first


def _reason(error) -> str:
    """PyTorch's reason for an error, without its advice to set weights_only=False."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if 'nsupported' in line), lines[0]).partition('. ')[0].rstrip('.')
