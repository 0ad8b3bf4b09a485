"""The page of segmented scans: the worst first, in three planes of one scale, volumes beside those of the training."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread

from synseg_jax.imaging.colours import colour
from synseg_jax.reports import planes, scans_page
from synseg_jax.reports.scans_page import Organ, Overview, Scan

WORDS = {'trust': 'good', 'look at': 'look', 'do not use': 'bad'}
SPACING_MM = (2.0, 2.0, 5.0)


@pytest.fixture
def volume():
    """A bright body with two organs; the patient's right is where the first index is least."""
    image, labels = np.zeros((80, 70, 24), np.float32), np.zeros((80, 70, 24), np.uint8)
    image[15:65, 15:55] = 0.2
    labels[18:30, 25:35, 8:16], labels[50:58, 40:46, 10:14] = 1, 2
    return image, labels


@pytest.fixture
def page(tmp_path, volume):
    path = tmp_path / 'x.png'
    planes.draw(path, *volume, SPACING_MM)

    def render(usual=(100.0, 200.0), warning=''):
        def scan(case, word, agreement, remarks=None, ml=150.0):
            organs = [Organ('liver', 1, ml, usual, 0.9), Organ('spleen & co', 2, 7.25)]
            return Scan(case, word, agreement, remarks or {}, organs, path)

        scans = [
            scan('fine', 'trust', 0.97),
            scan('odd', 'look at', None, {'torn': 'liver <60%>'}),
            scan('odder', 'look at', 0.93, ml=250.0),
            scan('poor', 'do not use', 0.5),
        ]
        return scans_page.render(Overview('4 scans', 'made by s', WORDS, ['a note'], warning), scans)

    return render


class Text(HTMLParser):
    """The visible text of a page, and its tags, which must nest."""

    def __init__(self, page):
        super().__init__()
        self.words, self.tags, self.open = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ('meta', 'img', 'br'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ('style', 'script'):
            self.words += data.split()


def test_the_worst_scan_comes_first_and_needs_nothing_else(page):
    text = Text(page())
    order = [attributes['href'] for tag, attributes in text.tags if tag == 'a']
    assert order == [f'#scan{i}' for i in range(1, 5)]
    headings = re.findall(r'<h2>(\w+)', page())
    assert headings == ['poor', 'odd', 'odder', 'fine']
    assert all(a['src'].startswith('data:image/png;base64,') for tag, a in text.tags if tag == 'img')
    assert not [a for _, a in text.tags if any('http' in str(value) for value in a.values())]


def test_volumes_ranges_remarks_and_colours(page):
    told = page()
    words = ' '.join(Text(told).words)
    assert 'torn: liver <60%>' in words and 'liver 150 0.900 100 to 200' in words and 'spleen & co 7.2 – –' in words
    assert told.count('class="unusual"') == told.count('class="at out"') == 1  # 250 mL
    assert all(told.count(f'background:{colour(label)}') == 8 for label in (1, 2))  # legends and tables
    assert told.count('class="flag poor"') == 4  # counted, listed, explained, and at the scan


def test_without_a_range_the_page_says_so(page):
    told = page(usual=None, warning='Nobody knows.')
    assert 'Nobody knows.' in Text(told).words or 'Nobody knows.' in told
    assert 'training labels' not in told and 'class="bar"' not in told


@pytest.mark.parametrize('usual, ml, bar', [((100.0, 200.0), 150.0, (100 / 260, 100 / 260, 150 / 260)),
                                            ((1.0, 2.0), 100.0, (1 / 130, 1 / 130, 100 / 130)),
                                            (None, 0.0, (0, 0, 0))])  # fmt: skip
def test_bars(usual, ml, bar):
    found = Organ('liver', 1, ml, usual).bar
    assert (found['low'], found['length'], found['at']) == pytest.approx([100 * share for share in bar])


def test_planes_have_one_scale_and_the_right_on_the_left(tmp_path, volume):
    """Shown are the body and 10 mm beside it, the organs and 40 mm above and below: 120 x 100 x 120 mm."""
    planes.draw(tmp_path / 'x.png', *volume, SPACING_MM)
    picture = imread(tmp_path / 'x.png')[..., :3]
    shown = list(_planes(*volume))
    assert [plane.size_mm for plane in shown] == [(100, 120), (120, 120), (120, 100)]
    assert [plane.title for plane in shown] == [
        'axial, slice 11 of 24', 'coronal, slice 26 of 70', 'sagittal, slice 19 of 80'
    ]  # fmt: skip
    assert picture.shape[1] == pytest.approx(planes.WIDTH_IN * planes.DPI, abs=2)
    first = np.array([int(colour(1)[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    wide = picture.shape[1] * 120 / 340
    columns = np.flatnonzero((np.abs(picture - first) < 0.1).all(-1).any(0))
    assert columns.min() / wide == pytest.approx((18 - 10) / 60, abs=0.02)
    assert columns[columns < wide].max() / wide == pytest.approx((30 - 10) / 60, abs=0.02)


def test_a_scan_without_organs_is_shown_whole(tmp_path, volume):
    image, labels = volume
    planes.draw(tmp_path / 'x.png', image, np.zeros_like(labels), SPACING_MM)
    assert imread(tmp_path / 'x.png').max() > 0.5  # R, L, A and P
    assert [plane.size_mm[0] for plane in _planes(image, 0 * labels)] == [100, 120, 120]


def _planes(image, labels):
    seen = planes._seen(image, labels, SPACING_MM)
    return planes._planes(image[seen], labels[seen], SPACING_MM, seen, labels.shape)
