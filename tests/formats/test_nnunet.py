"""Raw datasets keep nnU-Net's rules: checked by a reader of their own, and by nnU-Net itself where it is installed."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tiny

from synseg_jax.datasets import nnunet_writer
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.imaging.volume import Volume

OBLIQUE = np.array([[-2.9, 0.4, 0.3, 30], [0.5, 2.8, -0.7, -30], [0.4, 0.6, 4.9, 7], [0, 0, 0, 1]])
AXES, _ = np.linalg.qr(OBLIQUE[:3, :3])
OBLIQUE[:3, :3] = AXES @ np.diag([3.0, 3.0, 5.0])


def check(folder: Path) -> dict:
    """What nnU-Net demands of a raw dataset (documentation/dataset_format.md); its dataset.json."""
    assert re.fullmatch(r'Dataset\d{3}_\w+', folder.name)
    content = json.loads((folder / 'dataset.json').read_text())
    assert {'channel_names', 'labels', 'numTraining', 'file_ending'} <= content.keys()
    assert content['labels']['background'] == 0
    assert sorted(content['labels'].values()) == list(range(len(content['labels'])))
    assert {path.name for path in folder.iterdir()} == {'dataset.json', 'imagesTr', 'labelsTr'}
    ending, channels = content['file_ending'], sorted(content['channel_names'])
    assert channels == [str(i) for i in range(len(channels))]
    cases = {path.name.removesuffix(ending) for path in (folder / 'labelsTr').iterdir()}
    images = {path.name for path in (folder / 'imagesTr').iterdir()}
    assert images == {f'{case}_{int(number):04d}{ending}' for case in cases for number in channels}
    assert len(cases) == content['numTraining'] > 0
    for case in cases:
        label = sitk.ReadImage(folder / 'labelsTr' / f'{case}{ending}')
        assert set(np.unique(sitk.GetArrayFromImage(label))) <= set(content['labels'].values())
        image = sitk.ReadImage(folder / 'imagesTr' / f'{case}_0000{ending}')
        assert np.isfinite(sitk.GetArrayFromImage(image)).all()
        for place in ('GetSize', 'GetSpacing', 'GetOrigin', 'GetDirection'):
            assert getattr(image, place)() == getattr(label, place)(), place
    return content


def write(output, cases=2, affine=tiny.AFFINE):
    """A dataset of synthetic scans, and what went in: {case: (image, labels)}."""
    given = {}
    with nnunet_writer.writing(output, ['CT'], tiny.CLASSES) as raw:
        for number in range(cases):
            given[f'case {number}'] = image, labels = tiny.scan(number, 'CT')
            raw.add(f'case {number}', [image], labels, Volume(np.zeros(image.shape, np.float32), affine))
        raw.describe('made for a test')
    return given


@pytest.mark.parametrize('affine', [tiny.AFFINE, OBLIQUE])
def test_the_rules_are_kept(tmp_path, affine):
    given = write(tmp_path / 'Dataset201_Made', affine=affine)
    content = check(tmp_path / 'Dataset201_Made')
    assert content['channel_names'] == {'0': 'CT'}
    assert content['labels'] == {name: value for value, name in enumerate(tiny.CLASSES)}
    assert content['synthetic'] == sorted(given) and content['real'] == []
    for case, (image, labels) in given.items():
        stored = nib.load(tmp_path / 'Dataset201_Made' / 'imagesTr' / f'{case}_0000.nii.gz')
        np.testing.assert_array_equal(np.asarray(stored.dataobj), image)
        np.testing.assert_allclose(stored.affine, affine, atol=1e-5)
        label = nib.load(tmp_path / 'Dataset201_Made' / 'labelsTr' / f'{case}.nii.gz')
        np.testing.assert_array_equal(np.asarray(label.dataobj), labels)
        np.testing.assert_array_equal(label.affine, stored.affine)


def test_the_first_class_is_the_background(tmp_path):
    """Whatever a configuration calls it."""
    with nnunet_writer.writing(tmp_path / 'Dataset201_Made', ['MR'], ('nothing', 'liver')) as raw:
        image, labels = tiny.scan(0, 'MR')
        raw.add('x', [image], (labels == 1).astype(np.uint8), Volume(image.astype(np.float32), tiny.AFFINE))
        raw.describe('')
    assert check(tmp_path / 'Dataset201_Made')['labels'] == {'background': 0, 'liver': 1}


@pytest.mark.parametrize('name', ['synthetic_ct', 'Dataset1_CT', 'Dataset201', 'Dataset201_', 'Dataset201_a b', 'x/..'])
def test_names_that_are_not_found(tmp_path, name):
    with pytest.raises(InputError, match='named DatasetNNN_Name; write to e.g. Dataset201_SyntheticCT'):
        write(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced(tmp_path):
    output = tmp_path / 'Dataset201_Made'
    tiny.write_dataset(output, 'CT', 1)
    before = sorted(path.name for path in output.rglob('*'))
    with pytest.raises(InputError, match='Dataset201_Made: exists and is not empty; remove it or choose another'):
        write(output)
    assert sorted(path.name for path in output.rglob('*')) == before


def test_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), nnunet_writer.writing(tmp_path / 'Dataset201_Made', ['CT'], tiny.CLASSES) as raw:
        image, labels = tiny.scan(0, 'CT')
        raw.add('x', [image], labels, Volume(image.astype(np.float32), tiny.AFFINE))
        raise RuntimeError('power cut')
    assert not list(tmp_path.iterdir())


def relabelled(folder, values):
    """Other values, and other classes, in a dataset's label maps and dataset.json."""
    content = json.loads((folder / 'dataset.json').read_text())
    (folder / 'dataset.json').write_text(json.dumps({**content, 'labels': values}))
    table = np.array([values.get(name, 0) for name in tiny.CLASSES], np.uint16)
    for path in (folder / 'labelsTr').iterdir():
        labels = nib.load(path)
        nib.save(nib.Nifti1Image(table[np.asarray(labels.dataobj)], labels.affine), path)
    return folder


