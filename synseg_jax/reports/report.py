"""The files of a report: HTML page, Markdown, CSV and boxplots."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from synseg_jax.evaluation import registry
from synseg_jax.evaluation.summary import rows
from synseg_jax.files import atomic_file, write_csv
from synseg_jax.reports import comparison_plots, figures, html_page, wording
from synseg_jax.reports.comparison import Entry, Report, Row, entries, values

__all__ = ['Report', 'Row', 'write']


def write(report: Report, folder: str | Path) -> None:
    """Writes `report.html`, `report.md`, `table.csv`, `cases.csv` and boxplots, each atomically.

    Boxplots of the first metric are `boxplots.png`, of others `boxplots_asd_mm.png` and so on; metrics without values
    have none.  The page embeds its figures; the Markdown links to `boxplots.png`.
    """
    folder = Path(folder)
    found = entries(report)
    write_csv(folder / 'table.csv', [_record(report, entry) for entry in found])
    write_csv(folder / 'cases.csv', list(_case_records(report)))
    plots = boxplots(report, found, folder) | dict(report.pictures)
    write_text(folder / 'report.md', markdown(report, found, link=(folder / 'boxplots.png') in plots.values()))
    write_text(folder / 'report.html', html_page.render(report, found, plots))


def markdown(report: Report, found: Sequence[Entry], *, link: bool = False) -> str:
    """Title, table of the first organ, cost of each row, legend and notes; `link` embeds `boxplots.png`."""
    first = [entry for entry in found if entry.organ == report.organs[0]]
    columns = list(_columns(report, first))
    heads = [heading for _, heading, _ in columns]
    lines = [f'# {_plain(report.title)}', '', _plain(report.source), '']
    lines += [f'**{_plain(report.organs[0])}**', '', f'| system | {" | ".join(map(_plain, heads))} |']
    lines += ['|---|' + '---:|' * len(heads)]
    for row in report.rows:
        own = {entry.measure: entry for entry in first if entry.row is row}
        cells = [_plain(cell(own[measure])) for measure, _, cell in columns]
        badges = ''.join(f' ({words})' for words in wording.badges(report, row))
        lines.append(f'| {_plain(row.title)}{badges} | {" | ".join(cells)} |')
    lines += ['', '![Boxplots](boxplots.png)'] if link else []
    told = (f'{row.title}: {wording.facts(row)}' + f'; {row.note}' * bool(row.note) for row in report.rows)
    lines += ['', *(f'- {_plain(line)}' for line in told)]
    lines += ['', *(f'- {_plain(line)}' for line in (*wording.legend(report, list(found)), *report.notes))]
    lines += ['', _plain(', '.join(f'{name} {version}' for name, version in report.versions.items()))]
    return '\n'.join(lines).rstrip() + '\n'


def _columns(report: Report, first: Sequence[Entry]) -> Iterator[tuple[str, str, Callable[[Entry], str]]]:
    """(metric, heading, function from an entry to its cell) of all columns but the first.

    A metric is followed by its value under oracle selection, and then by the paper's, if reported.
    """
    several = any(row.by_seed for row in report.rows)
    for measure, selections in groupby(report.measures, lambda name: name.removesuffix('_oracle')):
        for one in selections:
            yield one, wording.heading(one), lambda entry: f'{wording.spread(entry)} {entry.mark}'.strip()
            yield one, 'median', wording.median
            if several:
                yield one, 'over seeds', wording.over_seeds
        if any(entry.reported for entry in first if entry.measure == measure):
            yield measure, 'paper', lambda entry: entry.reported


def boxplots(report: Report, found: Sequence[Entry], folder: Path) -> dict[str, Path]:
    """Draws the boxplots of all metrics with values, as in `write`; returns `{caption: path}`."""
    drawn = {}
    for measure in report.measures:
        own = [entry for entry in found if entry.measure == measure]
        if not any(entry.n for entry in own):
            continue
        path = folder / ('boxplots.png' if measure == report.measures[0] else f'boxplots_{_file_name(measure)}.png')
        comparison_plots.boxplots(
            path,
            {o: {row.title: list(values(row, o, measure).values()) for row in report.rows} for o in report.organs},
            measure=wording.heading(measure),
            marks={o: {entry.row.title: entry.mark for entry in own if entry.organ == o} for o in report.organs},
            references=[row.title for row in report.rows if row.name == report.reference],
            limits=figures.axis_limits(registry.metric(measure)),
        )
        marks = ', marks as in the table' if report.reference else ''
        drawn[f'{wording.heading(measure)} of every case{marks}.'] = path
    return drawn


def _record(report: Report, entry: Entry) -> dict:
    test, (low, high) = entry.test, entry.interval or (None, None)
    return {
        'row': entry.row.name,
        'set': entry.row.set,
        'protocol': report.protocol,
        'status': 'not run' if entry.row.cases is None else 'run',
        'reads_target_labels': entry.row.reads_target_labels,
        'transductive': entry.row.transductive,
        'organ': entry.organ,
        'measure': entry.measure,
        'n': entry.n,
        'median': entry.median,
        'mean': entry.mean,
        'std': entry.std,
        'seeds': len(entry.row.by_seed) or None,
        'std_seeds': entry.std_seeds,
        'ci_low': low,
        'ci_high': high,
        'reference': report.reference if test else None,
        'pairs': test.pairs if test else None,
        'left_out': test.left_out if test else None,
        'p': test.p if test else None,
        'p_holm': entry.p_holm,
        'reported': entry.reported,
    }


def _case_records(report: Report) -> Iterator[dict]:
    """A record per row, seed (if several), case and organ, all with the same columns."""
    several = any(row.by_seed for row in report.rows)
    measured = []
    for row in report.rows:
        for seed, cases in (row.by_seed or {row.seed: row.cases or {}}).items():
            told = {'row': row.name, 'set': row.set, 'protocol': report.protocol, **({'seed': seed} if several else {})}
            measured += [(told, record) for record in rows(cases)]
    columns = dict.fromkeys(key for _, record in measured for key in record)
    for told, record in measured:
        yield {**told, **dict.fromkeys(columns), **record}


def _plain(text: str) -> str:
    """Text escaped for Markdown, on one line."""
    return re.sub(r'([\\`*_{}\[\]<>|#~&])', r'\\\1', ' '.join(text.split()))


def _file_name(measure: str) -> str:
    return re.sub(r'\W', '_', measure)


def write_text(path: Path, text: str) -> None:
    """Writes a page or a table of text, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
