"""A report as one self-contained HTML page without scripts: the data of `page.html.jinja` and `page.css`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from synseg_jax.reports import templates, wording
from synseg_jax.reports.comparison import MEAN, Entry, Report, Row
from synseg_jax.reports.templates import Picture

COLUMNS = ('paper', 'mean ± std', 'median', 'over seeds', '95 % interval', 'n', 'pairs', 'p', 'Holm p')
TEMPLATE = 'page.html.jinja'


class Cell(NamedTuple):
    """A cell of a table; narrow screens show its label."""

    label: str
    text: str
    mark: str = ''  # of significance
    below: Sequence[str] = ()


class Line(NamedTuple):
    """A system's line of a table."""

    title: str
    kind: str  # its CSS classes
    cells: Sequence[Cell]
    badges: Sequence[str] = ()


def render(report: Report, entries: Sequence[Entry], plots: Mapping[str, Path]) -> str:
    """The whole page; `plots` is `{caption: picture}` of all rows together."""
    return templates.render(
        TEMPLATE,
        report=report,
        duration=wording.duration(report.seconds) if report.seconds is not None else '',
        versions=', '.join(f'{name} {version}' for name, version in report.versions.items()),
        organ=_title(report.organs[0]),
        headings=[wording.heading(measure) for measure in report.measures],
        overview=list(_overview(report, entries)),
        legend=list(wording.legend(report, list(entries))),
        plots=read_pictures(plots),
        columns=COLUMNS,
        statistics=list(_statistics(report, entries)),
        systems=[system(report, row) for row in report.rows],
    )


def _overview(report: Report, entries: Sequence[Entry]) -> Iterator[Line]:
    """Each system's mean beside the paper's number, for the first organ."""
    for row in report.rows:
        own = [entry for entry in entries if entry.row is row and entry.organ == report.organs[0]]
        yield _line(report, row, [_mean(entry) for entry in own], wording.badges(report, row))


def _mean(entry: Entry) -> Cell:
    below = [f'over seeds {wording.over_seeds(entry)}'] if entry.std_seeds is not None else []
    below += [f'paper {entry.reported}'] if entry.reported else []
    return Cell(wording.heading(entry.measure), wording.spread(entry), entry.mark, below)


def _statistics(report: Report, entries: Sequence[Entry]) -> Iterator[dict]:
    """A table per metric, with a group of lines per organ."""
    for measure in report.measures:
        own = [entry for entry in entries if entry.measure == measure]
        organs = [
            (_title(organ), [_line(report, entry.row, _numbers(entry)) for entry in own if entry.organ == organ])
            for organ in report.organs
        ]
        yield {'heading': wording.heading(measure), 'organs': organs}


def _numbers(entry: Entry) -> list[Cell]:
    test = entry.test
    texts = (
        entry.reported or '–',
        wording.spread(entry),
        wording.median(entry),
        wording.over_seeds(entry),
        wording.interval(entry),
        wording.count(entry),
        str(test.pairs) if test else '–',
        wording.probability(test.p if test else None),
        wording.probability(entry.p_holm),
    )
    marks = {'p': '*', 'Holm p': '**'}
    shown = {column: mark for column, mark in marks.items() if entry.mark.startswith(mark)}
    return [Cell(column, text, shown.get(column, '')) for column, text in zip(COLUMNS, texts, strict=True)]


def _line(report: Report, row: Row, cells: Sequence[Cell], badges: Sequence[str] = ()) -> Line:
    kinds = {'reference': row.name == report.reference, 'idle': row.cases is None}
    return Line(row.title, ' '.join(name for name, true in kinds.items() if true), cells, badges)


def system(report: Report, row: Row) -> dict:
    """What a page shows of a system beside its measures: badges, facts, pictures and curves."""
    return {
        'row': row,
        'badges': wording.badges(report, row),
        'facts': wording.facts(row),
        'pictures': read_pictures(row.pictures),
        'curves': read_pictures(row.curves),
    }


def read_pictures(paths: Mapping[str, Path]) -> list[Picture]:
    """The pictures of {caption: file}."""
    return [Picture.read(caption, path) for caption, path in paths.items()]


def _title(organ: str) -> str:
    return 'Mean over organs' if organ == MEAN else organ[:1].upper() + organ[1:]
