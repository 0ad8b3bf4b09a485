"""Which numbers the fields of a configuration may hold."""

import math
import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ml_collections import ConfigDict

from synseg_jax.errors import InputError


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`, both included unless `above` or `below`; whole ones if `whole`."""

    low: float = 0
    high: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False

    def holds(self, value: object) -> bool:
        """Whether a value is such a number; a boolean is none."""
        kind = numbers.Integral if self.whole else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
            return False
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        """What to give."""
        least = f'{"above" if self.above else "from"} {self.low:g}'
        most = f' {"to below" if self.below else "to"} {self.high:.10g}' if self.high < math.inf else ' on'
        return f'a {"whole" if self.whole else "finite"} number {least}{"" if self.above and most == " on" else most}'


# By fields, as fnmatch takes them.  Those without a star must be there.
RANGES = {
    Range(high=2**32 - 1, whole=True): 'seed phantom.seed',
    Range(whole=True): 'fold.of context.slices warmup history train.epochs train.decay_epochs train.steps'
    ' train.decay_steps train.patience train.workers train.devices phantom.sets.*.first *.blocks *.layers *.extra',
    Range(1, whole=True): 'train.batch train.log_every train.save_every train.keep predict.batch augment.window'
    ' phantom.sets.*.subjects *.width *.levels *.up_width',
    Range(): 'rate.* pays.* loss.class_weights context.spacing_mm lesion_patch_mm optimizer.clip_norm'
    ' train.resident_gib augment.shift augment.rotate augment.scale augment.brightness augment.contrast',
    Range(above=True): 'optimizer.eps atlases.spacing_mm augment.gamma',
    Range(high=1, above=True): 'augment.crop',
    Range(high=1, below=True): 'average optimizer.b1 optimizer.b1_alone optimizer.b2 *.dropout',
}
NAMES = 'run tests lesions sets.a sets.b start.stages start.networks data.classes data.same_patients'.split()


def check_ranges(config: ConfigDict) -> None:
    """InputError for every field, of all systems and of each, that holds no number that will do."""
    if problems := [line for name, value in _leaves(config.to_dict()) for line in _problem(name, value)]:
        raise InputError(*problems)


def check_complete(config: ConfigDict) -> None:
    """InputError for numbers that are missing; a configuration that scans are prepared with may have `data` alone."""
    wanted = {name for names in RANGES.values() for name in names.split() if '*' not in name}
    if missing := sorted(wanted - dict(_leaves(config.to_dict())).keys()):
        raise InputError(f'the configuration has no {", ".join(missing)}; configs/base.py has all fields')


def _problem(name, value) -> list[str]:
    """What is wrong with a field; at most one line."""
    field, values = _own(name), value if isinstance(value, tuple | list) else (value,)
    if field in NAMES and not all(isinstance(text, str) for text in values):
        return [f"config.{name}={value!r}: give names, ('name', 'another')"]
    for allowed, patterns in RANGES.items():
        if any(fnmatchcase(field, pattern) for pattern in patterns.split()):
            given = [one for one in values if one is not None]  # a weight of the method's own table
            return [] if all(map(allowed.holds, given)) else [f'config.{name}={value!r}: give {allowed}']
    finite = all(math.isfinite(one) for one in values if isinstance(one, float))
    return [] if finite else [f'config.{name}={value!r}: give a finite number']


def _own(name: str) -> str:
    """A field that a system or a stage of it changes, under the name that it has for all."""
    parts = name.split('.')
    for group in ('systems', 'stages'):
        if parts[0] == group:
            parts = parts[2:]
    return '.'.join(parts)


def _leaves(tree: Mapping, prefix: str = '') -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value