def test_real_scans_are_added_as_they_are(tmp_path):
    """The same bytes where nnU-Net takes them, the same numbers from another kind of file; labels by name."""
    folder = relabelled(tiny.write_dataset(tmp_path / 'real', 'CT', 2), {'background': 0, 'Spleen': 500, 'liver': 20})
    scan = np.asarray(nib.load(folder / 'imagesTr' / 'ct_1_0000.nii.gz').dataobj)
    (folder / 'imagesTr' / 'ct_1_0000.nii.gz').unlink()
    nib.save(nib.Nifti1Image(scan, tiny.AFFINE), folder / 'imagesTr' / 'ct_1_0000.nii')
    dataset = nnunet_writer.labelled(folder, tiny.CLASSES)
    output = tmp_path / 'Dataset201_Real'
    with nnunet_writer.writing(output, ['CT'], tiny.CLASSES) as raw:
        for case in dataset.cases:
            raw.add_real(case, *nnunet_writer.read(dataset, case, tiny.CLASSES))
        raw.describe('')
    assert check(output)['real'] == ['ct_0', 'ct_1']
    name = 'imagesTr/ct_0_0000.nii.gz'
    one, other = nib.load(output / name), nib.load(folder / name)
    assert one.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    np.testing.assert_array_equal(one.affine, other.affine)
    for case in ('ct_0', 'ct_1'):
        found = np.asarray(nib.load(output / 'labelsTr' / f'{case}.nii.gz').dataobj)
        stored = np.asarray(nib.load(folder / 'labelsTr' / f'{case}.nii.gz').dataobj)
        np.testing.assert_array_equal(found == tiny.CLASSES.index('spleen'), stored == 500)
        np.testing.assert_array_equal(found == tiny.CLASSES.index('liver'), stored == 20)
    copied = scan_file.read(output / 'imagesTr' / 'ct_1_0000.nii.gz')
    np.testing.assert_array_equal(copied.array, scan)


def test_which_cases_are_meant(tmp_path):
    folder = tiny.write_dataset(tmp_path / 'set', 'MR', 3)
    (folder / 'labelsTr' / 'mr_2.nii.gz').unlink()
    (folder / 'imagesTr' / 'mr_0_0000.nii.gz').rename(tmp_path / 'elsewhere.nii.gz')
    (folder / 'imagesTr' / 'mr_0_0000.nii.gz').symlink_to(tmp_path / 'elsewhere.nii.gz')
    (folder / 'imagesTs').mkdir()
    (folder / 'imagesTr' / 'mr_1_0000.nii.gz').rename(folder / 'imagesTs' / 'mr_1_0000.nii.gz')
    (folder / 'labelsTs').mkdir()
    (folder / 'labelsTr' / 'mr_1.nii.gz').rename(folder / 'labelsTs' / 'mr_1.nii.gz')
    (tmp_path / 'link').symlink_to(folder)
    places = {
        '.': ['mr_0'],
        '../link/imagesTr/mr_0_0000.nii.gz': ['mr_0'],
        'imagesTr': ['mr_0'],
        'imagesTs': ['mr_1'],
        'imagesTr/mr_0_0000.nii.gz': ['mr_0'],
    }
    for place, cases in places.items():
        assert [case.id for case in nnunet_writer.labelled(folder / place, tiny.CLASSES).cases] == cases, place
    with pytest.raises(
        InputError, match='mr_2_0000.nii.gz: no labels for its scans, which a dataset for nnU-Net needs'
    ):
        nnunet_writer.labelled(folder / 'imagesTr' / 'mr_2_0000.nii.gz', tiny.CLASSES)


def test_all_classes_must_be_labelled(tmp_path, caplog):
    folder = tiny.write_dataset(tmp_path / 'set', 'MR', 1)
    with pytest.raises(InputError, match='dataset.json: no label kidney, a class of the system; label it'):
        nnunet_writer.labelled(folder, (*tiny.CLASSES, 'kidney'))
    dataset = nnunet_writer.labelled(folder, ('background', 'spleen'))
    assert 'dataset.json: labels liver become background' in caplog.text
    _, found = nnunet_writer.read(dataset, dataset.cases[0], ('background', 'spleen'))
    stored = np.asarray(nib.load(dataset.cases[0].label).dataobj)
    np.testing.assert_array_equal(found, stored == tiny.CLASSES.index('spleen'))


@pytest.mark.skipif(importlib.util.find_spec('nnunetv2') is None, reason='nnunetv2 is not installed')
def test_nnunet_itself(tmp_path):
    """Its own check of a dataset, its plans and its preprocessing take it without a word of warning."""
    write(tmp_path / 'raw' / 'Dataset201_Made', cases=3, affine=OBLIQUE)
    folders = {f'nnUNet_{name}': str(tmp_path / name) for name in ('raw', 'preprocessed', 'results')}
    program = Path(sys.executable).with_name('nnUNetv2_plan_and_preprocess')
    done = subprocess.run(
        [program, '-d', '201', '--verify_dataset_integrity', '-c', '2d', '-npfp', '1', '-np', '1'],
        capture_output=True, text=True, timeout=600, env={**os.environ, **folders},
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert 'verify_dataset_integrity Done' in said, said
    assert not re.search('warning|error:|mismatch', said, re.IGNORECASE), said
    assert 'CTNormalization' in said and len(list((tmp_path / 'preprocessed').rglob('case 0*.*'))) > 0
