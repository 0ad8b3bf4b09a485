"""A bar on a terminal; elsewhere a line now and then, with the time left by the scans so far."""

import io

import pytest
from rich.console import Console

from synseg_jax.cli import progress
from synseg_jax.cli.progress import over_scans


@pytest.fixture
def clock(monkeypatch):
    """The time, which passes only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    return now


def _said(clock, total, seconds, steps=1, terminal=False):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    with progress.over_scans('segmenting', total, steps, console) as scans:
        for _ in range(total):
            clock[0] += seconds
            for _ in range(steps):
                scans.step()
            scans.advance()
    return console.file.getvalue()


def test_lines_are_seldom_and_tell_the_time_left(clock):
    assert _said(clock, 8, 20).splitlines() == [
        'segmenting: 2 of 8 scans (25%) in 0:40, about 2:00 left',
        'segmenting: 4 of 8 scans (50%) in 1:20, about 1:20 left',
        'segmenting: 6 of 8 scans (75%) in 2:00, about 0:40 left',
    ]
    assert _said(clock, 3, 3000).splitlines()[0] == 'segmenting: 1 of 3 scans (33%) in 50:00, about 1:40:00 left'


@pytest.mark.parametrize('total, seconds', [(1, 500), (9, 1), (0, 0)])
def test_little_work_says_nothing(clock, total, seconds):
    assert _said(clock, total, seconds) == ''


def test_a_terminal_shows_a_bar(clock):
    last = _said(clock, 4, 5, steps=3, terminal=True).split('segmenting')[-1]
    assert '4/4' in last and '100%' in last and 'elapsed' in last and 'left' in last


def test_items_one_after_another(monkeypatch):
    made = []
    monkeypatch.setattr(progress, 'over_scans', lambda *arguments: made.append(arguments) or over_scans(*arguments))
    assert list(progress.each({'a': 1, 'b': 2}.items(), 'translating')) == [('a', 1), ('b', 2)]
    assert made == [('translating', 2)]


def test_steps_count_as_parts_of_a_scan():
    scans = progress.Scans('segmenting', 2, 4, Console(file=io.StringIO()))
    scans.step()
    assert scans.bar.tasks[0].completed == 0.25
    scans.advance()
    assert scans.bar.tasks[0].completed == 1
