"""A report keeps every row, marks what differs, shows names as they are, and needs nothing beside itself."""

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from synseg_jax.evaluation import statistics
from synseg_jax.reports import comparison, figures, report, wording
from synseg_jax.reports.report import Report, Row
from synseg_jax.runs.results import mean_of

HOSTILE = '<script>alert("1")</script> | *x* $\\frac{$ & \'y\''
VOID = {'meta', 'img', 'br'}


def cases(mean, n=10, seed=0, organs=('spleen', 'liver')):
    rng = np.random.default_rng(seed)
    dice = {f'case {i}': {organ: float(mean + 0.05 * rng.random()) for organ in organs} for i in range(n)}
    return {
        case: {
            organ: {'dice': d, 'iou': d / (2 - d), 'asd_mm': 10 * (1 - d), 'hd95_mm': None} for organ, d in of.items()
        }
        for case, of in dice.items()
    }


@pytest.fixture
def example(tmp_path):
    picture = tmp_path / 'in' / 'a.png'
    picture.parent.mkdir()
    Figure(figsize=(1, 1)).savefig(picture, dpi=10)
    lacking = cases(0.7, seed=2)
    lacking['case 0']['spleen'] = dict.fromkeys(('dice', 'iou', 'asd_mm', 'hd95_mm'))
    del lacking['case 9']
    rows = [
        Row(
            'ours',
            cases=cases(0.8),
            reported={'dice': '.81±.02', 'liver/asd_mm': '3.14'},
            seconds=4000,
            seed=7,
            steps=5,
        ),
        Row('worse', cases=lacking, reads_target_labels=True, note='A <b>note</b>.', pictures={'Best <case>': picture}),
        Row('never', reported={'dice': '.5'}, config='x = "<y>"'),
        Row(HOSTILE, cases=cases(0.8, seed=5), curves={'Stage train': picture}, memory_gib=1.5),
    ]
    return Report(
        'Title & <b>', 'Paper, table 1', ('spleen', 'liver', 'mean'), ('dice', 'asd_mm', 'hd95_mm'), 'ours', rows,
        notes=['Note <1>.'], versions={'numpy': '2'}, seconds=6600.0, pictures={'ROC': picture},
    )  # fmt: skip


def parsed(text):
    """Every (tag, attributes) of a page, and its visible text; tags must nest."""

    class Parser(HTMLParser):
        def __init__(self):
            super().__init__()
            self.tags, self.open, self.words = [], [], []

        def handle_starttag(self, tag, attributes):
            self.tags.append((tag, dict(attributes)))
            if tag not in VOID:
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_data(self, data):
            if self.open and self.open[-1] != 'style':
                self.words.append(data)

    parser = Parser()
    parser.feed(text)
    assert not parser.open
    return parser.tags, ' '.join(parser.words)


def entry(found, name, organ='spleen', measure='dice'):
    (one,) = [e for e in found if (e.row.name, e.organ, e.measure) == (name, organ, measure)]
    return one


def test_entries(example):
    found = comparison.entries(example)
    assert len(found) == 4 * 3 * 3
    ours, worse = entry(found, 'ours'), entry(found, 'worse')
    first = [of['spleen']['dice'] for of in example.rows[0].cases.values()]
    assert (ours.n, ours.mean, ours.median) == (10, np.mean(first), np.median(first))
    assert ours.interval == statistics.mean_interval(first)
    assert ours.test is ours.p_holm is None
    second = [of['spleen']['dice'] for of in example.rows[1].cases.values()]
    assert (worse.n, worse.cases, worse.test.pairs, worse.test.left_out) == (8, 9, 8, 2)
    assert worse.test.p == stats.wilcoxon(np.array(first[1:9]) - np.array(second[1:], float)).pvalue
    assert worse.p_holm == min(1, 2 * worse.test.p)  # two rows are tested, and the other has the larger p
    assert [entry(found, name).mark for name in ('ours', 'worse', 'never', HOSTILE)] == ['', '**', '', '']
    per_case = [np.mean([of['spleen']['asd_mm'], of['liver']['asd_mm']]) for of in example.rows[0].cases.values()]
    assert entry(found, 'ours', 'mean', 'asd_mm').median == pytest.approx(np.median(per_case))
    assert (entry(found, 'never').n, entry(found, 'never').mean, entry(found, 'never').test) == (0, None, None)


