"""The interface of dataset layouts, and helpers that they share."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from synseg_jax.datasets.cases import Case, Dataset, subject_of
from synseg_jax.errors import InputError
from synseg_jax.formats.names import checked_id


@runtime_checkable
class Layout(Protocol):
    """A folder structure of scans and labels."""

    name: str  # FOLDER#name selects it where several layouts fit
    structure: str  # the expected files, for errors

    def fits(self, folder: Path) -> bool:
        """Whether the folder has the distinguishing files of this layout; they need not be complete or valid."""
        ...

    def read(self, folder: Path, subject: str) -> Dataset:
        """The cases, without channels or labels if nothing names them; raises InputError naming the first wrong path.

        `subject` is the regular expression that finds the subject in a case id, for layouts without subjects.
        """
        ...


def paired(images: Mapping[str, Path], labels: Mapping[str, Path], subject: str, folder: Path) -> tuple[Case, ...]:
    """The sorted cases of images and labels of the same name; `folder` is that of the labels.

    Raises InputError for a label without image.
    """
    for orphan in sorted(set(labels) - set(images)):
        similar = hint(orphan, set(images) - set(labels) or images)
        raise InputError(f'{labels[orphan]}: no image for it{similar}')
    return tuple(
        Case(checked_id(case), subject_of(case, subject), images[case], labels.get(case), folder / f'{case}.nii.gz')
        for case in sorted(images)
    )


def hint(name: str, candidates: Iterable[str]) -> str:
    """`; did you mean ...?` if one of the candidates is similar; else ''."""
    similar = difflib.get_close_matches(name, sorted(candidates), n=1)
    return f'; did you mean {similar[0]}?' if similar else ''
