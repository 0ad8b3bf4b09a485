"""Folders as people have them become records in which the right class lies at the right place."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tiny
from dicom_files import write_rtstruct, write_series
from PIL import Image

from synseg_jax.datasets import class_names
from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.dicom import series as dicom
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.preparation.checks import across
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.sets import described
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.specification.data import Data

SHAPE = (12, 10, 4)
# (columns, rows) of a slice as the viewer sees it, all of it kept
SETTINGS = Data(
    size=(10, 12), percentiles=(0.0, 100.0), window_hu=(-1000.0, 1000.0), foreground_share=0.0, target_labels=True,
    source_split=(1.0, 0.0, 0.0), target_split=(1.0, 0.0, 0.0),
)  # fmt: skip
PLACES = ((slice(1, 4), slice(2, 5), 1), (slice(7, 11), slice(1, 4), 1), (slice(2, 6), slice(6, 9), 2), (5, 7, 3))
TOP_DOWN = np.array(
    [[-1.5, 0, 0, 20], [0, -1.5, 0, 30], [0, 0, -4, 50], [0, 0, 0, 1.0]]
)  # the first file is the head's
UPRIGHT = np.array([[-1.5, 0, 0, 20], [0, 1.5, 0, -30], [0, 0, 4, -50], [0, 0, 0, 1.0]])


@pytest.fixture(autouse=True)
def one_scene(monkeypatch):
    """All scans here show the same, which `prepare` would refuse."""
    monkeypatch.setattr(across, 'by_voxels', lambda *_: [])


def _scene():
    """Classes 1 to 4 in four places, and an image in which each has its own value."""
    classes = np.zeros(SHAPE, np.uint8)
    for value, place in enumerate(PLACES, 1):
        classes[place] = value
    image = 100 * classes.astype(np.int16)
    image[0, 0, 0], image[-1, -1, -1] = -1000, 1000
    return image, classes


IMAGE, CLASSES = _scene()


def _mapped(*values):
    """A label map that has these values for classes 1, 2, ...; background beyond them."""
    return np.array([0, *values, 0, 0, 0, 0])[CLASSES]


def test_series_written_here_are_read_alike_by_itk(tmp_path):
    files = write_series(tmp_path, IMAGE, UPRIGHT)
    image = sitk.ReadImage([str(file) for file in files])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, IMAGE)
    for index in ((0, 0, 0), (5, 2, 3)):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((-x, -y, z), (UPRIGHT @ [*index, 1])[:3])


def _nifti(path, array, affine=UPRIGHT):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.astype(np.float32 if array.dtype == np.float64 else np.int16), affine), path)


def _png(folder, array, one_bit=False):
    """A picture for each slice, columns along x."""
    folder.mkdir(parents=True)
    for k in range(array.shape[2]):
        plane = array[:, :, k].T
        Image.fromarray(plane > 0 if one_bit else plane.astype(np.uint8)).save(folder / f'IMG-0004-{k + 1:05d}.png')


def _upright(array, affine):
    """As records have it: slices from the feet up, rows from front to back, columns from right to left."""
    turned = np.asarray(nib.as_closest_canonical(nib.Nifti1Image(array.astype(np.int16), affine)).dataobj)
    return turned[::-1, ::-1].transpose(2, 1, 0)


def _check(manifest, name, affine, kept):
    """The records of a set hold the image of the scene, and its first classes under the names `kept`."""
    numbers = np.array([0, *map(manifest.classes.index, kept), 0, 0, 0])
    labels, images = _upright(numbers[CLASSES], affine), (_upright(IMAGE, affine) + 1000) / 2000
    records = manifest.records(name, 'train')
    assert len(records) == SHAPE[2] * len(manifest.role(name, 'train')['cases'])
    for record in records:
        np.testing.assert_array_equal(record['label'], labels[record['slice']])
        np.testing.assert_allclose(record['image'][..., 0], images[record['slice']], atol=2e-5)


def _prepared(tmp_path, *sets, **settings):
    return prepare(sets, tmp_path / 'records', replace(SETTINGS, **settings), progress=False)


def _chaos(folder):
    """Two CT and two MR of CHAOS."""
    for n in ('1', '14'):
        write_series(folder / f'Train_Sets/CT/{n}/DICOM_anon', IMAGE, TOP_DOWN)
        _png(folder / f'Train_Sets/CT/{n}/Ground', CLASSES == 1, one_bit=True)
        mr = folder / f'Train_Sets/MR/{n}'
        write_series(mr / 'T2SPIR/DICOM_anon', IMAGE + 1100, TOP_DOWN, 'MR')
        _png(mr / 'T2SPIR/Ground', _mapped(60, 126, 180, 255))
        for phase in ('InPhase', 'OutPhase'):
            write_series(mr / f'T1DUAL/DICOM_anon/{phase}', IMAGE + 1100, UPRIGHT, 'MR')
        _png(mr / 'T1DUAL/Ground', _mapped(63, 135, 189, 240))
    return folder / 'Train_Sets'


ORGANS = ('liver', 'right kidney', 'left kidney', 'spleen')


def test_chaos(tmp_path):
    folder = _chaos(tmp_path / 'CHAOS')
    dataset = read_dataset(folder / 'MR#T2SPIR', subject='(nobody)')
    assert [(case.id, case.subject) for case in dataset.cases] == [
        ('chaos_mr_1_t2spir', 'chaos_mr_1'),
        ('chaos_mr_14_t2spir', 'chaos_mr_14'),
    ]
    assert dataset.channel == 'T2-SPIR MR' and tuple(dataset.labels)[1:] == ORGANS
    assert read_dataset(folder / 'CT').channel == 'CT'
    for phase in ('InPhase', 'OutPhase'):
        assert {case.image.name for case in read_dataset(folder / f'MR#{phase}').cases} == {phase}
    sets = [Scans('source', folder / 'MR#T2SPIR', 'a'), Scans('out', folder / 'MR#OutPhase', 'a', 'train')]
    manifest = _prepared(tmp_path, *sets, Scans('target', folder / 'MR#InPhase', 'b'))
    assert manifest.classes == ('background', *ORGANS)
    _check(manifest, 'source', TOP_DOWN, ORGANS)
    _check(manifest, 'target', UPRIGHT, ORGANS)
    _check(manifest, 'out', UPRIGHT, ORGANS)


def test_a_missing_label_is_named_by_its_place(tmp_path):
    folder = _chaos(tmp_path / 'CHAOS')
    shutil.rmtree(folder / 'MR/14/T2SPIR/Ground')
    with pytest.raises(
        InputError, match=r'scan .*MR/14/T2SPIR/DICOM_anon \(1 of 2 in train\); expected .*T2SPIR/Ground'
    ):
        _prepared(tmp_path, Scans('source', folder / 'MR#T2SPIR', 'a'))


def test_chaos_ct_and_mr_agree_on_the_liver(tmp_path):
    folder = _chaos(tmp_path / 'CHAOS')
    sets = Scans('source', folder / 'CT', 'a'), Scans('target', folder / 'MR#T2SPIR', 'b')
    manifest = _prepared(tmp_path, *sets, classes=('background', 'liver'))
    _check(manifest, 'source', TOP_DOWN, ('liver',))
    _check(manifest, 'target', TOP_DOWN, ('liver',))


def test_several_sequences_are_named(tmp_path):
    folder = _chaos(tmp_path / 'CHAOS')
    named = 'MR#T2SPIR, MR#InPhase, MR#OutPhase'
    with pytest.raises(InputError, match=f'MR: could be T2SPIR or InPhase or OutPhase; name one: {named}'):
        read_dataset(folder / 'MR')
    with pytest.raises(InputError, match=f'MR#T3: could be .*; name one: {named}'):
        read_dataset(folder / 'MR#T3')
    with pytest.raises(InputError, match='MR/1/T1DUAL: part of no known layout'):  # and no CT, for all its DICOM_anon
        read_dataset(folder / 'MR/1')
    below = 'Train_Sets/MR#'.join(['', *named.removeprefix('MR#').split('MR#')])
    with pytest.raises(
        InputError, match=f'CHAOS: not a dataset itself; give one of those in it: Train_Sets/CT, {below}'
    ):
        read_dataset(folder.parent)


def _tcia(folder, patient, number, description, affine=UPRIGHT, modality='MR', **tags):
    path = folder / patient / '10-28-2011-NA-study' / f'{number}.000000-{description}-00702'
    image = IMAGE if modality == 'CT' else IMAGE + 1100
    return write_series(path, image, affine, modality, SeriesNumber=number, SeriesDescription=description, **tags)


def test_prostatex(tmp_path, caplog):
    folder = tmp_path / 'PROSTATEx'
    for patient in ('ProstateX-0000', 'ProstateX-0001'):
        _tcia(folder, patient, 3, 't2_tse_sag')
        _tcia(folder, patient, 5, 't2_tse_tra')
        _tcia(folder, patient, 11, 't2_tse_tra')
        _tcia(folder, patient, 12, 'ep2d_diff_tra_ADC')
    (folder / 'ProstateX-Findings.csv').touch()
    with caplog.at_level('WARNING', logger='absl'):
        dataset = read_dataset(folder)
    chosen = "of several T2 MR the last is read, series 11 't2_tse_tra'; passed over: series 5 't2_tse_tra'"
    assert caplog.messages == [f'{folder}/ProstateX-000{n}: {chosen}' for n in (0, 1)]
    assert [case.id for case in dataset.cases] == ['ProstateX-0000', 'ProstateX-0001']
    assert all('/11.000000-t2_tse_tra' in str(case.image) and case.label is None for case in dataset.cases)
    assert dataset.channel == 'T2 MR' and read_dataset(tmp_path).cases == dataset.cases
    write_series(folder / 'ProstateX-0003/study/series', IMAGE, UPRIGHT, 'MR', SeriesDescription='')  # anonymised
    assert read_dataset(folder).cases[-1].image.name == 'series'
    _tcia(folder, 'ProstateX-0002', 1, 't2_tse_cor')
    with pytest.raises(InputError, match=r"ProstateX-0002: no series of T2 MR .* it has 't2_tse_cor'; leave"):
        read_dataset(folder)


def test_a_series_number_that_is_none(tmp_path):
    """Counts as the lowest."""
    for number in (5, 11):
        _tcia(tmp_path, 'ProstateX-0000', number, 't2_tse_tra')
    for file in tmp_path.rglob('5.000000-*/*'):
        file.write_bytes(file.read_bytes().replace(b'\x20\0\x11\0IS\x02\x005 ', b'\x20\0\x11\0IS\x02\0A1'))
    assert dicom.header(next(tmp_path.rglob('5.000000-*/*'))).SeriesNumber == 'A1'
    assert read_dataset(tmp_path).cases[0].image.name.startswith('11.000000')


def _nrrd(path, array, affine):
    """As 3D Slicer writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image, placed = sitk.GetImageFromArray(array.astype(np.int16).T), np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(placed[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((placed[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(placed[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True)


def _nci_isbi(folder):
    for number in (1, 2, 11):
        _tcia(folder / 'Prostate-3T', f'Prostate3T-01-{number:04d}', 4, 't2_tse_tra', TOP_DOWN)
    _tcia(folder / 'PROSTATE-DIAGNOSIS', 'ProstateDx-01-0001', 3, 'T1 AX')
    _tcia(folder / 'PROSTATE-DIAGNOSIS', 'ProstateDx-01-0001', 4, 'T2 AX')
    for name in ('Prostate3T-01-0001', 'ProstateDx-01-0001_correctedLabels'):
        affine = UPRIGHT if 'Dx' in name else TOP_DOWN
        _nrrd(folder / 'Training' / f'{name}.nrrd', _mapped(1, 2), affine)
    flipped = TOP_DOWN @ np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1]])
    _nrrd(folder / 'Training' / 'Prostate3T-01-0002.nrrd', _mapped(1, 2)[:, :, ::-1], flipped)
    return folder


@pytest.mark.parametrize(
    ('classes', 'expected'),
    [((), ('peripheral zone', 'central gland')), (('background', 'prostate'), ('prostate', 'prostate'))],
)
def test_nci_isbi(tmp_path, caplog, classes, expected):
    folder = _nci_isbi(tmp_path / 'NCI')
    with caplog.at_level('WARNING', logger='absl'):
        dataset = read_dataset(folder)
    assert [case.id for case in dataset.cases] == ['ProstateDx-01-0001', 'Prostate3T-01-0001', 'Prostate3T-01-0002']
    assert '1 patients have no labels and are left out: Prostate3T-01-0011' in caplog.text
    assert 'T2 AX' in str(dataset.cases[0].image)
    shutil.rmtree(folder / 'PROSTATE-DIAGNOSIS')  # whose slices lie the other way
    manifest = _prepared(tmp_path, Scans('source', folder, 'a'), classes=classes)
    assert manifest.classes == ('background', *dict.fromkeys(expected))
    _check(manifest, 'source', TOP_DOWN, expected)
    (folder / 'Training' / 'Prostate3T-01-0001_old.nrrd').touch()
    with pytest.raises(InputError, match='0001_old.nrrd: the same patient as Prostate3T-01-0001.nrrd'):
        read_dataset(folder)


def _square(x, y):
    return [(x[0] - 0.4, y[0] - 0.4), (x[1] - 0.6, y[0] - 0.4), (x[1] - 0.6, y[1] - 0.6), (x[0] - 0.4, y[1] - 0.6)]


def test_nsclc_radiomics(tmp_path):
    folder = tmp_path / 'NSCLC-Radiomics'
    contours = {
        'Lung-Left': [(1, _square((1, 4), (2, 5)))],
        'Lung-Right': [(1, _square((7, 11), (1, 4)))],
        'Heart': [(2, _square((0, 3), (6, 9)))],
        'GTV-1': [(2, _square((2, 6), (6, 9)))],
        'GTV-2': [(3, _square((1, 9), (1, 9)))],
    }
    for patient in ('LUNG1-001', 'LUNG1-002', 'LUNG1-128'):
        series = _tcia(folder, patient, 0, 'CT', TOP_DOWN, 'CT')
        if patient != 'LUNG1-128':
            write_rtstruct(folder / patient / 'study' / 'rtstruct' / '1-1.dcm', series, contours)
            write_series(folder / patient / 'study' / 'seg', IMAGE[..., :1], UPRIGHT, 'MR', Modality='SEG')
    dataset = read_dataset(folder)
    assert [case.subject for case in dataset.cases] == ['LUNG1-001', 'LUNG1-002']
    manifest = _prepared(tmp_path, Scans('source', folder, 'a'), classes=('background', 'lungs', 'tumour'))
    _check(manifest, 'source', TOP_DOWN, ('lungs', 'lungs', 'tumour'))
    with pytest.raises(
        InputError, match=r'no label liver; it has background, lungs, heart, .*tumour; set data.classes'
    ):
        _prepared(tmp_path, Scans('source', folder, 'a'), classes=('background', 'liver'))


def test_damaged_contours_are_their_own_patients_trouble(tmp_path):
    folder, contours = tmp_path / 'NSCLC-Radiomics', {'GTV-1': [(2, _square((2, 6), (6, 9)))]}
    for patient in ('LUNG1-001', 'LUNG1-002'):
        series = _tcia(folder, patient, 0, 'CT', TOP_DOWN, 'CT')
        drawn = write_rtstruct(folder / patient / 'study' / 'rtstruct' / '1-1.dcm', series, contours)
    drawn.write_bytes(drawn.read_bytes()[:400])
    dataset = read_dataset(folder)
    assert [case.subject for case in dataset.cases] == ['LUNG1-001', 'LUNG1-002']
    with pytest.raises(InputError, match=r'LUNG1-002/study/rtstruct/1-1.dcm: (damaged|truncated) or no DICOM'):
        scan_file.read(dataset.cases[1].image)
    with pytest.raises(InputError, match=r'LUNG1-002/study/rtstruct/1-1.dcm: (damaged|truncated) or no DICOM'):
        _prepared(tmp_path, Scans('source', folder, 'a'), classes=('background', 'tumour'))


def test_the_series_that_contours_were_drawn_on(tmp_path, caplog):
    folder, contours = tmp_path / 'NSCLC', {'GTV-1': [(2, _square((2, 6), (6, 9)))]}
    planned, _ = (_tcia(folder, 'LUNG1-001', number, 'CT', TOP_DOWN, 'CT') for number in (2, 4))
    for name in ('first', 'second'):
        write_rtstruct(folder / 'LUNG1-001/study' / name / '1-1.dcm', planned, contours)
    with caplog.at_level('WARNING', logger='absl'):
        (case,) = read_dataset(folder).cases
    assert case.image == planned[0].parent and case.label.parent.name == 'second'
    last = 'of several RTSTRUCT the last is read, study/second/1-1.dcm; passed over: study/first/1-1.dcm'
    assert caplog.messages == [f'{folder}/LUNG1-001: {last}']


def test_mm_whs(tmp_path):
    for kind, values in (('ct', (500, 205, 420, 850)), ('mr', (500, 205, 421, 850))):
        for n in (1001, 1002):
            _nifti(tmp_path / f'{kind}_train/{kind}_train_{n}_image.nii.gz', IMAGE)
            _nifti(tmp_path / f'{kind}_train/{kind}_train_{n}_label.nii.gz', _mapped(*values) + 2e-4)
    _nifti(tmp_path / 'ct_test/ct_test_2001_image.nii.gz', IMAGE)
    dataset = read_dataset(tmp_path / 'ct_train')
    assert [case.id for case in dataset.cases] == ['mmwhs_ct_1001', 'mmwhs_ct_1002'] and dataset.channel == 'CT'
    assert [case.id for case in read_dataset(tmp_path / 'ct_test').test_cases] == ['mmwhs_ct_2001']
    with pytest.raises(InputError, match='not a dataset itself; give one of those in it: ct_test, ct_train, mr_train'):
        read_dataset(tmp_path)
    classes = ('background', 'left ventricle', 'myocardium', 'left atrium')
    sets = Scans('source', tmp_path / 'ct_train', 'a'), Scans('target', tmp_path / 'mr_train', 'b')
    manifest = _prepared(tmp_path, *sets, classes=classes)
    for name in ('source', 'target'):
        _check(manifest, name, UPRIGHT, classes[1:])


def test_both_modalities_of_mm_whs_in_one_folder(tmp_path):
    for kind in ('ct', 'mr'):
        _nifti(tmp_path / f'{kind}_train_1001_image.nii.gz', IMAGE)
    assert read_dataset(tmp_path / f'../{tmp_path.name}#MM-WHS_MR').cases[0].id == 'mmwhs_mr_1001'
    with pytest.raises(InputError, match=f'name one: {tmp_path.name}#MM-WHS_CT, {tmp_path.name}#MM-WHS_MR'):
        read_dataset(tmp_path)


def test_btcv(tmp_path):
    for n in ('0001', '0010'):
        _nifti(tmp_path / f'RawData/Training/img/img{n}.nii.gz', IMAGE)
        _nifti(tmp_path / f'RawData/Training/label/label{n}.nii.gz', _mapped(6, 2, 3, 1))
    _nifti(tmp_path / 'RawData/Testing/img/img0061.nii.gz', IMAGE)
    dataset = read_dataset(tmp_path / 'RawData')
    assert [case.id for case in dataset.cases + dataset.test_cases] == ['btcv_0001', 'btcv_0010', 'btcv_0061']
    assert len(dataset.labels) == 14 and read_dataset(tmp_path / 'RawData/Training').cases == dataset.cases
    _msd(tmp_path / 'Task', {'0': 'background', '1': 'Liver', '2': 'right_kidney', '3': 'left-kidney', '4': 'SPLEEN'})
    sets = Scans('source', tmp_path / 'RawData/Training', 'a'), Scans('target', tmp_path / 'Task', 'b')
    manifest = _prepared(tmp_path, *sets, classes=('background', *ORGANS))
    for name in ('source', 'target'):  # 6 in one and 1 in the other are the same liver
        _check(manifest, name, UPRIGHT, ORGANS)
    assert manifest.sets['target']['labels'] == {c: i for i, c in enumerate(('background', *ORGANS))}


def _msd(folder, labels, modality=None):
    for n in (1, 2):
        _nifti(folder / f'imagesTr/liver_{n}.nii.gz', IMAGE)
        _nifti(folder / f'labelsTr/liver_{n}.nii.gz', _mapped(1, 2, 3, 4))
    _nifti(folder / 'imagesTs/liver_3.nii.gz', IMAGE)
    (folder / 'imagesTr/._liver_1.nii.gz').touch()
    content = {
        'modality': modality or {'0': 'CT'},
        'labels': labels,
        'training': [
            {'image': f'./imagesTr/liver_{n}.nii.gz', 'label': f'./labelsTr/liver_{n}.nii.gz'} for n in (2, 1)
        ],
        'test': ['./imagesTs/liver_3.nii.gz'],
    }
    (folder / 'dataset.json').write_text(json.dumps(content))
    return folder


def test_decathlon(tmp_path):
    labels = {'0': 'background', '1': 'liver', '2': 'cancer', '3': 'x', '4': 'y'}
    folder = _msd(tmp_path / 'Task03_Liver', labels)
    dataset = read_dataset(folder, r'_(\d)')
    assert sorted((case.id, case.subject) for case in dataset.cases) == [('liver_1', '1'), ('liver_2', '2')]
    assert [case.id for case in dataset.test_cases] == ['liver_3'] and dataset.test_cases[0].label is None
    manifest = _prepared(tmp_path, Scans('source', folder, 'a'))
    _check(manifest, 'source', UPRIGHT, ('liver', 'cancer', 'x', 'y'))
    (folder / 'labelsTr/liver_2.nii.gz').rename(folder / 'labelsTr/liver2.nii.gz')
    with pytest.raises(InputError, match='liver_2.nii.gz: no such file, though dataset.json .*mean liver2.nii.gz'):
        read_dataset(folder)


def test_decathlon_of_four_dimensions(tmp_path):
    folder = _msd(
        tmp_path / 'several', {'0': 'background', '1': 'a', '2': 'b', '3': 'c', '4': 'd'}, {'0': 'T2', '1': 'ADC'}
    )
    with pytest.raises(InputError, match=r'dataset.json: 2 channels \(T2, ADC\) in one 4-D file per scan; write'):
        read_dataset(folder)
    folder = _msd(tmp_path / 'one', {'0': 'background', '1': 'a', '2': 'b', '3': 'c', '4': 'd'})
    for n in (1, 2):
        _nifti(folder / f'imagesTr/liver_{n}.nii.gz', IMAGE[..., None])
    _nifti(folder / 'imagesTs/liver_3.nii.gz', IMAGE[..., None])
    _check(_prepared(tmp_path, Scans('source', folder, 'a')), 'source', UPRIGHT, 'abcd')


def test_nnunet_of_version_1_is_no_decathlon(tmp_path):
    folder = _msd(tmp_path / 'Task', {'0': 'background', '1': 'liver'})
    for path in (folder / 'imagesTr').glob('liver*'):
        path.rename(path.with_name(path.name.replace('.nii', '_0000.nii')))
    shutil.rmtree(folder / 'imagesTs')
    assert [case.id for case in read_dataset(folder).cases] == ['liver_1', 'liver_2']


def _plain(folder):
    """Four cases of different kinds, of the same scene."""
    _nifti(folder / 'images/p1.nii.gz', IMAGE, TOP_DOWN)
    _nifti(folder / 'labels/p1.nii.gz', _mapped(200, 500), TOP_DOWN)
    _nrrd(folder / 'images/p2_image.nrrd', IMAGE, TOP_DOWN)
    sitk.WriteImage(sitk.ReadImage(str(folder / 'images/p2_image.nrrd')), str(folder / 'images/p3.mha'))
    (folder / 'images/p2_image.nrrd').unlink()
    _nifti(folder / 'labels/p3_label.nii.gz', _mapped(200, 500), TOP_DOWN)
    write_series(folder / 'images/p4', IMAGE, TOP_DOWN)
    # the same voxels with the rows stored in the other direction, as dcm2niix does
    flipped = TOP_DOWN @ np.array([[1.0, 0, 0, 0], [0, -1, 0, 9], [0, 0, 1, 0], [0, 0, 0, 1]])
    _nifti(folder / 'labels/p4.nii.gz', _mapped(200, 500)[:, ::-1], flipped)
    for name in ('notes.txt', '._p1.nii.gz'):
        (folder / 'labels' / name).touch()
    return folder


VALUES = {'background': 0, 'liver': 200, 'spleen': 500}


def test_plain(tmp_path):
    folder = _plain(tmp_path / 'mine')
    with pytest.raises(InputError, match='mine/dataset.json: no such file; .*or give --channel=SET=CT and --labels'):
        read_dataset(folder)
    dataset = read_dataset(folder, channel='CT', labels=VALUES)
    assert [case.id for case in dataset.cases] == ['p1', 'p3', 'p4'] and dataset.labels == VALUES
    scans = Scans('source', folder, 'a', channel='CT', labels=VALUES)
    _check(_prepared(tmp_path, scans), 'source', TOP_DOWN, ('liver', 'spleen'))
    with pytest.raises(InputError, match='dataset.json: no classes; name them, --labels=source=background:0'):
        _prepared(tmp_path, replace(scans, labels=None))
    with pytest.raises(InputError, match='p1.nii.gz: label values 500 are not named'):
        _prepared(tmp_path / 'x', replace(scans, labels={'background': 0, 'liver': 200}))


def test_scans_alone(tmp_path):
    """As most people have those that nobody labelled."""
    _nifti(tmp_path / 'ct/p1_image.nii.gz', IMAGE)
    _nifti(tmp_path / 'ct/p 2.nii.gz', IMAGE)
    write_series(tmp_path / 'ct/p3', IMAGE, TOP_DOWN)
    (tmp_path / 'ct/notes.txt').touch()
    dataset = read_dataset(tmp_path / 'ct', r'p.?(\d)', channel='CT')
    assert [(case.id, case.subject) for case in dataset.cases] == [('p 2', '2'), ('p1', '1'), ('p3', '3')]
    assert not dataset.labels and not any(case.label for case in dataset.cases)
    series = read_dataset(tmp_path / 'ct/p3', channel='CT')
    assert [(case.id, case.image) for case in series.cases] == [('p3', tmp_path / 'ct/p3')]
    manifest = _prepared(tmp_path, Scans('target', tmp_path / 'ct', 'b', channel='CT'), classes=('background', 'x'),
                         target_labels=False)  # fmt: skip
    assert len(manifest.records('target', 'train')) == 3 * SHAPE[2]
    with pytest.raises(InputError, match=r'no labels for the source scan .*p 2.nii.gz \(3 of 3 in train\); add them'):
        _prepared(tmp_path, Scans('source', tmp_path / 'ct', 'a', channel='CT', labels=VALUES))


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        (['a.nii.gz', 'a_Seg.nii.gz'], 'a_Seg.nii.gz: named like a label map; put scans into images/'),
        (['a.nii.gz', 'a.nrrd'], r'a\.nrrd: the same case as a\.nii\.gz'),
        (['a_0000.nii.gz', 'a_0001.nii.gz'], 'a_0001.nii.gz: another channel of a_0000.nii.gz; keep'),
    ],
)
def test_what_is_no_folder_of_scans(tmp_path, files, message):
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=message):
        read_dataset(tmp_path, channel='CT')


