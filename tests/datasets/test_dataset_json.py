"""A dataset.json with anything in it is read right or refused in one line; no path in it leaves its folder."""

import json
import unicodedata

import nibabel as nib
import numpy as np
import pytest

from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.errors import InputError
from synseg_jax.evaluation import folders

NNUNET = {'channel_names': {'0': 'CT'}, 'labels': {'background': 0, 'liver': 1}, 'file_ending': '.nii.gz'}
MSD = {'modality': {'0': 'CT'}, 'labels': {'0': 'background', '1': 'liver'}}
PAIR = {'image': './imagesTr/a.nii.gz', 'label': './labelsTr/a.nii.gz'}


def folder(path, content, channel=True):
    for part in ('imagesTr', 'labelsTr', 'imagesTs'):
        (path / part).mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.zeros((4, 4, 3), np.uint8), np.eye(4))
    nib.save(image, path / 'imagesTr' / ('a_0000.nii.gz' if channel else 'a.nii.gz'))
    nib.save(image, path / 'labelsTr/a.nii.gz')
    (path / 'dataset.json').write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    'changes',
    [
        {'channel_names': 'CT'},
        {'channel_names': ['CT']},
        {'channel_names': {'0': ['CT']}},
        {'channel_names': {'0': None}},
        {'channel_names': {'0': ''}},
        {'channel_names': {'0': 'C\ud800T'}},
        {'channel_names': {'0': 'C\x1b[31mT'}},
        {'channel_names': {'first': 'CT'}},
        {'channel_names': 3, 'modality': 4},
        {'labels': ['background', 'liver']},
        {'labels': 'liver'},
        {'labels': 1},
        {'labels': {'background': 0, 'liver': 1.5}},
        {'labels': {'background': 0, 'liver': True}},
        {'labels': {'background': 0, 'liver': float('inf')}},
        {'labels': {'background': 0, 'liver': float('nan')}},
        {'labels': {'background': 0, 'liver': None}},
        {'labels': {'background': 0, 'liver': [1, [2]]}},
        {'labels': {'background': 0, 'liver': -1}},
        {'labels': {'background': 0, 'liver': 10**12}},
        {'labels': {'background': 0, 'liver': [1, 65536]}},
        {'labels': {'0': 'background', '1': None}},
        {'labels': {'0': 'background', '1': 'liver', '2': 'liver'}},
        {'labels': {'0': 'background', '²': 'liver'}},
        {'dataset': 3},
        {'dataset': {'a': -1}},
        {'dataset': {'a': {'images': [], 'label': 'x'}}},
    ],
)
def test_values_of_another_type(tmp_path, changes):
    with pytest.raises(InputError, match=r'dataset\.json: ') as error:
        read_dataset(folder(tmp_path, {**NNUNET, **changes}))
    assert '\n' not in str(error.value)
    str(error.value).encode()


@pytest.mark.parametrize(
    'changes',
    [
        {'file_ending': 3},
        {'file_ending': '.exotic'},
        {'numTraining': '4'},
        {'labels': {'background': 0.0, 'liver': '1'}},
    ],
)
def test_fields_that_do_not_matter(tmp_path, changes):
    dataset = read_dataset(folder(tmp_path, {**NNUNET, **changes}))
    assert dataset.labels == {'background': 0, 'liver': 1} and [case.id for case in dataset.cases] == ['a']


@pytest.mark.parametrize(
    'text', ['[' * 100_000, '{"labels":' * 100_000, '{', '', '[]', '3', '{"a": 1' + '0' * 5000 + '}']
)
def test_no_json_of_a_dataset(tmp_path, text):
    with pytest.raises(InputError, match=r'dataset\.json: (invalid JSON|not a dataset description)') as error:
        read_dataset(folder(tmp_path, text))
    assert '\n' not in str(error.value)
    with pytest.raises(InputError, match=r'dataset\.json: '):
        folders.evaluate_folder(tmp_path / 'labelsTr', tmp_path / 'labelsTr')


