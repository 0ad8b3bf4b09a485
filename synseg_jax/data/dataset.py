"""nnU-Net raw folders as lists of cases, and the checks that a case must pass."""

import difflib
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging
from jaxtyping import Shaped

from synseg_jax.data.volume import READERS, Volume
from synseg_jax.errors import InputError

ROLES = ('train', 'val', 'test')
TREE = 'expected: dataset.json, imagesTr/<case>_0000.nii.gz and, where labelled, labelsTr/<case>.nii.gz'
TOLERANCE_MM = 1e-2  # of a voxel's place: headers round, registrations do not come this close


@dataclass(frozen=True)
class Case:
    """One scan of a dataset, the person it shows, and its label map if there is one."""

    id: str
    subject: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class Dataset:
    """A folder as described by its dataset.json; `test_cases` are those of imagesTs."""

    folder: Path
    channel_names: tuple[str, ...]
    labels: dict[str, int]
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...] = ()

    @property
    def channel(self) -> str:
        """The name of the channel that is read, the first."""
        return self.channel_names[0]


def read_dataset(folder: str | Path, subject: str = '(.+)') -> Dataset:
    """The dataset in `folder`; group 1 of the expression `subject`, searched in a case id, names the person.

    Raises InputError naming the first path that is not as nnU-Net lays it out.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder; {TREE}')
    channel_names, labels = _description(folder / 'dataset.json')
    if len(channel_names) > 1:
        logging.warning('%s: of %d channels only the first, %r, is read', folder, len(channel_names), channel_names[0])
    cases, test_cases = (_cases(folder, part, len(channel_names), subject) for part in ('Tr', 'Ts'))
    if not cases and not test_cases:
        raise InputError(f'{folder / "imagesTr"}: {_emptiness(folder / "imagesTr")}; {TREE}')
    return Dataset(folder, channel_names, labels, cases, test_cases)


def checked_id(case_id: str) -> str:
    """`case_id`, if it may become part of a file name; else InputError."""
    if not case_id or case_id[0] in '.-' or not case_id.isprintable() or re.search(r'[/\\]', case_id):
        raise InputError(f'case id {case_id!r} may not become a file name; rename the case')
    return case_id


def subject_of(case_id: str, expression: str) -> str:
    """Group 1 of `expression`, searched in the case id."""
    try:
        found = re.search(expression, case_id)
        named = found and found.group(1)
    except (re.error, IndexError) as error:
        raise InputError(f'data.subject {expression!r}: {error}; give a regular expression with one group') from error
    if not named:
        raise InputError(f'data.subject {expression!r} finds no subject in case id {case_id!r}; change the expression')
    return named


def split(cases: Sequence[Case], shares: Sequence[float], seed: int) -> dict[str, list[Case]]:
    """Cases by role (train, val, test), no subject in two of them, each share > 0 getting at least one subject.

    The draw depends on the subjects' names and the seed alone.
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f'shares {tuple(shares)}: give train, val and test, not negative, summing to 1')
    subjects = sorted({case.subject for case in cases})
    counts = _counts(len(subjects), shares)
    shuffled = np.random.default_rng(seed).permutation(len(subjects))
    role_of = dict(zip((subjects[i] for i in shuffled), np.repeat(ROLES, counts), strict=True))
    return {role: sorted((c for c in cases if role_of[c.subject] == role), key=lambda c: c.id) for role in ROLES}


def check_pair(image: Volume, label: Volume, allowed_values: Iterable[int], name: str = 'the label map') -> None:
    """InputError, unless the label map has the image's grid and only values that dataset.json names.

    Grids that differ by less than a hundredth of a millimetre count as equal.
    """
    if image.array.shape != label.array.shape:
        raise InputError(
            f'{name}: label map has shape {label.array.shape}, its image {image.array.shape}; resample it to the image'
        )
    gap = _gap_mm(image, label)
    if gap > TOLERANCE_MM:
        raise InputError(f'{name}: {_difference(image, label, gap)}; copy the affine that is right or resample')
    unknown = sorted(set(label_values(label.array)) - set(allowed_values))
    if unknown:
        raise InputError(
            f'{name}: label values {", ".join(map(str, unknown[:10]))} are not in dataset.json; '
            'name them there or remove them'
        )


def label_values(array: Shaped[np.ndarray, '*space']) -> list[int]:
    """The values that occur in a map of unsigned integers, rising."""
    if array.dtype.itemsize > 2:
        return np.unique(array).tolist()
    present = np.zeros(2 ** (8 * array.dtype.itemsize), bool)
    present[array] = True
    return np.flatnonzero(present).tolist()


