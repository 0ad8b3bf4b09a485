"""Further protocols and further test scans: measured from stored predictions, told apart, and nothing else changed."""

import json
import shutil
from unittest import mock

import nibabel as nib
import numpy as np
import pytest
import tiny

from synseg_jax.evaluation.metrics import dice
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.runs import by_protocol, results, test_set
from synseg_jax.runs.by_protocol import Predictions
from synseg_jax.specification.parse import parse_data

SHORT = {'train__steps': 2, 'train__decay_steps': 0, 'train__save_every': 2, 'method': 'supervised'}
WRONG = np.s_[..., 5]  # a slice that shows no organ


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    """The tiny sets, but that the top slices of the target show no organ, and that its scans are named as in BTCV."""
    folder = tmp_path_factory.mktemp('protocols')
    sets = [Scans(name, tiny.write_dataset(folder / modality, modality, 4), domain)
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
    c = tiny.config(records, test_all=True, **SHORT, **changes)
    c.systems, c.default_system = {'alone': {}}, 'alone'
    return c


@pytest.fixture(scope='module')
def native(records, tmp_path_factory):
    """A workdir with native measures alone; one wrong slice is added to predictions, and measured."""
    workdir = tmp_path_factory.mktemp('native') / 'run'
    original = test_set.predict

    def predict(*arguments):
        written = original(*arguments)
        for path in written.values():
            image = nib.load(path)
            array = np.array(image.dataobj)
            array[..., 4:] = 0
            array[WRONG] = 1
            nib.save(nib.Nifti1Image(array, image.affine), path)
        return written

    with mock.patch.object(test_set, 'predict', predict):
        tiny.run(config(records), workdir, tiny.quiet())
    return workdir


def content(workdir, name='results.json'):
    return json.loads((workdir / 'alone' / name).read_text())


def never(*_):
    raise AssertionError('predicted again')


def test_all_labelled_scans_are_tested(native):
    found = content(native)
    assert len(found['cases']['target']) == 4 and found['test_all'] and not found['transductive']
    assert 'protocols' not in found and all('protocols' not in of for of in content(native, 'measures.json')['sets'])


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
    workdir = shutil.copytree(native, tmp_path / 'run', symlinks=True)
    with mock.patch.object(results, 'measure', never):
        console = tiny.quiet()
        tiny.run(config(records, protocols=('native', 'csdg', 'sifa')), workdir, console)
    before, after = content(native), content(workdir)
    assert after['cases'] == before['cases'] and after['sets'] == before['sets']
    assert after['fields'] != before['fields']
    csdg = after['protocols']['csdg']
    assert {case: of['liver']['dice'] for case, of in csdg['cases']['target'].items()} == pytest.approx(
        _by_hand(workdir, records, 1), abs=1e-12
    )
    assert csdg['sets']['target']['mean']['dice']['n'] == 4
    liver = [of['sets']['target']['classes']['liver']['dice']['mean'] for of in (csdg, after)]
    assert liver[0] > liver[1]  # which counts the wrong slice
    assert [*after['protocols']['sifa']['cases']['target']] == ['btcv_000']
    assert 'target, test scans, protocol csdg' in console.file.getvalue()
    assert json.loads((workdir / 'results.json').read_text())['protocols']['csdg']['alone'] == csdg['sets']
    with mock.patch.object(results, 'measure', never):
        tiny.run(config(records, protocols=('csdg',)), workdir, tiny.quiet())
    assert [*content(workdir)['protocols']] == ['csdg']


def predictions(workdir, records, ids):
    """Stored predictions of the target, and its native measures."""
    entry = Manifest.load(records).sets['target']
    cases = [case for role in entry['roles'].values() for case in role['cases'] if case['id'] in ids]
    return Predictions(workdir / 'alone/predictions/target', entry, cases), content(workdir)['cases']['target']


def test_other_predictions_than_those_measured_do_not_count(native, records, tmp_path):
    workdir = shutil.copytree(native, tmp_path / 'run', symlinks=True)
    stored = predictions(workdir, records, ['btcv_001'])
    assert [*by_protocol.measure(['csdg'], *stored)] == ['csdg']
    path = workdir / 'alone/predictions/target/btcv_001.nii.gz'
    image = nib.load(path)
    for array in (np.full(image.shape, 2), np.full(image.shape, 3), np.zeros((3, 3, 3))):
        nib.save(nib.Nifti1Image(array.astype(np.uint8), image.affine), path)
        assert by_protocol.measure(['csdg'], *stored) is None
    path.unlink()
    assert by_protocol.measure(['csdg'], *stored) is None


def test_they_are_made_again(native, records, tmp_path):
    workdir = shutil.copytree(native, tmp_path / 'run', symlinks=True)
    path = workdir / 'alone/predictions/target/btcv_001.nii.gz'
    path.unlink()
    tiny.run(config(records, protocols=('csdg',)), workdir, tiny.quiet())
    found = content(workdir)
    assert path.is_file() and len(found['protocols']['csdg']['cases']['target']) == 4
    assert found['cases'] != content(native)['cases']  # without the wrong slice, measured anew


def test_subjects_that_are_not_there_end_no_training(native, records, caplog):
    assert by_protocol.measure(['sifa'], *predictions(native, records, ['btcv_001'])) == {}
    assert 'target: protocol sifa: none of its test subjects CT 0, 8, 19, 21, 22, 28 is here' in caplog.text
