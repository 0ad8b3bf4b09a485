"""Synthetic scans as datasets for nnU-Net, with their labels and real scans beside them; and as scans alone."""

import json
import re
from dataclasses import replace
from functools import partial

import dicom_files
import nibabel as nib
import numpy as np
import pytest
import test_nnunet
import tiny
import untrained

from synseg_jax.datasets import nnunet_writer
from synseg_jax.dicom import series
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file, straight
from synseg_jax.imaging import volume
from synseg_jax.inference import trained_model
from synseg_jax.inference.synthesize_scans import synthesize, translate
from synseg_jax.inference.synthetic_files import nifti
from synseg_jax.runs import open_run

NAME = 'Dataset201_SyntheticCT'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return untrained.trained(tmp_path_factory.mktemp('run'))


@pytest.fixture
def source(tmp_path):
    """Two labelled MR scans whose dataset.json numbers the classes in another order than the system, with gaps."""
    folder = tiny.write_dataset(tmp_path / 'mr', 'MR', 2)
    return test_nnunet.relabelled(folder, {'background': 0, 'spleen': 2, 'liver': 7})


def labelled(folder):
    return nnunet_writer.labelled(folder, tiny.CLASSES)


def test_a_dataset_for_nnunet(trained, source, tmp_path):
    assert synthesize(trained, labelled(source), tmp_path / NAME) == 2
    content = test_nnunet.check(tmp_path / NAME)
    assert content['channel_names'] == {'0': 'CT'} and content['synthetic'] == ['mr_0', 'mr_1']
    assert content['labels'] == {name: i for i, name in enumerate(tiny.CLASSES)}
    for case in ('mr_0', 'mr_1'):
        image = nib.load(tmp_path / NAME / 'imagesTr' / f'{case}_0000.nii.gz')
        stored = nib.load(source / 'imagesTr' / f'{case}_0000.nii.gz')
        np.testing.assert_array_equal(image.affine, stored.affine)
        assert image.get_data_dtype() == np.int16 and image.shape == tiny.SHAPE
        scan = scan_file.read(source / 'imagesTr' / f'{case}_0000.nii.gz')
        values = np.asarray(image.dataobj)
        np.testing.assert_array_equal(values, trained.synthesize(scan, 'a'))
        assert -200 <= values.min() < values.max() <= 300 and values.std() > 1  # HU of the window
        label = nib.load(tmp_path / NAME / 'labelsTr' / f'{case}.nii.gz')
        given = np.asarray(nib.load(source / 'labelsTr' / f'{case}.nii.gz').dataobj)
        np.testing.assert_array_equal(np.asarray(label.dataobj), np.choose(given, [0, 0, 2, 0, 0, 0, 0, 1]))
        for field in ('sform_code', 'qform_code', 'pixdim', 'srow_x', 'srow_y', 'srow_z', 'quatern_b', 'qoffset_x'):
            np.testing.assert_array_equal(label.header[field], image.header[field])
        assert label.get_data_dtype() == np.uint8


def test_with_real_scans(trained, source, tmp_path):
    real = tiny.write_dataset(tmp_path / 'ct', 'CT', 3)
    (real / 'labelsTr' / 'ct_1.nii.gz').unlink()
    assert synthesize(trained, labelled(source), tmp_path / NAME, real=labelled(real)) == 4
    content = test_nnunet.check(tmp_path / NAME)
    assert (content['synthetic'], content['real']) == (['mr_0', 'mr_1'], ['ct_0', 'ct_2'])
    name = 'imagesTr/ct_0_0000.nii.gz'
    found, stored = (np.asarray(nib.load(folder / name).dataobj) for folder in (tmp_path / NAME, real))
    np.testing.assert_array_equal(found, stored)


