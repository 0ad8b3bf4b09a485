"""The data of a report: systems on the same cases beside the numbers of a paper, and their statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from synseg_jax.evaluation.protocols import NATIVE
from synseg_jax.evaluation.seeds import CrossedTest, crossed_test
from synseg_jax.evaluation.statistics import SignedRank, holm, mean_interval, signed_rank
from synseg_jax.evaluation.summary import Case, organ_means, statistics

MEAN = 'mean'  # in place of an organ: the mean over organs
LEVEL = 0.05  # significance level


@dataclass(frozen=True)
class Row:
    """A system on a test set; `cases` is None where it has not run."""

    name: str
    set: str = ''  # name of the test set, if the report has several
    cases: Mapping[str, Case] | None = None  # {case: {organ: {metric: value or None}}}
    by_seed: Mapping[int, Mapping[str, Case]] = field(default_factory=dict)  # of several seeds; `cases` is their mean
    pooled: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)  # {organ: {metric: of all cases}}
    reported: Mapping[str, str] = field(default_factory=dict)  # {metric or 'organ/metric': the paper's cell}
    reads_target_labels: bool = False  # in training
    transductive: bool = False  # trained on the images of the test scans
    seconds: float | None = None
    memory_gib: float | None = None
    seed: int | None = None
    steps: int | None = None
    note: str = ''
    pictures: Mapping[str, Path] = field(default_factory=dict)  # {caption: PNG}, such as best and worst cases
    curves: Mapping[str, Path] = field(default_factory=dict)  # {caption: PNG} of training curves
    config: str = ''  # text of the configuration

    @property
    def title(self) -> str:
        """Name and set."""
        return f'{self.name}, {self.set}' if self.set else self.name


@dataclass(frozen=True)
class Report:
    """A table of rows; `reported` keys without an organ are of the first of `organs`.

    ValueError for two rows with the same name and set, a `reference` that is not a row, and reported numbers of an
    organ or metric that is not in the table.
    """

    title: str
    source: str  # paper and table that is reproduced
    organs: tuple[str, ...]  # columns; 'mean' is the mean over organs
    measures: tuple[str, ...]  # names in evaluation.registry
    reference: str  # name of the rows that others of their set are tested against; '' for no tests
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None  # total of all rows
    pictures: Mapping[str, Path] = field(default_factory=dict)  # {caption: PNG} that compare rows, such as ROC curves
    protocol: str = NATIVE  # of all values, see evaluation.protocols

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


class Entry(NamedTuple):
    """Statistics of one row, organ and metric; None where there are none."""

    row: Row
    organ: str
    measure: str
    n: int  # cases with a value
    cases: int
    mean: float | None
    median: float | None
    std: float | None  # over cases
    std_seeds: float | None  # of the mean over cases, over seeds
    interval: tuple[float, float] | None  # confidence interval of the mean
    test: SignedRank | CrossedTest | None  # against the reference of the same set
    p_holm: float | None  # corrected over the rows of a set, for one organ and metric
    reported: str

    @property
    def mark(self) -> str:
        """`*` for p < 0.05, `**` if also after Holm's correction."""
        p = self.test.p if self.test else None
        return ''.join('*' for value in (p, self.p_holm) if value is not None and value < LEVEL)


def entries(report: Report) -> list[Entry]:
    """The entries of a report by organ, metric and row, including rows that have not run."""
    found = []
    for organ in report.organs:
        for measure in report.measures:
            tests = _tests(report, organ, measure)
            found += [_entry(report, row, organ, measure, *tests.get(row.title, (None, None))) for row in report.rows]
    return found


def values(row: Row, organ: str, measure: str) -> dict[str, float | None]:
    """Values of a metric per case of a row, for an organ or the mean over organs; empty if it has not run."""
    cases = row.cases or {}
    if organ == MEAN:
        means = organ_means(cases, measure)
        return {case: means.get(case) for case in cases}
    return {case: of.get(organ, {}).get(measure) for case, of in cases.items()}


def values_by_seed(row: Row, organ: str, measure: str) -> dict[int, dict[str, float | None]]:
    """`values` for each seed of a row."""
    return {seed: values(replace(row, cases=cases), organ, measure) for seed, cases in row.by_seed.items()}


def _test(row: Row, against: Row, organ: str, measure: str, seeded: bool) -> SignedRank | CrossedTest:
    """Test of two rows, paired by case or, in a report of several seeds, by case and seed."""
    if seeded:
        return crossed_test(*(values_by_seed(one, organ, measure) for one in (row, against)))
    return signed_rank(values(row, organ, measure), values(against, organ, measure))


def _tests(report: Report, organ: str, measure: str) -> dict[str, tuple[SignedRank | CrossedTest, float | None]]:
    """`{row title: (test, corrected p)}` of the rows that have run, against the reference of their set."""
    found, seeded = {}, any(row.by_seed for row in report.rows)
    for name in dict.fromkeys(row.set for row in report.rows):
        family = {row.title: row for row in report.rows if row.set == name and row.cases}
        of = Row(report.reference, name).title
        if report.reference and of in family:
            against = family.pop(of)
            tests = {title: _test(row, against, organ, measure, seeded) for title, row in family.items()}
            corrected = holm([test.p for test in tests.values()])
            found |= {title: (test, p) for (title, test), p in zip(tests.items(), corrected, strict=True)}
    return found


def _entry(report: Report, row: Row, organ: str, measure: str, test, p_holm) -> Entry:
    own = values(row, organ, measure)
    described = statistics(own.values())
    if (together := row.pooled.get(organ, {}).get(measure)) is not None:
        described = {'n': len(own), 'mean': together, 'median': None, 'std': None}
    means = [statistics(of.values())['mean'] for of in values_by_seed(row, organ, measure).values()]
    reported = row.reported.get(f'{organ}/{measure}') or (
        row.reported.get(measure) if organ == report.organs[0] else ''
    )
    return Entry(
        row,
        organ,
        measure,
        described['n'],
        len(own),
        described['mean'],
        described['median'],
        described['std'],
        statistics(means)['std'],
        mean_interval(own.values()),
        test,
        p_holm,
        reported or '',
    )
