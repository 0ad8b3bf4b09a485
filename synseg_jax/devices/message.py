"""Values as files that processes exchange: JSON, and arrays beside it.  Reading one runs no code, as a pickle would."""

import json
from pathlib import Path
from typing import Any

import numpy as np

JSON = 'json'  # the name of the text among the arrays


def write(path: Path, value: Any) -> None:
    """Writes a value of dicts, lists, tuples, arrays, text and numbers."""
    arrays: list[np.ndarray] = []
    text = json.dumps(_packed(value, arrays))
    content = {JSON: np.frombuffer(text.encode(), np.uint8), **{str(i): array for i, array in enumerate(arrays)}}
    with path.open('wb') as file:
        np.savez(file, **content)


def read(path: Path) -> Any:
    """What was written; named tuples have become tuples."""
    with np.load(path, allow_pickle=False) as content:
        return _unpacked(json.loads(content[JSON].tobytes()), content)


def _packed(value, arrays):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {'array': str(len(arrays) - 1)}
    if isinstance(value, dict):
        return {'dict': [[_packed(part, arrays) for part in pair] for pair in value.items()]}
    if isinstance(value, tuple):
        return {'tuple': [_packed(part, arrays) for part in value]}
    return [_packed(part, arrays) for part in value] if isinstance(value, list) else value


def _unpacked(value, arrays):
    if isinstance(value, list):
        return [_unpacked(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == 'array':
        return arrays[content]
    if kind == 'dict':
        return {_unpacked(key, arrays): _unpacked(part, arrays) for key, part in content}
    return tuple(_unpacked(part, arrays) for part in content)
