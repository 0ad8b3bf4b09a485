"""BIDS datasets are read by suffix, with label maps and class names from their derivatives."""

import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import pytest
import tiny

from synseg_jax.datasets import input_scans
from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.errors import InputError
from synseg_jax.formats.bids_names import BidsName, label_maps
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.specification.parse import parse_data

LABELLED = 'derivatives/manual/sub-{}/{}anat/sub-{}_{}space-orig_dseg.nii.gz'


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, tiny.AFFINE), path)


@pytest.fixture
def dataset(tmp_path):
    """Three people, the second with two sessions, the third without labels; another suffix, and maps of other kinds."""
    for number, (sub, ses) in enumerate((('01', ''), ('02', 'ses-1'), ('02', 'ses-2'), ('03', ''))):
        image, labels = tiny.scan(number, 'MR')
        folder, entity = (f'{ses}/', f'{ses}_') if ses else ('', '')
        anat = tmp_path / f'sub-{sub}/{folder}anat'
        save(anat / f'sub-{sub}_{entity}T2w.nii.gz', image)
        save(anat / f'sub-{sub}_{entity}acq-fast_T1w.nii.gz', image)
        save(anat.parent / 'func' / f'sub-{sub}_{entity}task-rest_bold.nii.gz', image)
        if sub != '03':
            path = tmp_path / LABELLED.format(sub, folder, sub, entity)
            save(path, labels)
            save(path.with_name(path.name.replace('dseg', 'label-liver_mask')), labels)
    (tmp_path / 'dataset_description.json').write_text('{"Name": "three", "BIDSVersion": "1.10.0"}')
    (tmp_path / 'derivatives/manual/dseg.tsv').write_text('index\tname\tcolor\n1\tliver\t#f00\n2\tspleen\t#00f\n')
    return tmp_path


def test_scans_of_one_suffix(dataset):
    found = read_dataset(f'{dataset}#T2w')
    assert [case.id for case in found.cases] == [
        'sub-01_T2w', 'sub-02_ses-1_T2w', 'sub-02_ses-2_T2w', 'sub-03_T2w'
    ]  # fmt: skip
    assert [case.subject for case in found.cases] == ['sub-01', 'sub-02', 'sub-02', 'sub-03']
    labels = [dataset / LABELLED.format('02', f'ses-{n}/', '02', f'ses-{n}_') for n in (1, 2)]
    assert [case.label for case in found.cases[1:]] == [*labels, None] and found.cases[0].label.is_file()
    assert found.channel == 'T2w' and found.labels == {'background': 0, 'liver': 1, 'spleen': 2}
    fast = read_dataset(f'{dataset}#T1w', channel='MR')
    assert len(fast.cases) == 4 and not any(case.label for case in fast.cases)  # acq-fast has none
    assert (fast.channel, fast.labels) == ('MR', {})


def test_one_suffix_needs_no_name_and_a_table_may_lie_beside_a_label_map(dataset):
    for path in dataset.rglob('*_T1w.nii.gz'):
        path.unlink()
    first = next(dataset.rglob('sub-01*_dseg.nii.gz'))
    first.with_name('sub-01_space-orig_dseg.tsv').write_text('index\tname\n0\tair\n1\ta\n2\tb\n')
    assert read_dataset(dataset).labels == {'air': 0, 'a': 1, 'b': 2}
    assert [*input_scans.find(dataset, ['MR'])] == [case.id for case in read_dataset(dataset).cases]


def test_it_becomes_records(dataset):
    """The classes of the table, in the scans that have labels."""
    whole = (1.0, 0.0, 0.0)
    data = replace(parse_data(tiny.config()), source_split=whole, target_split=whole)
    save(dataset / 'ct' / 'p1.nii.gz', tiny.scan(7, 'CT')[0])
    (dataset / 'sub-03/anat/sub-03_T2w.nii.gz').unlink()
    sets = [Scans('source', Path(f'{dataset}#T2w'), 'a'), Scans('target', dataset / 'ct', 'b', channel='CT')]
    manifest = prepare(sets, dataset / 'records', data, progress=False)
    records = manifest.records('source', 'train')
    assert manifest.classes == tiny.CLASSES and {int(record['label'].max()) for record in records} == {1, 2}
    assert {int(record['case']) for record in records} == {0, 1, 2}


@pytest.mark.parametrize(
    'spoil, said',
    [
        (lambda folder: None, 'could be T1w or T2w; name one: .*#T1w, .*#T2w'),
        (lambda folder: save(folder / 'derivatives/other/sub-01/anat/sub-01_dseg.nii.gz', tiny.scan(0, 'MR')[1]),
         'sub-01_dseg.nii.gz: a label map of the same scan as .*sub-01_space-orig_dseg.nii.gz; keep one of the two'),
        (lambda folder: (folder / 'derivatives/manual/dseg.tsv').write_text('1\tliver\n'),
         'dseg.tsv: needs the columns index, a whole number, and name; repair it'),
        (lambda folder: (folder / 'derivatives/manual/dseg.tsv').write_text('index\tname\n1\ta\n1\tb\n'),
         'dseg.tsv: needs labels with different values'),
    ],
)  # fmt: skip
def test_what_is_refused(dataset, spoil, said):
    spoil(dataset)
    name = '' if said.startswith('could') else '#T2w'
    with pytest.raises(InputError, match=said):
        read_dataset(f'{dataset}{name}')


def test_a_person_is_no_dataset(dataset):
    with pytest.raises(InputError, match=f'sub-01: a subfolder of a dataset; give {re.escape(str(dataset))}$'):
        read_dataset(dataset / 'sub-01')


def test_input_names_a_suffix(dataset):
    assert len(input_scans.find(f'{dataset}#T2w', ['MR'])) == 4
    for path in (dataset, f'{dataset}#FLAIR'):
        with pytest.raises(InputError, match=f'scans are T1w, T2w; name one, e.g. {re.escape(str(dataset))}#T1w'):
            input_scans.find(path, ['MR'])


def test_names():
    name = BidsName.parse(Path('sub-01_ses-a_acq-x_space-orig_desc-y_dseg.nii.gz'))
    assert (name.source, str(name.folder), name.suffix, name.is_scan) == (
        'sub-01_ses-a_acq-x', 'sub-01/ses-a', 'dseg', False
    )  # fmt: skip
    assert BidsName.parse(Path('sub-01_T1w.nii')).is_scan and BidsName.parse(Path('p1_0000.nii.gz')) is None
    scans = {'x': Path('d/sub-1/ct/sub-1_run-2_ct.nii.gz'), 'y': Path('sub-2_ses-3_T2w.nii.gz')}
    assert label_maps(scans) == {
        'x': 'sub-1/anat/sub-1_run-2_space-orig_dseg.nii.gz',
        'y': 'sub-2/ses-3/anat/sub-2_ses-3_space-orig_dseg.nii.gz',
    }
    with pytest.raises(InputError, match='p1.nii.gz: not named as a scan in BIDS, e.g. sub-01_T2w.nii.gz; leave out'):
        label_maps({'p1': Path('p1.nii.gz')})
    with pytest.raises(InputError, match='sub-2_ses-3_T1w.nii.gz: its label map would be .*, as that of another scan'):
        label_maps({**scans, 'z': Path('sub-2_ses-3_T1w.nii.gz')})
