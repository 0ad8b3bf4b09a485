"""Folders of scans as lists of cases, their split by subject, and the checks that a case must pass."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from synseg_jax.data.volume import Volume
from synseg_jax.errors import InputError

ROLES = ('train', 'val', 'test')
TOLERANCE_MM = 1e-2  # of a voxel's place: headers round, registrations do not come this close


@dataclass(frozen=True)
class Case:
    """One scan of a dataset, the person it shows, and its label map if there is one."""

    id: str
    subject: str
    image: Path
    label: Path | None
    expected: Path | None = None  # where a label is looked for, as far as one place can be named


@dataclass(frozen=True)
class Dataset:
    """What a folder holds; `test_cases` are those that its layout sets aside for testing."""

    folder: Path
    channel_names: tuple[str, ...]
    labels: dict[str, int | str | tuple[int | str, ...]]  # see label_maps.Values
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...] = ()
    named_in: str = ''  # where its labels have their names
    own_channels: tuple[str, ...] = ()  # what the folder calls them, where a flag says otherwise

    @property
    def channel(self) -> str:
        """The name of the channel that is read, the first."""
        return self.channel_names[0]


def subject_of(case_id: str, expression: str, field: str = 'data.subject', meant: str = 'subject') -> str:
    """Group 1 of `expression`, searched in the case id; `field` and `meant` say in errors what it is."""
    try:
        found = re.search(expression, case_id)
        named = found and found.group(1)
    except (re.error, IndexError) as error:
        raise InputError(f'{field} {expression!r}: {error}; give a regular expression with one group') from error
    if not named:
        raise InputError(f'{field} {expression!r} finds no {meant} in case id {case_id!r}; change the expression')
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


def check_grid(image: Volume, label: Volume, name: str = 'the label map') -> None:
    """InputError, unless the label map has the image's grid; less than a hundredth of a millimetre counts as equal."""
    if image.array.shape != label.array.shape:
        raise InputError(
            f'{name}: label map has shape {label.array.shape}, its image {image.array.shape}; resample it to the image'
        )
    gap = _gap_mm(image, label)
    if gap > TOLERANCE_MM:
        raise InputError(f'{name}: {_difference(image, label, gap)}; copy the affine that is right or resample')


def label_values(array: Shaped[np.ndarray, '*space']) -> list[int]:
    """The values that occur in a map of unsigned integers, rising."""
    if array.dtype.itemsize > 2:
        return np.unique(array).tolist()
    present = np.zeros(2 ** (8 * array.dtype.itemsize), bool)
    present[array] = True
    return np.flatnonzero(present).tolist()


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
    spacing, other = (tuple(round(mm, 4) for mm in one.spacing_mm) for one in (image, label))
    directions = (one.affine[:3, :3] / one.spacing_mm for one in (image, label))
    parts = [f'voxels lie up to {gap:.3g} mm from those of its image']
    parts += [f'spacing {other} against {spacing}'] if spacing != other else []
    parts += ['axes point elsewhere'] if not np.allclose(*directions, atol=1e-4) else []
    parts += [f'origin {shift:.3g} mm apart'] if shift > 1e-3 else []
    return ', '.join(parts)
