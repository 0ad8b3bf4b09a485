"""Statistics with known answers, and files that are whole or absent."""

import csv

import pytest
from rich.console import Console

from synseg_jax.evaluation import metrics, summary
from synseg_jax.files import write_csv


def measured(dice, asd_mm, hd95_mm):
    overlap = None if dice is None else dice / (2 - dice)
    return {'dice': dice, 'iou': overlap, 'asd_mm': asd_mm, 'hd95_mm': hd95_mm}


CASES = {
    'one': {'spleen': measured(0.9, 1.0, 4.0), 'liver': measured(0.7, 3.0, 8.0), 'body': measured(0.1, 90.0, 99.0)},
    'two': {'spleen': measured(0.0, None, None), 'liver': measured(0.8, 2.0, 6.0), 'body': measured(0.1, 90.0, 99.0)},
    'three': {
        'spleen': measured(None, None, None),
        'liver': measured(0.6, 1.0, 1.0),
        'body': measured(0.1, 90.0, 99.0),
    },
}


def test_statistics_per_class():
    spleen = summary.summarise(CASES)['classes']['spleen']
    assert spleen['dice'] == {
        'mean': pytest.approx(0.45),
        'median': pytest.approx(0.45),
        'std': pytest.approx(0.9 / 2**0.5),  # of the sample: sqrt(2 * 0.45^2 / 1)
        'n': 2,
    }
    assert spleen['asd_mm'] == {'mean': 1.0, 'median': 1.0, 'std': None, 'n': 1}
    assert (spleen['both_empty'], spleen['one_empty']) == (1, 1)
    liver = summary.summarise(CASES)['classes']['liver']
    assert liver['hd95_mm'] == {'mean': 5.0, 'median': 6.0, 'std': pytest.approx(13**0.5), 'n': 3}
    assert (liver['both_empty'], liver['one_empty']) == (0, 0)


def test_mean_is_over_the_organs_of_each_case_first():
    mean = summary.summarise(CASES)['mean']
    # per case: (0.9 + 0.7) / 2, (0.0 + 0.8) / 2, 0.6; the body is no organ
    assert summary.organ_means(CASES, 'dice') == pytest.approx({'one': 0.8, 'two': 0.4, 'three': 0.6})
    assert mean['dice'] == {'mean': pytest.approx(0.6), 'median': pytest.approx(0.6), 'std': pytest.approx(0.2), 'n': 3}
    assert mean['asd_mm']['mean'] == pytest.approx((2 + 2 + 1) / 3)
    assert set(mean) == {*metrics.MEASURES}


def test_nan_counts_as_absent_and_disjoint_masks_do_not():
    nan = float('nan')
    cases = {'one': {'spleen': measured(nan, nan, nan)}, 'two': {'spleen': measured(0.0, 12.0, 20.0)}}
    spleen = summary.summarise(cases)['classes']['spleen']
    assert (spleen['both_empty'], spleen['one_empty'], spleen['dice']['n'], spleen['asd_mm']['n']) == (1, 0, 1, 1)
    assert summary.summarise(cases)['mean']['dice']['n'] == 1


def test_nothing_measured():
    empty = {'mean': None, 'median': None, 'std': None, 'n': 0}
    assert summary.statistics([]) == summary.statistics([None, float('nan')]) == empty
    assert summary.summarise({}) == {'classes': {}, 'mean': dict.fromkeys(metrics.MEASURES, empty)}


def test_csv_has_a_row_per_case_and_organ(tmp_path):
    path = tmp_path / 'cases.csv'
    write_csv(path, summary.rows(CASES))
    read = list(csv.DictReader(path.open()))
    assert len(read) == 9
    first = {'case': 'one', 'organ': 'spleen', 'dice': '0.9', 'iou': str(0.9 / 1.1), 'asd_mm': '1.0', 'hd95_mm': '4.0'}
    assert read[0] == first
    assert read[3]['dice'] == '0.0'
    assert read[6]['dice'] == read[6]['asd_mm'] == ''


def printed(table, width=200):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_table_of_one_system():
    lines = printed(summary.table({'SynSeg-Net': summary.summarise(CASES)})).splitlines()
    (liver,) = [line for line in lines if 'liver' in line]
    assert liver.replace('│', ' ').split() == ['liver', '0.700±0.100', '0.700', '2.00±1.00', '5.0±3.6']
    (mean,) = [line for line in lines if 'mean' in line]
    assert mean.replace('│', ' ').split()[:3] == ['mean', '0.600±0.200', '0.600']
    assert any('spleen: 1 in neither' in line for line in lines)


def test_table_of_many_systems_fits_a_terminal():
    names = ['essnet_714', 'real_only', 'source_only', 'target_labels']
    lines = printed(summary.table(dict.fromkeys(names, summary.summarise(CASES))), width=80).splitlines()
    (liver,) = [line for line in lines if '│ liver' in line]
    assert liver.replace('│', ' ').split() == ['liver', *['0.700±0.100'] * 4]
    assert all(name in lines[1] for name in names) and max(map(len, lines)) <= 80


def test_table_of_two_systems_with_different_organs():
    half = {case: {'spleen': classes['spleen']} for case, classes in CASES.items()}
    text = printed(summary.table({'whole': summary.summarise(CASES), '[half]': summary.summarise(half)}))
    (liver,) = [line for line in text.splitlines() if 'liver' in line]
    assert liver.replace('│', ' ').split() == ['liver', '0.700±0.100', '2.00±1.00', '-', '-']
    assert 'whole' in text.splitlines()[1] and '[half]' in text.splitlines()[1]
