"""Serialisation of values that processes exchange: JSON, with arrays as npz.  Unlike pickle, loading runs no code."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

JSON = 'json'  # the npz entry that holds the JSON text


def dumps(value: Any) -> bytes:
    """Serialise a value made of dicts, lists, tuples, arrays, strings and numbers."""
    arrays: list[np.ndarray] = []
    text = json.dumps(_pack(value, arrays))
    entries = {JSON: np.frombuffer(text.encode(), np.uint8), **{str(i): array for i, array in enumerate(arrays)}}
    file = io.BytesIO()
    np.savez(file, **entries)
    return file.getvalue()


def loads(content: bytes) -> Any:
    """The value that was serialised; named tuples become tuples, and numpy scalars Python numbers."""
    with np.load(io.BytesIO(content), allow_pickle=False) as entries:
        return _unpack(json.loads(entries[JSON].tobytes()), entries)


def _pack(value, arrays: list[np.ndarray]) -> Any:
    """`value` as JSON, its arrays appended to `arrays`; containers are tagged, as JSON has no tuples or other keys."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {'array': str(len(arrays) - 1)}
    if isinstance(value, dict):
        return {'dict': [[_pack(item, arrays) for item in pair] for pair in value.items()]}
    if isinstance(value, tuple):
        return {'tuple': [_pack(item, arrays) for item in value]}
    return [_pack(item, arrays) for item in value] if isinstance(value, list) else value


def _unpack(value, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    [(tag, content)] = value.items()
    if tag == 'array':
        return arrays[content]
    if tag == 'dict':
        return {_unpack(key, arrays): _unpack(item, arrays) for key, item in content}
    return tuple(_unpack(item, arrays) for item in content)
