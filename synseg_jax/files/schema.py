"""Validation of JSON content against type hints; errors name the file, the field and the remedy in one line.

A schema is a TypedDict, or a dataclass (its fields of type Path are not read from the file), of

    Any (numbers finite, at most 32 levels deep), bool, int, float (an integer is accepted), str, None, Literal
    list[T], tuple[T, ...], tuple[A, B]     a JSON array
    dict[str, T], Mapping[str, T]           a JSON object
    A | B                                   the first that matches
    Annotated[T, Check, ...]                a T for which all checks hold

Unknown fields, which files of other versions may have, are ignored by dataclasses and kept by TypedDicts.
"""

import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path, PureWindowsPath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Union, get_args, get_origin

from synseg_jax.errors import InputError
from synseg_jax.files import read_json

MAX_DEPTH = 32
MAX_INTEGER = 2**53  # largest integer that JSON readers agree on
WORDS = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'a text', list: 'a list'}
WORDS |= {NoneType: 'null', dict: 'an object of fields', tuple: 'a list'}


class Check(NamedTuple):
    """A condition on values, in words (for errors) and as a predicate."""

    words: str
    holds: Callable[[Any], bool]


def load(path: Path, kind: Any, remedy: str) -> Any:
    """Read a JSON file as schema `kind`; raises InputError if it is missing, damaged or does not match."""
    return conform(read_json(path, remedy), kind, str(path), remedy)


def conform(content: object, kind: Any, source: str, remedy: str) -> Any:
    """Validate `content` (as json.load returns it) against schema `kind`; arrays become tuples, integers floats.

    Raises InputError `source: field: <expected> is wanted, found <value>; remedy` on a mismatch.
    """
    try:
        return _conform(content, kind, '')
    except _Mismatch as error:
        raise InputError(f'{source}: {error}; {remedy}') from error


def inside(name: str) -> bool:
    """Whether a relative path stays below its base folder, on POSIX and Windows."""
    parts = PureWindowsPath(name).parts
    return bool(parts) and name.isprintable() and '..' not in parts and not PureWindowsPath(name).anchor


def printable(name: str) -> str:
    """A field name as shown in an error: quoted and escaped if it has unprintable characters."""
    return name if name.isprintable() else repr(name)


def between(low: float, high: float) -> Check:
    """Numbers in [low, high]."""
    return Check(f'from {low:g} to {high:g}', lambda value: low <= value <= high)


class _Mismatch(ValueError):
    """A value that does not match the schema at field `where`."""

    def __init__(self, where: str, expected: str, value: object):
        actual = '' if isinstance(value, _Absent) else f', found {_short(value)}'
        super().__init__(f'{where or "the file"}: {expected} is wanted{actual}')


class _Absent:
    """The value of a missing field."""


def _conform(value, kind, where):
    origin = get_origin(kind)
    if kind is Any:
        return _plain(value, where)
    if typing.is_typeddict(kind) or is_dataclass(kind):
        return _object(value, kind, where)
    if origin in (Union, UnionType):
        return _either(value, get_args(kind), where)
    if origin is NotRequired:
        return _conform(value, get_args(kind)[0], where)
    if origin is Annotated:
        return _annotated(value, where, *get_args(kind))
    if origin is Literal:
        return _literal(value, get_args(kind), where)
    if origin in (dict, Mapping):
        items = _instance(value, dict, where).items()
        return {name: _conform(item, get_args(kind)[1], _at(where, name)) for name, item in items}
    if origin in (list, tuple):
        return _list(value, kind, where)
    return _scalar(value, kind, where)


@cache
def _hints(kind) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _object(value, kind, where) -> dict:
    """The validated fields: all of `value` for a TypedDict, the declared ones but Paths for a dataclass."""
    _instance(value, dict, where)
    hints = _hints(kind)
    if typing.is_typeddict(kind):
        needed = kind.__required_keys__
    else:
        declared = [field for field in fields(kind) if hints[field.name] is not Path]
        needed = {field.name for field in declared if field.default is field.default_factory is MISSING}
        hints = {field.name: hints[field.name] for field in declared}
    if missing := sorted(needed - value.keys()):
        raise _Mismatch(_at(where, missing[0]), words(hints[missing[0]]), _Absent())
    kept = value if typing.is_typeddict(kind) else value.keys() & hints
    return {name: _conform(value[name], hints.get(name, Any), _at(where, name)) for name in kept}


def _either(value, kinds, where):
    for kind in kinds:
        try:
            return _conform(value, kind, where)
        except _Mismatch:
            continue
    raise _Mismatch(where, ' or '.join(map(words, kinds)), value)


def _annotated(value, where, kind, *checks):
    found = _conform(value, kind, where)
    if not all(check.holds(found) for check in checks):
        raise _Mismatch(where, ' '.join([words(kind), *(check.words for check in checks)]), value)
    return found


def _literal(value, choices, where):
    if isinstance(value, str) and value in choices:
        return value
    raise _Mismatch(where, ' or '.join(map(repr, choices)), value)


def _list(value, kind, where) -> list | tuple:
    _instance(value, list, where)
    kinds, origin = get_args(kind), get_origin(kind)
    fixed_length = origin is tuple and kinds[-1] is not Ellipsis
    if fixed_length and len(kinds) != len(value):
        raise _Mismatch(where, f'a list of {len(kinds)}', value)
    kinds = kinds if fixed_length else kinds[:1] * len(value)
    return origin(
        _conform(item, kind, f'{where}[{i}]') for i, (item, kind) in enumerate(zip(value, kinds, strict=True))
    )


def _scalar(value, kind, where):
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER:
        return float(value)
    _instance(value, kind, where)
    if type(value) is int and abs(value) > MAX_INTEGER or type(value) is float and not math.isfinite(value):
        raise _Mismatch(where, 'a number in range', value)
    return value


def _instance(value, kind, where):
    if type(value) is not kind:  # not isinstance: True is no integer here
        raise _Mismatch(where, WORDS[kind], value)
    return value


def _plain(value, where, depth=0):
    """Any JSON value of limited depth with numbers in range."""
    if depth > MAX_DEPTH:
        raise _Mismatch(where.split('[')[0], f'at most {MAX_DEPTH} levels', _Absent())
    if isinstance(value, dict):
        return {name: _plain(item, _at(where, name), depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, f'{where}[{i}]', depth + 1) for i, item in enumerate(value)]
    return _scalar(value, type(value), where)


def words(kind: Any) -> str:
    """The name of a type in errors and documents."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is NotRequired:
        return words(args[0])
    if origin is Annotated:
        return ' '.join([words(args[0]), *(check.words for check in args[1:])])
    if origin is Literal:
        return ' or '.join(map(repr, args))
    if origin in (Union, UnionType):
        return ' or '.join(map(words, args))
    return WORDS.get(origin or kind, WORDS[dict])


def _at(where, name) -> str:
    return f'{where}.{printable(name)}' if where else printable(name)


def _short(value) -> str:
    parts = value if isinstance(value, list) and len(value) < 8 else [value]
    text = repr(value) if all(isinstance(part, str | int | float | None) for part in parts) else WORDS[type(value)]
    return text if len(text) <= 60 else f'{text[:57]}...'
