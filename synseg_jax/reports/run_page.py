"""The systems of one workdir as a self-contained HTML page: the data of `run_page.html.jinja`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from synseg_jax.evaluation.summary import organ_means
from synseg_jax.reports import html_page, templates, wording
from synseg_jax.reports.comparison import MEAN, Entry, Report, Row, values
from synseg_jax.reports.html_page import Cell, Line

TEMPLATE = 'run_page.html.jinja'
COSTS = ('cases', 'steps', 'time', 'memory')

Change = tuple[str, str, str]  # a field, its value and its default


def render(report: Report, entries: Sequence[Entry], plots: Mapping[str, Path], changes: Sequence[Change]) -> str:
    """The whole page; `plots` is `{caption: picture}` of all systems together."""
    organs = list(_organs(report, entries)) if any(row.cases for row in report.rows) else []
    return templates.render(
        TEMPLATE,
        report=report,
        headings=[*map(wording.heading, report.measures), *COSTS],
        overview=[_overview(report, row, entries) for row in report.rows],
        organs=organs,
        plots=html_page.read_pictures(plots),
        systems=[_system(report, row) for row in report.rows],
        changes=changes,
        versions=', '.join(f'{name} {version}' for name, version in report.versions.items()),
    )


def _overview(report: Report, row: Row, entries: Sequence[Entry]) -> Line:
    """A system's mean over organs, and what it took."""
    means = [entry for entry in entries if entry.row is row and entry.organ == MEAN]
    cells = [Cell(wording.heading(entry.measure), wording.spread(entry)) for entry in means]
    costs = (
        str(len(row.cases)) if row.cases is not None else '–',
        f'{row.steps:,}' if row.steps is not None else '–',
        wording.duration(row.seconds) if row.seconds is not None else '–',
        f'{row.memory_gib:.1f} GiB' if row.memory_gib else '–',
    )
    cells += [Cell(name, text) for name, text in zip(COSTS, costs, strict=True)]
    return Line(row.title, 'idle' if row.cases is None else '', cells, wording.badges(report, row))


def _organs(report: Report, entries: Sequence[Entry]) -> Iterator[dict]:
    """A table per metric: systems down, organs across."""
    by_place = {(entry.row.title, entry.organ, entry.measure): entry for entry in entries}
    for measure in report.measures:
        lines = [
            Line(row.title, '', [Cell(o, wording.spread(by_place[row.title, o, measure])) for o in report.organs])
            for row in report.rows
            if row.cases
        ]
        yield {'heading': wording.heading(measure), 'heads': report.organs, 'lines': lines}


def _system(report: Report, row: Row) -> dict:
    return html_page.system(report, row) | {
        'heads': [*map(wording.heading, report.measures), *(o for o in report.organs if o != MEAN)],
        'cases': list(_cases(report, row)),
    }


def _cases(report: Report, row: Row) -> Iterator[Line]:
    """A line per case by its mean of the first metric, the worst first; then the first metric of its organs."""
    first, organs = report.measures[0], [organ for organ in report.organs if organ != MEAN]
    columns = [(MEAN, measure) for measure in report.measures] + [(organ, first) for organ in organs]
    found = {column: values(row, *column) for column in columns}
    means = organ_means(row.cases or {}, first)
    for case in sorted(row.cases or {}, key=lambda case: (means.get(case, -1.0), case)):
        texts = [wording.number(found[column].get(case), column[1]) for column in columns]
        heads = [wording.heading(measure) if organ == MEAN else organ for organ, measure in columns]
        yield Line(case, '', [Cell(head, text) for head, text in zip(heads, texts, strict=True)])
