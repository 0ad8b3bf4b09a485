"""Segmentation of an unlabelled imaging modality by unpaired translation from a labelled one, in JAX.

labels = synseg_jax.load('runs/mine').segment(image)
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synseg_jax.runs.model import Model, load, train

__version__ = '0.1.0'
__all__ = ['Model', 'load', 'train']


def __getattr__(name: str) -> object:
    """What __all__ names, imported when it is asked for: commands that only print help load no JAX."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module('synseg_jax.runs.model'), name)
