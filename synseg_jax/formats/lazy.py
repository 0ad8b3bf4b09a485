"""Lazy imports of modules that need an optional package."""

import importlib
from functools import cached_property
from types import ModuleType
from typing import Any

from synseg_jax.errors import InputError


class Lazy:
    """A module imported on first use; raises InputError then if the package that it needs is not installed."""

    def __init__(self, module: str, package: str, purpose: str):
        self.module, self.package, self.purpose = module, package, purpose

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    @cached_property
    def _module(self) -> ModuleType:
        require(self.package, self.purpose)
        return importlib.import_module(self.module)


def require(package: str, purpose: str) -> None:
    """Raise InputError if `package`, needed for `purpose`, cannot be imported."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise InputError(f'{purpose}: the package {package} is not installed; pip install {package}') from error
