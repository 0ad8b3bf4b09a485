"""The papers' values and the configurations' part nowhere without a reason, and the page says so."""

from fnmatch import fnmatch
from pathlib import Path

import pytest

from configs import papers

PAGE = Path(__file__).parents[2] / 'docs' / 'reproduction.md'


@pytest.mark.parametrize('name', papers.TITLES)
def test_what_departs_from_the_paper_has_a_reason(name):
    unexplained = [
        f'{place}: {field} is {ours}, in the paper {theirs}'
        for told, places in papers.rows(name).items()
        for field, ours, theirs, why in told
        if why == papers.UNEXPLAINED
        for place in places
    ]
    assert not unexplained


def test_every_reason_is_needed():
    given = {
        (name, *place.split(', '), field)
        for name in papers.TITLES
        for told, places in papers.rows(name).items()
        for field, _, _, why in told
        if why
        for place in places
    }
    for key in papers.DEPARTURES:
        assert any(all(map(fnmatch, place, key)) for place in given), key


@pytest.mark.parametrize('name', papers.TITLES)
def test_what_is_stated_is_of_a_stage_and_a_field(name):
    places = [place.split(', ') for of in papers.rows(name).values() for place in of]
    for (system, stage), fields in papers.STATED[name].items():
        assert any(fnmatch(one, system) and fnmatch(other, stage) for one, other in places), (system, stage)
        assert set(fields) <= set(papers.FIELDS)


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding='utf-8') == papers.page(), 'python -m configs.papers > docs/reproduction.md'