def test_real_scans_that_do_not_fit(trained, source, tmp_path):
    with pytest.raises(InputError, match=r'--real=.*: its channel is MR, but synthetic scans are CT'):
        synthesize(trained, labelled(source), tmp_path / NAME, real=labelled(source))
    real = tiny.write_dataset(tmp_path / 'ct', 'CT', 1)
    for path in [*real.rglob('ct_0*')]:
        path.rename(path.with_name(path.name.replace('ct_0', 'mr_1')))
    with pytest.raises(InputError, match=r'--real=.*ct: case mr_1 is also in .*mr \(1 in all\); rename'):
        synthesize(trained, labelled(source), tmp_path / NAME, real=labelled(real))
    assert not (tmp_path / NAME).exists()


def test_scans_alone(trained, source, tmp_path):
    files = scan_file.inputs(source)
    assert translate(trained, files, tmp_path / 'ct') == 2
    assert sorted(path.name for path in (tmp_path / 'ct').iterdir()) == ['mr_0.nii.gz', 'mr_1.nii.gz']
    for case, file in files.items():
        scan = scan_file.read(file)
        found = nib.load(tmp_path / 'ct' / f'{case}.nii.gz')
        np.testing.assert_array_equal(np.asarray(found.dataobj), trained.synthesize(scan, 'a'))
        np.testing.assert_array_equal(found.affine, nib.load(file).affine)
    with pytest.raises(InputError, match='ct: exists and is not empty; remove it or choose another --output'):
        translate(trained, files, tmp_path / 'ct')


def test_a_tilted_gantry(trained, source, tmp_path):
    """Straightened, image and labels lie on one grid without shear."""
    for file in [*(source / 'imagesTr').iterdir(), *(source / 'labelsTr').iterdir()]:
        image = nib.load(file)
        sheared = image.affine @ [[1, 0, 0, 0], [0, 1, 2.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), sheared), file)
    synthesize(trained, labelled(source), tmp_path / NAME, write=straight.write)
    test_nnunet.check(tmp_path / NAME)
    translate(trained, scan_file.inputs(source), tmp_path / 'ct', save=partial(nifti, write=straight.write))
    image = nib.load(tmp_path / NAME / 'imagesTr/mr_0_0000.nii.gz')
    label = nib.load(tmp_path / NAME / 'labelsTr/mr_0.nii.gz')
    alone = nib.load(tmp_path / 'ct/mr_0.nii.gz')
    assert image.shape == label.shape == alone.shape and image.shape[1] > tiny.SHAPE[1]
    for one in (image, label, alone):
        assert one.header['qform_code'] == 1
        np.testing.assert_array_equal(one.affine, image.affine)
    np.testing.assert_array_equal(np.asarray(alone.dataobj), np.asarray(image.dataobj))
    assert set(np.unique(np.asarray(label.dataobj))) <= set(range(len(tiny.CLASSES)))


@pytest.mark.parametrize('alone', [False, True])
@pytest.mark.parametrize('broken', ['truncated', 'vanished', 'not finite', '4-D', 'constant'])
def test_a_broken_scan_is_named_and_the_others_are_written(trained, source, tmp_path, alone, broken):
    cases, files = labelled(source), scan_file.inputs(source)
    path = files['mr_1']
    if broken == 'truncated':
        path.write_bytes(path.read_bytes()[:2000])
    elif broken == 'vanished':
        path.unlink()
    else:
        array = np.full((*tiny.SHAPE, 2) if broken == '4-D' else tiny.SHAPE, np.nan, np.float32)
        nib.save(nib.Nifti1Image(np.nan_to_num(array, nan=7) if broken == 'constant' else array, tiny.AFFINE), path)
    output = tmp_path / 'ct' if alone else tmp_path / NAME
    with pytest.raises(InputError) as refused:
        translate(trained, files, output) if alone else synthesize(trained, cases, output)
    title, line = str(refused.value).split('\n')
    assert title == '1 of 2 scans left out, the others written:' and line.startswith(f'{path}: ')
    if alone:
        assert [path.name for path in output.iterdir()] == ['mr_0.nii.gz']
    else:
        content = test_nnunet.check(output)
        assert (content['numTraining'], content['synthetic']) == (1, ['mr_0'])


