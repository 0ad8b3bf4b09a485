"""Further protocols and further test scans: measured from stored predictions, told apart, and nothing else changed."""

import csv
import json
import shutil
from dataclasses import replace
from unittest import mock

import nibabel as nib
import numpy as np
import pytest
import tiny
import untrained

from configs import variants
from synseg_jax.batches.selection import Fold
from synseg_jax.errors import InputError
from synseg_jax.evaluation import by_protocol
from synseg_jax.evaluation.by_protocol import Predictions
from synseg_jax.evaluation.metrics import dice
from synseg_jax.files import write_json
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.runs import comparison, experiment, results
from synseg_jax.runs.stages import Stage, fields
from synseg_jax.specification.parse import parse, parse_data


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    """The tiny sets, but that the top slices of the target show no organ, and that its scans are named as in BTCV."""
    folder = tmp_path_factory.mktemp('protocols')
    sets = [Scans(name, tiny.write_dataset(folder / modality, modality, 3), domain)
            for name, modality, domain in (('source', 'MR', 'a'), ('target', 'CT', 'b'))]  # fmt: skip
    for part in ('images', 'labels'):
        for path in sorted((folder / 'CT' / f'{part}Tr').iterdir()):
            image = nib.load(path)
            array = np.array(image.dataobj)
            array[..., 4:] = 0 if part == 'labels' else array[..., 4:]
            path.unlink()
            nib.save(nib.Nifti1Image(array, tiny.AFFINE), path.with_name(path.name.replace('ct_', 'btcv_00')))
    prepare(sets, folder / 'records', parse_data(tiny.config()), progress=False)
    return folder / 'records'


def config(records, **changes):
    c = tiny.config(records, **{'test_all': True, 'method': 'supervised', **changes})
    c.systems, c.default_system = {'alone': {}}, 'alone'
    return c


class Guess:
    """A stand-in for a trained segmentor: the first organ in a box, and in all of a slice that shows no organ."""

    arrays, translates, step = ('a', 'label_a'), False, 20

    def __init__(self, run, wrong):
        self.run, self.config, self.wrong = run, run.config, wrong

    @property
    def members(self):
        return [self]

    def for_scan(self, file):
        return self

    def segments(self, domain):
        return True

    def segment(self, scan, domain):
        labels = np.zeros(scan.array.shape, np.uint8)
        labels[4:11, 8:15, :4], labels[..., 5] = 1, self.wrong
        return labels

    def with_fields(self, fields):
        return self

    def uncut(self):
        return self

    def probability(self, scan, domain, label):
        raise NotImplementedError


def evaluate(records, workdir, wrong=1, **changes):
    """Measures as `main` does after training, and writes the system's results."""
    manifest, own = Manifest.load(records), parse(config(records, **changes))
    run = replace(untrained.run(workdir / 'stages/train'), config=own.stage('alone'))
    stage = Stage('train', run.config, manifest, dict.fromkeys(manifest.sets, manifest))
    costs = [{'stage': 'train', 'steps': 2, 'seconds': 1.0, 'peak_memory_gib': 1.0}]
    part = results.evaluate(
        [(stage, Guess(run, wrong))], stage.sets, costs, Fold(), workdir / 'alone', lambda: None)  # fmt: skip
    pooled = results.pool([part]) | {'fields': fields(own, 'alone')}
    write_json(workdir / 'alone/results.json', pooled)
    return pooled


@pytest.fixture(scope='module')
def native(records, tmp_path_factory):
    """A workdir with native measures alone."""
    workdir = tmp_path_factory.mktemp('native')
    evaluate(records, workdir)
    return workdir


def table(records):
    c = config(records, oracle=True)
    rows = {'alone': {'system': 'alone', 'set': 'target', 'name': 'MR labels', 'reported': {}}}
    c.table = variants.table('Title', 'Source', rows, runs='tiny', organs=('liver', 'mean'), measures=('dice',))
    return c


