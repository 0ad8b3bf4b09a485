"""PyTorch's .pth files as far as they are state dicts: named dense tensors, each number stored once.

torch.load neither verifies the checksums of a file nor minds tensors that claim more numbers than it holds.
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

ZIP = b'PK\x03\x04'  # how files begin since PyTorch 1.6, whose entries have checksums
DTYPES = 'float16 bfloat16 float32 float64 bool uint8 int8 int16 int32 int64'.split()
REMEDY = 'save the state_dict() of one network alone, or copy it again'


def pytorch(otherwise: str):
    """PyTorch, which only some need; an InputError that says what cannot be done without it and how to get it."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{otherwise}: PyTorch is not installed; pip install 'synseg_jax[torch]', or use .safetensors files"
        ) from error
    return torch


def read(path: Path) -> dict[str, Shaped[np.ndarray, '...']]:
    """The tensors of a state dict, bfloat16 as float32; InputError for whatever else, or damage, is in the file.

    Files of before PyTorch 1.6 have no checksums, which is told.
    """
    torch = pytorch(f'{path} cannot be read')
    _check_archive(path)
    content = _load(path, torch)
    if not isinstance(content, Mapping) or not all(isinstance(of, torch.Tensor) for of in content.values()):
        raise InputError(f'{path} is not a state dict of tensors; save the state_dict() of one network alone')
    content = {str(name): tensor for name, tensor in content.items()}
    for name, tensor in content.items():
        if wrong := _kind(tensor, torch):
            raise InputError(f'{path}: tensor {printable(name)} is {wrong}; save a dense one of float32 numbers')
    _check_storages(path, content)
    wide = {name: of.float() if of.dtype == torch.bfloat16 else of for name, of in content.items()}
    return {name: of.detach().numpy() for name, of in wide.items()}  # numpy has no bfloat16


def _check_archive(path) -> None:
    """InputError for an archive that is damaged, or unpacks to more than its own size."""
    with path.open('rb') as file:
        if file.read(len(ZIP)) != ZIP:
            warn("%s: PyTorch's format of before 1.6 has no checksums, so that damage may go unnoticed", path)
            return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            larger = unpacked > path.stat().st_size
            damaged = None if larger else archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which places before the file's begin raise
            raise
        told = f'{path} is not a state dict of tensors but a damaged archive ({error})'
        raise InputError(f'{told}; copy it again') from error
    if larger:
        raise InputError(
            f'{path}: unpacks to {unpacked} bytes, more than it has, which torch.save never does; save it anew'
        )
    if damaged:
        raise InputError(f'{path}: its entry {damaged} does not fit its checksum; copy it again, or save it anew')


def _load(path, torch):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of kinds of tensors that are in beta, and are refused
            return torch.load(path, map_location='cpu', weights_only=True)  # refuses every pickle that would run code
    except OSError:
        raise
    except Exception as error:  # whatever a damaged or hostile file makes torch, zip or pickle raise
        raise InputError(
            f'{path} is not a state dict of tensors, and nothing else is read: {_told(error)}; {REMEDY}'
        ) from error


def _kind(tensor, torch) -> str:
    """What a tensor is that has no numpy array of its numbers; '' of one that has."""
    if tensor.is_nested:
        return 'nested'
    if tensor.layout != torch.strided:
        return 'sparse'
    if tensor.is_meta:
        return 'without numbers (meta)'
    if tensor.is_quantized:
        return 'quantised'
    dtype = str(tensor.dtype).removeprefix('torch.')
    return '' if dtype in DTYPES else f'of {dtype}'


def _check_storages(path, tensors) -> None:
    """InputError where tensors claim more numbers than their storage holds: expanded, or tied to one another."""
    claimed = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        so_far, first = claimed.get(storage.data_ptr(), (0, name))
        total = so_far + tensor.numel() * tensor.element_size()
        if total > storage.nbytes():
            shared = f'with {printable(first)} ' if first != name else ''
            raise InputError(
                f'{path}: tensor {printable(name)} {shared}claims {total} bytes of '
                f'the {storage.nbytes()} that are stored (expanded or tied); save clones'
            )
        claimed[storage.data_ptr()] = total, first


def _told(error) -> str:
    """What PyTorch refuses or else meets, without its advice to let files run code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if 'nsupported' in line), lines[0]).partition('. ')[0].rstrip('.')
