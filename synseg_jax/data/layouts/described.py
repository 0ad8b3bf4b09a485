"""Folders that a dataset.json describes: nnU-Net raw, and the Medical Segmentation Decathlon (MSD)."""

import json
import re
from pathlib import Path

from absl import logging

from synseg_jax.data import volume
from synseg_jax.data.dataset import Case, Dataset, checked_id, subject_of
from synseg_jax.data.label_maps import Values
from synseg_jax.data.layouts import class_values
from synseg_jax.data.layouts.layout import hint, paired
from synseg_jax.errors import InputError

JSON = 'dataset.json'
EXAMPLE = '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}'
MANY = 10**4  # more channels than four digits can number


class NnUNet:
    """nnU-Net's raw folders, of version 2 or 1; names without the channel's number are taken as they are, if all are.

    dataset.json            {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    imagesTr/p1_0000.nii.gz
    labelsTr/p1.nii.gz      where labelled
    imagesTs/, labelsTs/    likewise, test cases
    """

    word = 'nnU-Net'
    tree = f'{JSON}, imagesTr/<case>_0000.nii.gz and, where labelled, labelsTr/<case>.nii.gz'

    def fits(self, folder: Path) -> bool:
        there = any((folder / name).exists() for name in (JSON, 'imagesTr', 'imagesTs'))
        return there and not Decathlon().fits(folder)

    def read(self, folder: Path, subject: str) -> Dataset:
        channels, labels = _description(folder / JSON) if (folder / JSON).exists() else ((), {})
        if len(channels) > 1:
            logging.warning('%s: of %d channels only the first, %r, is read', folder, len(channels), channels[0])
        cases, test_cases = (_cases(folder, part, len(channels) or MANY, subject) for part in ('Tr', 'Ts'))
        if not cases and not test_cases:
            raise InputError(f'{folder / "imagesTr"}: {_emptiness(folder / "imagesTr")}; expected: {self.tree}')
        return Dataset(folder, channels, labels, cases, test_cases, str(folder / JSON))


class Decathlon:
    """Tasks of the Medical Segmentation Decathlon as they unpack, of one channel.

    dataset.json            {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"},
                             "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
                             "test": ["./imagesTs/b.nii.gz"]}
    """

    word = 'MSD'
    tree = f'{JSON} with a list "training"'

    def fits(self, folder: Path) -> bool:
        """Not nnU-Net's version 1, which has the same list and numbers the channels of its files."""
        if not (folder / JSON).is_file() or any((folder / 'imagesTr').glob('*_0000.*')):
            return False
        try:
            listed = json.loads((folder / JSON).read_text(encoding='utf-8'))['training']
            return isinstance(listed, list) and any('image' in entry for entry in listed)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def read(self, folder: Path, subject: str) -> Dataset:
        channels, labels = _description(folder / JSON)
        if len(channels) > 1:
            raise InputError(
                f'{folder / JSON}: {len(channels)} channels ({", ".join(channels)}) in one 4-D file a scan; write the '
                'one that is meant as 3-D files, and name it alone in "modality"'
            )
        content = json.loads((folder / JSON).read_text(encoding='utf-8'))
        cases, test_cases = (
            tuple(_listed(folder, entry, subject) for entry in content.get(part) or ()) for part in ('training', 'test')
        )
        return Dataset(folder, channels, labels, cases, test_cases, str(folder / JSON))


def label_table(path: Path) -> Values:
    """The label values of a dataset.json, of version 2 or 1 of nnU-Net, or of the Decathlon; InputError for others."""
    try:
        named = dict(_content(path).get('labels') or {})
        if any(name.isdigit() for name in named):  # version 1: {'0': 'background'}
            named = {name: int(value) for value, name in named.items()}
        values = {str(name): _values(value) for name, value in named.items()}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f'{path}: needs "labels", e.g. {{"background": 0, "liver": 1}} (whole numbers, or lists of them), but: '
            f'{_told(error)}'
        ) from error
    if ignored := next((name for name in values if class_values.plain(name) == 'ignore'), None):
        raise InputError(f'{path}: {ignored!r} is for voxels that nobody labelled; label them or leave the scans out')
    class_values.check(values, str(path), regions=True)
    return values


def _description(path) -> tuple[tuple[str, ...], Values]:
    """Channel names and label values of a dataset.json."""
    content = _content(path)
    try:
        channels = content.get('channel_names') or content['modality']
        names = tuple(str(channels[key]) for key in sorted(channels, key=int))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f'{path}: needs "channel_names", e.g. {{"0": "CT"}}, but: {_told(error)}') from error
    if not names:
        raise InputError(f'{path}: needs a channel')
    return names, label_table(path)


def _content(path) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise InputError(f'{path}: not readable as JSON ({error}); repair it') from error
    if not isinstance(content, dict):
        raise InputError(f'{path}: describes no dataset, e.g. {EXAMPLE}; repair it')
    return content


def _told(error) -> str:
    return f'{type(error).__name__} {error}'


def _values(value) -> int | tuple[int, ...]:
    if isinstance(value, list) and value:
        return tuple(int(v) for v in value)
    return int(value)


def _cases(folder, part, channels, subject):
    """Cases of one part (Tr or Ts), sorted by id; none where the part is not there."""
    image_of, labels = _image_of(folder / f'images{part}', channels), folder / f'labels{part}'
    label_of = volume.found(labels)
    # labels that carry the channel's number too are understood
    label_of = {key if key in image_of else key.removesuffix('_0000'): path for key, path in label_of.items()}
    return paired(image_of, label_of, subject, labels)


def _image_of(images, channels):
    """The first channel's file of every case id; names without `_0000` are taken as they are, if all are."""
    scans = volume.found(images)
    if not any(key.endswith('_0000') for key in scans):
        return scans
    first, others = {}, {}
    for key, path in scans.items():
        case_id, _, number = key.rpartition('_')
        if not case_id or not re.fullmatch(r'\d{4}', number) or int(number) >= channels:
            raise InputError(f'{path}: not one of the {channels} channels in {JSON}; did you mean {key}_0000?')
        (others if int(number) else first)[case_id] = path
    for case_id in set(others) - set(first):
        raise InputError(f'{others[case_id]}: no first channel for it; did you mean {case_id}_0000?')
    return first


def _emptiness(images):
    """What is wrong with a folder of images that gave none."""
    if not images.is_dir():
        return f'no such folder{hint(images.name, [path.name for path in images.parent.iterdir() if path.is_dir()])}'
    return f'no scans in it (known kinds: {volume.KINDS})'


def _listed(folder, entry, subject) -> Case:
    """The case that an entry of a Decathlon's list means: a pair, or the name of an image alone."""
    image, label = (entry.get('image'), entry.get('label')) if isinstance(entry, dict) else (entry, None)
    if not isinstance(image, str) or not isinstance(label, str | None):
        raise InputError(f'{folder / JSON}: {entry!r} in its list is no pair of "image" and "label"; repair it')
    paths = [folder / name for name in (image, label) if name]
    for path in paths:
        if not path.is_file():
            near = hint(path.name, _names_in(path.parent))
            raise InputError(f'{path}: no such file, though {JSON} lists it{near}')
    key = checked_id(volume.name(paths[0]))
    labels = folder / 'labelsTr' / f'{key}.nii.gz'
    return Case(key, subject_of(key, subject), paths[0], paths[1] if label else None, labels)


def _names_in(folder) -> list[str]:
    """The names of the files in a folder, none where it is not there."""
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []
