"""What preparing scans may be told."""

import inspect
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import get_args

from synseg_jax.errors import InputError

# What decides how a scan becomes the images that a network was trained on, whatever a configuration says later.
READING = ('size', 'spacing_mm', 'slice_axis', 'window_hu', 'percentiles', 'target_center')


@dataclass(frozen=True)
class Settings:
    """What `prepare` does to every scan; the fields are those of `config.data`, and the seed."""

    size: tuple[int, ...] = (256, 256)
    spacing_mm: float = 0.0
    slice_axis: str = 'axial'
    window_hu: tuple[float, float] = (-1000.0, 1000.0)
    percentiles: tuple[float, float] = (2.5, 97.5)
    foreground_share: float = 0.02
    source_margin: int = -1
    target_margin: int = -1
    target_center: float = 1.0
    classes: tuple[str, ...] = ()
    subject: str = '(.+)'
    source_split: tuple[float, float, float] = (0.8, 0.2, 0.0)
    target_split: tuple[float, float, float] = (0.8, 0.0, 0.2)
    target_labels: bool = False
    same_patients: tuple[str, ...] = ()
    seed: int = 0


def checked(values: Mapping[str, object]) -> Settings:
    """The settings of these fields; InputError for a value of another type, such as a configuration may hold."""
    for field in fields(Settings):
        value = values[field.name]
        if not _fits(value, field.type):
            name = field.name if field.name == 'seed' else f'data.{field.name}'
            kind = inspect.formatannotation(field.type)
            raise InputError(f'{name} {value!r}: give {kind}, e.g. {field.default!r}')
    return Settings(**values)


def _fits(value, kind) -> bool:
    """Whether a value is of a simple type or a tuple of them; a whole number does where a float is asked for."""
    parts = get_args(kind)
    if parts[1:] == (...,):
        return isinstance(value, tuple) and all(_fits(part, parts[0]) for part in value)
    if parts:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, {int: numbers.Integral, float: numbers.Real}.get(kind, kind))
