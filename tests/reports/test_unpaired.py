"""Each system of a table on two sets of scans that are no pairs: what is told of them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from configs.tables import prostate
from synseg_jax.errors import InputError
from synseg_jax.reports import unpaired
from synseg_jax.reports.comparison import Row
from synseg_jax.specification.parse import parse

SETS = ('synthetic CT', 'real CT')


def _cases(mean, n, seed):
    dice = mean + 0.1 * np.random.default_rng(seed).random(n)
    return {f'{seed} {i}': {'prostate': {'dice': float(d), 'asd_mm': float(9 * (1 - d))}} for i, d in enumerate(dice)}


def test_systems_that_have_run_on_both_sets():
    apart, alike = (_cases(0.8, 9, 1), _cases(0.5, 7, 2)), (_cases(0.7, 9, 3), _cases(0.7, 7, 4))
    rows = [Row('apart', SETS[0], apart[0]), Row('alike', SETS[0], alike[0]), Row('one', SETS[0], apart[0])]
    rows += [Row('apart', SETS[1], apart[1]), Row('alike', SETS[1], alike[1]), Row('one', SETS[1]), Row('x', 'real MR')]
    (line,) = unpaired.notes(rows, SETS, 'prostate', ['dice'])
    assert line.startswith('synthetic CT against real CT, Dice') and 'Mann-Whitney U' in line
    same = stats.mannwhitneyu(*([of['prostate']['dice'] for of in cases.values()] for cases in alike)).pvalue
    assert 'apart p < 0.001, Holm p < 0.001 (9 and 7 cases)' in line
    assert f'alike p {same:.3f}, Holm p {same:.3f} (9 and 7 cases)' in line and 'one p' not in line
    assert len([*unpaired.notes(rows, SETS, 'prostate', ['dice', 'asd_mm'])]) == 2


def test_nothing_where_nothing_is_asked_or_has_run():
    rows = [Row('apart', SETS[0], _cases(0.8, 9, 1)), Row('apart', SETS[1])]
    assert not [*unpaired.notes(rows, SETS, 'prostate', ['dice'])]
    assert not [*unpaired.notes(rows, (), 'prostate', ['dice'])]


def test_a_table_names_two_of_its_sets():
    table = parse(prostate.get_config()).table
    assert unpaired.titles(table) == SETS
    for wrong in (('target',), ('target', 'target'), ('target', 'tagret')):
        with pytest.raises(InputError, match='name two|tagret'):
            unpaired.titles(replace(table, unpaired=wrong))
    assert unpaired.titles(replace(table, unpaired=())) == ()
