"""The command that sets systems side by side: what it trains, what it marks, and that it goes on where it was."""

import copy
import csv
import json
import os
import shutil
import signal
import sys
import time
from types import SimpleNamespace
from unittest import mock

import background
import pytest
import tiny

from configs import variants
from synseg_jax import main
from synseg_jax.runs import comparison
from synseg_jax.specification.parse import parse

TABLE = """
from tests import tiny
from configs import variants


def get_config(data=''):
    c = tiny.config(data, train__steps=4, train__decay_steps=2, train__save_every=2)
    c.method = 'supervised'
    c.systems = variants.systems(synseg={}, source_only={'seed': 1}, broken={'sets': {'a': ('none',)}})
    rows = {
        'b': {'system': 'synseg', 'set': 'target', 'name': 'SynSeg-Net', 'reported': {'dice': '.9'}, 'count': 2},
        'a': {'system': 'source_only', 'set': 'target', 'name': 'no adaptation', 'reported': {}, 'count': 1},
        'c': {'system': 'broken', 'set': 'target', 'name': 'broken', 'reported': {}},
    }
    c.table = variants.table('Title', 'Source', rows, runs='tiny', organs=('liver', 'mean'), measures=('dice', 'auc'),
                             reference='SynSeg-Net', counted='things')
    return c
"""


@pytest.fixture(scope='module')
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tables') / 'configs'
    folder.mkdir()
    (folder / 'mine.py').write_text(TABLE)
    return folder / 'mine.py'


class Called:
    """A process of `main`, called in ours."""

    def __init__(self, line):
        assert line[:3] == [sys.executable, '-m', 'synseg_jax.main']
        self.code = main.main(line[3:])

    def wait(self):
        return self.code


def _compare(table, records, workdir, *flags):
    with mock.patch.object(comparison, 'subprocess', SimpleNamespace(Popen=Called)):
        return tiny.command('compare', f'--table={table}:{records}', f'--workdir={workdir}', *flags)


@pytest.fixture(scope='module')
def compared(table, tiny_records, tmp_path_factory):
    """(workdir, the three runs of the command)."""
    workdir = tmp_path_factory.mktemp('compared') / 'run'
    first = _compare(table, tiny_records, workdir, '--rows=source_only')
    second = _compare(table, tiny_records, workdir)
    third = _compare(table, tiny_records, workdir, '--rows=none')
    return workdir, first, second, third


def test_rows_one_by_one(compared):
    workdir, first, second, third = compared
    assert first.returncode == 0, first.stderr
    assert 'not run: SynSeg-Net, broken' in first.stdout
    assert second.returncode == 2 and 'error: broken failed; the report marks them' in second.stderr
    assert "unknown set (broken, train) 'none'" in second.stderr and 'Traceback' not in second.stderr
    assert 'source_only' not in second.stdout.split('# Title')[0]  # a row that has run is not run again
    assert third.returncode == 0 and 'step' not in third.stdout.split('# Title')[0]


