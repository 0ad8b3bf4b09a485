"""Every metric is one entry, which files, tables, plots and the summary of tables read."""

import inspect
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from configs import summary as tables
from synseg_jax.errors import InputError
from synseg_jax.evaluation import metrics, registry, summary
from synseg_jax.evaluation.metric import Metric, measure
from synseg_jax.evaluation.metrics import Masks
from synseg_jax.reports import figures, report, wording
from synseg_jax.reports.report import Report, Row
from synseg_jax.runs import comparison

NEW = Metric('area', 'Area', lambda masks: masks.reference.sum() or math.nan, 'mm²', digits=0, limits=(0, 9), beside=1)


def test_names_are_those_of_the_entries():
    assert all(metric.name == name for name, metric in registry.METRICS.items())
    assert metrics.MEASURES == tuple(metric.name for metric in metrics.METRICS)
    assert len({metric.heading for metric in registry.METRICS.values()}) == len(registry.METRICS)


def test_committed_tables_are_headed_by_the_registry():
    known = {f'{metric.heading} {metric.arrow}' for metric in registry.METRICS.values()}
    for path in tables.TABLES.glob('*.md'):
        for line in path.read_text(encoding='utf-8').splitlines():
            if line.startswith('| system |'):
                assert {cell for cell in re.split(r' ?\| ?', line) if cell[-1:] in ('↑', '↓')} <= known, path


@pytest.mark.parametrize('metric', metrics.METRICS, ids=metrics.MEASURES)
def test_the_rule_of_empty_masks_is_that_of_the_entry(metric):
    empty, one = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    one[1:3, 2:4, 0] = True
    for pair in ((one, empty), (empty, one)):
        assert measure([metric], Masks(*pair, (1.0, 2.0, 3.0))) == {metric.name: metric.one_empty}
    assert measure([metric], Masks(empty, empty, (1.0, 2.0, 3.0))) == {metric.name: None}


def test_values_lie_within_their_limits():
    rng = np.random.default_rng(0)
    for _ in range(8):
        masks = Masks(*(rng.random((5, 6, 7)) > rng.random() for _ in range(2)), (1.5, 1.0, 4.0))
        for name, value in measure(metrics.METRICS, masks).items():
            low, high = registry.METRICS[name].limits
            assert low <= value <= high, name


def test_a_new_entry_is_all_that_a_metric_needs(tmp_path, monkeypatch):
    """It is measured, summarised and shown in the terminal, in reports and in plots."""
    grown = (*metrics.METRICS, NEW)
    for module in (metrics, summary):
        monkeypatch.setattr(module, 'METRICS', grown)
    monkeypatch.setattr(summary, 'MEASURES', (*metrics.MEASURES, NEW.name))
    monkeypatch.setitem(registry.METRICS, NEW.name, NEW)
    label = np.pad(np.ones((2, 2), np.uint8), 1)
    cases = {name: metrics.case_measures(label, label, ['background', 'x'], (1, 1)) for name in 'abc'}
    summarised = summary.summarise(cases)
    assert summarised['classes']['x']['area'] == summarised['mean']['area']
    columns = [str(column.header) for column in summary.table({'s': summarised}).columns]
    assert columns == ['organ', 'Dice', 'median', 'ASD mm', 'HD95 mm', 'Area mm²']
    made = Report('t', 's', ('x',), ('area',), '', [Row('s', cases=cases)])
    report.write(made, tmp_path)
    assert '| system | Area mm² ↑ | median |' in (tmp_path / 'report.md').read_text(encoding='utf-8')
    assert '4 ± 0' in (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert figures.axis_limits(NEW) == (-0.18, 9.18)


def test_a_table_of_an_unknown_metric_is_refused():
    table = SimpleNamespace(measures=('dice', 'hausdorff'))
    with pytest.raises(InputError, match=r"unknown metric \(table.measures\) 'hausdorff'; known: asd_mm, auc, dice"):
        inspect.unwrap(comparison.measures)(SimpleNamespace(table=table, oracle=False))


def test_values_with_their_units():
    assert wording.with_unit(24.12, 'psnr') == 'PSNR 24.1 dB' and wording.with_unit(0.51234, 'ssim') == 'SSIM 0.512'