def test_byte_order_mark(tmp_path):
    """As editors on Windows save it, with their ends of lines."""
    path = folder(tmp_path, NNUNET)
    text = json.dumps(NNUNET, indent=1).replace('\n', '\r\n')
    (path / 'dataset.json').write_bytes(text.encode('utf-8-sig'))
    assert read_dataset(path).channel == 'CT'
    assert list(folders.evaluate_folder(path / 'labelsTr', path / 'labelsTr')[0]['a']) == ['liver']
    (path / 'imagesTr/a_0000.nii.gz').rename(path / 'imagesTr/a.nii.gz')
    (path / 'dataset.json').write_bytes(json.dumps({**MSD, 'training': [PAIR]}).encode('utf-8-sig'))
    assert [case.id for case in read_dataset(path).cases] == ['a']


@pytest.mark.parametrize(
    'listed',
    [
        {'training': [{'image': '', 'label': ''}, PAIR]},
        {'training': [{'image': -1}, PAIR]},
        {'training': [-1, PAIR]},
        {'training': [None, PAIR]},
        {'training': [{**PAIR, 'label': ''}]},
        {'training': [{**PAIR, 'label': 7}]},
        {'training': [{**PAIR, 'image': '../secret.nii.gz'}]},
        {'training': [{**PAIR, 'label': 'labelsTr/../../secret.nii.gz'}]},
        {'training': [{**PAIR, 'image': '/etc/passwd'}]},
        {'training': [{**PAIR, 'image': 'imagesTr/a\0.nii.gz'}]},
        {'training': [{**PAIR, 'image': 'imagesTr'}]},
        {'training': [PAIR], 'test': -1},
        {'training': [PAIR], 'test': 'imagesTs/b.nii.gz'},
        {'training': [PAIR], 'test': ['../secret.nii.gz']},
        {'training': [PAIR], 'test': [None]},
        {'training': [PAIR, {'image': './labelsTr/a.nii.gz'}]},
    ],
)
def test_lists_of_files(tmp_path, listed):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 3), np.uint8), np.eye(4)), tmp_path / 'secret.nii.gz')
    with pytest.raises(InputError, match=r'dataset\.json|the same case as') as error:
        read_dataset(folder(tmp_path / 'Task', {**MSD, **listed}, channel=False))
    assert '\n' not in str(error.value)


def test_files_that_nnunet_lists(tmp_path):
    """Version 2 takes them from where they lie: here below the dataset alone."""
    listed = {'b': {'images': ['raw/b.nii.gz'], 'label': 'raw/b_label.nii.gz'}}
    path = folder(tmp_path / 'set', {**NNUNET, 'dataset': listed})
    (path / 'raw').mkdir()
    for name in ('b.nii.gz', 'b_label.nii.gz'):
        (path / 'raw' / name).write_bytes((path / 'labelsTr/a.nii.gz').read_bytes())
    (case,) = read_dataset(path).cases
    assert (case.id, case.image, case.label) == ('b', path / 'raw/b.nii.gz', path / 'raw/b_label.nii.gz')
    listed['b']['images'] = ['../other/b.nii.gz']
    (path / 'dataset.json').write_text(json.dumps({**NNUNET, 'dataset': listed}))
    with pytest.raises(InputError, match=r"dataset.json: lists '../other/b.nii.gz', not a path below its folder; move"):
        read_dataset(path)


def test_files_listed_in_another_form_of_characters(tmp_path):
    composed, apart = (unicodedata.normalize(form, 'Jäger.nii.gz') for form in ('NFC', 'NFD'))
    path = folder(
        tmp_path, {**MSD, 'training': [{'image': f'imagesTr/{composed}', 'label': f'labelsTr/{apart}'}]}, False
    )
    (path / 'imagesTr/a.nii.gz').rename(path / 'imagesTr' / apart)
    (path / 'labelsTr/a.nii.gz').rename(path / 'labelsTr' / composed)
    (case,) = read_dataset(path).cases
    assert case.id == 'Jäger' and case.image.name == apart and case.label.name == composed


def test_another_channel_than_the_first_is_asked_for(tmp_path):
    path = folder(tmp_path, {**NNUNET, 'channel_names': {'0': 'CT', '1': 'PET'}})
    with pytest.raises(InputError, match='of its channels, CT, PET, the first is renamed; copy the files of pet'):
        read_dataset(path, channel='pet')
    assert read_dataset(path, channel='ct').channel == 'ct'
