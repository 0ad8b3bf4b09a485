"""A configuration against its declared fields: every mistake in it, each in one line."""

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
MEMBERS = {'phantom.sets': PhantomSet, 'table.rows': TableRow}  # groups of named members: what each of these holds
OPTIONAL = ('phantom.sets', 'loss_weights', 'generator', 'segmentor', 'discriminator', 'table')


class Declared(typing.NamedTuple):
    """A field as it is declared."""

    kind: object  # its type
    text: str
    allowed: Range | tuple | None
    affects: str
    compiled: bool
    added: bool  # files of earlier versions may lack it
    default: object


@cache
def declared() -> dict[str, Declared]:
    """Every field by its dotted name, such as train.batch."""
    members = (leaves(kind(), f'{group}.*.') for group, kind in MEMBERS.items())
    return {
        name: Declared(one.type, *(one.metadata.get(key, False) for key in Declared._fields[1:-1]), value)
        for name, one, value in (*leaves(Experiment()), *chain.from_iterable(members))
    }


def declaration(name: str) -> Declared | None:
    """The declaration of a field, or of the mapping that holds it, such as loss_weights.gen; None if there is none."""
    own = declared_name(name)
    group = declared().get(own.rpartition('.')[0])
    within = group if group and typing.get_origin(group.kind) is Mapping else None
    return declared().get(own, within)


def declared_name(name: str) -> str:
    """The name that a field is declared by: those of systems, stages and sets of the phantom have one for all."""
    parts = own_name(name).split('.')
    if '.'.join(parts[:2]) in MEMBERS and len(parts) > 2:
        parts[2] = '*'
    return '.'.join(parts)


def check(tree: Mapping) -> None:
    """InputError with a line for every field, of all systems and of each, that is unknown or holds a wrong value."""
    if problems := [line for name, value in flat(tree).items() if (line := _problem(name, value))]:
        raise InputError(*problems)


def affects(name: str) -> str:
    """What a field affects, see field.AFFECTS; display for those of a table."""
    found = declaration(name)
    return found.affects if found else 'display'


def as_before(name: str, value: object) -> bool:
    """Whether a field that earlier versions lack is at its default, which is what they did."""
    found = declaration(name)
    return found is not None and found.added and value == found.default


def own_name(name: str) -> str:
    """A field that a system or a stage of it changes, under the name that it has for all."""
    parts = name.split('.')
    for group in ('systems', 'stages'):
        parts = parts[2:] if parts[:1] == [group] else parts
    return '.'.join(parts)


def _problem(name: str, value: object) -> str:
    """What is wrong with a field, in one line; '' if nothing is."""
    own = own_name(name)
    if not isinstance(value, Mapping) and (not own or _is_group(own)):
        return f'config.{name}={value!r}: give the fields that differ, e.g. {{}}'
    if not own:
        return f'config.{name}: empty; name at least one' if _LISTS.fullmatch(name) else ''
    if isinstance(value, Mapping):
        return '' if _is_group(own) else _unknown(name, own)
    one = declaration(name)
    if one is None:
        return _unknown(name, own)
    # None leaves the default to the network, or to the method.
    unset = types.NoneType in typing.get_args(one.kind) or own.startswith('loss_weights.')
    if value is None and unset or _holds(one, value):
        return ''
    return f'config.{name}={value!r}: give {told(one)}'


def _unknown(name: str, own: str) -> str:
    """The line for a field that nobody declares, with the one that is spelt most like it."""
    group, _, last = declared_name(own).rpartition('.')
    siblings = {full.removeprefix(f'{group}.' if group else '').partition('.')[0] for full in declared()
                if full.startswith(f'{group}.' if group else '')}  # fmt: skip
    alike = difflib.get_close_matches(last, siblings, 1)
    return f'config.{name}: no such field; ' + (f'is {alike[0]} meant?' if alike else LISTED)


def _is_group(own: str) -> bool:
    name = declared_name(own)
    holds = declared().get(name)
    named = holds is not None and typing.get_origin(holds.kind) is Mapping
    return named or any(full.startswith(f'{name}.') for full in declared())


def _holds(one: Declared, value: object) -> bool:
    """Whether a value is of the type of a field, and one that it may have."""
    kind = value_type(one.kind)
    if not fits(value, kind):
        return False
    values = value if isinstance(value, tuple | list) else (value,)
    if isinstance(one.allowed, tuple):
        return value in one.allowed
    if isinstance(one.allowed, Rule):
        return one.allowed.holds(value)
    if isinstance(one.allowed, Range):
        return all(map(one.allowed.holds, values))
    return all(math.isfinite(number) for number in values if isinstance(number, float))


def told(one: Declared) -> str:
    """What to give."""
    if isinstance(one.allowed, tuple):
        return ' or '.join(map(repr, one.allowed))
    if one.allowed is not None:
        return str(one.allowed)
    kind = value_type(one.kind)
    if typing.get_origin(kind) is tuple and typing.get_args(kind)[0] is str:
        return "names, ('name', 'another')"
    return {bool: 'True or False', str: 'a text', float: 'a finite number'}.get(kind) or inspect.formatannotation(kind)


def value_type(kind: object) -> object:
    """The type of the values of a field: of an optional one, or of what is in a mapping, that alone."""
    if typing.get_origin(kind) is Mapping:
        return typing.get_args(kind)[1]
    if isinstance(kind, types.UnionType):
        return next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


def fits(value: object, kind: object) -> bool:
    """Whether a value is of a simple type or a tuple of them; a whole number does where a float is asked for."""
    parts = typing.get_args(kind)
    if parts:
        if not isinstance(value, tuple | list):
            return False
        kinds = [parts[0]] * len(value) if parts[1:] == (...,) else parts
        return len(value) == len(kinds) and all(map(fits, value, kinds))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, {int: numbers.Integral, float: numbers.Real}.get(kind, kind))


def check_complete(tree: Mapping, within: str = '') -> None:
    """InputError for fields that are missing, of all or of those whose name begins with `within`."""
    given = flat(tree)
    needed = (name for name in declared() if name.startswith(within) and not name.startswith(OPTIONAL))
    missing = sorted(name for name in needed if name not in given)
    missing += [] if within else [name for name in ('stages', 'systems') if name not in tree]
    if missing:
        raise InputError(f'the configuration has no {", ".join(missing)}; configs/base.py has all fields')