@pytest.mark.parametrize('alone', [False, True])
def test_nothing_is_written_where_all_scans_are_broken(trained, source, tmp_path, alone):
    cases, files = labelled(source), scan_file.inputs(source)
    for path in files.values():
        path.write_bytes(b'')
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError) as refused:
        translate(trained, files, tmp_path / 'ct') if alone else synthesize(trained, cases, tmp_path / NAME)
    assert [line.split(': ')[0] for line in str(refused.value).split('\n')] == [str(path) for path in files.values()]
    assert sorted(tmp_path.iterdir()) == before


def test_a_real_scan_that_is_broken(trained, source, tmp_path):
    real = tiny.write_dataset(tmp_path / 'ct', 'CT', 2)
    (real / 'imagesTr' / 'ct_0_0000.nii.gz').write_bytes(b'')
    with pytest.raises(InputError, match=r'1 of 4 scans left out, the others written:\n.*ct_0_0000.nii.gz: the '):
        synthesize(trained, labelled(source), tmp_path / NAME, real=labelled(real))
    content = test_nnunet.check(tmp_path / NAME)
    assert (content['numTraining'], content['real']) == (3, ['ct_1'])


def test_numbers_that_are_not_finite(source, tmp_path):
    trained = untrained.trained(tmp_path / 'run')
    translated = trained.networks.translate
    trained.networks.translate = lambda stack, domain: translated(stack, domain) * np.nan
    with pytest.raises(InputError, match='mr_0_0000.nii.gz: the networks return NaN or infinite intensities'):
        translate(trained, scan_file.inputs(source), tmp_path / 'ct')
    assert not (tmp_path / 'ct').exists()


RANGES = {  # of the target, its modality: what a file holds them in
    'fractions': ((0.02, 0.9), 'MR', np.float32),
    'few whole numbers': ((0.0, 200.0), 'MR', np.float32),
    'many whole numbers': ((0.0, 700.0), 'MR', np.int16),
    'unsigned 16 bits': ((100.0, 60000.0), 'MR', np.float32),
    'far below zero': ((-40000.0, 100.0), 'MR', np.float32),
    'a narrow window of CT': ((0.0, 80.0), 'CT', np.int16),
}


@pytest.mark.parametrize('kind', RANGES)
def test_the_range_and_resolution_of_the_target(source, tmp_path, kind):
    """In datasets for nnU-Net and in scans alone, and where nobody looked too."""
    (low, high), channel, dtype = RANGES[kind]
    plain = untrained.trained(tmp_path / 'run', data__target_center=0.5)
    run = replace(plain.run, channels={'a': channel, 'b': 'MR'}, typical={'a': (low, high), 'b': (0.0, 700.0)})
    trained = trained_model.Trained(run, plain.networks.params)
    with nnunet_writer.writing(tmp_path / 'Dataset202_Back', [channel], tiny.CLASSES) as raw:
        image, labels = tiny.scan(0, 'CT')
        scan = volume.Volume(image.astype(np.float32), tiny.AFFINE)
        raw.add('x', [trained.synthesize(scan, 'b')], labels, scan)
        raw.describe('')
    files = {'x': tmp_path / 'x.nii.gz'}
    scan_file.write(files['x'], scan.array, scan)
    translate(trained, files, tmp_path / 'alone', 'b')
    for path in (tmp_path / 'Dataset202_Back' / 'imagesTr' / 'x_0000.nii.gz', tmp_path / 'alone' / 'x.nii.gz'):
        found = np.asarray(nib.load(path).dataobj)
        assert found.dtype == dtype
        tolerance = 0.5 if dtype == np.int16 else 1e-6 * (high - low)
        assert low - tolerance <= found.min() and found.max() <= high + tolerance
        assert found[0, 0, 0] == pytest.approx(low, abs=tolerance)  # beyond the centre
        inside = found[6:-6, 6:-6]
        assert len(np.unique(inside)) > (20 if dtype == np.int16 else 200) and np.ptp(inside) < high - low
        images = plain.run.frame(scan, 'b', (32, 32), 0.0).images()
        expected = plain.networks.translate(images, 'b')
        assert inside.mean() == pytest.approx(low + expected.mean() * (high - low), abs=0.2 * (high - low))


