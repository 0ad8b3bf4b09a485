"""Folders of scans as lists of cases, their split by subject, and the checks that a case must pass."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synseg_jax.errors import InputError

ROLES = ('train', 'val', 'test')


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
