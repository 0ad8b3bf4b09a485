"""Files of named tensors: safetensors, and PyTorch's .pth, of which nothing but tensors is ever unpickled."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from jaxtyping import Shaped
from safetensors import SafetensorError

from synseg_jax.errors import InputError

Tensors = dict[str, Shaped[np.ndarray, '...']]
SUFFIXES = ('.safetensors', '.pth')  # the first that is there is read


def read_tensors(path: Path) -> Tensors:
    """The tensors of one .safetensors or .pth file; InputError where it is broken or holds anything else."""
    if not path.is_file():
        raise InputError(f'{path}: no such file')
    if path.suffix == '.pth':
        return _read_pth(path)
    try:
        return safetensors.numpy.load_file(path)
    except SafetensorError as error:
        raise InputError(f'{path} is not a readable safetensors file: {error}') from error


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """One file of tensors, of the kind that its suffix names; a .pth is a state dict.  bfloat16 becomes float32."""
    # numpy knows bfloat16 from JAX alone, and PyTorch not from numpy
    tensors = {name: of.astype(np.float32) if of.dtype.name == 'bfloat16' else of for name, of in tensors.items()}
    if path.suffix == '.pth':
        torch = pytorch(f'{path.name} cannot be written')
        with path.open('wb') as file:  # given a path, torch hides the reason where the disk is full
            torch.save({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}, file)
    else:
        # not save_file, whose files nobody but their owner may read
        path.write_bytes(safetensors.numpy.save({name: np.ascontiguousarray(of) for name, of in tensors.items()}))


def pytorch(otherwise: str):
    """PyTorch, which only some need; an InputError that says what cannot be done without it and how to get it."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{otherwise}: PyTorch is not installed; pip install 'synseg_jax[torch]', or use .safetensors files"
        ) from error
    return torch


def _read_pth(path):
    torch = pytorch(f'{path} cannot be read')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)  # refuses every pickle that would run code
    except Exception as error:  # whatever a damaged or hostile file makes torch, zip or pickle raise
        raise InputError(
            f'{path} is not a state dict of tensors, and nothing else is read: {_told(error)}; save the state_dict() '
            'of one network alone, or copy it again'
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(of, torch.Tensor) for of in content.values()):
        raise InputError(f'{path} is not a state dict of tensors; save the state_dict() of one network alone')
    wide = {name: of.float() if of.dtype == torch.bfloat16 else of for name, of in content.items()}  # numpy has none
    return {name: of.detach().numpy() for name, of in wide.items()}


def _told(error) -> str:
    """What PyTorch refuses or else meets, without its advice to let files run code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if 'nsupported' in line), lines[0]).partition('. ')[0].rstrip('.')
