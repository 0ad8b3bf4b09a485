"""The page of a workdir tells what was measured, the worst case first, and needs nothing beside itself."""

import re

import pytest
from test_report import HOSTILE, cases, parsed

from synseg_jax.reports import comparison, run_page
from synseg_jax.reports.comparison import Report, Row


@pytest.fixture
def told():
    measured = cases(0.8, n=4)
    measured['case 2']['liver']['dice'] = 0.1
    rows = [Row('ours', cases=measured, seconds=70.0, memory_gib=1.5, steps=1200, seed=3), Row(HOSTILE)]
    return Report('run', '4 MR scans', ('mean', 'spleen', 'liver'), ('dice', 'asd_mm'), '', rows, versions={'jax': '0'})


def test_page(told):
    found = comparison.entries(told)
    page = run_page.render(told, found, {}, [('train.steps', '5', '100'), ('x', HOSTILE, '–')])
    tags, words = parsed(page)
    spleen = next(e for e in found if (e.row.name, e.organ, e.measure) == ('ours', 'spleen', 'dice'))
    for text in (
        f'{spleen.mean:.3f} ± {spleen.std:.3f}',
        '1,200',
        '70 s',
        '1.5 GiB',
        'not run',
        'train.steps',
        'jax 0',
    ):
        assert text in words, text
    assert words.count(HOSTILE) == 3 and '<script>' not in page and 'http' not in page and 'src=' not in page
    order = re.findall(r'case \d', words)
    assert order[0] == 'case 2' and sorted(order) == [f'case {i}' for i in range(4)]


def test_page_without_results(told):
    rows = [Row('begun')]
    empty = Report('run', '', ('mean',), ('dice',), '', rows)
    _, words = parsed(run_page.render(empty, comparison.entries(empty), {}, []))
    assert 'begun' in words and 'not run' in words and 'All fields at their defaults.' in words