def test_a_mark_is_single_where_only_the_first_test_holds():
    once = comparison.Entry(
        Row('x'), 'o', 'dice', 9, 9, 0.5, 0.5, 0.1, None, None, statistics.SignedRank(0.03, 9, 0), 0.06, ''
    )
    assert (once.mark, once._replace(p_holm=0.04).mark) == ('*', '**')
    assert once._replace(test=statistics.SignedRank(None, 4, 0), p_holm=None).mark == ''


def test_reported_numbers_stand_where_they_belong(example):
    found = comparison.entries(example)
    told = {(e.row.name, e.organ, e.measure): e.reported for e in found if e.reported}
    assert told == {
        ('ours', 'spleen', 'dice'): '.81±.02',
        ('ours', 'liver', 'asd_mm'): '3.14',
        ('never', 'spleen', 'dice'): '.5',
    }


def test_each_set_has_its_own_reference():
    rows = [Row(name, s, cases(mean, seed=i)) for s in 'xy' for i, (name, mean) in enumerate([('r', 0.8), ('o', 0.6)])]
    rows += [Row('o', 'z', cases(0.5))]
    made = Report('t', 's', ('mean',), ('dice',), 'r', rows)
    tested = {e.row.title: e.test and e.test.pairs for e in comparison.entries(made)}
    assert tested == {'r, x': None, 'o, x': 10, 'r, y': None, 'o, y': 10, 'o, z': None}
    assert any('o, z is not tested' in line for line in wording.legend(made, []))


def test_what_no_report_can_hold():
    one = Row('one', cases=cases(0.5))
    with pytest.raises(ValueError, match='same name and set: one'):
        Report('t', 's', ('mean',), ('dice',), '', [one, one])
    with pytest.raises(ValueError, match="no row is named 'two'.*one"):
        Report('t', 's', ('mean',), ('dice',), 'two', [one])
    with pytest.raises(ValueError, match='one reports iou; the table has'):
        Report('t', 's', ('mean',), ('dice',), '', [Row('one', reported={'iou': '.5'})])


def test_page_needs_nothing_else(example, tmp_path):
    report.write(example, tmp_path / 'out')
    text = (tmp_path / 'out' / 'report.html').read_text(encoding='utf-8')
    tags, _ = parsed(text)
    names = {tag for tag, _ in tags}
    assert {'table', 'img', 'details', 'pre'} <= names and not names & {'script', 'link', 'iframe', 'a', 'form'}
    for _, attributes in tags:
        assert not {'href', 'onload', 'style', 'action', 'srcset'} & attributes.keys()
        assert (attributes.get('src') or 'data:image/png;base64,').startswith('data:image/png;base64,')
    assert not re.search(r'url\(|@import|https?:', text)
    assert str(tmp_path) not in text
    assert sum(tag == 'img' for tag, _ in tags) == 2 + 1 + 1 + 1  # two boxplots, ROC, a case, curves


def test_page_tells_all(example, tmp_path):
    report.write(example, tmp_path)
    _, words = parsed((tmp_path / 'report.html').read_text(encoding='utf-8'))
    for told in (
        'Title & <b>', HOSTILE, 'A <b>note</b>.', 'Best <case>', 'x = "<y>"', 'Note <1>.', 'numpy 2', 'paper .81±.02',
        '10 cases · 5 steps · seed 7 · 67 min', '1.5 GiB', '1 h 50 min in all', 'not run', 'reads target labels',
        'worse has 9 cases, ours 10; their test sees the 9 in common.', 'Not run: never.', '8 of 9', 'Empty masks',
        'read in training by worse.',
    ):  # fmt: skip
        assert told in words, told


def test_a_row_that_trains_nothing():
    atlases = Row('atlases', cases=cases(0.8), seconds=0.0, seed=7, steps=0, memory_gib=0.0)
    assert wording.facts(atlases) == '10 cases · trains nothing · seed 7'


def test_markdown(example, tmp_path):
    report.write(example, tmp_path)
    text = (tmp_path / 'report.md').read_text(encoding='utf-8')
    table = [line for line in text.splitlines() if line.startswith('|')]
    assert len(table) == 2 + 4
    cells = [re.split(r'(?<!\\)\|', line)[1:-1] for line in table]
    heads = ['system', 'Dice ↑', 'median', 'paper', 'ASD mm ↓', 'median', 'HD95 mm ↓', 'median']  # no paper's distances
    assert [cell.strip() for cell in cells[0]] == heads and {len(line) for line in cells} == {len(heads)}
    assert cells[2][1].strip().startswith('0.8') and cells[2][3].strip() == '.81±.02'
    first = [of['spleen']['dice'] for of in example.rows[0].cases.values()]
    assert cells[2][2].strip() == f'{np.median(first):.3f}'
    assert cells[3][0].strip() == 'worse (reads target labels)' and cells[3][1].strip().endswith(r'\*\*')
    assert cells[4][0].strip() == 'never (not run)' and cells[4][1].strip() == '–'
    assert '<script' not in text.replace(r'\<', '')
    assert '![Boxplots](boxplots.png)' in text and (tmp_path / 'boxplots.png').exists()