def test_a_part_of_what_is_meant(tmp_path):
    folder = _msd(tmp_path / 'Task', {'0': 'background', '1': 'liver'})
    with pytest.raises(InputError, match=f'Task/imagesTr: a subfolder of a dataset; give {folder}$'):
        read_dataset(folder / 'imagesTr', channel='CT')
    with pytest.raises(InputError, match=r'/Tusk: no such folder; did you mean Task\?$'):
        read_dataset(tmp_path / 'Tusk')


def test_plain_with_contours_and_pictures(tmp_path):
    folder = tmp_path / 'mine'
    series = write_series(folder / 'images/a', IMAGE, TOP_DOWN)
    (folder / 'masks').mkdir()
    contours = {'Liver': [(1, _square((1, 4), (2, 5)))], 'spleen_1': [(1, _square((7, 11), (1, 4)))]}
    write_rtstruct(folder / 'masks/a.dcm', series, contours)
    labels = class_names.parse('liver:liver*,spleen:spleen_?')
    scans = Scans('source', folder, 'a', channel='CT', labels=labels)
    _check(_prepared(tmp_path, scans), 'source', TOP_DOWN, ('liver', 'spleen'))
    (folder / 'masks/a.dcm').unlink()
    _png(folder / 'masks/a', _mapped(63, 126))
    scans = Scans('source', folder, 'a', channel='CT', labels=class_names.parse('liver:63,spleen:126'))
    _check(prepare([scans], tmp_path / 'pictures', SETTINGS, progress=False), 'source', TOP_DOWN, ('liver', 'spleen'))


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        (['images/a.nii.gz', 'labels/b.nii.gz'], r'labels/b.nii.gz: no image for it'),
        (['images/a.nii.gz', 'labels/a.nii.gz', 'masks/a.nii.gz'], 'masks: labels lie in labels too; keep one'),
        (['images/a.nii.gz', 'images/a_image.nii.gz'], 'a_image.nii.gz: the same case as a.nii.gz'),
        (['images/a.nii.gz', 'labels/a.nii.gz', 'labels/a.nrrd'], r'a\.nrrd: the same case as a\.nii\.gz'),
        (
            ['images/a_0000.nii.gz', 'images/a_0001.nii.gz'],
            'a_0001.nii.gz: another channel of a_0000.nii.gz; keep',
        ),
        (['images/a.txt'], 'images: no scans in it'),
        (
            ['Images/a.nii.gz', 'x'],
            r'/Images: part of no known layout; did you mean images\?; expected: dataset.json, im',
        ),
        (['dataset.json', 'images/a.nii.gz'], 'dataset.json: invalid JSON'),
        ([], 'empty; expected: dataset.json, imagesTr/.*; images/<case>.*<n>/T2SPIR/DICOM_anon .T2SPIR.*LUNG1-.*'),
        (['dataset.json', 'img/img0001.nii.gz'], r'could be nnU-Net or BTCV; name one: f#nnU-Net, f#BTCV'),
    ],
)
def test_bad_trees(tmp_path, files, message):
    (tmp_path / 'f').mkdir()
    for name in files:
        (tmp_path / 'f' / name).parent.mkdir(exist_ok=True)
        (tmp_path / 'f' / name).touch()
    with pytest.raises(InputError, match=message) as error:
        read_dataset(tmp_path / 'f', channel='CT')
    assert '\n' not in str(error.value) and str(tmp_path) in str(error.value)


