"""Labels and synthetic scans lie where their scan lies, whatever its axes; what cannot be done is said in one line."""

import csv
import itertools
import json
import logging
import re

import jax
import nibabel as nib
import numpy as np
import pytest
import tiny
import untrained
from dicom_files import write_series
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from nibabel.orientations import apply_orientation, inv_ornt_aff, ornt_transform

from synseg_jax import __version__ as version
from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file, straight
from synseg_jax.imaging import colours, volume
from synseg_jax.inference import model_folder, postprocess, trained_model
from synseg_jax.inference.predict_scans import predict
from synseg_jax.inference.scan_outputs import OUTPUTS, Output, spread
from synseg_jax.reports import figures
from synseg_jax.runs import open_run, run_file

SHAPE = (20, 26, 5)
ORIENTATIONS = [
    np.array([*zip(order, flips, strict=True)], float)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A system with random weights, made once for both ways of resampling: trained('linear')."""
    params = tiny.first_state().params
    made = {}

    def trained(resample='nearest'):
        if resample not in made:
            config = tiny.config(predict__resample=resample)
            typical = {'a': (0.0, 700.0), 'b': (-200.0, 300.0)}
            workdir = tmp_path_factory.mktemp('run')
            run = model_folder.Run(
                workdir, tiny.configure(config, 'synseg'), tiny.CLASSES, {'a': 'MR', 'b': 'CT'}, typical
            )
            made[resample] = trained_model.Trained(run, params)
        return made[resample]

    return trained


def _oblique(degrees):
    turns = np.deg2rad(degrees)
    result = np.eye(3)
    for axis, angle in enumerate(turns):
        i, j = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def _affine(degrees=(0, 0, 0)):
    affine = np.eye(4)
    affine[:3, :3] = _oblique(degrees) @ np.diag([2.0, 1.5, 5.0])
    affine[:3, 3] = [-40.5, 20.25, 7.125]
    return affine


def _stored(array, affine, orientation):
    """The scan as a file would hold it with its axes in another order and direction."""
    return volume.Volume(
        np.ascontiguousarray(apply_orientation(array, orientation)), affine @ inv_ornt_aff(orientation, array.shape)
    )


def _scan(modality='CT'):
    return tiny.scan(7, modality, SHAPE)[0].astype(np.float32)


def _save(path, array, affine=None, **header):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, _affine() if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize('resample', ['nearest', 'linear'])
def test_labels_follow_the_axes(trained, resample):
    system, array = trained(resample), _scan()
    reference = system.segment(volume.Volume(array, _affine()), 'b')
    assert reference.shape == SHAPE and reference.dtype == np.uint8
    assert len(np.unique(reference)) > 1 and reference.max() < len(tiny.CLASSES)
    # random networks have no symmetry: a mirrored result would not agree by chance
    assert all((reference != np.flip(reference, axis)).mean() > 0.02 for axis in range(3))
    for orientation in ORIENTATIONS:
        found = system.segment(_stored(array, _affine(), orientation), 'b')
        np.testing.assert_array_equal(found, apply_orientation(reference, orientation))


@pytest.mark.parametrize('degrees', [(12, -7, 20), (-30, 10, 5)])
def test_labels_follow_oblique_axes(trained, degrees):
    array = _scan()
    reference = trained().segment(volume.Volume(array, _affine()), 'b')
    for orientation in ORIENTATIONS[::5]:
        found = trained().segment(_stored(array, _affine(degrees), orientation), 'b')
        np.testing.assert_array_equal(found, apply_orientation(reference, orientation))


def test_both_domains_have_a_segmentor(trained):
    found = trained().segment(volume.Volume(_scan('MR'), _affine()), 'a')
    assert found.shape == SHAPE and found.max() < len(tiny.CLASSES)


@pytest.mark.parametrize('name', ['scan.nii', 'scan.nii.gz', 'scan_0000.nii.gz'])
@pytest.mark.parametrize('orientation', [0, 13, 46])
def test_labels_carry_the_header(trained, tmp_path, name, orientation):
    moved = _stored(_scan(), _affine((12, -7, 20)), ORIENTATIONS[orientation])
    header = {'descrip': b'NAME^PATIENT', 'xyzt_units': 2}
    image = nib.Nifti1Image(moved.array.astype(np.int16), moved.affine)
    image.set_sform(moved.affine, code=2)
    image.set_qform(moved.affine, code=1)
    for field, value in header.items():
        image.header[field] = value
    nib.save(image, tmp_path / name)
    written = predict(trained(), scan_file.inputs(tmp_path / name), tmp_path / 'labels')
    assert written == {'scan': tmp_path / 'labels' / 'scan.nii.gz'}
    label, stored = nib.load(written['scan']), nib.load(tmp_path / name)
    np.testing.assert_array_equal(label.affine, stored.affine)
    np.testing.assert_array_equal(label.header.get_qform(), stored.header.get_qform())
    for field in ('sform_code', 'qform_code', 'xyzt_units', 'pixdim'):
        np.testing.assert_array_equal(label.header[field], stored.header[field])
    assert label.get_data_dtype() == np.uint8 and label.shape == stored.shape
    assert label.header.get_intent()[0] == 'label'
    assert b'PATIENT' not in label.to_bytes()
    np.testing.assert_array_equal(np.asarray(label.dataobj), trained().segment(scan_file.read(tmp_path / name), 'b'))


def test_linear_votes_are_smoother(trained):
    """Few pixels differ, all of them at edges; both are labels of the same picture."""
    scan = volume.Volume(_scan(), _affine())
    nearest, linear = (trained(resample).segment(scan, 'b') for resample in ('nearest', 'linear'))
    assert 0 < (nearest != linear).mean() < 0.3


def test_outside_the_centre_is_background(tmp_path):
    """Labels and synthetic scans lie where they belong, whatever the axes; where nobody looked there is nothing."""
    scan = volume.Volume(_scan(), _affine())
    trained = trained_model.Trained(_run(tmp_path, data__target_center=0.5), tiny.first_state().params)
    reference = trained.segment(scan, 'b')
    columns, rows, _ = SHAPE  # their order is turned round on the way to upright slices
    inside = np.zeros(SHAPE, bool)
    inside[columns // 4 : -columns // 4, 1 + rows // 4 : -(rows // 4)] = True
    assert reference[inside].any() and not reference[~inside].any()
    small = volume.Volume(scan.array[inside.any((1, 2))][:, inside.any((0, 2))], _affine())
    whole = trained_model.Trained(_run(tmp_path), tiny.first_state().params)
    np.testing.assert_array_equal(reference[inside].reshape(small.array.shape), whole.segment(small, 'b'))
    probability = trained.probability(scan, 'b', 1)
    assert probability[inside].any() and not probability[~inside].any()
    for orientation in ORIENTATIONS[::9]:
        found = trained.segment(_stored(scan.array, _affine(), orientation), 'b')
        np.testing.assert_array_equal(found, apply_orientation(reference, orientation))
    np.testing.assert_array_equal(trained.segment(scan, 'a'), whole.segment(scan, 'a'))  # only the target is cut


def test_neighbours_reach_the_network(tmp_path):
    """Context of three slices: a change in one slice reaches the labels of its neighbours, and no further."""
    run = _run(tmp_path, method='supervised', context__slices=1)
    params = {'s_a': run.system.first_state(parallel.mesh(1)).params['s_a']}
    trained = trained_model.Trained(run, params)
    array = _scan()
    changed = array.copy()
    changed[:, :, 1] = array[::-1, ::-1, 4]
    one, other = (trained.probability(volume.Volume(a, _affine()), 'b', 1) for a in (array, changed))
    assert [bool((one[..., i] != other[..., i]).any()) for i in range(SHAPE[2])] == [True, True, True, False, False]


def test_inputs(tmp_path):
    files = [_save(tmp_path / 'set' / 'imagesTr' / f'{c}_0000.nii.gz', np.zeros((2, 2, 2), np.int16)) for c in 'xy']
    (tmp_path / 'set' / 'imagesTr' / 'notes.txt').touch()
    (tmp_path / 'set' / 'imagesTr' / '.hidden.nii').touch()
    expected = dict(zip('xy', files, strict=True))
    assert scan_file.inputs(files[1]) == {'y': files[1]}
    assert scan_file.inputs(tmp_path / 'set' / 'imagesTr') == expected
    assert scan_file.inputs(tmp_path / 'set') == expected
    test = _save(tmp_path / 'set' / 'imagesTs' / 'z_0000.nii.gz', np.zeros((2, 2, 2), np.int16))
    assert scan_file.inputs(tmp_path / 'set') == {'z': test}
    with pytest.raises(InputError, match='none: no such file or folder'):
        scan_file.inputs(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='no scans in it; known formats: .nii, .nii.gz'):
        scan_file.inputs(tmp_path / 'empty')


def test_inputs_of_dicom(tmp_path):
    """One series of several has the name that it has among all of them; and what lies deeper is found."""
    for number in (3, 7):
        for file in write_series(tmp_path / f'{number}', np.zeros((4, 4, 2)), tiny.AFFINE, SeriesNumber=number):
            (tmp_path / 'exam' / 'both').mkdir(parents=True, exist_ok=True)
            file.rename(tmp_path / 'exam' / 'both' / f'{number}_{file.name}')
    all_of_them = scan_file.inputs(tmp_path / 'exam')
    assert sorted(all_of_them) == ['both_3', 'both_7']
    one = tmp_path / 'exam' / 'both#7'
    assert scan_file.inputs(one) == {'both_7': one} == {'both_7': all_of_them['both_7']}
    (tmp_path / 'exam').rename(tmp_path / 'patient')
    (tmp_path / 'study').mkdir()
    (tmp_path / 'patient').rename(tmp_path / 'study' / 'patient')
    with pytest.raises(InputError, match='study: no scans in it; DICOM lies deeper, in .*study/patient/both; name the'):
        scan_file.inputs(tmp_path / 'study')


def test_a_folder_of_scans(trained, tmp_path):
    source = tiny.write_dataset(tmp_path / 'set', 'CT', 2)
    written = predict(trained(), scan_file.inputs(source), tmp_path / 'labels')
    assert sorted(written) == ['ct_0', 'ct_1'] and all(path.is_file() for path in written.values())
    description = json.loads((tmp_path / 'labels' / 'dataset.json').read_text())
    assert description['labels'] == {name: i for i, name in enumerate(tiny.CLASSES)}
    assert description['channel_names'] == {'0': 'CT'}


@pytest.mark.parametrize('broken', ['truncated', 'vanished', 'not finite', '4-D'])
def test_a_broken_scan_is_named_and_the_others_are_segmented(trained, tmp_path, broken):
    folder = tiny.write_dataset(tmp_path / 'set', 'CT', 3)
    files = scan_file.inputs(folder)
    path = files['ct_1']
    if broken == 'truncated':
        path.write_bytes(path.read_bytes()[:2000])
    elif broken == 'vanished':
        path.unlink()
    else:
        shape = (*tiny.SHAPE, 2) if broken == '4-D' else tiny.SHAPE
        _save(path, np.full(shape, np.nan, np.float32))
    with pytest.raises(InputError, match='1 of 3 scans left out, the others segmented:\n.*ct_1_0000.nii.gz') as refused:
        predict(trained(), files, tmp_path / 'out', extras=['volumes'])
    assert str(refused.value).count('\n') == 1
    left = sorted(str(p.relative_to(tmp_path / 'out')) for p in (tmp_path / 'out').rglob('*') if p.is_file())
    assert left == ['ct_0.nii.gz', 'ct_2.nii.gz', 'dataset.json', 'volumes.csv']
    for name in left[:2]:
        scan_file.read(tmp_path / 'out' / name)
    assert json.loads((tmp_path / 'out' / 'dataset.json').read_text())['numTraining'] == 2
    with pytest.raises(InputError, match='^[^;]*ct_1_0000.nii.gz') as alone:
        predict(trained(), {'ct_1': path}, tmp_path / 'nothing')
    assert 'left out' not in str(alone.value) and not (tmp_path / 'nothing').exists()


def _three(folder):
    """{case: file} of three scans, the second and third without contrast."""
    arrays = _scan(), np.full(SHAPE, -1000.0, np.float32), np.full(SHAPE, 500.0, np.float32)
    return {case: _save(folder / f'{case}.nii.gz', array) for case, array in zip('abc', arrays, strict=True)}


def test_scans_without_contrast_are_named_one_a_line(trained, tmp_path):
    files = _three(tmp_path / 'ct')
    with pytest.raises(InputError) as refused:
        predict(trained(), files, tmp_path / 'out', extras=['volumes'])
    title, *lines = str(refused.value).split('\n')
    assert title == '2 of 3 scans left out, the others segmented:'
    assert [line.split(': ')[0] for line in lines] == [str(files['b']), str(files['c'])]
    assert all('no contrast in the window -200 to 300 HU' in line for line in lines)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.nii.gz', 'dataset.json', 'volumes.csv']
    with (tmp_path / 'out' / 'volumes.csv').open() as file:
        assert [row['case'] for row in csv.DictReader(file)] == ['a', 'a']
    assert json.loads((tmp_path / 'out' / 'dataset.json').read_text())['numTraining'] == 1


def test_the_command_names_scans_without_contrast(tmp_path):
    workdir = untrained.workdir(tmp_path / 'work', **ALONE)
    _three(tmp_path / 'ct')
    done = tiny.command(
        'predict', f'--workdir={workdir}', f'--input={tmp_path}/ct', f'--output={tmp_path}/out', '--volumes'
    )
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    lines = done.stderr.splitlines()[-3:]
    assert lines[0] == 'error: 2 of 3 scans left out, the others segmented:'
    assert [line.split(': ')[0] for line in lines[1:]] == [f'  {tmp_path}/ct/{case}.nii.gz' for case in 'bc']
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.nii.gz', 'dataset.json', 'volumes.csv']


@pytest.mark.parametrize('error', [MemoryError(), jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory')])
def test_a_scan_that_is_too_large(trained, tmp_path, monkeypatch, error):
    files, segment = _three(tmp_path / 'ct'), trained_model.Trained.segment
    files['b'], files['c'] = (_save(files[case], _scan() + i) for i, case in enumerate('bc'))

    def segmented(self, scan, domain):
        if scan.array.max() == (_scan() + 1).max():
            raise error
        return segment(self, scan, domain)

    monkeypatch.setattr(trained_model.Trained, 'segment', segmented)
    with pytest.raises(InputError, match=r'1 of 3 scans left out.*:\n.*c.nii.gz: out of memory; crop the scan'):
        predict(trained(), files, tmp_path / 'out')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.nii.gz', 'b.nii.gz', 'dataset.json']


def test_an_error_of_the_program_is_not_the_scans(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(
        trained_model.Trained, 'segment', lambda *_: (_ for _ in ()).throw(jax.errors.JaxRuntimeError('INTERNAL'))
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'):
        predict(trained(), _three(tmp_path / 'ct'), tmp_path / 'out')


def test_numbers_that_are_not_finite(tmp_path):
    """End the prediction of a scan, not of the others, and write nothing."""
    trained = untrained.trained(tmp_path, **ALONE)
    probabilities, files = trained.networks.probabilities, _three(tmp_path / 'ct')
    _save(files['b'], 0.5 * _scan())

    def broken(stack, domain):
        seen.append(stack)
        return probabilities(stack, domain) * (np.nan if len(seen) > 1 else 1)

    seen = []
    trained.networks.probabilities = broken
    with pytest.raises(InputError, match=r'b.nii.gz: the networks return NaN or infinite probabilities; train'):
        predict(trained, files, tmp_path / 'out', extras=['probabilities'])
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.nii.gz', 'dataset.json', 'probabilities']


def test_extras_that_fail_leave_the_labels(trained, tmp_path, monkeypatch):
    def fails(one, output):
        if one.case == 'a':
            raise InputError('cannot be drawn')

    files = {case: _save(tmp_path / f'{case}.nii.gz', _scan()) for case in 'ab'}
    monkeypatch.setitem(OUTPUTS, 'overlays', Output('', fails))
    with pytest.raises(InputError) as refused:
        predict(trained(), files, tmp_path / 'out', extras=['overlays', 'volumes'])
    title, line = str(refused.value).split('\n')
    assert title == '1 of 2 scans incomplete, the others segmented:'
    assert line == f'{files["a"]}: cannot be drawn (segmented, but no overlays)'
    names = ['a.nii.gz', 'b.nii.gz', 'dataset.json', 'volumes.csv']
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == names
    assert json.loads((tmp_path / 'out' / 'dataset.json').read_text())['numTraining'] == 2


def test_what_is_wrong_for_all_scans_is_said_once(trained, tmp_path):
    system = trained_model.Trained(_run(tmp_path, method='cyclegan'), {})
    with pytest.raises(InputError, match='does not segment domain b; choose another --domain'):
        predict(system, _three(tmp_path / 'ct'), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_synthetic_intensities_are_restored(trained, monkeypatch):
    """A translation to 0, 1/2 and 1 is the bottom, the middle and the top of the window."""
    for level, hounsfield in ((0.0, -200), (0.5, 50), (1.0, 300)):
        monkeypatch.setattr(
            trained().networks, 'translate', lambda stack, domain, level=level: np.full_like(stack, level)
        )
        found = trained().synthesize(volume.Volume(_scan('MR'), _affine()), 'a')
        assert found.shape == SHAPE and found.dtype == np.int16 and (found == hounsfield).all()
        back = trained().synthesize(volume.Volume(_scan(), _affine()), 'b')
        assert (back == round(700 * level)).all()  # the typical range of the source's scans


def test_synthetic_scans_follow_the_axes(trained):
    array = _scan('MR')
    reference = trained().synthesize(volume.Volume(array, _affine()), 'a')
    for orientation in ORIENTATIONS[::7]:
        found = trained().synthesize(_stored(array, _affine((12, -7, 20)), orientation), 'a')
        np.testing.assert_array_equal(found, apply_orientation(reference, orientation))


def test_unknown_domain(trained, tmp_path):
    with pytest.raises(InputError, match="unknown domain 'c'; known: a, b"):
        predict(trained(), {}, tmp_path / 'out', 'c')


def test_a_system_without_the_network(tmp_path):
    run = _run(tmp_path, method='supervised')
    with pytest.raises(InputError, match='method supervised trains no g_ab; choose another --system'):
        trained_model.Trained(run, {}).synthesize(volume.Volume(_scan('MR'), _affine()), 'a')
    run = _run(tmp_path, method='cyclegan')
    with pytest.raises(InputError, match='method cyclegan trains no segmentor; choose another --system'):
        trained_model.Trained(run, {}).segment(volume.Volume(_scan(), _affine()), 'b')


def _run(folder, **changes):
    config = tiny.configure(tiny.config(**changes), 'synseg')
    return model_folder.Run(folder, config, tiny.CLASSES, {'a': 'MR', 'b': 'CT'}, {'a': (0.0, 9.5), 'b': (1.0, 2.0)})


ALONE = {'method': 'supervised'}  # a segmentor is all that is drawn
WHOLE = {**ALONE, 'data__size': (8, 32, 32), 'data__spacing_mm': 3.0}
VIEWS = {
    'axial': ALONE,
    'coronal': {**ALONE, 'data__slice_axis': 'coronal'},
    'sagittal': {**ALONE, 'data__slice_axis': 'sagittal', 'context__slices': 1},
    'the centre alone': {**ALONE, 'data__target_center': 0.5},
    'whole volumes': WHOLE,
}


@pytest.mark.parametrize('view', VIEWS)
def test_flips_are_the_mean_over_the_scan_and_its_mirror_image(tmp_path, view):
    """The mirror image is made of the file's voxels here, whatever axes they have."""
    plain = untrained.trained(tmp_path, **VIEWS[view])
    flipped = trained_model.Trained(untrained.run(tmp_path, **VIEWS[view], predict__flips='lr'), plain.networks.params)
    orientation, array = ORIENTATIONS[13], _scan()
    scan, mirror = (_stored(a, _affine((12, -7, 20)), orientation) for a in (array, array[::-1]))
    for label in range(len(tiny.CLASSES)):
        one, other = (_upright(plain.probability(v, 'b', label), orientation) for v in (scan, mirror))
        assert np.abs(one - other[::-1]).max() > 1e-3
        found = _upright(flipped.probability(scan, 'b', label), orientation)
        np.testing.assert_allclose(found, (one + other[::-1]) / 2, atol=2e-6)
    np.testing.assert_array_equal(
        _upright(flipped.segment(scan, 'b'), orientation), _upright(flipped.segment(mirror, 'b'), orientation)[::-1]
    )


def _upright(array, orientation):
    return apply_orientation(array, ornt_transform(orientation, ORIENTATIONS[0]))


def test_one_scan_after_another(tmp_path):
    """What is remembered of one scan is not told of another, nor of the same one with other fields."""
    trained = untrained.trained(tmp_path, **ALONE)
    one, other = (volume.Volume(a, _affine()) for a in (_scan(), _scan('MR')))
    first, second = trained.segment(one, 'b'), trained.segment(other, 'b')
    assert (first != second).any()
    for scan, expected in ((one, first), (other, second), (one, first)):
        np.testing.assert_array_equal(trained.segment(scan, 'b'), expected)
    before = trained.probability(one, 'b', 1)
    assert (trained.with_fields({'predict.flips': 'lr'}).probability(one, 'b', 1) != before).any()


@pytest.mark.parametrize(
    'field, wrong', [('flips', 'ud'), ('components', 'two'), ('window', 'all'), ('resample', 'cubic')]
)
def test_values_of_fields_that_do_not_exist_are_refused(tmp_path, field, wrong):
    with pytest.raises(InputError, match=f"^config.predict.{field}='{wrong}': give '"):
        untrained.trained(tmp_path, **ALONE).with_fields({f'predict.{field}': wrong})


def test_a_tilted_gantry(trained, tmp_path):
    """Labels lie on the grid of their scan with its shear or, straightened, at the same place without."""
    sheared = _affine((12, -7, 20)) @ [[1, 0, 0, 0], [0, 1, 1.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    files = {'x': _save(tmp_path / 'x.nii.gz', _scan(), sheared)}
    plain = scan_file.read_labels(predict(trained('nearest'), files, tmp_path / 'a')['x'])
    written = predict(
        trained('nearest'), files, tmp_path / 'b', extras=['probabilities', 'overlays', 'volumes'], write=straight.write
    )
    found = scan_file.read_labels(written['x'])
    np.testing.assert_allclose(plain.affine, sheared, atol=1e-4)
    assert nib.load(tmp_path / 'a/x.nii.gz').header['qform_code'] == 0
    expected = straight.straighten(plain, labels=True)
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    assert nib.load(written['x']).header['qform_code'] == 1 and found.array.any()
    one = scan_file.read(tmp_path / 'b/probabilities' / tiny.CLASSES[1] / 'x.nii.gz')
    np.testing.assert_allclose(one.affine, found.affine, atol=1e-4)
    assert one.array.shape == found.array.shape and len({*one.array.ravel()}) > 20


@pytest.mark.parametrize('resample', ['nearest', 'linear'])
def test_probabilities(trained, tmp_path, resample):
    files = {'x': _save(tmp_path / 'x.nii.gz', _scan(), _affine((12, -7, 20)))}
    written = predict(trained(resample), files, tmp_path / 'out', extras=['probabilities'])
    images = [nib.load(tmp_path / 'out' / 'probabilities' / name / 'x.nii.gz') for name in tiny.CLASSES]
    found = np.stack([np.asarray(image.dataobj) for image in images], -1)
    assert found.dtype == np.float32 and 0 <= found.min() and found.max() <= 1
    np.testing.assert_allclose(found.sum(-1), 1, atol=5e-5)
    assert not (found * 2**16 % 1).any()  # finer steps would be noise in large files
    labels = nib.load(written['x'])
    for image in images:
        np.testing.assert_array_equal(image.affine, labels.affine)
    agreement = (found.argmax(-1) == np.asarray(labels.dataobj)).mean()
    assert agreement > 0.999 if resample == 'linear' else 0.7 < agreement < 0.999


def test_probabilities_where_nobody_looked(tmp_path):
    trained = untrained.trained(tmp_path, **ALONE, data__target_center=0.5)
    files = {'x': _save(tmp_path / 'x.nii.gz', _scan())}
    predict(trained, files, tmp_path / 'out', extras=['probabilities'])
    total = sum(scan_file.read(path).array for path in (tmp_path / 'out' / 'probabilities').rglob('*.nii.gz'))
    inside = np.zeros(SHAPE, bool)
    inside[SHAPE[0] // 4 : -SHAPE[0] // 4, 1 + SHAPE[1] // 4 : -(SHAPE[1] // 4)] = True
    np.testing.assert_allclose(total, inside, atol=5e-5)


def test_class_names_that_are_no_file_names(tmp_path):
    run = untrained.run(tmp_path, **ALONE)
    run = model_folder.Run(
        run.folder, run.config, ('background', 'left/right kidney', '../spleen'), run.channels, run.typical
    )
    trained = trained_model.Trained(run, untrained.trained(tmp_path, **ALONE).networks.params)
    predict(trained, {'x': _save(tmp_path / 'x.nii', _scan())}, tmp_path / 'out', extras=['probabilities'])
    folders = {path.name for path in (tmp_path / 'out' / 'probabilities').iterdir()}
    assert folders == {'background', 'left_right kidney', '.._spleen'}


def test_volumes(trained, tmp_path):
    """By the determinant: the scan is oblique and sheared."""
    affine = _affine((12, -7, 20)) @ (np.eye(4) + 0.3 * np.eye(4, k=1) * [[0], [1], [0], [0]])
    files = {case: _save(tmp_path / f'{case}.nii', tiny.scan(i, 'CT', SHAPE)[0], affine) for i, case in enumerate('xy')}
    written = predict(trained(), files, tmp_path / 'out', extras=['volumes'])
    with (tmp_path / 'out' / 'volumes.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ['case', 'organ', 'mL'] and len(rows) == 2 * 2
    for row in rows:
        labels = np.asarray(nib.load(written[row['case']]).dataobj)
        expected = (labels == tiny.CLASSES.index(row['organ'])).sum() * 2.0 * 1.5 * 5.0 / 1000
        assert float(row['mL']) == pytest.approx(expected, abs=6e-4)


def test_overlays(trained, tmp_path):
    files = {case: _save(tmp_path / f'{case}.nii', tiny.scan(i, 'CT', SHAPE)[0]) for i, case in enumerate('xy')}
    written = predict(trained(), files, tmp_path / 'out', extras=['overlays'])
    pictures = sorted((tmp_path / 'out' / 'overlays').iterdir())
    assert [path.name for path in pictures] == ['x.png', 'y.png']
    for path in pictures:
        present = set(np.unique(scan_file.read_labels(written[path.stem]).array)) - {0}
        drawn = {label for label in (1, 2) if _has_colour(imread(path), colours.colour(label))}
        assert drawn == present and drawn


def test_contours_lie_where_the_organs_are(tmp_path, monkeypatch):
    """Whatever the axes of the file: upright, the centre alone, in millimetres."""
    trained = untrained.trained(tmp_path, **ALONE, data__target_center=0.5)
    monkeypatch.setattr(figures, 'overlays', lambda path, shown, classes, title: drawn.extend(shown))
    array = _scan()
    labels = trained.segment(volume.Volume(array, _affine()), 'b')
    for orientation in ORIENTATIONS[::11]:
        drawn = []
        stored = _stored(array, _affine(), orientation)
        path = _save(tmp_path / 'x.nii', stored.array, stored.affine)
        predict(trained, {'x': path}, tmp_path / 'out', extras=['overlays'])
        assert len(drawn) == np.count_nonzero(labels.any((0, 1)))
        for scan in drawn:
            at = int(scan.title.split()[1]) - 1
            # from right to left and from front to back; _affine runs to the right and to the front
            seen = (slice(6, 19), slice(5, 15))
            np.testing.assert_array_equal(scan.prediction, labels[::-1, ::-1, at].T[seen])
            window = np.clip((array[::-1, ::-1, at].T[seen] + 200) / 500, 0, 1)
            np.testing.assert_allclose(scan.image, window, atol=1e-5)
            assert scan.spacing_mm == pytest.approx((1.5, 2.0)) and scan.reference is None and scan.sides == ('R', 'L')


def _has_colour(picture, colour):
    return (np.abs(picture[..., :3] - to_rgb(colour)).max(-1) < 0.02).any()


def test_slices_are_spread_over_what_is_marked():
    marked = np.zeros(40, bool)
    assert spread(marked, 4) == [5, 15, 25, 35]
    marked[[3, 10, 11, 12, 30]] = True
    assert spread(marked, 8) == [3, 10, 11, 12, 30]
    assert spread(marked, 2) == [10, 12] and spread(marked, 1) == [11]


@pytest.mark.parametrize('lesions', [(), ('spleen',)])
def test_components(tmp_path, lesions):
    plain = untrained.trained(tmp_path, **ALONE)
    chosen = untrained.run(tmp_path, **ALONE, predict__components='largest', lesions=lesions)
    files = {'x': _save(tmp_path / 'x.nii', _scan())}
    before = scan_file.read_labels(predict(plain, files, tmp_path / 'plain')['x']).array
    written = predict(trained_model.Trained(chosen, plain.networks.params), files, tmp_path / 'out', extras=['volumes'])
    spared = [tiny.CLASSES.index(name) for name in lesions]
    found = scan_file.read_labels(written['x']).array
    np.testing.assert_array_equal(found, postprocess.largest_components(before, spared))
    assert ((found == 2) == (before == 2)).all() == bool(lesions)
    with (tmp_path / 'out' / 'volumes.csv').open() as file:
        measured = {row['organ']: float(row['mL']) for row in csv.DictReader(file)}
    assert measured['spleen'] == pytest.approx((found == 2).sum() * 0.015)


@pytest.mark.parametrize('flips', ['', 'lr'])
@pytest.mark.parametrize('fields', [ALONE, {**WHOLE, 'data__size': (8, 16, 16)}])
def test_scans_of_all_shapes_compile_once(tmp_path, fields, flips, caplog):
    """Smaller and larger than what the networks see, of one slice and of many."""
    seed = 70 + len(flips)  # networks that no other test has compiled
    trained = untrained.trained(tmp_path, **fields, predict__flips=flips, seed=seed)
    shapes = [(20, 26, 5), (9, 8, 1), (40, 33, 11), (70, 30, 3)]
    files = {str(i): _save(tmp_path / f'{i}.nii', tiny.scan(i, 'CT', s)[0]) for i, s in enumerate(shapes)}
    compiled = []
    for case, file in files.items():
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            predict(trained, {case: file}, tmp_path / 'out')
        compiled.append(sum('ompiling' in record.getMessage() for record in caplog.records))
    assert compiled[0] > 0 and compiled[1:] == [0, 0, 0]


def test_the_command(tmp_path):
    workdir = untrained.workdir(tmp_path / 'work', **ALONE)
    source = tiny.write_dataset(tmp_path / 'set', 'CT', 2)
    flags = ('--volumes', '--overlays', '--probabilities', '--flips=lr', '--components=largest')
    done = tiny.command('predict', f'--workdir={workdir}', f'--input={source}', f'--output={tmp_path / "out"}', *flags)
    assert done.returncode == 0, done.stderr
    assert '2 label maps in' in done.stdout
    assert '--flips: the networks were trained without left-right flips' in done.stderr
    files = {str(path.relative_to(tmp_path / 'out')) for path in (tmp_path / 'out').rglob('*') if path.is_file()}
    each = [f'probabilities/{name}/{{}}.nii.gz' for name in tiny.CLASSES] + ['overlays/{}.png', '{}.nii.gz']
    expected = {text.format(case) for text in each for case in ('ct_0', 'ct_1')}
    assert files == expected | {'dataset.json', 'volumes.csv'}
    trained = open_run.find(workdir).with_fields({'predict.flips': 'lr', 'predict.components': 'largest'})
    written = predict(trained, scan_file.inputs(source), tmp_path / 'again')
    for case, path in written.items():
        assert path.read_bytes() == (tmp_path / 'out' / f'{case}.nii.gz').read_bytes()


def test_flags_that_do_not_fit(tmp_path):
    workdir = untrained.workdir(tmp_path / 'work', **ALONE)
    source = tiny.write_dataset(tmp_path / 'set', 'CT', 1)
    flags = (f'--workdir={workdir}', f'--input={source}', f'--output={tmp_path / "out"}')
    for flag, said in {
        '--flips=ud': "predict.flips='ud': give '' or 'lr'",
        '--dicom_seg': 'is no DICOM series',
    }.items():
        done = tiny.command('predict', *flags, flag)
        assert done.returncode == 2 and re.search(said, done.stderr), done.stderr
        assert done.stderr.splitlines()[-1].startswith('error: ')
        assert not [path for path in (tmp_path / 'out').rglob('*') if path.is_file()]


@pytest.mark.parametrize('found', [None, 1, 3, '2'])
def test_workdirs_of_another_version_are_refused_in_one_line(tmp_path, found):
    run = _run(tmp_path)
    run.save()
    content = {**json.loads((tmp_path / 'stage.json').read_text()), 'format': found}
    run_json = {'format': found, 'config': {'systems': {'x': {}}, 'default_system': 'x'}, 'systems': {'x': ['.']}}
    if found is None:
        del content['format'], run_json['format']
    (tmp_path / 'stage.json').write_text(json.dumps(content))
    (tmp_path / 'run.json').write_text(json.dumps(run_json))
    told = rf'json: written by another version of synseg_jax, in format {found or 1!r}; this version, {version}, reads'
    for load in (model_folder.Run.load, open_run.find, run_file.read):
        with pytest.raises(InputError, match=told) as refused:
            load(tmp_path)
        assert '\n' not in str(refused.value)


def test_a_stage_that_lacks_a_field(tmp_path):
    _run(tmp_path).save()
    content = json.loads((tmp_path / 'stage.json').read_text())
    del content['config']['predict']['components']
    (tmp_path / 'stage.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match='stage.json: config.predict.components: missing; copy the workdir again'):
        model_folder.Run.load(tmp_path)


def test_a_run_round_trips(tmp_path):
    made = _run(tmp_path)
    made.save()
    read = model_folder.Run.load(tmp_path)
    assert read.config == made.config
    assert (read.classes, read.channels, read.typical) == (made.classes, made.channels, made.typical)


def test_no_run(tmp_path):
    with pytest.raises(InputError, match='stage.json: no such file; give the folder'):
        model_folder.Run.load(tmp_path)
    for content in ('', '{"config": {}', '[]', '{"format": 2, "config": {}}'):
        (tmp_path / 'stage.json').write_text(content)
        with pytest.raises(InputError, match='stage.json: .+; copy the workdir again, or train again'):
            model_folder.Run.load(tmp_path)
    with pytest.raises(InputError, match='run.json: no such file'):
        open_run.find(tmp_path)


@pytest.mark.parametrize('field, said', [('optimizer.rule', "'adam' or 'sgd'"), ('dtype', "'bfloat16' or")])
def test_a_stage_that_describes_no_networks_is_named(tmp_path, field, said):
    _run(tmp_path).save()
    content = json.loads((tmp_path / 'stage.json').read_text())
    *groups, name = field.split('.')
    place = content['config']
    for group in groups:
        place = place[group]
    place[name] = 'x'
    (tmp_path / 'stage.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"stage.json: config.{field}='x': give {said}.*; copy the workdir again"):
        _ = model_folder.Run.load(tmp_path).system


def test_a_field_that_no_configuration_can_have_is_named(tmp_path):
    _run(tmp_path).save()
    content = json.loads((tmp_path / 'stage.json').read_text())
    content['config']['train']['0.5'] = 1
    (tmp_path / 'stage.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match=r'stage.json: config.train.0\.5: no such field; .*; copy the workdir again'):
        model_folder.Run.load(tmp_path)


def test_the_last_stage_with_the_network_is_found(tmp_path):
    for name, method in (('one', 'synseg'), ('two', 'cyclegan'), ('three', 'supervised')):
        (tmp_path / name).mkdir()
        _run(tmp_path / name, method=method).save()
    config = {'systems': {'x': {}, 'y': {}}, 'default_system': 'x'}
    stages = {'format': model_folder.FORMAT, 'config': config, 'systems': {'x': ['one', 'two', 'three']}}
    (tmp_path / 'run.json').write_text(json.dumps(stages))
    for network, folder in (('g', 'two'), ('s', 'three')):
        with pytest.raises(InputError, match=rf'{folder}/checkpoints: no readable checkpoint; train first'):
            open_run.find(tmp_path, network=network)
    with pytest.raises(InputError, match='y is not trained yet; run synseg_jax.main'):
        open_run.find(tmp_path, 'y')
    (tmp_path / 'run.json').write_text(json.dumps({**stages, 'systems': {'x': ['two']}}))
    with pytest.raises(InputError, match='system x trains no segmentor; choose another --system'):
        open_run.find(tmp_path)


def test_an_output_is_one_entry(trained, tmp_path, monkeypatch):
    """Files or rows of a table, and refused beforehand where it suits no scan."""

    def check(files):
        if len(files) > 2:
            raise InputError('--sizes: for two scans at most')

    sizes = Output('Also count voxels.', lambda one, output: [{'case': one.case, 'voxels': one.labels.size}], check)
    monkeypatch.setitem(OUTPUTS, 'sizes', sizes)
    files = {case: _save(tmp_path / f'{case}.nii.gz', _scan()) for case in 'abc'}
    with pytest.raises(InputError, match='--sizes: for two scans at most'):
        predict(trained(), files, tmp_path / 'out', extras=['sizes'])
    assert not (tmp_path / 'out').exists()
    predict(trained(), {case: files[case] for case in 'ab'}, tmp_path / 'out', extras=['sizes'])
    voxels = _scan().size
    assert (tmp_path / 'out' / 'sizes.csv').read_text().split() == ['case,voxels', f'a,{voxels}', f'b,{voxels}']
    with pytest.raises(InputError, match="unknown output 'size'; known: dicom_seg, overlays,"):
        predict(trained(), files, tmp_path / 'out', extras=['size'])
