"""JSON content checked against type hints: what a file says, or one line with the file, the field and the remedy.

A schema is a TypedDict, or a dataclass whose Path says where the file lies, of

    Any (numbers finite, at most 32 levels deep), bool, int, float (a whole number will do), str, None, Literal
    list[T], tuple[T, ...], tuple[A, B]     a list in JSON
    dict[str, T], Mapping[str, T]           an object in JSON
    A | B                                   the first that fits
    Annotated[T, Check, ...]                a T for which all checks hold

Unknown fields are passed over, those of TypedDicts kept: files of other versions may have them.
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

DEEPEST = 32
LARGEST = 2**53  # whole numbers up to which JSON's readers agree
WORDS = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'a text', list: 'a list'}
WORDS |= {NoneType: 'null', dict: 'an object of fields', tuple: 'a list'}


class Check(NamedTuple):
    """Which values are allowed, in words and as a function."""

    words: str
    holds: Callable[[Any], bool]


def load(path: Path, kind: Any, remedy: str) -> Any:
    """The content of a JSON file as `kind`; InputError for a file that is missing, damaged or of another kind."""
    return conform(read_json(path, remedy), kind, str(path), remedy)


def conform(content: object, kind: Any, place: str, remedy: str) -> Any:
    """`content`, as json.load returns it, as `kind`; lists become tuples and numbers floats where it says so.

    InputError `place: field: what is wanted, found what is there; remedy` where it is of another kind.
    """
    try:
        return _conform(content, kind, '')
    except _Mismatch as error:
        raise InputError(f'{place}: {error}; {remedy}') from error


def inside(name: str) -> bool:
    """Whether a path, as a file names it, stays in the folder that it starts from, on every system."""
    parts = PureWindowsPath(name).parts
    return bool(parts) and name.isprintable() and '..' not in parts and not PureWindowsPath(name).anchor


def printable(name: str) -> str:
    """A name out of a file as an error may show it, in its line."""
    return name if name.isprintable() else repr(name)


def between(low: float, high: float) -> Check:
    """Numbers from low to high."""
    return Check(f'from {low:g} to {high:g}', lambda value: low <= value <= high)


class _Mismatch(ValueError):
    """What is wanted of a field, and what is there."""

    def __init__(self, where: str, wanted: str, found: object):
        text = '' if isinstance(found, _Absent) else f', found {_short(found)}'
        super().__init__(f'{where or "the file"}: {wanted} is wanted{text}')


class _Absent:
    """Of a field that is not there."""


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
        return {name: _conform(of, get_args(kind)[1], _at(where, name)) for name, of in _is(value, dict, where).items()}
    if origin in (list, tuple):
        return _list(value, kind, where)
    return _scalar(value, kind, where)


@cache
def _hints(kind) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _object(value, kind, where) -> dict:
    """The fields of a TypedDict with all others, or those of a dataclass alone but for where its file lies."""
    _is(value, dict, where)
    hints = _hints(kind)
    if typing.is_typeddict(kind):
        needed = kind.__required_keys__
    else:
        own = [field for field in fields(kind) if hints[field.name] is not Path]
        needed = {field.name for field in own if field.default is field.default_factory is MISSING}
        hints = {field.name: hints[field.name] for field in own}
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
    _is(value, list, where)
    kinds, origin = get_args(kind), get_origin(kind)
    if origin is tuple and kinds[-1] is not Ellipsis and len(kinds) != len(value):
        raise _Mismatch(where, f'a list of {len(kinds)}', value)
    each = kinds if origin is tuple and kinds[-1] is not Ellipsis else kinds[:1] * len(value)
    return origin(_conform(of, own, f'{where}[{i}]') for i, (of, own) in enumerate(zip(value, each, strict=True)))


def _scalar(value, kind, where):
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return float(value)
    found = _is(value, kind, where)
    if type(value) is int and abs(value) > LARGEST or type(value) is float and not math.isfinite(value):
        raise _Mismatch(where, 'a number in range', value)
    return found


def _is(value, kind, where):
    if type(value) is not kind:  # True is no whole number
        raise _Mismatch(where, WORDS[kind], value)
    return value


def _plain(value, where, depth=0):
    """Whatever JSON may hold, as far as anybody can work with it."""
    if depth > DEEPEST:
        raise _Mismatch(where.split('[')[0], f'at most {DEEPEST} levels', _Absent())
    if isinstance(value, dict):
        return {name: _plain(of, _at(where, name), depth + 1) for name, of in value.items()}
    if isinstance(value, list):
        return [_plain(of, f'{where}[{i}]', depth + 1) for i, of in enumerate(value)]
    return _scalar(value, type(value), where)


def words(kind: Any) -> str:
    """What a kind is called in errors and documents."""
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
    text = repr(value) if all(isinstance(of, str | int | float | None) for of in parts) else WORDS[type(value)]
    return text if len(text) <= 60 else f'{text[:57]}...'