def test_nnunet_without_its_description(tmp_path):
    folder = _msd(tmp_path / 'f', {})
    (folder / 'dataset.json').unlink()
    scans = Scans('source', folder, 'a', channel='CT', labels=class_names.parse('a:1,b:2,c:3,d:4'))
    _check(_prepared(tmp_path, scans), 'source', UPRIGHT, 'abcd')


def test_command(tmp_path):
    folder = _plain(tmp_path / 'mine')
    run = ['prepare', f'--config={tiny.ROOT}/tests/tiny.py', f'--output={tmp_path / "out"}']
    told = [f'--source={folder}', '--channel=source=CT', '--labels=source=liver:200,spleen:500']
    done = tiny.command(*run, *told)
    assert done.returncode == 0, done.stderr
    assert Manifest.load(tmp_path / 'out').classes == ('background', 'liver', 'spleen')
    wrong = tiny.command(*run, *told[:2])
    assert wrong.returncode == 2 and 'no classes; name them, --labels=source=' in wrong.stderr


def test_flags():
    sets = [Scans('source', Path('s'), 'a'), Scans('target', Path('t'), 'b')]
    told = described(sets, ['target=CT'], ['source=liver:6, kidneys:2+3', 'target=background:0,tumour:GTV-1*+GTV 2'])
    assert told[0] == replace(sets[0], labels={'background': 0, 'liver': 6, 'kidneys': (2, 3)})
    assert told[1] == replace(sets[1], channel='CT', labels={'background': 0, 'tumour': ('GTV-1*', 'GTV 2')})
    for channels, labels, message in (
        (['x=CT'], [], "unknown set in --channel 'x'; known: source, target"),
        (['CT'], [], '--channel=CT: give SET=..., once'),
        (['source='], [], '--channel=source=: give SET=..., once'),
        (['source=CT', 'source=MR'], [], '--channel=source=MR: give SET=..., once'),
        ([], ['source=liver'], "--labels: 'liver' in 'liver'; give every class once, e.g. background:0,liver:6"),
        ([], ['source=M\udcfcller:1'], r"--labels: 'M.udcfcller:1' in .*; give every class once"),
        ([], ['source=liver:1,liver:2'], "'liver:2' in"),
        ([], ['source=liver:1+,x:2'], "'liver:1.' in"),
        ([], ['source=liver:1,x:1'], 'needs labels with different values from 0 up'),
    ):
        with pytest.raises(InputError, match=message):
            described(sets, channels, labels)


