"""dataset.json of nnU-Net (versions 1 and 2) and of the Medical Segmentation Decathlon (MSD).

{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "kidneys": [2, 3]}}     nnU-Net 2
{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}}                         nnU-Net 1, MSD
"""

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from synseg_jax.datasets import class_names
from synseg_jax.errors import InputError
from synseg_jax.files import read_json, schema
from synseg_jax.formats import names
from synseg_jax.formats.label_maps import Values

JSON = 'dataset.json'
EXAMPLE = '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}'
TYPE_ERRORS = (KeyError, TypeError, ValueError, AttributeError, IndexError)  # raised by values of another type


class Phantom(TypedDict):
    """What a phantom was made of, as far as the same people can be scanned again in another modality."""

    modality: str
    seed: int
    region: str
    plane: str
    cohort: NotRequired[str]


def phantom(path: Path) -> Phantom | None:
    """What the phantom was made of that it describes; None of scans of people."""
    try:
        return schema.conform(content(path).get('phantom'), Phantom, str(path), '')
    except InputError:
        return None


def content(path: Path) -> dict[str, Any]:
    """The JSON object; raises InputError if the file contains something else."""
    found = read_json(path, 'repair it')
    if not isinstance(found, dict):
        raise InputError(f'{path}: not a dataset description, e.g. {EXAMPLE}; repair it')
    return found


def channel_names(path: Path) -> tuple[str, ...]:
    """The names of the channels in order of their numbers; raises InputError if there are none."""
    found = content(path)
    try:
        by_number = found.get('channel_names') or found['modality']
        channels = tuple(_name(by_number[key]) for key in sorted(by_number, key=int))
    except TYPE_ERRORS as error:
        raise InputError(f'{path}: needs "channel_names", e.g. {{"0": "CT"}}, but: {_line(error)}') from error
    if not channels:
        raise InputError(f'{path}: "channel_names" is empty; name the channel, e.g. {{"0": "CT"}}')
    return channels


def class_values(path: Path) -> Values:
    """{class: label value(s)}; raises InputError for shared values (except regions) and for an ignore label."""
    try:
        labels = dict(content(path).get('labels') or {})
        if any(name.isdigit() for name in labels):  # version 1: {'0': 'background'}
            labels = _inverted(labels)
        values = {_name(name): _values(value) for name, value in labels.items()}
    except InputError:
        raise
    except TYPE_ERRORS as error:
        raise InputError(
            f'{path}: needs "labels", e.g. {{"background": 0, "liver": 1}} (whole numbers, or lists of them), but: '
            f'{_line(error)}'
        ) from error
    if ignored := next((name for name in values if class_names.normalised(name) == 'ignore'), None):
        raise InputError(f'{path}: ignore label {ignored!r} is not supported; label its voxels or leave the scans out')
    class_names.check(values, str(path), regions=True)
    return values


def entries(path: Path, field: str) -> list[tuple[Path, Path | None]]:
    """(image, label) of every entry of a list: of pairs, of images, or of lists of images (nnU-Net 2), the first."""
    items = content(path).get(field) or []
    if isinstance(items, dict):
        items = list(items.values())
    if not isinstance(items, list):
        raise InputError(f'{path}: {field!r} is not a list; repair it')
    return [_pair(path, entry) for entry in items]


def _pair(path, entry) -> tuple[Path, Path | None]:
    images, label = (entry.get('images'), entry.get('label')) if isinstance(entry, dict) else (entry, None)
    if isinstance(entry, dict) and 'image' in entry:
        images = entry['image']
    image = images[0] if isinstance(images, list) and images else images
    if not isinstance(image, str) or not image or not isinstance(label, str | None) or label == '':
        raise InputError(f'{path}: list entry {entry!r} is not a pair of "image" and "label"; repair it')
    return _file(path, image), label and _file(path, label)


def _file(path, relative) -> Path:
    """The file of an entry, below the folder of its dataset.json."""
    try:
        return names.resolve_below(path.parent, relative)
    except InputError as error:
        raise InputError(f'{path}: lists {relative!r}, not a path below its folder; move the file there') from error


def _inverted(labels) -> dict[str, Any]:
    """{name: value} of {value: name}."""
    values = {name: int(value) for value, name in labels.items()}
    if len(values) < len(labels):
        raise ValueError('two values have the same name')
    return values


def _name(value) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise TypeError(f'{value!r} is not a name')
    return value


def _values(value) -> int | tuple[int, ...]:
    return tuple(map(_integer, value)) if isinstance(value, list) and value else _integer(value)


def _integer(value) -> int:
    if isinstance(value, bool) or isinstance(value, float) and not value.is_integer():
        raise ValueError(f'{value!r} is not a whole number')
    return int(value)


def _line(error) -> str:
    return f'{type(error).__name__} {error}'
