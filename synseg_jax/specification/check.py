"""Checks a configuration against the declared fields; all mistakes are reported together, one line each."""

import difflib
import inspect
import math
import numbers
import re
import types
import typing
from collections.abc import Mapping
from functools import cache
from itertools import chain

from synseg_jax.errors import InputError
from synseg_jax.specification.experiment import Experiment, PhantomSet
from synseg_jax.specification.field import Range, Rule, leaves
from synseg_jax.specification.resolve import flat
from synseg_jax.specification.table import TableRow

LISTED = 'docs/configuration.md lists them'
_LISTS = re.compile(r'systems|stages|systems\.[^.]+\.stages')
MEMBERS = {'phantom.sets': PhantomSet, 'table.rows': TableRow}  # groups with named members, and the members' class
OPTIONAL = ('phantom.sets', 'loss_weights', 'generator.', 'segmentor.', 'discriminator.', 'table')
RENAMED = {  # fields and groups by the names that they had in configurations of format 1
    'pays': 'loss_weights',
    'order': 'update_order',
    'masked': 'label_channel',
    'history': 'image_pool',
    'do': 'kind',
    'by': 'generators_from',
    'tests': 'test_sets',
    'tested': 'evaluate_stage',
    'chosen': 'default_system',
}


class Declared(typing.NamedTuple):
    """The declaration of a field, see `field.field`."""

    kind: object  # type annotation
    text: str
    allowed: Range | tuple | None
    affects: str
    compiled: bool
    added: bool  # files of earlier versions may lack it
    default: object


@cache
def declared() -> dict[str, Declared]:
    """All fields by dotted name, such as train.batch."""
    members = (leaves(kind(), f'{group}.*.') for group, kind in MEMBERS.items())
    return {
        name: Declared(entry.type, *(entry.metadata.get(key, False) for key in Declared._fields[1:-1]), value)
        for name, entry, value in (*leaves(Experiment()), *chain.from_iterable(members))
    }


def declaration(name: str) -> Declared | None:
    """The declaration of a field, or of the mapping that contains it, such as loss_weights.gen; None if unknown."""
    own = declared_name(name)
    group = declared().get(own.rpartition('.')[0])
    within = group if group and typing.get_origin(group.kind) is Mapping else None
    return declared().get(own, within)


def declared_name(name: str) -> str:
    """The name under which a field is declared: without systems and stages, and `*` for a named member of a group."""
    parts = own_name(name).split('.')
    if '.'.join(parts[:2]) in MEMBERS and len(parts) > 2:
        parts[2] = '*'
    return '.'.join(parts)


def check(tree: Mapping) -> None:
    """InputError with one line for each unknown field or invalid value, including those of systems and stages."""
    if problems := [line for name, value in flat(tree).items() if (line := _problem(name, value))]:
        raise InputError(*problems)


def affects(name: str) -> str:
    """The key of field.AFFECTS for a field; 'display' for undeclared ones."""
    declared_field = declaration(name)
    return declared_field.affects if declared_field else 'display'


def as_before(name: str, value: object) -> bool:
    """Whether a field that earlier versions lack is at its default, which is what they did."""
    found = declaration(name)
    return found is not None and found.added and value == found.default


def own_name(name: str) -> str:
    """The name of a field without its system and stage: systems.x.stages.y.train.batch -> train.batch."""
    parts = name.split('.')
    for group in ('systems', 'stages'):
        parts = parts[2:] if parts[:1] == [group] else parts
    return '.'.join(parts)


def _problem(name: str, value: object) -> str:
    """The error line for a field; '' if it is valid."""
    own = own_name(name)
    if not isinstance(value, Mapping) and (not own or _is_group(own)):
        return f'config.{name}={value!r}: give a dictionary of fields, e.g. {{}}'
    if not own:
        return f'config.{name}: empty; name at least one' if _LISTS.fullmatch(name) else ''
    if isinstance(value, Mapping):
        return '' if _is_group(own) else _unknown(name, own)
    declared_field = declaration(name)
    if declared_field is None:
        return _unknown(name, own)
    # None stands for the default of the architecture, or of the method.
    optional = types.NoneType in typing.get_args(declared_field.kind) or own.startswith('loss_weights.')
    if value is None and optional or _is_valid(declared_field, value):
        return ''
    return f'config.{name}={value!r}: give {allowed_values(declared_field)}'