def compare(tmp_path, records, workdir, *flags):
    (tmp_path / 'configs').mkdir(exist_ok=True)
    (tmp_path / 'configs/mine.py').write_text('from tests.runs.test_by_protocol import table as get_config')
    named = f'--table={tmp_path / "configs/mine.py"}:{records}'
    return tiny.command('compare', named, f'--workdir={workdir}', '--rows=none', *flags)


def content(workdir, name='results.json'):
    return json.loads((workdir / 'alone' / name).read_text())


def never(*_):
    raise AssertionError('predicted again')


def test_all_labelled_scans_are_tested(native, records, tmp_path):
    found = content(native)
    assert len(found['cases']['target']) == 3 > len(Manifest.load(records).role('target', 'test')['cases'])
    assert found['test_all'] and not found['transductive']
    assert 'protocols' not in found and 'protocols' not in content(native, 'measures.json')['sets']['target']
    assert len(evaluate(records, tmp_path, test_all=False)['cases']['target']) == 1


def _by_hand(workdir, records, organ):
    """{case: Dice of the slices that show an organ}, which are resampled to whole multiples of their pixels."""
    found = {}
    for role in Manifest.load(records).sets['target']['roles'].values():
        for case in role['cases']:
            true = np.asarray(nib.load(case['label']).dataobj)
            predicted = np.asarray(nib.load(workdir / 'alone/predictions/target' / f'{case["id"]}.nii.gz').dataobj)
            rows = [np.clip(np.floor((np.arange(192) + 0.5) * n / 192).astype(int), 0, n - 1) for n in true.shape[:2]]
            grid = [array[rows[0]][:, rows[1], :4] == organ for array in (predicted, true)]
            found[case['id']] = dice(*grid)
    return found


def test_a_protocol_is_added_without_prediction(native, records, tmp_path):
    workdir, before = shutil.copytree(native, tmp_path / 'run'), content(native)
    with mock.patch.object(results, 'measure', never):
        evaluate(records, workdir, protocols=('native', 'csdg', 'sifa'))
        after = content(workdir)
        assert {name for name in after if after[name] != before.get(name)} == {'fields', 'protocols'}
        csdg = after['protocols']['csdg']
        dices = {case: of['liver']['dice'] for case, of in csdg['cases']['target'].items()}
        assert dices == pytest.approx(_by_hand(workdir, records, 1), abs=1e-12)
        liver = [of['sets']['target']['classes']['liver']['dice'] for of in (csdg, after)]
        assert liver[0]['mean'] > liver[1]['mean'] and liver[0]['n'] == 3  # natively the wrong slice counts
        assert [*after['protocols']['sifa']['cases']['target']] == ['btcv_000']
        evaluate(records, workdir, protocols=('csdg',))
        assert content(workdir)['protocols'] == {'csdg': csdg}
    with mock.patch.object(by_protocol.Predictions, 'measure', never):  # nor is a protocol measured again
        evaluate(records, workdir, protocols=('csdg',))
    evaluate(records, workdir)
    assert content(workdir) == before


def predictions(workdir, records, ids):
    """Stored predictions of the target, and its native measures."""
    entry = Manifest.load(records).sets['target']
    cases = [case for role in entry['roles'].values() for case in role['cases'] if case['id'] in ids]
    return Predictions(workdir / 'alone/predictions/target', entry, cases), content(workdir)['cases']['target']


def test_other_predictions_than_those_measured_do_not_count(native, records, tmp_path):
    workdir = shutil.copytree(native, tmp_path / 'run')
    stored = predictions(workdir, records, ['btcv_001'])
    assert [*by_protocol.measure(['native', 'csdg'], *stored)['protocols']] == ['csdg']
    path = workdir / 'alone/predictions/target/btcv_001.nii.gz'
    image = nib.load(path)
    for array in (np.full(image.shape, 2), np.full(image.shape, 3), np.zeros((3, 3, 3))):
        nib.save(nib.Nifti1Image(array.astype(np.uint8), image.affine), path)
        assert by_protocol.measure(['csdg'], *stored) is None
    path.unlink()
    assert by_protocol.measure(['csdg'], *stored) is None