def test_the_report(compared):
    folder = compared[0] / 'report_mine'
    names = {path.name for path in folder.iterdir()}
    assert {'report.html', 'report.md', 'table.csv', 'cases.csv', 'boxplots.png', 'counts.png'} <= names
    page = (folder / 'report.html').read_text()
    assert page.count('data:image/png;base64,') >= 6 and 'not run' in page and 'train.steps = 4' in page
    with (folder / 'cases.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    measured = json.loads((compared[0] / 'synseg' / 'results.json').read_text())['cases']['target']
    (case,) = measured
    own = [row for row in rows if row['row'] == 'SynSeg-Net' and row['case'] == case and row['organ'] == 'liver']
    assert float(own[0]['dice']) == pytest.approx(measured[case]['liver']['dice'])


def test_rows_keep_the_tables_order(table, tiny_records):
    import importlib.util

    spec = importlib.util.spec_from_file_location('mine', table)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(str(tiny_records))
    assert [row.name for row in comparison.rows(parse(config), table.parent)] == [
        'SynSeg-Net',
        'no adaptation',
        'broken',
    ]


def test_what_runs_again(compared, tiny_records, tmp_path):
    """A row counts as finished only with the same fields, and on every set that the table shows."""
    workdir = compared[0]
    begun = json.loads((workdir / 'run.json').read_text())['config']
    config = tiny.config(tiny_records, train__steps=4, train__decay_steps=2, train__save_every=2)
    config.method = 'supervised'
    config.systems = variants.systems(synseg={}, source_only={'seed': 1}, broken={'sets': {'a': ('none',)}})
    rows = {name: {'system': name, 'set': 'target', 'name': name, 'reported': {}} for name in ('synseg', 'broken')}
    config.table = variants.table('', '', rows)
    assert begun['train']['steps'] == 4
    assert comparison.finished(parse(config), workdir, 'synseg') and not comparison.finished(
        parse(config), workdir, 'broken'
    )
    other = shutil.copytree(workdir, tmp_path / 'run', symlinks=True)  # another row has been run with more steps since
    described = json.loads((other / 'run.json').read_text())
    described['config']['train']['steps'] = 6
    (other / 'run.json').write_text(json.dumps(described))
    longer = copy.deepcopy(config)
    longer.train.steps = 6
    assert not comparison.finished(parse(longer), other, 'synseg')
    config.table.rows.synseg.set = 'other'
    assert not comparison.finished(parse(config), workdir, 'synseg')
    config.table.rows.synseg.set, config.train.steps = 'target', 6
    assert not comparison.finished(parse(config), workdir, 'synseg')


def test_an_unknown_row(table, tiny_records, tmp_path):
    wrong = _compare(table, tiny_records, tmp_path, '--rows=sysneg')
    assert wrong.returncode == 2 and "unknown row 'sysneg'; known: broken, source_only, synseg" in wrong.stderr
    assert not os.listdir(tmp_path)


def test_a_signal_stops_the_row_and_all_that_follow(table, tiny_records, tmp_path):
    line = [f'--table={table}:{tiny_records}', f'--workdir={tmp_path / "run"}', '--table.train.steps=100000']
    program = background.Program('synseg_jax.compare', *line, said=tmp_path / 'said')
    end = time.monotonic() + 200
    while not list(tmp_path.glob('run/stages/train-*/metrics.csv')):
        assert not program.ended() and time.monotonic() < end, program.text()
        time.sleep(0.05)
    program.send(signal.SIGTERM)
    assert program.end(120) == 0, program.text()
    said = program.text()
    assert 'stopped by SIGTERM: saved step' in said and 'not run: SynSeg-Net, no adaptation, broken' in said
    assert "unknown set (broken, train) 'none'" not in said  # the row after it


def test_two_sets_of_a_system_are_tested_against_each_other(tmp_path):
    """Where a table asks for it: scans that are no pairs, in the notes of the report."""
    dice = {'synthesis': (0.81, 0.82, 0.83, 0.84), 'target': (0.41, 0.42, 0.43, 0.44, 0.45)}
    cases = {of: {f'{of} {d}': {'prostate': {'dice': d, 'asd_mm': None}} for d in some} for of, some in dice.items()}
    results = {'cases': cases, 'synthesis': {}, 'steps': 4, 'seconds': 1.0, 'peak_memory_gib': 1.0, 'seed': 0}
    (tmp_path / 'plain').mkdir()
    content = json.dumps({**results, 'reads_target_labels': False, 'folds': 1})
    (tmp_path / 'plain' / 'results.json').write_text(content)
    told = tiny.command('compare', '--table=configs/tables/prostate.py', '--rows=none', f'--workdir={tmp_path}')
    assert told.returncode == 0, told.stderr
    for name in ('report.md', 'report.html'):
        text = (tmp_path / 'report_prostate' / name).read_text(encoding='utf-8')
        assert 'synthetic CT against real CT, Dice' in text and 'SynCT p 0.016, Holm p 0.016 (4 and 5 cases)' in text
