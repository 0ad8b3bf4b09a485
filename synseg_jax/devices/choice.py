"""The device that networks run on, chosen by its name: cpu, gpu, or cpu:1, the second one of its kind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TypeVar

import jax

from synseg_jax.errors import InputError

Options = TypeVar('Options')
FLAG = 'Device of JAX that predicts: cpu, gpu, tpu, or cpu:1 for the second one; default: the first there is.'


def on_device(body: Callable[[Options], int | None]) -> Callable[[Options], int | None]:
    """The body of a command, run on the device of its option `device`."""

    @wraps(body)
    def run(options):
        with on(options.device):
            return body(options)

    return run


@contextmanager
def on(name: str | None) -> Iterator[None]:
    """What JAX computes meanwhile, it computes on the device of that name; None: on its default one."""
    if not name:
        yield
        return
    with jax.default_device(device(name)):
        yield


def device(name: str) -> jax.Device:
    """The device of that name; InputError that names those there are."""
    there = {f'{one.platform}:{i}': one for kind in _kinds() for i, one in enumerate(jax.local_devices(backend=kind))}
    wanted = name if ':' in name else f'{name}:0'
    if wanted not in there:
        raise InputError(f'--device={name}: no such device; there are {", ".join(there)}')
    return there[wanted]


def _kinds() -> list[str]:
    """Of the default device, and cpu, which is always there."""
    return list(dict.fromkeys((jax.default_backend(), 'cpu')))