def test_tables(example, tmp_path):
    report.write(example, tmp_path)
    lines = list(csv.DictReader((tmp_path / 'table.csv').open(encoding='utf-8')))
    assert len(lines) == 4 * 3 * 3
    worse = next(line for line in lines if line['row'] == 'worse')
    expected = entry(comparison.entries(example), 'worse')
    assert (worse['organ'], worse['measure'], worse['n'], worse['reads_target_labels']) == (
        'spleen',
        'dice',
        '8',
        'True',
    )
    numbers = [float(worse[key]) for key in ('mean', 'median', 'std', 'ci_low', 'ci_high', 'p', 'p_holm')]
    assert numbers == [
        expected.mean, expected.median, expected.std, *expected.interval, expected.test.p, expected.p_holm,
    ]  # fmt: skip
    never = next(line for line in lines if line['row'] == 'never')
    assert (never['status'], never['n'], never['mean'], never['p'], never['reported']) == ('not run', '0', '', '', '.5')
    measured = list(csv.DictReader((tmp_path / 'cases.csv').open(encoding='utf-8')))
    assert len(measured) == 2 * (10 + 9 + 10)
    assert measured[-1]['row'] == HOSTILE and float(measured[-1]['dice']) > 0.8


def test_rows_with_different_measures_share_a_table(tmp_path):
    rows = [Row('a', cases={'x': {'spleen': {'dice': 0.5}}}), Row('b', cases={'x': {'liver': {'auc': 0.9}}})]
    report.write(Report('t', 's', ('spleen', 'liver'), ('auc', 'dice'), 'a', rows), tmp_path)
    assert (tmp_path / 'cases.csv').read_text().split() == [
        'row,set,protocol,case,organ,dice,auc', 'a,,native,x,spleen,0.5,', 'b,,native,x,liver,,0.9',
    ]  # fmt: skip


@pytest.mark.parametrize('rows', [[Row('only', cases=cases(0.9, n=1))], [Row('only')], [Row('only', cases={})], []])
def test_one_row_and_none(rows, tmp_path):
    report.write(Report('t', 's', ('mean', 'spleen'), ('dice', 'hd95_mm'), 'only' if rows else '', rows), tmp_path)
    _, words = parsed((tmp_path / 'report.html').read_text(encoding='utf-8'))
    assert not rows or 'only' in words
    measured = bool(rows and rows[0].cases)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ['cases.csv', 'report.html', 'report.md', 'table.csv', *['boxplots.png'] * measured]
    )
    assert ('boxplots.png' in (tmp_path / 'report.md').read_text()) == measured


def test_words():
    assert wording.heading('asd_mm') == 'ASD mm ↓' and wording.heading('new') == 'new ↑'
    assert [wording.duration(s) for s in (59, 99.9, 100, 5940, 6000)] == [
        '59 s',
        '100 s',
        '2 min',
        '99 min',
        '1 h 40 min',
    ]
    assert [wording.probability(p) for p in (None, 0.0001, 0.04999)] == ['–', '< 0.001', '0.050']


def test_a_failed_write_leaves_the_old_report(example, tmp_path, monkeypatch):
    (tmp_path / 'report.html').write_text('old')

    monkeypatch.setattr('synseg_jax.reports.html_page.render', lambda *_: 'half of a page, then \ud800')
    with pytest.raises(UnicodeEncodeError):
        report.write(example, tmp_path)
    assert (tmp_path / 'report.html').read_text() == 'old'
    assert not [path for path in tmp_path.iterdir() if path.name.startswith('.')]


def test_telling_cases_of_a_row(example):
    told = figures.telling_cases(example.rows[0].cases, 'asd_mm')
    means = {case: np.mean([m['asd_mm'] for m in of.values()]) for case, of in example.rows[0].cases.items()}
    assert (told['best'], told['worst']) == (min(means, key=means.get), max(means, key=means.get))