def test_spelling():
    values = {'Background': 0, 'kidney_right': 1, 'Left_Kidney': 2, 'both': (1, 2, 3)}
    found = class_names.match_names(values, ('background', 'left kidney'))
    assert found == {'background': 0, 'left kidney': 2, 'kidney_right': 1, 'both': (1, 3)}
    assert class_names.match_names(found, ('background', 'left kidney')) == found
    assert class_names.suggestion('right kidney', ['spleen', 'Kidney_Right']) == '; did you mean Kidney_Right?'
    assert class_names.suggestion('spinal cord', ['CORD_SPINAL', 'liver']) == '; did you mean CORD_SPINAL?'
    assert class_names.suggestion('heart', ['spleen', 'liver']) == ''
    assert class_names.disjoint(values) == ('Background', 'kidney_right', 'Left_Kidney')
    assert class_names.disjoint({'b': 2, 'a': 1, 'background': 0}) == ('background', 'a', 'b')
    assert class_names.disjoint({'background': 0, 'z': 'Z*', 'a': 'A*'}) == ('background', 'z', 'a')


def test_near_names_are_hinted(tmp_path):
    folder = _msd(tmp_path / 'f', {'0': 'background', '1': 'kidney_right', '2': 'b', '3': 'c', '4': 'd'})
    with pytest.raises(InputError, match=r'no label right kidney; it has .*; did you mean kidney_right\?; set'):
        _prepared(tmp_path, Scans('source', folder, 'a'), classes=('background', 'right kidney'))