def test_a_label_on_another_grid_is_named(trained, source, tmp_path):
    path = source / 'labelsTr' / 'mr_1.nii.gz'
    moved = tiny.AFFINE + np.eye(4, k=3) * 2
    nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), moved), path)
    with pytest.raises(InputError, match='mr_1.nii.gz: voxels lie up to 2 mm from those of its image'):
        synthesize(trained, labelled(source), tmp_path / NAME)
    assert test_nnunet.check(tmp_path / NAME)['synthetic'] == ['mr_0']


def test_unknown_domain(trained, source, tmp_path):
    for do, what in ((synthesize, labelled(source)), (translate, {})):
        with pytest.raises(InputError, match="unknown domain 'c'; known: a, b"):
            do(trained, what, tmp_path / NAME, 'c')


def test_masked_generators_see_the_labels(source, tmp_path):
    """Whatever their values are; of scans alone too, and those without labels are refused."""
    masked = untrained.trained(tmp_path / 'run', method='cyclegan', label_channel=True)
    synthesize(masked, labelled(source), tmp_path / NAME)
    translate(masked, scan_file.inputs(source), tmp_path / 'alone', labels=labelled(source))
    for case, file in scan_file.inputs(source).items():
        scan, labels = scan_file.read(file), np.asarray(nib.load(source / 'labelsTr' / f'{case}.nii.gz').dataobj)
        expected = masked.synthesize(scan, 'a', labels > 0)
        assert (expected != masked.synthesize(scan, 'a', labels == 7)).any()
        for place in (tmp_path / NAME / 'imagesTr' / f'{case}_0000.nii.gz', tmp_path / 'alone' / f'{case}.nii.gz'):
            np.testing.assert_array_equal(np.asarray(nib.load(place).dataobj), expected)
    with pytest.raises(InputError, match='masked generators need labels beside the image; give a labelled dataset'):
        translate(masked, scan_file.inputs(source), tmp_path / 'none')


def test_labels_that_nothing_names(source, tmp_path):
    """A plain folder is read once flags name its labels; and scans of the wrong modality are not."""
    plain, workdir = tmp_path / 'plain', untrained.workdir(tmp_path / 'work')
    plain.mkdir()
    for part, name in (('images', 'imagesTr'), ('labels', 'labelsTr')):
        (source / name).rename(plain / part)
    flags = (f'--workdir={workdir}', f'--output={tmp_path / NAME}')
    done = tiny.command('synthesize', *flags, f'--input={plain}')
    assert done.returncode == 2 and 'no classes; name them, e.g. --labels=liver:6' in done.stderr
    done = tiny.command('synthesize', *flags, f'--input={plain}', '--labels=spleen:2,Liver:7')
    assert done.returncode == 0, done.stderr
    test_nnunet.check(tmp_path / NAME)
    given = np.asarray(nib.load(plain / 'labels' / 'mr_0.nii.gz').dataobj)
    found = np.asarray(nib.load(tmp_path / NAME / 'labelsTr' / 'mr_0.nii.gz').dataobj)
    np.testing.assert_array_equal(found, np.choose(given, [0, 0, 2, 0, 0, 0, 0, 1]))
    ct = tiny.write_dataset(tmp_path / 'ct', 'CT', 1)
    done = tiny.command('synthesize', *flags, f'--input={ct}')
    assert done.returncode == 2 and f'--input={ct}: its channel is CT, not MR; see --domain' in done.stderr


