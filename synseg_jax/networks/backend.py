"""The kind of device whose forms of layers are computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

_assumed = ContextVar('assumed', default='')


def kind() -> str:
    """'cpu', 'gpu' or 'tpu': the one at hand, or the one that is assumed."""
    return _assumed.get() or jax.default_backend()


@contextmanager
def assumed(name: str) -> Iterator[None]:
    """Layers as on another kind of device: what is traced meanwhile, be it only for its shapes."""
    token = _assumed.set(name)
    try:
        yield
    finally:
        _assumed.reset(token)
