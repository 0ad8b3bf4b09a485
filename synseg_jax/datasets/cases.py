"""Cases of a dataset, and their split by subject."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synseg_jax.errors import InputError, warn

ROLES = ('train', 'val', 'test')


@dataclass(frozen=True)
class Case:
    """One scan of a dataset, its subject, and its label map if there is one."""

    id: str
    subject: str
    image: Path
    label: Path | None
    expected: Path | None = None  # where the label map is looked for, if the layout has one place for it


@dataclass(frozen=True)
class Dataset:
    """The cases of a folder; `test_cases` are those that its layout reserves for testing."""

    folder: Path
    channel_names: tuple[str, ...]
    labels: dict[str, int | str | tuple[int | str, ...]]  # see label_maps.Values
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...] = ()
    named_in: str = ''  # file or flag that names its labels
    own_channels: tuple[str, ...] = ()  # channel names of the folder, if a flag overrides them
    phantom: Mapping | None = None  # see dataset_json.Phantom

    @property
    def channel(self) -> str:
        """The name of the first channel."""
        return self.channel_names[0]

    def channels(self, count: int) -> tuple[str, ...]:
        """The names of the first `count` channels; those that the folder does not name are called as the first."""
        return (*self.channel_names, *[self.channel] * count)[:count]


def warn_of_unread_channels(dataset: Dataset, count: int) -> None:
    """Warn where a dataset names more channels than the first `count`, which are read."""
    named = dataset.channel_names
    if len(named) > count:
        kept = f'only the first, {named[0]}, is' if count == 1 else f'only the first {count} are'
        warn('%s: of %d channels %s read; see data.channels', dataset.folder, len(named), kept)


def subject_of(case_id: str, expression: str, field: str = 'data.subject', noun: str = 'subject') -> str:
    """Group 1 of the regular expression searched in the case id; `field` and `noun` name it in errors."""
    try:
        match = re.search(expression, case_id)
        subject = match and match.group(1)
    except (re.error, IndexError) as error:
        raise InputError(f'{field} {expression!r}: {error}; give a regular expression with one group') from error
    if not subject:
        raise InputError(f'{field} {expression!r} finds no {noun} in case id {case_id!r}; change the expression')
    return subject


def split(cases: Sequence[Case], shares: Sequence[float], seed: int) -> dict[str, list[Case]]:
    """Random split by subject into train, val and test; every share > 0 gets at least one subject.

    Depends only on the names of the subjects and the seed.
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f'shares {tuple(shares)}: give non-negative shares of train, val and test that sum to 1')
    subjects = sorted({case.subject for case in cases})
    counts = _counts(len(subjects), shares)
    shuffled = np.random.default_rng(seed).permutation(len(subjects))
    role_of = dict(zip((subjects[i] for i in shuffled), np.repeat(ROLES, counts), strict=True))
    return {role: sorted((c for c in cases if role_of[c.subject] == role), key=lambda c: c.id) for role in ROLES}


def _counts(total, shares):
    """Numbers of subjects by the largest remainder method, at least one for every share > 0."""
    wanted = np.asarray(shares, float) * total
    counts = np.where(wanted > 0, np.maximum(np.floor(wanted + 1e-9), 1), 0).astype(int)
    if np.count_nonzero(counts) > total:
        raise InputError(
            f'{total} subjects are too few for {np.count_nonzero(counts)} splits; change the shares or add data'
        )
    while counts.sum() != total:
        up = counts.sum() < total
        # add to the split that lacks most, take from the one that has most to spare
        gain = np.where((wanted > 0) if up else (counts > 1), wanted - counts, -np.inf if up else np.inf)
        counts[gain.argmax() if up else gain.argmin()] += 1 if up else -1
    return counts
