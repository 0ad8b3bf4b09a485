"""Label maps under BIDS names: a derivative that other programs list, and that we read again."""

import json

import nibabel as nib
import numpy as np
import pytest
import tiny
import weights

from synseg_jax.datasets import input_scans
from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.inference.predict_scans import predict


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return weights.workdir(tmp_path_factory.mktemp('run'), 'context')


@pytest.fixture(scope='module')
def dataset(trained, tmp_path_factory):
    """A BIDS dataset of two CT scans, its derivative, and the same labels by case."""
    folder = tmp_path_factory.mktemp('dataset')
    for number, place in enumerate(('sub-01/ses-1/ct/sub-01_ses-1_ct', 'sub-02/ct/sub-02_ct')):
        path = folder / 'bids' / f'{place}.nii.gz'
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(tiny.scan(number, 'CT')[0], tiny.AFFINE), path)
    description = {'Name': 'two', 'BIDSVersion': '1.10.0'}
    (folder / 'bids' / 'dataset_description.json').write_text(json.dumps(description))
    files = input_scans.find(folder / 'bids', ['CT'])
    derivative = folder / 'bids' / 'derivatives' / 'synseg_jax'
    return folder / 'bids', predict(trained, files, derivative, names='bids'), predict(trained, files, folder / 'cases')


def test_names_and_content(dataset):
    folder, written, by_case = dataset
    derivative = folder / 'derivatives' / 'synseg_jax'
    assert {case: str(path.relative_to(derivative)) for case, path in written.items()} == {
        'sub-01_ses-1_ct': 'sub-01/ses-1/anat/sub-01_ses-1_space-orig_dseg.nii.gz',
        'sub-02_ct': 'sub-02/anat/sub-02_space-orig_dseg.nii.gz',
    }
    for case, path in written.items():
        np.testing.assert_array_equal(scan_file.read_labels(path).array, scan_file.read_labels(by_case[case]).array)
    content = json.loads((derivative / 'dataset_description.json').read_text())
    assert content['DatasetType'] == 'derivative' and content['GeneratedBy'][0]['Name'] == 'synseg_jax'
    assert json.loads((derivative / 'dataset.json').read_text())['prediction']['members'][0]['step'] == 0
    assert 'dataset.json' in (derivative / '.bidsignore').read_text().split()
    assert (derivative / 'dseg.tsv').read_text() == 'index\tname\n0\tbackground\n1\tliver\n2\tspleen\n'


def test_an_interrupted_derivative_goes_on_under_its_own_names(trained, dataset):
    folder, written, by_case = dataset
    derivative, lost = folder / 'derivatives' / 'synseg_jax', written['sub-02_ct']
    whole = {path: path.read_bytes() for path in derivative.rglob('*') if path.is_file()}
    first = written['sub-01_ses-1_ct'].stat().st_mtime_ns
    lost.unlink()
    assert predict(trained, input_scans.find(folder, ['CT']), derivative, names='bids', go_on=True) == written
    assert {path: path.read_bytes() for path in derivative.rglob('*') if path.is_file()} == whole
    assert written['sub-01_ses-1_ct'].stat().st_mtime_ns == first
    cases = by_case['sub-02_ct'].parent
    with pytest.raises(InputError, match='was made with names None, not .bids'):
        predict(trained, input_scans.find(folder, ['CT']), cases, names='bids', go_on=True)


def test_they_are_read_as_labels_of_their_scans(dataset):
    folder, written, _ = dataset
    found = read_dataset(folder)
    assert {case.id: case.label for case in found.cases} == written
    assert tuple(found.labels) == tiny.CLASSES


@pytest.mark.filterwarnings('ignore')  # of pybids about what it uses
def test_pybids_lists_them(dataset):
    bids = pytest.importorskip('bids', reason='pybids is not installed')
    folder, written, _ = dataset
    layout = bids.BIDSLayout(folder, derivatives=True, validate=False)
    found = layout.get(scope='synseg_jax', suffix='dseg', extension='.nii.gz', return_type='filename')
    assert sorted(found) == sorted(map(str, written.values()))
    entities = layout.get(scope='synseg_jax', subject='01', suffix='dseg', extension='.nii.gz')[0].get_entities()
    assert (entities['session'], entities['space']) == ('1', 'orig')
