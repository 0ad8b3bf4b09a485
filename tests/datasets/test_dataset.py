"""nnU-Net folders are read as people leave them, and what is wrong with one is said by path."""

import json
from pathlib import Path

import numpy as np
import pytest

from synseg_jax.datasets import class_names
from synseg_jax.datasets.cases import Case, split
from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.errors import InputError
from synseg_jax.formats.grid import check_grid, label_values
from synseg_jax.formats.names import checked_id
from synseg_jax.imaging.volume import Volume

DESCRIPTION = {'channel_names': {'0': 'CT'}, 'labels': {'background': 0, 'liver': 1}, 'file_ending': '.nii.gz'}


def _folder(tmp_path, *files, description=DESCRIPTION):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    if description is not None:
        (tmp_path / 'dataset.json').write_text(json.dumps(description))
    return tmp_path


def _cases(*names):
    return [Case(name, name.split('_')[0], Path(name), None) for name in names]


def test_plain_folder(tmp_path):
    folder = _folder(
        tmp_path,
        'imagesTr/b_0000.nii.gz',
        'imagesTr/a 1_0000.nii.gz',
        'imagesTr/._a 1_0000.nii.gz',
        'labelsTr/b.nii.gz',
        'imagesTs/c_0000.nii.gz',
    )
    dataset = read_dataset(folder)
    assert [(case.id, case.subject) for case in dataset.cases] == [('a 1', 'a 1'), ('b', 'b')]
    assert dataset.cases[1].label == folder / 'labelsTr/b.nii.gz' and dataset.cases[0].label is None
    assert [case.id for case in dataset.test_cases] == ['c']
    assert dataset.channel == 'CT' and dataset.labels == {'background': 0, 'liver': 1}


def test_only_a_test_part(tmp_path):
    dataset = read_dataset(_folder(tmp_path, 'imagesTs/c_0000.nii.gz', 'labelsTs/c.nii.gz'))
    assert dataset.cases == () and dataset.test_cases[0].label.name == 'c.nii.gz'


def test_names_without_channel_and_labels_with_one(tmp_path):
    (tmp_path / 'x').mkdir()
    bare = read_dataset(_folder(tmp_path / 'x', 'imagesTr/p_12.nii', 'labelsTr/p_12.nii'))
    assert [case.id for case in bare.cases] == ['p_12'] and bare.cases[0].label
    (tmp_path / 'y').mkdir()
    both = read_dataset(_folder(tmp_path / 'y', 'imagesTr/p_0000.nii.gz', 'labelsTr/p_0000.nii.gz'))
    assert both.cases[0].id == 'p' and both.cases[0].label.name == 'p_0000.nii.gz'


def test_the_first_channel_of_several_is_the_image(tmp_path):
    two = DESCRIPTION | {'channel_names': {'0': 'T1', '1': 'T2'}}
    folder = _folder(tmp_path, 'imagesTr/p_0000.nii.gz', 'imagesTr/p_0001.nii.gz', description=two)
    dataset = read_dataset(folder)
    assert dataset.cases[0].image.name == 'p_0000.nii.gz' and dataset.channels(2) == ('T1', 'T2')
    assert dataset.channels(3) == ('T1', 'T2', 'T1')


def test_version_1_description(tmp_path):
    old = {'modality': {'0': 'MRI'}, 'labels': {'0': 'background', '5': 'liver'}}
    dataset = read_dataset(_folder(tmp_path, 'imagesTr/p_0000.nii.gz', description=old))
    assert dataset.channel == 'MRI' and dataset.labels == {'background': 0, 'liver': 5}


@pytest.mark.parametrize(
    'files, description, message',
    [
        ((), None, r'empty; expected: dataset.json, imagesTr/<case>_0000'),
        (
            ('imagesTr/a_0000.nii.gz',),
            None,
            r'dataset.json: no such file; expected: dataset.json, imagesTr/<case>_0000',
        ),
        ((), DESCRIPTION, r'imagesTr: no such folder; expected'),
        (('ImagesTr/a_0000.nii.gz',), DESCRIPTION, r'imagesTr: no such folder; did you mean ImagesTr\?'),
        (('imagesTr/a.png',), DESCRIPTION, r'imagesTr: no scans in it'),
        (('imagesTr/a_0000.nii.gz', 'imagesTr/b.nii.gz'), DESCRIPTION, r'did you mean b_0000\?'),
        (('imagesTr/a_0000.nii.gz', 'imagesTr/a_0001.nii.gz'), DESCRIPTION, 'a_0001.nii.gz: not one of the 1 channels'),
        (('imagesTr/a_0000.nii.gz', 'imagesTr/a_0000.nii'), DESCRIPTION, 'the same case'),
        (('imagesTr/case1_0000.nii.gz', 'labelsTr/case01.nii.gz'), DESCRIPTION, r'case01.*did you mean case1\?'),
        (('imagesTr/-rf_0000.nii.gz',), DESCRIPTION, 'rename the case'),
        (('imagesTr/a_0000.nii.gz',), {'labels': {}}, 'needs "channel_names"'),
        (('imagesTr/a_0000.nii.gz',), DESCRIPTION | {'labels': {'x': {}}}, 'lists of them'),
        (('imagesTr/a_0000.nii.gz',), DESCRIPTION | {'labels': {'x': 1, 'y': 1}}, 'different values'),
        (('imagesTr/a_0000.nii.gz',), DESCRIPTION | {'labels': {'x': [1, 2], 'y': [2, 3]}}, 'different values'),
        (('imagesTr/a_0000.nii.gz',), DESCRIPTION | {'labels': {'x': []}}, 'lists of them'),
        (
            ('imagesTr/a_0000.nii.gz',),
            DESCRIPTION | {'labels': {'x': 1, 'ignore': 2}},
            "ignore label 'ignore'",
        ),
        (('imagesTr/a_0000.nii.gz',), [DESCRIPTION], 'dataset.json: not a dataset description'),
    ],
)
def test_bad_folders(tmp_path, files, description, message):
    with pytest.raises(InputError, match=message) as error:
        read_dataset(_folder(tmp_path, *files, description=description))
    assert '\n' not in str(error.value) and str(tmp_path) in str(error.value) or '-rf' in str(error.value)


