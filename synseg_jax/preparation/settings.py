"""What preparing scans may be told."""

import inspect
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import get_args

from synseg_jax.errors import InputError

# What decides how a scan becomes the images that a network was trained on, whatever a configuration says later.
READING = ('size', 'spacing_mm', 'slice_axis', 'window_hu', 'percentiles', 'target_center')

CUTS = ('labels', 'lesion')  # what data.cut_about may be

# What else a value of the right type must be, and the words for it.
RANGES = {
    'spacing_mm': (math.isfinite, 'a finite number of mm'),
    'window_hu': (lambda hu: -math.inf < hu[0] < hu[1] < math.inf, 'two rising numbers in HU'),
    'percentiles': (lambda percent: 0 <= percent[0] < percent[1] <= 100, 'two rising numbers between 0 and 100'),
    'foreground_share': (lambda share: 0 <= share <= 1, 'a share between 0 and 1'),
    'target_center': (lambda share: 0 < share <= 1, 'a share above 0, at most 1'),
    'cut_about': (CUTS.__contains__, ' or '.join(CUTS)),
    **dict.fromkeys(('source_margin', 'target_margin'), (lambda slices: slices >= -1, 'slices, or -1 for all')),
    **dict.fromkeys(
        ('source_split', 'target_split'),
        (lambda shares: min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6, 'train, val and test, summing to 1'),
    ),
    'seed': (lambda seed: 0 <= seed < 2**32, 'a whole number from 0 to 4294967295'),
}


@dataclass(frozen=True)
class Settings:
    """What `prepare` does to every scan; the fields are those of `config.data`."""

    size: tuple[int, ...] = (256, 256)
    spacing_mm: float = 0.0
    slice_axis: str = 'axial'
    window_hu: tuple[float, float] = (-1000.0, 1000.0)
    percentiles: tuple[float, float] = (2.5, 97.5)
    foreground_share: float = 0.02
    source_margin: int = -1
    target_margin: int = -1
    target_center: float = 1.0
    cut_about: str = 'labels'
    classes: tuple[str, ...] = ()
    subject: str = '(.+)'
    source_split: tuple[float, float, float] = (0.8, 0.2, 0.0)
    target_split: tuple[float, float, float] = (0.8, 0.0, 0.2)
    target_labels: bool = False
    same_patients: tuple[str, ...] = ()
    seed: int = 0


def checked(values: Mapping[str, object]) -> Settings:
    """The settings of these fields; InputError for a value of another type or range, as a configuration may hold."""
    for field in fields(Settings):
        value = values[field.name]
        within, wanted = RANGES.get(field.name, (lambda _: True, ''))
        if not _fits(value, field.type) or not within(value):
            kind = wanted if _fits(value, field.type) else inspect.formatannotation(field.type)
            raise InputError(f'data.{field.name} {value!r}: give {kind}, e.g. {field.default!r}')
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


def settings_of(config) -> Settings:
    """The settings in a configuration, `config.data`; InputError where a field is missing or of another type."""
    given = config.data
    if missing := [field.name for field in fields(Settings) if field.name not in given]:
        raise InputError(f'config.data.{missing[0]} is missing; add it')
    return checked({f.name: tuple(v) if isinstance(v := given[f.name], list) else v for f in fields(Settings)})
