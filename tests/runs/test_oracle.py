"""Oracle selection tells what the best checkpoint by the labels of the test scans reaches, and changes nothing else."""

import json
import shutil

import numpy as np
import pytest
import tiny

from configs.tables import synseg_abdomen_laptop
from synseg_jax.evaluation import metrics
from synseg_jax.formats import scan_file
from synseg_jax.preparation.records import Manifest
from synseg_jax.reports import report
from synseg_jax.reports.comparison import Report, Row
from synseg_jax.runs import comparison, open_run, oracle_selection
from synseg_jax.specification.parse import changed, parse

LENGTH = {'train__steps': 12, 'train__decay_steps': 0, 'train__save_every': 4, 'train__keep': 1}
TOLD = 'by the labels of these very test scans'


def _run(records, workdir, **changes):
    """Few steps at a high rate, whose checkpoints differ."""
    c = tiny.config(records, rate__segmentor=0.03, loss__segmentation='dice', **LENGTH, **changes)
    c.systems, c.default_system = {'alone': {'method': 'supervised'}}, 'alone'
    return tiny.run(c, workdir, tiny.quiet())


@pytest.fixture(scope='module')
def finished(tiny_records, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('oracle') / 'run'
    return workdir, _run(tiny_records, workdir, oracle=True)


def _dice(workdir, records):
    """{step: {case: {organ: Dice}}} of every checkpoint."""
    found = {}
    trained = open_run.find(workdir)
    for step in trained.kept():
        trained.load(step)
        for case in Manifest.load(records).role('target', 'test')['cases']:
            labels = trained.segment(scan_file.read(case['image']), 'b')
            true = scan_file.read_labels(case['label']).array
            values = {name: metrics.dice(labels == i, true == i) for i, name in enumerate(tiny.CLASSES) if i}
            found.setdefault(step, {})[case['id']] = values
    return found


def test_the_best_checkpoint_by_the_test_labels_is_told(finished, tiny_records):
    workdir, _ = finished
    by_step = _dice(workdir, tiny_records)
    assert sorted(by_step) == [4, 8, 12]  # all are kept, whatever train.keep says
    means = {step: np.mean([list(of.values()) for of in cases.values()]) for step, cases in by_step.items()}
    assert len(set(means.values())) == 3
    told = json.loads((workdir / 'alone' / 'measures.json').read_text())['sets']['target']
    assert told['oracle'] == {'step': max(means, key=means.get), 'of': 3}
    cases = json.loads((workdir / 'alone' / 'results.json').read_text())['cases']['target']
    for case, organs in by_step[told['oracle']['step']].items():
        for organ, value in organs.items():
            assert cases[case][organ]['dice_oracle'] == pytest.approx(value, abs=1e-6)
    assert not list((workdir / 'alone').glob('.oracle*'))


def test_nothing_else_changes(finished, tiny_records):
    """The same stage, which is not trained again, and the same measures of the weights in use."""
    workdir, results = finished
    stages = sorted(path.name for path in (workdir / 'stages').iterdir())
    before = (workdir / 'stages' / stages[-1] / 'metrics.csv').stat().st_mtime_ns
    told = json.loads((workdir / 'alone' / 'results.json').read_text())
    (workdir / 'alone' / 'measures.json').unlink()
    again = _run(tiny_records, workdir)
    assert sorted(path.name for path in (workdir / 'stages').iterdir()) == stages
    assert (workdir / 'stages' / stages[-1] / 'metrics.csv').stat().st_mtime_ns == before
    assert again['systems'] == results['systems']
    plain = json.loads((workdir / 'alone' / 'results.json').read_text())
    assert plain['fields'] != told['fields']  # so that `compare` measures anew where it is asked for
    for case, organs in plain['cases']['target'].items():
        for organ, measures in organs.items():
            assert measures == {k: v for k, v in told['cases']['target'][case][organ].items() if k != 'dice_oracle'}


def test_checkpoints_of_interruptions_do_not_count_and_all_others_must_be_there(finished, tiny_records, caplog):
    """Asked for after a training of which not all was kept, there is no choice to speak of."""
    workdir, _ = finished
    trained = open_run.find(workdir)
    kept = trained.run.folder / 'checkpoints'
    shutil.copytree(kept / '12', kept / '11')
    assert open_run.find(workdir).validated() == [4, 8, 12]
    shutil.rmtree(kept / '8')
    (workdir / 'alone' / 'measures.json').unlink()
    _run(tiny_records, workdir, oracle=True)
    assert 'no oracle selection, 1 of 3 checkpoints were not kept' in caplog.text
    told = json.loads((workdir / 'alone' / 'measures.json').read_text())['sets']['target']
    assert 'oracle' not in told and all('dice_oracle' not in of['liver'] for of in told['cases'].values())


def test_a_report_says_what_it_is(tmp_path):
    cases = {f'c{i}': {'liver': {'dice': 0.5, 'dice_oracle': 0.25 * i}} for i in range(4)}
    rows = [Row('with', cases=cases), Row('without', cases={'c0': {'liver': {'dice': 0.5}}})]
    report.write(Report('Title', 'Paper', ('liver',), ('dice', 'dice_oracle'), '', rows), tmp_path)
    text = (tmp_path / 'report.md').read_text(encoding='utf-8')
    assert '| system | Dice ↑ | median | Dice, oracle selection ↑ | median |' in text
    assert '| with | 0.500 ± 0.000 | 0.500 | 0.375 ± 0.323 | 0.375 |' in text
    assert '| without | 0.500 | 0.500 | – | – |' in text
    assert TOLD in text


def test_a_table_shows_it_where_it_is_asked_for():
    config = parse(synseg_abdomen_laptop.get_config('records'))
    assert comparison.measures(config) == ('dice', oracle_selection.DICE, 'asd_mm')
    assert comparison.measures(changed(config, {'oracle': False})) == ('dice', 'asd_mm')