def test_the_command(source, tmp_path):
    workdir = untrained.workdir(tmp_path / 'work')
    real = tiny.write_dataset(tmp_path / 'ct', 'CT', 1)
    flags = (f'--workdir={workdir}', f'--input={source}')
    done = tiny.command('synthesize', *flags, f'--output={tmp_path / NAME}', f'--real={real}', '--straighten')
    assert done.returncode == 0, done.stderr
    assert f'3 labelled scans in {tmp_path / NAME}' in done.stdout
    assert test_nnunet.check(tmp_path / NAME)['real'] == ['ct_0']
    done = tiny.command('synthesize', *flags, f'--output={tmp_path / "alone"}', '--format=scans')
    assert done.returncode == 0 and '2 synthetic scans in' in done.stdout
    assert sorted(path.name for path in (tmp_path / 'alone').iterdir()) == ['mr_0.nii.gz', 'mr_1.nii.gz']
    done = tiny.command('synthesize', *flags, f'--output={tmp_path / "alone"}')
    assert done.returncode == 2 and 'named DatasetNNN_Name' in done.stderr and done.stderr.count('\n') == 1
    assert json.loads((tmp_path / NAME / 'dataset.json').read_text())['numTraining'] == 3


def test_dicom_series_in_the_study_of_their_source(tmp_path):
    """As `--format=scans`, slice by slice; the case that is none is named, the others are written."""
    workdir, output = untrained.workdir(tmp_path / 'work'), tmp_path / 'synthetic'
    files = dicom_files.write_series(tmp_path / 'mr' / 'patient', tiny.scan(3, 'MR')[0], tiny.AFFINE, 'MR')
    flags = (f'--workdir={workdir}', '--format=dicom', f'--input={tmp_path / "mr"}')
    done = tiny.command('synthesize', *flags, f'--output={output}')
    assert done.returncode == 0 and f'1 synthetic scans in {output}' in done.stdout, done.stderr
    (folder,) = output.iterdir()
    found, scan = scan_file.read(folder), scan_file.read(tmp_path / 'mr' / 'patient')
    assert folder.name == 'patient' and found.affine == pytest.approx(scan.affine)
    expected = open_run.find(workdir, network='g').synthesize(scan, 'a')
    np.testing.assert_array_equal(found.array, expected)
    source, image = (series.header(path) for path in (files[0], folder / '0001.dcm'))
    assert (image.Modality, image.StudyInstanceUID) == ('CT', source.StudyInstanceUID)
    assert image.SeriesDescription == 'synthetic CT, synseg_jax stage'

    scan_file.write(tmp_path / 'mr' / 'other.nii.gz', scan.array, scan)
    done = tiny.command('synthesize', *flags, f'--output={tmp_path / "again"}')
    assert done.returncode == 2 and '1 of 2 scans left out, the others written:' in done.stderr
    assert 'other.nii.gz is no DICOM series, to whose study anything could be added' in done.stderr
    assert [path.name for path in (tmp_path / 'again').iterdir()] == ['patient']


REFUSED = {
    'nifti': ((), r'--format=dicom: .*mr_0_0000.nii.gz is no DICOM series, to whose study anything could be added'),
    'straighten': (('--straighten',), '--straighten resamples, --format=dicom keeps the slices of the series'),
    'real': (('--real=ct',), '--real needs --format=nnunet; leave --format=dicom out'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_is_no_dicom_series_is_refused_in_one_line(source, tmp_path, case):
    workdir, (more, told) = untrained.workdir(tmp_path / 'work'), REFUSED[case]
    flags = (f'--workdir={workdir}', f'--input={source}', f'--output={tmp_path / "out"}', '--format=dicom', *more)
    done = tiny.command('synthesize', *flags)
    assert done.returncode == 2 and re.search(told, done.stderr) and done.stderr.count('\n') == 1, done.stderr
    assert not (tmp_path / 'out').exists()
