"""Modules that are imported when they are first used: not everybody who needs their users has their packages."""

import importlib
from functools import cached_property
from types import ModuleType
from typing import Any

from synseg_jax.errors import InputError


class Lazy:
    """A module; its use is an InputError where the package that it stands on is not installed."""

    def __init__(self, module: str, package: str, purpose: str):
        self.module, self.package, self.purpose = module, package, purpose

    def __getattr__(self, name: str) -> Any:
        return getattr(self._imported, name)

    @cached_property
    def _imported(self) -> ModuleType:
        require(self.package, self.purpose)
        return importlib.import_module(self.module)


def require(package: str, purpose: str) -> None:
    """InputError where a package cannot be imported that something needs."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise InputError(f'{purpose}: the package {package} is not installed; pip install {package}') from error