def test_closed_target_labels_have_the_names_of_the_classes_too(tmp_path):
    """Evaluation reads them by these names."""
    source = _msd(tmp_path / 'a', {'0': 'background', '1': 'left kidney', '2': 'x', '3': 'y', '4': 'z'})
    target = _msd(tmp_path / 'b', {'0': 'Background', '1': 'other', '2': 'Left_Kidney', '3': 'y', '4': 'z'})
    sets = Scans('source', source, 'a'), Scans('target', target, 'b')
    manifest = _prepared(
        tmp_path, *sets, classes=('background', 'left kidney'), target_labels=False, subject='(liver_.)'
    )
    assert manifest.sets['target']['labels'] == {'background': 0, 'left kidney': 2, 'other': 1, 'y': 3, 'z': 4}


def test_nnunet_folders_by_name(shared):
    for name, channel, count in (('Dataset101_AbdomenMR', 'MRI', 16), ('Dataset102_AbdomenCT', 'CT', 24)):
        dataset = read_dataset(shared / 'data' / name)
        assert dataset.channel == channel and len(dataset.cases) == count and all(c.label for c in dataset.cases)
        assert class_names.disjoint(dataset.labels) == ('background', *ORGANS)


def test_raw_labels_by_name(shared, tmp_path):
    """CHAOS counts the liver 1, BTCV 6; the records of both agree with the sets that were made of the same files."""
    raw, settings = shared / 'data' / 'formats' / 'raw_labels', replace(SETTINGS, size=(64, 64))
    for part, kind in (('images', 'image'), ('labels', 'label')):
        (tmp_path / 'chaos' / part).mkdir(parents=True)
        (tmp_path / 'chaos' / part / f'c2_{kind}.nii.gz').symlink_to(raw / f'chaos_{kind}_2.nii.gz')
    values = class_names.parse('liver:1,right kidney:2,left kidney:3,spleen:4')
    _btcv_like(tmp_path / 'btcv', raw / 'btcv_label_3.nii.gz')
    sets = [
        Scans('source', tmp_path / 'chaos', 'a', 'train', channel='MR', labels=values),
        Scans('target', tmp_path / 'btcv', 'b', 'train'),
    ]
    classes = ('background', *ORGANS)
    manifest = prepare(sets, tmp_path / 'records', replace(settings, classes=classes), progress=False)
    for name, folder, case in (
        ('source', 'Dataset101_AbdomenMR', 'chaos_002'),
        ('target', 'Dataset102_AbdomenCT', 'btcv_003'),
    ):
        made = _sizes_mm3(nib.load(shared / 'data' / folder / 'labelsTr' / f'{case}.nii.gz'))
        whole = nib.load(manifest.role(name, 'train')['cases'][0]['label'])
        counts = np.zeros(5)
        for record in manifest.records(name, 'train'):
            counts += np.bincount(record['label'].ravel(), minlength=5)
        scale = np.prod(whole.shape[:2]) / 64**2 * abs(np.linalg.det(whole.affine[:3, :3]))
        np.testing.assert_allclose(counts[1:] * scale, made[1:], rtol=0.05)


def _btcv_like(folder, label):
    """A BTCV folder of one label map, and an image that shows where it is."""
    (folder / 'label').mkdir(parents=True)
    (folder / 'label' / 'label0003.nii.gz').symlink_to(label)
    stored = nib.load(label)
    _nifti(folder / 'img' / 'img0003.nii.gz', np.asarray(stored.dataobj).astype(np.int16) * 50, stored.affine)


def _sizes_mm3(labels):
    counts = np.bincount(np.asarray(labels.dataobj).astype(int).ravel(), minlength=5)
    return counts * abs(np.linalg.det(labels.affine[:3, :3]))