def test_oracle_selection_stands_beside_the_choice_without_labels(tmp_path):
    both = {case: {'spleen': {**of['spleen'], 'dice_oracle': 0.9}} for case, of in cases(0.8).items()}
    rows = [Row('one', cases=both, reported={'dice': '.7'})]
    report.write(Report('t', 's', ('spleen',), ('dice', 'dice_oracle', 'asd_mm'), '', rows), tmp_path)
    head = next(line for line in (tmp_path / 'report.md').read_text().splitlines() if line.startswith('| system'))
    assert head == '| system | Dice ↑ | median | Dice, oracle selection ↑ | median | paper | ASD mm ↓ | median |'


@pytest.fixture
def seeded():
    """A row that is better in each of three seeds, and one whose seeds vary more than it is better by."""
    reference = {seed: cases(0.7, seed=seed) for seed in range(3)}
    better = {seed: cases(0.8, seed=seed) for seed in range(3)}
    varying = {seed: cases(0.7 + shift, seed=seed + 5) for seed, shift in enumerate((0.0, 0.02, 0.25))}
    several = {'reference': reference, 'better': better, 'varying': varying}
    rows = [Row(name, cases=mean_of([*of.values()]), by_seed=of, seed=0, steps=5) for name, of in several.items()]
    return Report('t', 's', ('mean',), ('dice',), 'reference', [*rows, Row('never')])


def test_several_seeds_are_tested_as_such(seeded):
    found = {entry.row.name: entry for entry in comparison.entries(seeded)}
    assert found['better'].mark == '**' and found['varying'].mark == ''
    assert statistics.signed_rank(*(comparison.values(seeded.rows[i], 'mean', 'dice') for i in (0, 2))).p < 0.01
    means = [np.mean([np.mean([m['dice'] for m in of.values()]) for of in cases.values()])
             for cases in seeded.rows[2].by_seed.values()]  # fmt: skip
    assert found['varying'].std_seeds == pytest.approx(np.std(means, ddof=1))
    assert found['varying'].mean == pytest.approx(np.mean(means)) and found['never'].std_seeds is None


def test_a_report_of_several_seeds(seeded, tmp_path):
    report.write(seeded, tmp_path)
    text = (tmp_path / 'report.md').read_text(encoding='utf-8')
    assert '| system | Dice ↑ | median | over seeds |' in text and 'mean over 3 seeds' in text
    assert 'varying: 10 cases · 5 steps each · 3 seeds from 0 on' in text and 'crossed random factors' in text
    lines = list(csv.DictReader((tmp_path / 'cases.csv').open(encoding='utf-8')))
    assert len(lines) == 3 * 3 * 10 * 2 and lines[-1]['seed'] == '2'
    assert float(lines[-1]['dice']) == seeded.rows[2].by_seed[2]['case 9']['liver']['dice']
    told = {line['row']: line for line in csv.DictReader((tmp_path / 'table.csv').open(encoding='utf-8'))}
    assert told['varying']['seeds'] == '3' and float(told['varying']['std_seeds']) > 0.1
    assert 'over seeds' in (tmp_path / 'report.html').read_text(encoding='utf-8')


def test_a_row_of_one_seed_beside_several_has_no_p(seeded):
    once = Row('once', cases=seeded.rows[1].by_seed[0], seed=0)
    (entry,) = [e for e in comparison.entries(replace(seeded, rows=[*seeded.rows, once])) if e.row is once]
    assert entry.test.p is None and entry.mark == ''


def test_a_measure_of_all_scans_together_is_a_number_without_spread(tmp_path):
    both = {f'case {i}': {'tumour': {'kl': 1.0 + i}} for i in range(6)}
    rows = [Row('ours', cases=both, pooled={'tumour': {'kl_pooled': 0.25}}), Row('older', cases=both)]
    told = Report('t', 's', ('tumour',), ('kl_pooled', 'kl'), 'older', rows)
    first, second = (entry for entry in comparison.entries(told) if entry.measure == 'kl_pooled')
    assert (first.n, first.mean, first.std, first.median, first.interval, first.mark) == (6, 0.25, None, None, None, '')
    assert (second.n, second.mean) == (0, None)
    report.write(told, tmp_path)
    text = (tmp_path / 'report.md').read_text()
    assert '| ours | 0.250 | – | 3.500 ± 1.871 |' in text and '| older (reference) | – | – |' in text
