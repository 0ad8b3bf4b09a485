"""The summaries of README and docs say what the tables say, and read tables as reports write them."""

from dataclasses import replace
from pathlib import Path

import pytest

from configs import summary
from synseg_jax.errors import InputError
from synseg_jax.reports import comparison, report
from synseg_jax.reports.report import Report, Row

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    'page, lines', [('docs/results.md', summary.lines), ('README.md', summary.short_lines)], ids=['docs', 'README']
)
def test_summaries_are_up_to_date(page, lines):
    text, (start, end) = (ROOT / page).read_text(encoding='utf-8'), summary.MARKERS
    told = text[text.index(start) + len(start) : text.index(end)]
    assert told == '\n'.join(lines()) + '\n', 'paste what python -m configs.summary prints'


def test_every_table_is_in_the_summary():
    tables = {path.stem for path in summary.TABLES.glob('*.py')}
    written = {path.stem for path in summary.TABLES.glob('*.md')}
    assert {claim.table for claim in summary.CLAIMS} == tables & written


def _cases(dice):
    return {f'c{i}': {'liver': {'dice': dice + i / 100, 'asd_mm': 3 - dice}} for i in range(6)}


@pytest.fixture
def table():
    """A report as it is written, read back."""
    seeds = {0: _cases(0.8), 1: _cases(0.9), 2: _cases(0.85)}
    rows = [
        Row('ours | a', cases=_cases(0.85), by_seed=seeds, seed=0, reported={'dice': '.9 ± .1'}),
        Row('theirs (here: *b*)', cases=_cases(0.5), by_seed={0: _cases(0.4), 1: _cases(0.6)}, seed=0, steps=4),
        Row('never'),
    ]
    made = Report('t', 's', ('liver',), ('dice', 'asd_mm'), 'ours | a', rows)
    beside = '\n| case | steps |\n|---|---|\n| a | 1 |\n'
    return summary.read(beside + report.markdown(made, comparison.entries(made)) + beside)


def test_a_report_is_read_as_it_was_written(table):
    assert table.rows.keys() == {'ours | a', 'theirs (here: *b*)'} and table.idle == {'never'} and not table.before
    claim = summary.Claim('x', 'paper', 'ahead', 'ours | a', 'never')
    assert summary.line(claim, table) == 'ahead | – | not run yet'
    assert table.headings == {'Dice', 'ASD mm'}
    ours, theirs = table.rows.values()
    assert (ours.reference, ours.cases, ours.seeds) == (True, 6, 3) and (theirs.reference, theirs.seeds) == (False, 2)
    assert (ours.cells['Dice'].mean, ours.cells['ASD mm'].mean, theirs.cells['Dice'].mean) == (0.875, 2.15, 0.525)


@pytest.mark.parametrize(
    'better, worse, mark, says',
    [
        (0.8, 0.5, '**', 'Dice .800, .500 | yes, p < .05 corrected; 6 scans, 2 seeds'),
        (0.4, 0.5, '*', 'Dice .400, .500 | the reverse, p < .05 uncorrected; 6 scans, 2 seeds'),
        (0.4, 0.5, '', 'Dice .400, .500 | not significant; 6 scans, 2 seeds'),
        (0.6, 0.5, None, 'Dice .600, .500 | yes, but not tested; 6 scans, 2 seeds'),
    ],
)
def test_verdicts(table, better, worse, mark, says):
    ours, theirs = table.rows.values()
    cells = [{'Dice': summary.Cell(mean, given)} for mean, given in ((better, ''), (worse, mark or ''))]
    rows = {'a': replace(ours, cells=cells[0], reference=mark is not None), 'b': replace(theirs, cells=cells[1])}
    claim = summary.Claim('x', 'paper', 'a ahead', 'a', 'b')
    assert summary.line(claim, replace(table, rows=rows)) == f'a ahead | {says}'


def test_less_is_better_of_distances(table):
    cells = [{'ASD mm': summary.Cell(mean, '**')} for mean in (2.0, 3.0)]
    rows = {name: replace(row, cells=own) for name, row, own in zip('ab', table.rows.values(), cells, strict=True)}
    claim = summary.Claim('x', 'paper', 'a ahead', 'a', 'b', 'asd_mm')
    assert 'ASD mm 2.000, 3.000 | yes' in summary.line(claim, replace(table, rows=rows))
    with pytest.raises(InputError, match=r"unknown row of x\.md 'c'; known: a, b, never"):
        summary.line(claim._replace(worse='c'), replace(table, rows=rows))