def test_they_are_made_again(native, records, tmp_path):
    workdir = shutil.copytree(native, tmp_path / 'run')
    (workdir / 'alone/predictions/target/btcv_001.nii.gz').unlink()
    found = evaluate(records, workdir, wrong=0, protocols=('csdg',))
    assert found['protocols']['csdg']['cases']['target'].keys() == found['cases']['target'].keys()
    assert found['cases'] != content(native)['cases']  # all are measured anew, without the wrong slice
    assert _by_hand(workdir, records, 1)['btcv_001'] == pytest.approx(
        found['protocols']['csdg']['cases']['target']['btcv_001']['liver']['dice']
    )


def test_tables_by_protocol(native, records, tmp_path):
    """What `main` prints and writes has one for each protocol and set, named after it."""
    workdir, console = shutil.copytree(native, tmp_path / 'run'), tiny.quiet()
    one, other = evaluate(records, workdir), evaluate(records, workdir, protocols=('csdg',))
    by_name = by_protocol.by_system({'one': one, 'other': other})
    assert by_name == {'csdg': {'other': other['protocols']['csdg']['sets']}}
    experiment.print_tables(console, by_name['csdg'], 'test scans, protocol csdg')
    assert 'target, test scans, protocol csdg' in console.file.getvalue()


def test_subjects_that_are_not_there_end_no_training(native, records, caplog):
    assert by_protocol.measure(['sifa'], *predictions(native, records, ['btcv_001'])) == {}
    assert 'target: protocol sifa: none of its test subjects CT 0, 8, 19, 21, 22, 28 is here' in caplog.text


def test_a_table_by_a_protocol(native, records, tmp_path):
    """In a report of its own, which is named after it, from the stored predictions of a finished run."""
    workdir = shutil.copytree(native, tmp_path / 'run')
    before = {path: path.read_bytes() for path in workdir.rglob('*') if path.is_file()}
    told = compare(tmp_path, records, workdir, '--protocol=csdg')
    assert told.returncode == 0, told.stderr
    folder = workdir / 'report_mine_csdg'
    text = (folder / 'report.md').read_text()
    assert text.startswith('# Title, protocol csdg\n') and 'Protocol csdg: axial slices from the first to' in text
    assert 'all labelled scans of the set' in text and 'oracle selection' not in text
    for file in ('table.csv', 'cases.csv'):
        lines = list(csv.DictReader((folder / file).open()))
        assert {line['protocol'] for line in lines} == {'csdg'}
    found = {line['case']: float(line['dice']) for line in lines if line['organ'] == 'liver'}
    assert found == pytest.approx(_by_hand(native, records, 1))
    assert all(path.read_bytes() == old for path, old in before.items())
    assert not (workdir / 'report_mine').exists()


def test_rows_by_a_protocol(native, records, tmp_path, caplog):
    """What results.json has is shown, whatever the predictions; what it has not is measured, or refused."""
    workdir, made = shutil.copytree(native, tmp_path / 'run'), parse(table(records))
    (row,) = comparison.rows(made, workdir, protocol='sifa')
    assert [*row.cases] == ['btcv_000'] and not row.pooled
    assert 'test subjects CT 8, 19, 21, 22, 28 are missing; 1 of 6 are scored' in caplog.text
    assert comparison.rows(made, workdir)[0].cases == content(workdir)['cases']['target']
    assert comparison.measures(made, 'csdg') == ('dice',) and len(comparison.measures(made)) == 2
    (workdir / 'alone/predictions/target/btcv_001.nii.gz').unlink()
    with pytest.raises(InputError, match='predictions/target: not the predictions that measures.json is of; run the'):
        comparison.rows(made, workdir, protocol='csdg')
    results_file = workdir / 'alone/results.json'
    measured = {'btcv_001': {'liver': {'dice': 0.5}}}
    stored = content(workdir) | {'protocols': {'csdg': {'cases': {'target': measured}}}}
    results_file.write_text(json.dumps(stored))
    assert comparison.rows(made, workdir, protocol='csdg')[0].cases == measured
