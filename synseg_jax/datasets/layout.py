"""What every layout has in common: a word to ask for it, the tree it expects, and cases made of names that match."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from synseg_jax.datasets.cases import Case, Dataset, subject_of
from synseg_jax.errors import InputError
from synseg_jax.formats.names import checked_id


@runtime_checkable
class Layout(Protocol):
    """A way in which scans lie in a folder."""

    word: str  # FOLDER#word asks for it, where a folder could be read in several ways
    tree: str  # what it expects, in a few words

    def fits(self, folder: Path) -> bool:
        """Whether the folder has what tells this layout from others; complete or sound it need not be."""
        ...

    def read(self, folder: Path, subject: str) -> Dataset:
        """The cases, without channel or labels where nothing says them; InputError naming the first wrong path.

        `subject` is the expression that finds the person in a case id, where ids are all that tells people apart.
        """
        ...


def paired(image_of: Mapping[str, Path], label_of: Mapping[str, Path], subject: str, labels: Path) -> tuple[Case, ...]:
    """The cases of images and labels (from the folder `labels`) under the same names, sorted.

    InputError for a label without image.
    """
    for orphan in sorted(set(label_of) - set(image_of)):
        near = hint(orphan, set(image_of) - set(label_of) or image_of)
        raise InputError(f'{label_of[orphan]}: no image for it{near}')
    return tuple(
        Case(checked_id(key), subject_of(key, subject), image_of[key], label_of.get(key), labels / f'{key}.nii.gz')
        for key in sorted(image_of)
    )


def hint(word: str, candidates: Iterable[str]) -> str:
    """`; did you mean ...?`, if one of the candidates looks like the word."""
    near = difflib.get_close_matches(word, sorted(candidates), n=1)
    return f'; did you mean {near[0]}?' if near else ''
