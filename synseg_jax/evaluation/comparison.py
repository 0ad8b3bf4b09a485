"""Several systems on the same cases, beside the numbers of a paper: what a report holds, and its statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synseg_jax.evaluation.summary import Case

MEAN = 'mean'  # the organ that stands for the mean over organs


@dataclass(frozen=True)
class Row:
    """One system on one set of test scans, run or yet to run."""

    name: str
    set: str = ''  # the test scans, where the rows of a report have several sets
    cases: Mapping[str, Case] | None = None  # {case: {organ: {measure: value or None}}}; None: not run
    reported: Mapping[str, str] = field(default_factory=dict)  # {measure or 'organ/measure': the paper's cell}
    reads_target_labels: bool = False  # in training
    seconds: float | None = None
    memory_gib: float | None = None
    seed: int | None = None
    steps: int | None = None
    note: str = ''
    pictures: Mapping[str, Path] = field(default_factory=dict)  # {caption: PNG}, such as the telling cases
    curves: Path | None = None  # PNG of the training
    config: str = ''  # text of the configuration

    @property
    def title(self) -> str:
        """Name and set."""
        return f'{self.name}, {self.set}' if self.set else self.name


@dataclass(frozen=True)
class Report:
    """A table of rows; `reported` keys without an organ belong to the first of `organs`.

    Two rows with the same name and set, a `reference` that no row has, and reported numbers of an organ or measure
    that the table lacks are ValueErrors.
    """

    title: str
    source: str  # the paper and its table
    organs: tuple[str, ...]  # in the table; 'mean' is the mean over organs
    measures: tuple[str, ...]  # keys of the cases, such as dice, iou, asd_mm, hd95_mm, auc
    reference: str  # name of the row that the others of its set are tested against; '' for no tests
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None  # of all together
    pictures: Mapping[str, Path] = field(default_factory=dict)  # {caption: PNG} of several rows, such as ROC curves

    def __post_init__(self):
        titles = [row.title for row in self.rows]
        if repeated := sorted({title for title in titles if titles.count(title) > 1}):
            raise ValueError(f'rows with the same name and set: {", ".join(repeated)}')
        names = {row.name for row in self.rows}
        if self.reference and self.reference not in names:
            raise ValueError(f'no row is named {self.reference!r}, the reference; there are {", ".join(sorted(names))}')
        known = {*self.measures, *(f'{organ}/{measure}' for organ in self.organs for measure in self.measures)}
        for row in self.rows:
            if unknown := sorted(row.reported.keys() - known):
                raise ValueError(f'{row.title} reports {", ".join(unknown)}; the table has {", ".join(sorted(known))}')