def _description(path):
    """Channel names and label values of a dataset.json, of version 2 or 1 of nnU-Net."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise InputError(f'{path}: no such file; {TREE}') from None
    except (ValueError, OSError) as error:
        raise InputError(f'{path}: not readable as JSON ({error}); repair it') from error
    try:
        channels = content.get('channel_names') or content['modality']
        labels = dict(content.get('labels') or {})
        if any(name.isdigit() for name in labels):  # version 1: {'0': 'background'}
            labels = {name: int(value) for value, name in labels.items()}
        names = tuple(str(channels[key]) for key in sorted(channels, key=int))
        values = {str(name): int(value) for name, value in labels.items()}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f'{path}: needs "channel_names", e.g. {{"0": "CT"}}, and "labels", e.g. {{"background": 0, "liver": 1}} '
            f'(whole numbers, no regions), but: {type(error).__name__} {error}'
        ) from error
    if not names or len(set(values.values())) != len(values) or min(values.values(), default=0) < 0:
        raise InputError(f'{path}: needs a channel, and labels with different values from 0 up')
    return names, values


def _cases(folder, part, channels, subject):
    """Cases of one part (Tr or Ts), sorted by id; none where the part is not there."""
    images, labels = folder / f'images{part}', folder / f'labels{part}'
    image_of = _image_of(images, channels)
    label_of = _scans(labels)
    # labels that carry the channel's number too are understood
    label_of = {key if key in image_of else key.removesuffix('_0000'): path for key, path in label_of.items()}
    for orphan in sorted(set(label_of) - set(image_of)):
        hint = _hint(orphan, set(image_of) - set(label_of) or image_of)
        raise InputError(f'{label_of[orphan]}: no image for it in {images.name}{hint}')
    return tuple(
        Case(checked_id(key), subject_of(key, subject), image_of[key], label_of.get(key)) for key in sorted(image_of)
    )


def _image_of(images, channels):
    """The first channel's file of every case id; names without `_0000` are taken as they are, if all are."""
    scans = _scans(images)
    if not any(key.endswith('_0000') for key in scans):
        return scans
    first, others = {}, {}
    for key, path in scans.items():
        case_id, _, number = key.rpartition('_')
        if not case_id or not re.fullmatch(r'\d{4}', number) or int(number) >= channels:
            raise InputError(f'{path}: not one of the {channels} channels in dataset.json; did you mean {key}_0000?')
        (others if int(number) else first)[case_id] = path
    for case_id in set(others) - set(first):
        raise InputError(f'{others[case_id]}: no first channel for it; did you mean {case_id}_0000?')
    return first


def _scans(folder):
    """Readable scans of a folder by name without suffix, sorted; nothing where the folder is not there."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = max((s for s in READERS if path.name.lower().endswith(s)), key=len, default=None)
        if suffix is None or path.name.startswith('.'):
            continue
        key = path.name[: -len(suffix)]
        if key in found:
            raise InputError(f'{path}: the same case as {found[key].name}; keep one of the two')
        found[key] = path
    return found


def _emptiness(images):
    """What is wrong with a folder of images that gave none."""
    if not images.is_dir():
        near = [path.name for path in images.parent.iterdir() if path.is_dir()]
        return f'no such folder{_hint(images.name, near)}'
    return f'no scans in it (known kinds: {", ".join(sorted(READERS))})'


def _hint(word, candidates):
    near = difflib.get_close_matches(word, sorted(candidates), n=1)
    return f'; did you mean {near[0]}?' if near else ''


def _counts(total, shares):
    """How many of `total` each share gets: none for 0, else at least one, the rest by largest remainder."""
    wanted = np.asarray(shares, float) * total
    counts = np.where(wanted > 0, np.maximum(np.floor(wanted + 1e-9), 1), 0).astype(int)
    if np.count_nonzero(counts) > total:
        raise InputError(
            f'{total} subjects cannot fill {np.count_nonzero(counts)} roles; change the shares or add data'
        )
    while counts.sum() != total:
        up = counts.sum() < total
        # give to the role that misses most, take from the one that has most to spare
        gain = np.where((wanted > 0) if up else (counts > 1), wanted - counts, -np.inf if up else np.inf)
        counts[gain.argmax() if up else gain.argmin()] += 1 if up else -1
    return counts


def _gap_mm(image: Volume, label: Volume) -> float:
    """The largest distance between the places that the two affines give to a corner of the grid."""
    corners = np.array([*itertools.product(*((0, length - 1) for length in image.array.shape))])
    moved = (image.affine - label.affine) @ np.c_[corners, np.ones(8)].T
    return float(np.linalg.norm(moved[:3], axis=0).max())


def _difference(image, label, gap):
    """In words: how two affines differ."""
    shift = np.linalg.norm(image.affine[:3, 3] - label.affine[:3, 3])
    spacing, other = (tuple(round(mm, 4) for mm in volume.spacing_mm) for volume in (image, label))
    directions = (volume.affine[:3, :3] / volume.spacing_mm for volume in (image, label))
    parts = [f'voxels lie up to {gap:.3g} mm from those of its image']
    parts += [f'spacing {other} against {spacing}'] if spacing != other else []
    parts += ['axes point elsewhere'] if not np.allclose(*directions, atol=1e-4) else []
    parts += [f'origin {shift:.3g} mm apart'] if shift > 1e-3 else []
    return ', '.join(parts)