def test_regions_of_nnunet(tmp_path):
    """Of classes that hold one another, those that do not can be chosen."""
    regions = {'background': 0, 'tumour': [1, 2, 3], 'core': [2, 3], 'enhancing': 3}
    read = read_dataset(_folder(tmp_path, 'imagesTr/a_0000.nii.gz', description=DESCRIPTION | {'labels': regions}))
    assert read.labels == {'background': 0, 'tumour': (1, 2, 3), 'core': (2, 3), 'enhancing': 3}
    assert class_names.disjoint(read.labels) == ('background', 'tumour')
    assert class_names.match_names(read.labels, ('background', 'core')) == {
        'background': 0,
        'core': (2, 3),
        'tumour': 1,
    }
    with pytest.raises(InputError, match='classes tumour and core overlap; name only one of them'):
        class_names.match_names(read.labels, ('background', 'tumour', 'core'))


def test_missing_folder_and_broken_json(tmp_path):
    with pytest.raises(InputError, match='nowhere: no such folder'):
        read_dataset(tmp_path / 'nowhere')
    (tmp_path / 'dataset.json').write_text('{')
    with pytest.raises(InputError, match='invalid JSON'):
        read_dataset(tmp_path)


@pytest.mark.parametrize('case_id', ['../x', '/etc/x', 'a\\b', '..', '', '.x', 'a\0b', 'a\nb'])
def test_dangerous_ids(case_id):
    with pytest.raises(InputError, match='may not become a file name'):
        checked_id(case_id)
    assert checked_id('Müller 3') == 'Müller 3'


def test_subject_expression(tmp_path):
    folder = _folder(tmp_path, 'imagesTr/p1_week2_0000.nii.gz')
    assert read_dataset(folder, r'(p\d+)_').cases[0].subject == 'p1'
    for wrong in ('(', 'p1', '(q)'):
        with pytest.raises(InputError, match='data.subject'):
            read_dataset(folder, wrong)


def test_split_is_by_subject_and_repeatable():
    cases = _cases(*(f'{subject}_{week}' for subject in range(10) for week in range(3)))
    roles = split(cases, (0.6, 0.2, 0.2), 3)
    subjects = {role: {case.subject for case in chosen} for role, chosen in roles.items()}
    assert [len(subjects[role]) for role in ('train', 'val', 'test')] == [6, 2, 2]
    assert len(set.union(*subjects.values())) == 10 and sum(map(len, roles.values())) == 30
    assert split(cases[::-1], (0.6, 0.2, 0.2), 3) == roles
    assert split(cases, (0.6, 0.2, 0.2), 4) != roles


@pytest.mark.parametrize(
    'count, shares, expected',
    [(1, (1, 0, 0), [1, 0, 0]), (2, (0.99, 0.01, 0), [1, 1, 0]), (3, (0.98, 0.01, 0.01), [1, 1, 1])]
    + [(5, (0.8, 0, 0.2), [4, 0, 1]), (24, (0.8, 0, 0.2), [19, 0, 5]), (7, (0.0, 0.0, 1.0), [0, 0, 7])],
)
def test_split_counts(count, shares, expected):
    roles = split(_cases(*map(str, range(count))), shares, 0)
    assert [len(roles[role]) for role in ('train', 'val', 'test')] == expected


@pytest.mark.parametrize('shares', [(0.5, 0.25, 0.25), (0.5, 0.5, 0.5), (1.5, -0.5, 0), (1, 0)])
def test_impossible_splits(shares):
    with pytest.raises(InputError, match='shares'):
        split(_cases('a', 'b'), shares, 0)


def _pair(affine_change=0.0, shape=(4, 4, 4)):
    affine = np.diag([-1.0, 1, 3, 1])
    moved = affine.copy()
    moved[0, 3] += affine_change
    image = Volume(np.zeros((4, 4, 4), np.float32), affine)
    return image, Volume(np.ones(shape, np.uint8), moved)


def test_pairs():
    check_grid(*_pair(1e-4))
    with pytest.raises(InputError, match=r'liver.nii: label map has shape \(4, 4, 5\), its image \(4, 4, 4\)'):
        check_grid(*_pair(shape=(4, 4, 5)), 'liver.nii')
    with pytest.raises(InputError, match=r'liver.nii: voxels lie up to 2 mm .* origin 2 mm apart'):
        check_grid(*_pair(2.0), 'liver.nii')
    image, label = _pair()
    turned = Volume(label.array, label.affine @ np.diag([-1.0, 1, 2, 1]))
    with pytest.raises(InputError, match=r'spacing \(1.0, 1.0, 6.0\) against \(1.0, 1.0, 3.0\), axes have other'):
        check_grid(image, turned)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.uint32])
def test_label_values(dtype):
    high = min(np.iinfo(dtype).max, 70_000)
    assert label_values(np.array([[0, high], [3, high]], dtype)) == [0, 3, high]