def _unknown(name: str, own: str) -> str:
    """The error line for an unknown field, with the declared field of the most similar name."""
    group, _, last = declared_name(own).rpartition('.')
    siblings = {full.removeprefix(f'{group}.' if group else '').partition('.')[0] for full in declared()
                if full.startswith(f'{group}.' if group else '')}  # fmt: skip
    alike = difflib.get_close_matches(last, siblings, 1)
    return f'config.{name}: no such field; ' + (new_name(own) or (f'is {alike[0]} meant?' if alike else LISTED))


def new_name(name: str) -> str:
    """The remedy for a field that was renamed; '' for any other."""
    first = own_name(name).partition('.')[0]
    return f'{first} is now {RENAMED[first]}' if first in RENAMED else ''


def _is_group(own: str) -> bool:
    name = declared_name(own)
    declared_field = declared().get(name)
    is_mapping = declared_field is not None and typing.get_origin(declared_field.kind) is Mapping
    return is_mapping or any(full.startswith(f'{name}.') for full in declared())


def _is_valid(declared_field: Declared, value: object) -> bool:
    """Whether a value has the type of a field and is allowed there."""
    if not fits(value, value_type(declared_field.kind)):
        return False
    allowed, values = declared_field.allowed, value if isinstance(value, tuple | list) else (value,)
    if isinstance(allowed, tuple):
        return value in allowed
    if isinstance(allowed, Rule):
        return allowed.holds(value)
    if isinstance(allowed, Range):
        return all(map(allowed.holds, values))
    return all(math.isfinite(number) for number in values if isinstance(number, float))


def allowed_values(declared_field: Declared) -> str:
    """The allowed values of a field in words, for error messages and the documentation."""
    if isinstance(declared_field.allowed, tuple):
        return ' or '.join(map(repr, declared_field.allowed))
    if declared_field.allowed is not None:
        return str(declared_field.allowed)
    kind = value_type(declared_field.kind)
    if typing.get_origin(kind) is tuple and typing.get_args(kind)[0] is str:
        return "names, ('name', 'another')"
    words = {bool: 'True or False', str: 'a string', float: 'a finite number'}
    return words.get(kind) or inspect.formatannotation(kind)


def value_type(kind: object) -> object:
    """The type of a field's value, without None; for a mapping the type of its values."""
    if typing.get_origin(kind) is Mapping:
        return typing.get_args(kind)[1]
    if isinstance(kind, types.UnionType) and types.NoneType in typing.get_args(kind):
        return next(part for part in typing.get_args(kind) if part is not types.NoneType)
    return kind


def fits(value: object, kind: object) -> bool:
    """Whether a value has a simple type, is a tuple of them, or has one of several; integers are accepted as floats."""
    parts = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(fits(value, part) for part in parts)
    if parts:
        if not isinstance(value, tuple | list):
            return False
        kinds = [parts[0]] * len(value) if parts[1:] == (...,) else parts
        return len(value) == len(kinds) and all(map(fits, value, kinds))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, {int: numbers.Integral, float: numbers.Real}.get(kind, kind))


def check_complete(tree: Mapping, within: str = '') -> None:
    """InputError for missing fields, among those whose name starts with `within`."""
    given = flat(tree)
    needed = (
        name
        for name, field in declared().items()
        if name.startswith(within) and not name.startswith(OPTIONAL) and not field.added
    )
    missing = sorted(name for name in needed if name not in given)
    missing += [] if within else [name for name in ('stages', 'systems') if name not in tree]
    if missing:
        raise InputError(f'the configuration has no {", ".join(missing)}; configs/base.py has all fields')
