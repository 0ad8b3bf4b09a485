"""dataset.json, as nnU-Net (versions 1 and 2) and the Medical Segmentation Decathlon (MSD) write it.

{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "kidneys": [2, 3]}}     nnU-Net 2
{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}}                         nnU-Net 1, MSD
"""

from pathlib import Path
from typing import Any

from synseg_jax.datasets import class_names
from synseg_jax.errors import InputError
from synseg_jax.files import read_json
from synseg_jax.formats import names
from synseg_jax.formats.label_maps import Values

JSON = 'dataset.json'
EXAMPLE = '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}'
WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError)  # what values of another type raise


def content(path: Path) -> dict[str, Any]:
    """All that it says; InputError where it is no JSON object."""
    found = read_json(path, 'repair it')
    if not isinstance(found, dict):
        raise InputError(f'{path}: describes no dataset, e.g. {EXAMPLE}; repair it')
    return found


def channel_names(path: Path) -> tuple[str, ...]:
    """The names of the channels by their numbers; InputError without any."""
    said = content(path)
    try:
        channels = said.get('channel_names') or said['modality']
        found = tuple(_name(channels[key]) for key in sorted(channels, key=int))
    except WRONG as error:
        raise InputError(f'{path}: needs "channel_names", e.g. {{"0": "CT"}}, but: {_told(error)}') from error
    if not found:
        raise InputError(f'{path}: needs a channel')
    return found


def label_table(path: Path) -> Values:
    """The values of the classes; InputError for such as cannot be told apart."""
    try:
        named = dict(content(path).get('labels') or {})
        if any(name.isdigit() for name in named):  # version 1: {'0': 'background'}
            named = _turned(named)
        values = {_name(name): _values(value) for name, value in named.items()}
    except InputError:
        raise
    except WRONG as error:
        raise InputError(
            f'{path}: needs "labels", e.g. {{"background": 0, "liver": 1}} (whole numbers, or lists of them), but: '
            f'{_told(error)}'
        ) from error
    if ignored := next((name for name in values if class_names.normalised(name) == 'ignore'), None):
        raise InputError(f'{path}: {ignored!r} is for voxels that nobody labelled; label them or leave the scans out')
    class_names.check(values, str(path), regions=True)
    return values


def entries(path: Path, field: str) -> list[tuple[Path, Path | None]]:
    """Image and label of every entry of a list: pairs, images alone, or the first of several images (nnU-Net 2)."""
    listed = content(path).get(field) or []
    if isinstance(listed, dict):
        listed = list(listed.values())
    if not isinstance(listed, list):
        raise InputError(f'{path}: {field!r} is no list; repair it')
    return [_pair(path, entry) for entry in listed]


def _pair(path, entry) -> tuple[Path, Path | None]:
    images, label = (entry.get('images'), entry.get('label')) if isinstance(entry, dict) else (entry, None)
    if isinstance(entry, dict) and 'image' in entry:
        images = entry['image']
    image = images[0] if isinstance(images, list) and images else images
    if not isinstance(image, str) or not image or not isinstance(label, str | None) or label == '':
        raise InputError(f'{path}: {entry!r} in its list is no pair of "image" and "label"; repair it')
    return _file(path, image), label and _file(path, label)


def _file(path, relative) -> Path:
    """What an entry names, below the folder of its dataset.json."""
    try:
        return names.resolve_below(path.parent, relative)
    except InputError as error:
        raise InputError(f'{path}: lists {relative!r}, no path below its folder; bring the file there') from error


def _turned(named) -> dict[str, Any]:
    """{name: value} of {value: name}."""
    found = {name: int(value) for value, name in named.items()}
    if len(found) < len(named):
        raise ValueError('two values have the same name')
    return found


def _name(value) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise TypeError(f'{value!r} is no name')
    return value


def _values(value) -> int | tuple[int, ...]:
    return tuple(map(_whole, value)) if isinstance(value, list) and value else _whole(value)


def _whole(value) -> int:
    if isinstance(value, bool) or isinstance(value, float) and not value.is_integer():
        raise ValueError(f'{value!r} is no whole number')
    return int(value)


def _told(error) -> str:
    return f'{type(error).__name__} {error}'
