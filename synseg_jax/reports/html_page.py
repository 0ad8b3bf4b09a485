"""A report as one HTML page that needs nothing else: no scripts, no network, pictures inside."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from synseg_jax.reports import wording
from synseg_jax.reports.comparison import Entry, Report, Row

_COLUMNS = ('paper', 'mean ± std', 'median', 'over seeds', '95 % interval', 'n', 'pairs', 'p', 'Holm p')
_STYLE = """
:root { color-scheme: light dark; --ink: #1d1f23; --soft: #5f6672; --line: #d9dce1; --ground: #fff; --tint: #f4f6f8;
  --blue: #0b5c9e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa3af; --line: #353a42; --ground: #15181c;
  --tint: #1e2228; --blue: #7cc0f4; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 62rem;
  margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1rem; margin: 2rem 0 .25rem; }
p { margin: .25rem 0; }
.soft, small, figcaption { color: var(--soft); font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th { font-weight: 600; }
th:first-child { text-align: left; }
th[scope=row] { font-weight: 500; min-width: 9rem; max-width: 20rem; }
tbody th[colspan] { padding-top: 1rem; }
thead th { color: var(--soft); vertical-align: bottom; }
tr.reference > * { background: var(--tint); }
tr.idle > * { color: var(--soft); }
td small { display: block; }
b.mark { color: var(--blue); }
.badge { display: inline-block; font-size: .75rem; font-weight: 400; color: var(--soft); border: 1px solid var(--line);
  border-radius: 1em; padding: 0 .6em; margin-right: .3em; white-space: nowrap; }
.legend { font-size: .85rem; color: var(--soft); padding-left: 1.1rem; }
.gallery { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; }
figure { margin: .75rem 0; max-width: 100%; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
pre { font-size: .8rem; overflow-x: auto; background: var(--tint); padding: .75rem; border-radius: 4px; }
summary { cursor: pointer; color: var(--blue); font-size: .9rem; }
@media (max-width: 42rem) {
  thead { display: none; }
  table, tbody, tr, th, td { display: block; }
  tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  th, td { border: 0; padding: .1rem .5rem; text-align: left; }
  td { display: grid; grid-template-columns: 8rem 1fr; }
  td::before { content: attr(data-label); color: var(--soft); }
  td small { grid-column: 2; }
  th[scope=row] { max-width: none; font-weight: 600; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .statistics details::details-content { content-visibility: visible; block-size: auto; }
}
"""


def render(report: Report, entries: Sequence[Entry], plots: Mapping[str, Path]) -> str:
    """The whole page; `plots` is `{caption: picture}` of all rows together."""
    seconds = f' · {wording.duration(report.seconds)} in all' if report.seconds is not None else ''
    versions = ', '.join(f'{name} {version}' for name, version in report.versions.items())
    parts = [
        f'<header><h1>{escape(report.title)}</h1><p class="soft">{escape(report.source)}{seconds}</p></header>',
        f'<main><section>{_overview(report, entries)}',
        _listed(wording.legend(report, entries), 'legend'),
        '</section>',
        f'<section><h2>Plots</h2>{_gallery(plots)}</section>' if plots else '',
        f'<section class="statistics"><h2>Statistics</h2>{"".join(_details(report, entries))}</section>',
        f'<section><h2>Systems</h2>{"".join(_system(report, row) for row in report.rows)}</section>',
        f'<section><h2>Notes</h2>{_listed(report.notes)}</section>' if report.notes else '',
        f'</main><footer><p class="soft">{escape(versions)}</p></footer>',
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n'
        + '\n'.join(filter(None, parts))
        + '\n</body>\n</html>\n'
    )


def _overview(report: Report, entries: Sequence[Entry]) -> str:
    """Each system's mean beside the paper's number, for the first organ."""
    organ = report.organs[0]
    rows = []
    for row in report.rows:
        own = [entry for entry in entries if entry.row is row and entry.organ == organ]
        cells = [(wording.heading(entry.measure), _beside(entry)) for entry in own]
        badges = ''.join(f'<span class="badge">{escape(words)}</span>' for words in wording.badges(report, row))
        rows.append(_row(report, row, cells, f'<br>{badges}' if badges else ''))
    heads = [wording.heading(measure) for measure in report.measures]
    return f'<h2>{escape(_capital(organ))}</h2>{_table(heads, rows)}'


def _beside(entry: Entry) -> str:
    mark = f' <b class="mark">{entry.mark}</b>' if entry.mark else ''
    seeds = f'<small>over seeds {wording.over_seeds(entry)}</small>' if entry.std_seeds is not None else ''
    paper = f'<small>paper {escape(entry.reported)}</small>' if entry.reported else ''
    return f'<span>{wording.spread(entry)}{mark}</span>{seeds}{paper}'


def _details(report: Report, entries: Sequence[Entry]) -> Iterator[str]:
    """A folded table per measure, with a group of rows per organ."""
    for measure in report.measures:
        rows = []
        for organ in report.organs:
            rows.append(f'<tr><th colspan="{len(_COLUMNS) + 1}">{escape(_capital(organ))}</th></tr>')
            for entry in entries:
                if (entry.organ, entry.measure) == (organ, measure):
                    rows.append(_row(report, entry.row, zip(_COLUMNS, _numbers(entry), strict=True)))
        opened, heading = ' open' if measure == report.measures[0] else '', escape(wording.heading(measure))
        yield f'<details{opened}><summary>{heading}</summary>{_table(_COLUMNS, rows)}</details>'


def _numbers(entry: Entry) -> Iterator[str]:
    yield escape(entry.reported) or '–'
    yield wording.spread(entry)
    yield wording.median(entry)
    yield wording.over_seeds(entry)
    yield wording.interval(entry)
    yield wording.count(entry)
    yield str(entry.test.pairs) if entry.test else '–'
    for p, mark in ((entry.test.p if entry.test else None, '*'), (entry.p_holm, '**')):
        shown = f' <b class="mark">{mark}</b>' if entry.mark.startswith(mark) else ''
        yield f'<span>{escape(wording.probability(p))}{shown}</span>'


def _system(report: Report, row: Row) -> str:
    note = f'<p>{escape(row.note)}</p>' if row.note else ''
    curves = f'<details><summary>Training curves</summary>{_gallery(row.curves)}</details>' if row.curves else ''
    config = f'<details><summary>Configuration</summary><pre>{escape(row.config)}</pre></details>' if row.config else ''
    badges = ''.join(f'<span class="badge">{escape(words)}</span>' for words in wording.badges(report, row))
    heading = f'<h3>{escape(row.title)}</h3><p class="soft">{badges} {escape(wording.facts(row))}</p>'
    return f'<article>{heading}{note}{_gallery(row.pictures)}{curves}{config}</article>'


def _row(report: Report, row: Row, cells: Iterable[tuple[str, str]], after: str = '') -> str:
    kinds = {'reference': row.name == report.reference, 'idle': row.cases is None}
    kind = ' '.join(name for name, true in kinds.items() if true)
    drawn = ''.join(f'<td data-label="{escape(label)}">{cell}</td>' for label, cell in cells)
    return f'<tr class="{kind}"><th scope="row">{escape(row.title)}{after}</th>{drawn}</tr>'


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    drawn = ''.join(f'<th scope="col">{escape(head)}</th>' for head in ('system', *heads))
    return f'<table><thead><tr>{drawn}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _listed(lines: Iterable[str], kind: str = '') -> str:
    return f'<ul class="{kind}">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'


def _gallery(pictures: Mapping[str, Path]) -> str:
    if not pictures:
        return ''
    return f'<div class="gallery">{"".join(_figure(caption, path) for caption, path in pictures.items())}</div>'


def _figure(caption: str, path: Path) -> str:
    """A PNG at half its pixels, sharp on dense screens and in print."""
    data = path.read_bytes()
    if not data.startswith(b'\x89PNG'):
        raise ValueError(f'{path} is no PNG')
    width = int.from_bytes(data[16:20]) // 2
    encoded = base64.b64encode(data).decode()
    words = f'<figcaption>{escape(caption)}</figcaption>' if caption else ''
    return (
        f'<figure><img width="{width}" alt="{escape(caption)}" src="data:image/png;base64,{encoded}">{words}</figure>'
    )


def _capital(name: str) -> str:
    return 'Mean over organs' if name == 'mean' else name[:1].upper() + name[1:]
