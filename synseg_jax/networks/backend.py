"""The kind of device that layers are computed for."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

_assumed = ContextVar('assumed', default='')


def kind() -> str:
    """'cpu', 'gpu' or 'tpu': the default backend, or the one that is `assumed`."""
    return _assumed.get() or jax.default_backend()


@contextmanager
def assumed(name: str) -> Iterator[None]:
    """Trace layers in the form for another kind of device, for instance for their shapes, inside this context."""
    token = _assumed.set(name)
    try:
        yield
    finally:
        _assumed.reset(token)
