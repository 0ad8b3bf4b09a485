"""Everything that is wrong with scans and labels is told at once, and mended only where that is asked for and safe."""

import json
import re
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tiny
from dicom_files import write_rtstruct, write_series

from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.errors import InputError
from synseg_jax.formats import label_maps, scan_file
from synseg_jax.imaging.volume import Volume
from synseg_jax.preparation.checks import laterality
from synseg_jax.preparation.checks.fingerprint import digest
from synseg_jax.preparation.checks.repair import on_grid, repair
from synseg_jax.preparation.checks.survey import survey
from synseg_jax.preparation.checks.table import table
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.specification.data import Data

SETTINGS = Data(size=(8, 10), window_hu=(-200.0, 150.0), source_split=(0.5, 0.25, 0.25), target_split=(0.75, 0.0, 0.25))
AFFINE = np.array([[-1.5, 0, 0, 12], [0, 1.5, 0, -15], [0, 0, 4.0, 7], [0, 0, 0, 1]])
SHAPE = (16, 20, 5)
LABELS = {'background': 0, 'liver': 3, 'spleen': 7}


def _scan(seed, ct=False):
    """Noise with a liver on the right and a spleen behind it on the left."""
    rng = np.random.default_rng(seed)
    label = np.zeros(SHAPE, np.uint8)
    label[2:6, 8:15, 1:4] = 3
    label[10:14, 5:11, 1:4] = 7
    image = rng.normal(300, 20, label.shape) + 20.0 * label
    return (image - 400 if ct else image).astype(np.int16), label


def _save(path, array, affine=AFFINE):
    path.unlink(missing_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def _dataset(folder, channel, prefix, cases=4):
    for part in ('imagesTr', 'labelsTr'):
        (folder / part).mkdir(parents=True)
    for i in range(cases):
        image, label = _scan(i + 10 * ord(prefix), channel == 'CT')
        _save(folder / f'imagesTr/{prefix}{i}_0000.nii.gz', image)
        _save(folder / f'labelsTr/{prefix}{i}.nii.gz', label)
    description = {'channel_names': {'0': channel}, 'labels': LABELS, 'file_ending': '.nii.gz'}
    (folder / 'dataset.json').write_text(json.dumps(description))
    return folder


@pytest.fixture
def sets(tmp_path):
    mr, ct = _dataset(tmp_path / 'mr', 'MRI', 'm'), _dataset(tmp_path / 'ct', 'CT', 'c')
    return [Scans('source', mr, 'a'), Scans('target', ct, 'b')]


def _lines(sets, settings=SETTINGS):
    """The problems as they are printed."""
    return [f'{"error" if p.error else "warning"}: {p.text}' for p in survey(sets, settings)[1]]


def _state(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob('*')) if p.is_file()}


def test_sound_sets(sets, tmp_path):
    before = _state(tmp_path)
    heard = []
    checked, problems = survey(sets, SETTINGS, lambda *numbers: heard.append(numbers))
    assert problems == [] and len(checked) == 8 and heard[-1] == (8, 8) and _state(tmp_path) == before
    rows = [[str(cell) for cell in column.cells] for column in table(checked, problems).columns]
    assert rows[:2] == [['source'] * 3 + ['target'] * 2, ['train', 'val', 'test', 'train', 'test']]
    assert rows[2:] == [['2', '1', '1', '3', '1']] * 2 + [['0'] * 5] * 3


# --- one thing wrong ---


def _moved(**changes):
    """Rewrites the label of m2 on another grid."""

    def make(mr, ct):
        affine, array = AFFINE.copy(), changes.get('array', _scan(2)[1])
        affine[:3, :3] = affine[:3, :3] @ np.diag(changes.get('spacing', (1, 1, 1)))
        affine[:3, 3] += changes.get('origin', (0, 0, 0))
        _save(mr / 'labelsTr/m2.nii.gz', array, affine)

    return make


def _values(fill, dtype=np.uint8, case='m3'):
    def make(mr, ct):
        label = _scan(3)[1].astype(dtype)
        label[label == 7] = fill
        _save(mr / f'labelsTr/{case}.nii.gz', label)

    return make


def _image(fill, where=np.s_[:], dtype=np.int16):
    def make(mr, ct):
        array = _scan(0)[0].astype(dtype)
        array[where] = fill
        _save(mr / 'imagesTr/m0_0000.nii.gz', array)

    return make


def _truncated(mr, ct):
    path = ct / 'imagesTr/c2_0000.nii.gz'
    content = path.read_bytes()
    path.write_bytes(content[:-100])


def _garbage(mr, ct):
    (ct / 'labelsTr/c1.nii.gz').write_bytes(b'garbage')


def _copied(mr, ct):
    shutil.copy(mr / 'imagesTr/m0_0000.nii.gz', ct / 'imagesTr/new_0000.nii.gz')


def _another_container(mr, ct):
    """The same scan as NRRD, stored from the other end, at another scale."""
    array = nib.load(mr / 'imagesTr/m1_0000.nii.gz').get_fdata()
    image = sitk.GetImageFromArray((array[::-1] * 0.37 - 120).T.astype(np.float32))
    image.SetSpacing((1.5, 1.5, 4.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    image.SetOrigin((-12 + 1.5 * 15, 15, 7))
    sitk.WriteImage(image, str(ct / 'imagesTr/other_0000.nrrd'))


def _two_forms(mr, ct):
    image = nib.load(mr / 'imagesTr/m1_0000.nii.gz')
    image = nib.Nifti1Image(np.asarray(image.dataobj), AFFINE)
    image.set_qform(AFFINE @ np.diag([-1, 1, 1, 1]), 1)
    image.set_sform(AFFINE, 1)
    nib.save(image, mr / 'imagesTr/m1_0000.nii.gz')


def _series(mr, ct):
    files = write_series(ct / 'imagesTr/dicom_0000', _scan(99, True)[0], AFFINE)
    files[2].unlink()


def _no_spleen(count):
    def make(mr, ct):
        for i in range(count):
            label = _scan(i)[1]
            label[label == 7] = 0
            _save(mr / f'labelsTr/m{i}.nii.gz', label)

    return make


BAD = {
    'shape': (_moved(array=np.zeros((16, 20, 6), np.uint8)), r'error: .*m2.nii.gz: label map has shape .*16, 20, 6'),
    'spacing': (
        _moved(spacing=(1, 1, 1.25)),
        r'error: .*m2.nii.gz: voxels lie up to 4 mm .*spacing .* 5.0.* against .*',
    ),
    'origin': (
        _moved(origin=(0, 0, 8)),
        'error: .*m2.nii.gz: voxels lie up to 8 mm .*origin 8 mm apart; copy .*resample',
    ),
    'direction': (_moved(spacing=(1, -1, 1)), 'error: .*m2.nii.gz: voxels lie up to'),
    'unknown value': (_values(9), 'error: .*m3.nii.gz: label values 9 are not named; name them'),
    'float': (_values(6.5, np.float32), 'error: .*m3.nii.gz: labels must be whole numbers, found 6.5'),
    'negative': (_values(-1, np.int16), 'error: .*m3.nii.gz: labels are negative'),
    'nan label': (_values(np.nan, np.float32), 'error: .*m3.nii.gz: 72 voxels are NaN'),
    'nan': (
        _image(np.nan, np.s_[0, 0, :2], np.float32),
        'error: .*m0_0000.nii.gz: 2 voxels are NaN or infinite; replace',
    ),
    'infinite': (_image(np.inf, np.s_[0, 0, 0], np.float32), 'error: .*m0_0000.nii.gz: 1 voxels are NaN or infinite'),
    'constant': (_image(9), 'error: .*m0_0000.nii.gz: percentiles 2.5 and 97.5 are both 9'),
    'truncated': (_truncated, 'error: .*c2_0000.nii.gz: (truncated|damaged)'),
    'garbage': (_garbage, 'error: .*c1.nii.gz: not gzip'),
    'copied': (
        _copied,
        r'error: .*new_0000.nii.gz: the same voxels as .*m0_0000.nii.gz \(\w+ of source and \w+ of target',
    ),
    'another container': (_another_container, 'error: .*other_0000.nrrd: the same voxels as .*m1_0000.nii.gz'),
    'two forms': (_two_forms, 'warning: .*m1_0000.nii.gz: sform and qform disagree'),
    'missing slice': (_series, r'error: .*dicom_0000: slices missing or uneven: 8.00 mm'),
    'no organ': (
        lambda mr, ct: _values(0, case='c1')(ct, None),
        r'warning: .*c1.nii.gz: without spleen \(1 of [34] labels\)',
    ),
    'class of none': (_no_spleen(4), 'error: .*mr: no label of train shows spleen; add some, or set data.classes'),
    'empty': (
        lambda mr, ct: _save(mr / 'labelsTr/m1.nii.gz', np.zeros(SHAPE, np.uint8)),
        'warning: .*m1.nii.gz: no organ in it; leave the scan out',
    ),
    'no label': (lambda mr, ct: (mr / 'labelsTr/m1.nii.gz').unlink(), 'error: no labels for the source scan .*m1_0000'),
    'window': (lambda mr, ct: None, 'warning: .*c0_0000.nii.gz: values .* fill only .*and 2 more scans'),
}


@pytest.mark.parametrize('kind', BAD)
def test_one_thing_wrong(sets, kind):
    make, message = BAD[kind]
    make(sets[0].folder, sets[1].folder)
    settings = replace(SETTINGS, target_split=(1.0, 0.0, 0.0)) if kind == 'copied' else SETTINGS
    if kind == 'window':
        settings = replace(settings, window_hu=(-9000.0, 9000.0))
    lines = _lines(sets, settings)
    assert any(re.match(message, line) for line in lines) and len(set(lines)) == len(lines), lines
    assert len([line for line in lines if line.startswith('error')]) <= (0 if message.startswith('warning') else 3), (
        lines
    )


def test_a_warning_is_given_once(sets):
    """Of all files that have the same, of all roles that lack the same organ, and however often files are read."""
    mr, ct = (scans.folder for scans in sets)
    for path in sorted(ct.rglob('*.nii.gz')):
        image = nib.load(path)
        image = nib.Nifti1Image(np.asarray(image.dataobj), AFFINE)
        image.set_qform(AFFINE @ np.diag([-1, 1, 1, 1]), 1)
        nib.save(image, path)
    (line,) = _lines(sets)
    assert line.startswith(f'warning: {ct}/imagesTr/c0_0000.nii.gz: sform and qform disagree by up to ')
    assert line.endswith('the sform is used (and 7 more files)')
    content = json.loads((mr / 'dataset.json').read_text())
    content['labels'] |= {'kidney': 5}
    (mr / 'dataset.json').write_text(json.dumps(content))
    lines = _lines(sets, replace(SETTINGS, window_hu=(-9000.0, 9000.0)))
    assert len(lines) == 3 and f'error: {mr}: no label of train shows kidney; add some, or set data.classes' in lines
    assert (
        sum(line.endswith('narrow data.window_hu (and 2 more scans of train, 1 more scans of test)') for line in lines)
        == 1
    )
    content['channel_names'] = {'0': 'T1 MR', '1': 'T2 MR'}
    (mr / 'dataset.json').write_text(json.dumps(content))
    (mr / 'labelsTr/m1.nii.gz').unlink()  # so that the source cannot be split
    lines = _lines(sets)
    assert sum('of 2 channels only the first, T1 MR, is read' in line for line in lines) == 1


def test_dicom_beside_other_scans_is_told_once(sets):
    (sets[1].folder / 'imagesTr/x.dcm').write_bytes(bytes(128) + b'DICM')
    (line,) = _lines(sets)
    assert line.startswith(f'warning: {sets[1].folder}/imagesTr/x.dcm: DICOM beside other scans, not read')


def test_all_that_is_wrong_is_told_at_once(sets):
    """Two faults of one label, faults of both sets, and one that keeps the source from being split."""
    mr, ct = (scans.folder for scans in sets)
    _no_label = (mr / 'labelsTr/m1.nii.gz').unlink()
    _moved(array=np.full(SHAPE, 9, np.uint8), origin=(0, 0, 8))(mr, ct)
    _values(6.5, np.float32)(mr, ct)
    _image(np.nan, np.s_[0, 0, 0], np.float32)(mr, ct)
    _truncated(mr, ct)
    checked, problems = survey(sets, SETTINGS)
    assert not any(one.snapped for one in checked)  # what is refused is not snapped
    errors = [f'error: {problem.text}' for problem in problems if problem.error]
    for part in ('m1_0000.nii.gz (', 'm2.nii.gz: voxels lie', 'm2.nii.gz: label values 9', 'm3.nii.gz: labels must be'):
        assert sum(part in line for line in errors) == 1, part
    assert (
        len(errors) == 6 and sum('c2_0000' in line for line in errors) == sum('m0_0000' in line for line in errors) == 1
    )


def test_a_folder_that_cannot_be_read_keeps_no_other_from_being_checked(sets):
    orphan = sets[0].folder / 'labelsTr/m9.nii.gz'
    _save(orphan, _scan(0)[1])
    _truncated(sets[0].folder, sets[1].folder)
    lines = _lines(sets)
    assert [line for line in lines if 'm9.nii.gz: no image for it' in line]
    assert [line for line in lines if 'c2_0000' in line]
    with pytest.raises(InputError, match='m9.nii.gz: no image for it'):
        survey(sets[:1], SETTINGS)  # nothing is left to check
    with pytest.raises(InputError, match='window_hu'):
        survey(sets, replace(SETTINGS, window_hu=(5.0, -5.0)))


@pytest.mark.parametrize('patient', ['p{}', 'ProstateX-000{}'])
@pytest.mark.parametrize('number', [0, 2, None])  # the first file of a series is the one that speaks for it; None: all
def test_a_damaged_slice_keeps_no_other_series_from_being_checked(sets, tmp_path, patient, number):
    folder, channel = tmp_path / 'series', 'MR'
    for i in range(3):
        place = folder / patient.format(i) / ('study/series' if 'X' in patient else '')
        files = write_series(place, _scan(i)[0], AFFINE, channel, SeriesDescription='t2_tse_tra')
        for file in files if number is None else [files[number]]:
            if i == 1:
                file.write_bytes(file.read_bytes()[:400])
        if i == 2:
            files[1].unlink()
    lines = _lines([sets[0], Scans('target', folder, 'b', channel='' if 'X' in patient else channel)])
    errors = [line for line in lines if line.startswith('error')]
    assert len(errors) == 2
    damaged = rf'/{(number or 0) + 1:04d}.dcm: (damaged|truncated) or no DICOM'
    for words in (damaged, f'{patient.format(2)}.*: slices missing'):
        assert sum(bool(re.search(words, line)) for line in errors) == 1


def test_labels_without_names_are_read_all_the_same(sets):
    path = sets[1].folder / 'dataset.json'
    path.write_text(json.dumps({'channel_names': {'0': 'CT'}, 'labels': {}}))
    assert _lines(sets) == []
    _values(6.5, np.float32, 'c1')(sets[1].folder, None)
    lines = _lines(sets)
    assert len(lines) == 1 and 'c1.nii.gz: labels must be whole numbers' in lines[0]


def test_what_labels_without_names_hold(tmp_path):
    """So that they can be named."""
    mine = tmp_path / 'mine'
    for part in ('images', 'labels'):
        (mine / part).mkdir(parents=True)
    for i, fill in enumerate((7, 500)):
        image, label = _scan(i)
        _save(mine / f'images/p{i}.nii.gz', image)
        _save(mine / f'labels/p{i}.nii.gz', np.where(label == 7, fill, label.astype(np.int16)))
    sets = [Scans('source', mine, 'a', channel='MR')]
    named = f'{mine}: its labels hold 3, 7, 500; name them, --labels=source=NAME:3,NAME:7,NAME:500'
    lines = _lines(sets)
    assert lines[0].startswith('error: ') and 'no classes; name them' in lines[0] and lines[1:] == [f'warning: {named}']
    series = write_series(mine / 'images/d', _scan(2)[0], AFFINE, 'MR')
    write_rtstruct(mine / 'labels/d.dcm', series, {'GTV': [(2, [(2, 2), (6, 2), (6, 6)])]})
    assert 'its labels hold 3, 7, 500, GTV; name them, ' in _lines(sets)[-1]


def test_prepare_tells_of_all_headers_and_labels_at_once(sets, tmp_path):
    """Each file with its values; those of the target, which stay closed, aside."""
    mr, ct = (scans.folder for scans in sets)
    _moved(array=np.where(_scan(2)[1] == 7, 9, 0).astype(np.uint8), origin=(0, 0, 8))(mr, ct)
    _values(11)(mr, ct)
    _values(6.5, np.float32, 'm1')(mr, ct)
    _values(12, case='c1')(ct, None)
    (mr / 'imagesTr/m0_0000.nii.gz').write_bytes(b'')
    with pytest.raises(InputError) as error:
        prepare(sets, tmp_path / 'records', SETTINGS, progress=False)
    first, *lines = str(error.value).splitlines()
    assert first == '5 problems; synseg_jax.verify tells more, and mends grids:' and len(lines) == 5
    for said in (
        'm0_0000.nii.gz: the file is empty',
        'm1.nii.gz: labels must be whole numbers, found 6.5',
        'm2.nii.gz: voxels lie up to 8 mm',
        'm2.nii.gz: label values 9 are not named',
        'm3.nii.gz: label values 11 are not named',
    ):
        assert sum(said in line for line in lines) == 1, said
    assert not (tmp_path / 'records').exists()


def test_prepare_refuses_what_is_wrong_between_cases(sets, tmp_path):
    """A mirrored set, and a scan in two places, of what it opens."""
    _flip(sets[0].folder, 0)
    (sets[1].folder / 'imagesTs').mkdir()
    shutil.copy(sets[1].folder / 'imagesTr/c0_0000.nii.gz', sets[1].folder / 'imagesTs/again_0000.nii.gz')
    with pytest.raises(InputError) as refused:
        prepare(sets, tmp_path / 'records', replace(SETTINGS, target_split=(1.0, 0.0, 0.0)), progress=False)
    assert 'has liver 12 mm left of spleen: it is stored mirrored left-right' in str(refused.value)
    assert 'again_0000.nii.gz: the same voxels as' in str(refused.value)


def test_tiny_differences_are_counted(sets):
    mr = sets[0].folder
    _moved(origin=(0.004, 0, 0))(mr, None)
    checked, problems = survey(sets, SETTINGS)
    assert problems == [] and [one.case.id for one in checked if one.snapped] == ['m2']
    assert table(checked, problems).caption.startswith('snapped: labels less than 0.01 mm off the grid of their scan')
    assert table(checked[:0], problems).caption is None


def test_people_in_two_roles(sets, tmp_path):
    later = Scans('later', _dataset(tmp_path / 'later', 'CT', 'd'), 'b', 'test')
    for path in sorted(later.folder.rglob('d*.nii.gz')):
        path.rename(path.with_name(path.name.replace('d', 'c', 1)))
    lines = _lines([*sets, later])
    said = r'error: 3 subjects \(c\d, c\d, c\d\) are in train of target, test of later; put each in one role, or tell'
    assert sum(re.match(said, line) is not None for line in lines) == 1
    assert all('same voxels' not in line for line in lines)
    assert _lines([*sets, later], replace(SETTINGS, same_patients=('later',))) == []


def test_scans_in_two_roles_are_told_once(sets, tmp_path):
    """And are no error where the set is said to show the same patients."""
    later = Scans('later', tmp_path / 'later', 'b', 'test')
    shutil.copytree(sets[1].folder, later.folder)
    said = r'\S+c\d_\S+: the same voxels as \S+c\d_\S+ \(train of target and test of later, and 3 more such scans\)'
    for names, begin, remedy in ((), 'error: ', 'keep one of the two'), (('later',), 'warning: ', 'say so in results'):
        settings = replace(SETTINGS, target_split=(1.0, 0.0, 0.0), same_patients=names)
        (line,) = (line for line in _lines([*sets, later], settings) if 'same voxels' in line)
        assert re.match(begin + said, line) and line.endswith(remedy)


def test_one_scan_twice_in_one_role_is_odd(sets, tmp_path):
    folder = sets[1].folder
    shutil.copy(folder / 'imagesTr/c0_0000.nii.gz', folder / 'imagesTr/again_0000.nii.gz')
    lines = _lines(sets, replace(SETTINGS, target_split=(1.0, 0.0, 0.0)))
    assert len(lines) == 1 and lines[0].startswith('warning') and 'the same voxels as' in lines[0]


def test_digests():
    array = _scan(0)[0]
    same = [array, array.astype(np.float32), array.astype(np.float64) * 0.1 + 3, np.float32(1 / 3) * array]
    assert len({digest(one) for one in same}) == 1
    other = array.copy()
    other[3, 4, 2] += 300
    others = (array, other, array[::-1], array.T, array[:-1], array.reshape(20, 16, 5))
    assert len({digest(one) for one in others}) == len(others)


# --- sides ---


def _flip(folder, axis, cases=range(4)):
    """Mirrors voxels and leaves the affine."""
    for path in sorted(folder.rglob('*.nii.gz')):
        if any(path.name[1] == str(i) for i in cases):
            image = nib.load(path)
            _save(path, np.flip(np.asarray(image.dataobj), axis), image.affine)


@pytest.mark.parametrize(
    ('axis', 'name', 'words'),
    [
        (0, 'source', 'has liver 12 mm left of spleen: it is stored mirrored left-right'),
        (0, 'target', 'has liver 12 mm left of spleen: it is stored mirrored left-right'),
        (1, 'target', 'has liver 5 mm behind spleen: it is stored mirrored front-back'),
    ],
)
def test_a_mirrored_set_is_known_by_its_organs(sets, axis, name, words):
    folder = {scans.name: scans.folder for scans in sets}[name]
    _flip(folder, axis)
    lines = _lines(sets)
    assert len(lines) == 1 and lines[0].startswith(f'error: {folder}: {words}')


def _rename(sets, *names):
    for scans in sets:
        path = scans.folder / 'dataset.json'
        content = json.loads(path.read_text())
        content['labels'] = dict(zip(('background', *names), (0, 3, 7), strict=True))
        path.write_text(json.dumps(content))


def test_organs_without_a_known_side_are_held_against_the_other_set(sets):
    _rename(sets, 'one', 'two')
    assert _lines(sets) == []
    _flip(sets[1].folder, 0)
    lines = _lines(sets)
    assert len(lines) == 1 and lines[0].startswith(f'error: {sets[0].folder}: has one 12 mm right of two, but ')
    assert f'{sets[1].folder} one 12 mm left of two: one of them is stored mirrored left-right' in lines[0]


def test_one_organ_is_held_against_the_middle_of_the_body(sets):
    settings = replace(SETTINGS, classes=('background', 'spleen'))
    assert not [line for line in _lines(sets, settings) if 'mirrored' in line]
    _flip(sets[0].folder, 0)
    lines = [line for line in _lines(sets, settings) if 'mirrored' in line]
    assert len(lines) == 1 and 'has spleen' in lines[0] and 'right of the middle of the body' in lines[0]


def test_one_mirrored_scan_of_a_set(sets):
    _flip(sets[0].folder, 0, [2])
    lines = _lines(sets)
    assert len(lines) == 1
    assert lines[0].startswith(f'warning: {sets[0].folder}/labelsTr/m2.nii.gz: its organs lie mirrored left-right')


def test_few_labels_are_a_suspicion_alone(sets):
    for i in (0, 1):
        for path in (f'imagesTr/m{i}_0000.nii.gz', f'labelsTr/m{i}.nii.gz'):
            (sets[0].folder / path).unlink()
    _flip(sets[0].folder, 0)
    lines = _lines(sets, replace(SETTINGS, source_split=(1.0, 0.0, 0.0)))
    assert len(lines) == 1 and lines[0].startswith('warning: ') and 'stored mirrored left-right' in lines[0]


def test_organs_in_the_middle_say_nothing():
    rng = np.random.default_rng(0)
    scans = [{name: rng.normal(0, 2, 3) for name in ('peripheral zone', 'central gland')} for _ in range(6)]
    other = [{name: rng.normal(0, 2, 3) for name in ('peripheral zone', 'central gland')} for _ in range(6)]
    for axis in range(3):
        assert laterality.misplaced(scans, axis) is None and not laterality.strays(scans, axis)
        assert laterality.opposed(scans, other, axis) is None


@pytest.mark.parametrize(
    ('first', 'second', 'known'),
    [
        ('liver', 'spleen', (1, 1, 0)),
        ('spleen', 'liver', (-1, -1, 0)),
        ('Left Kidney', 'kidney_right', (-1, 0, 0)),
        ('liver', 'kidneys', (0, 1, 1)),
        ('left kidney', 'liver', (-1, -1, -1)),
        ('left ventricle', 'right ventricle', (-1, 0, 0)),
        ('left atrium', 'right ventricle', (0, 0, 0)),  # which lie one behind the other
        ('left ventricle', laterality.BODY, (0, 0, 0)),
        ('spleen', laterality.BODY, (-1, 0, 0)),
        ('deliverer', 'spleen', (0, 0, 0)),
    ],
)
def test_known_sides(first, second, known):
    assert known == (*(laterality.expected(first, second, axis) for axis in range(3)),)
    assert known == (*(-laterality.expected(second, first, axis) for axis in range(3)),)


def _kidneys(exchanged, count=4):
    rng = np.random.default_rng(int(exchanged))
    usual = {
        'liver': (60, 30, 50),
        'spleen': (-80, -20, 60),
        'right kidney': (50, -30, 0),
        'left kidney': (-55, -30, 10),
    }
    if exchanged:
        usual['right kidney'], usual['left kidney'] = usual['left kidney'], usual['right kidney']
    return [{name: np.array(place) + rng.normal(0, 8, 3) for name, place in usual.items()} for _ in range(count)]


def test_exchanged_kidneys_are_no_mirror_image():
    for axis in range(3):
        assert laterality.misplaced(_kidneys(False), axis) is None
        assert laterality.opposed(_kidneys(False), _kidneys(False, 6), axis) is None
    words, every = laterality.misplaced(_kidneys(True), 0)
    assert 'left kidney 1' in words and 'mm right of right kidney' in words and not every
    told = laterality.opposed(_kidneys(False), _kidneys(True), 0)
    assert 'mm left of right kidney' in told[0] and 'mm right of right kidney' in told[1] and not told[2]
    assert laterality.misplaced(_kidneys(True), 1) is None


def test_exchanged_values_are_a_question(sets):
    """A set of one pair of organs looks the same mirrored, so a third is needed."""
    for scans in sets:
        for path in sorted(scans.folder.glob('labelsTr/*')):
            image = nib.load(path)
            label = np.array(image.dataobj)
            label[6:9, 8:12, 1:4] = 9
            if scans.name == 'target':
                label = np.array([0, 0, 0, 9, 0, 0, 0, 7, 0, 3], np.uint8)[label]
            _save(path, label)
        path = scans.folder / 'dataset.json'
        content = json.loads(path.read_text())
        content['labels'] = {'background': 0, 'one': 3, 'two': 7, 'three': 9}
        path.write_text(json.dumps(content))
    lines = [line for line in _lines(sets) if line.startswith('error')]
    assert len(lines) == 1 and 'are values exchanged in one of them? Look at a label' in lines[0]


def test_real_scans(shared, tmp_path):
    """CHAOS MR and BTCV CT lie alike; with the affine of the CT mirrored they do not."""
    for name, folder in (('mr', 'Dataset101_AbdomenMR'), ('ct', 'Dataset102_AbdomenCT')):
        for part in ('imagesTr', 'labelsTr'):
            (tmp_path / name / part).mkdir(parents=True)
            for path in sorted((shared / 'data' / folder / part).iterdir())[:3]:
                shutil.copy(path, tmp_path / name / part)
        shutil.copy(shared / 'data' / folder / 'dataset.json', tmp_path / name)
    sets = [Scans('source', tmp_path / 'mr', 'a', 'train'), Scans('target', tmp_path / 'ct', 'b', 'train')]
    settings = replace(SETTINGS, window_hu=(-125.0, 275.0))
    assert _lines(sets, settings) == []
    for path in sorted((tmp_path / 'ct').rglob('*.nii.gz')):
        image = nib.load(path)
        _save(path, np.asarray(image.dataobj, np.int16), image.affine @ np.diag([1, -1, 1, 1]))
    lines = _lines(sets, settings)
    assert len(lines) == 1 and 'stored mirrored front-back' in lines[0] and str(tmp_path / 'ct') in lines[0]


def test_a_download_that_is_mirrored(shared):
    """BTCV as it was rebuilt from slices, rows against its affine, and CHAOS as it was downloaded."""
    folder = shared / 'data/formats/raw_labels'
    btcv = {'spleen': 1, 'right kidney': 2, 'left kidney': 3, 'liver': 6, 'stomach': 7}
    chaos = {'liver': 1, 'right kidney': 2, 'left kidney': 3, 'spleen': 4}
    found = []
    for name, values in (('btcv_label_3', btcv), ('chaos_label_2', chaos)):
        label = scan_file.read_labels(folder / f'{name}.nii.gz')
        index = {organ: np.argwhere(label.array == value).mean(0) for organ, value in values.items()}
        places = {organ: label.affine[:3, :3] @ mean + label.affine[:3, 3] for organ, mean in index.items()}
        found.append([laterality.misplaced([places], axis) for axis in range(3)])
    assert found == [[None, ('left kidney 40 mm in front of stomach', True), None], [None] * 3]


# --- prepare ---


def test_prepare_tells_all_that_headers_say(sets, tmp_path):
    mr, ct = (scans.folder for scans in sets)
    _moved(origin=(0, 0, 8))(mr, ct)
    _garbage(mr, ct)
    (mr / 'imagesTr/m0_0000.nii.gz').write_bytes(b'')
    (ct / 'imagesTr/c0_0000.nii.gz').write_bytes(b'no scan')
    with pytest.raises(InputError, match='^3 problems') as error:
        prepare(sets, tmp_path / 'out', SETTINGS)
    lines = str(error.value).splitlines()[1:]
    for part in ('m0_0000.nii.gz: the file is empty', 'm2.nii.gz: voxels lie up to 8 mm', 'c0_0000.nii.gz: not gzip'):
        assert sum(part in line for line in lines) == 1  # and the target's label is not opened
    with pytest.raises(InputError, match='^4 problems'):
        prepare(sets, tmp_path / 'out', replace(SETTINGS, target_labels=True))
    assert not (tmp_path / 'out').exists()


# --- repair ---


def _turned(shape):
    """The affine of an oblique grid about the middle of a scan."""
    c, s = np.cos(0.35), np.sin(0.35)
    turned = np.diag([-2.0, 2.0, 3.0, 1.0])
    turned[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ turned[:3, :3]
    turned[:3, 3] = (AFFINE @ [*(np.array(SHAPE) - 1) / 2, 1])[:3] - turned[:3, :3] @ ((np.array(shape) - 1) / 2)
    return turned


def _itk(array, affine):
    image = sitk.GetImageFromArray(array.T)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def test_resampling_against_simpleitk():
    values = np.zeros((20, 22, 9), np.uint8)
    values[5:15, 5:17, 1:8] = np.random.default_rng(0).integers(0, 4, (10, 12, 7))
    label, image = Volume(values, _turned(values.shape)), Volume(np.zeros(SHAPE, np.int16), AFFINE)
    images = (_itk(each.array, each.affine) for each in (label, image))
    expected = sitk.Resample(*images, sitk.Transform(), sitk.sitkNearestNeighbor)
    found = on_grid(label, image)
    np.testing.assert_array_equal(found, sitk.GetArrayFromImage(expected).T)
    assert found.any() and found.dtype == np.uint8
    double = AFFINE @ np.diag([2, 2, 1, 1])
    double[:3, 3] = (AFFINE @ [0.5, 0.5, 0, 1])[:3]
    coarse = np.random.default_rng(1).integers(1, 9, (8, 10, 5)).astype(np.uint8)  # up to the border of the scan
    np.testing.assert_array_equal(on_grid(Volume(coarse, double), image), np.kron(coarse, np.ones((2, 2, 1))))
    far = label.affine.copy()
    far[0, 3] += 500
    with pytest.raises(InputError, match='100% of it lies beside its scan, so its affine is wrong'):
        on_grid(Volume(values, far), image)


def test_repaired_sets_are_sound(sets, tmp_path):
    mr, ct = (scans.folder for scans in sets)
    image, label = _scan(2 + 10 * ord('m'))
    fine = np.kron(label, np.ones((2, 1, 1), np.uint8))  # every voxel in two
    half = AFFINE @ np.diag([0.5, 1, 1, 1])
    half[:3, 3] = (AFFINE @ [-0.25, 0, 0, 1])[:3]
    _save(mr / 'labelsTr/m2.nii.gz', fine, half)
    far = AFFINE.copy()
    far[2, 3] = 900
    _save(ct / 'labelsTr/c0.nii.gz', _scan(0)[1], far)
    before = _state(tmp_path)
    checked, problems = survey(sets, SETTINGS)
    assert sorted(p.text.split(': ')[0].rpartition('/')[2] for p in problems) == ['c0.nii.gz', 'm2.nii.gz']
    said = repair(checked, tmp_path / 'out')
    assert {p: s for p, s in _state(tmp_path).items() if tmp_path / 'out' not in p.parents} == before
    assert len(said) == 4
    assert (
        'm2.nii.gz: brought onto the grid of its scan by nearest neighbour, 1.404 ml of organs became 1.404' in said[0]
    )
    assert 'not repaired: ' in said[1] and 'c0.nii.gz: 100% of it lies beside its scan' in said[1]
    new = scan_file.read_labels(tmp_path / 'out/source/labelsTr/m2.nii.gz')
    np.testing.assert_array_equal(new.array, label)
    np.testing.assert_allclose(new.affine, AFFINE)
    assert (tmp_path / 'out/source/imagesTr/m2_0000.nii.gz').resolve() == mr / 'imagesTr/m2_0000.nii.gz'
    again = [replace(scans, folder=tmp_path / 'out' / scans.name) for scans in sets]
    lines = _lines(again)
    assert len(lines) == 1 and 'c0.nii.gz' in lines[0]
    assert read_dataset(tmp_path / 'out/source').labels == LABELS
    with pytest.raises(InputError, match='out: exists; choose another --output'):
        repair(checked, tmp_path / 'out')


def test_series_contours_and_detached_headers_are_written_too(tmp_path):
    """What is in several files becomes a folder or a copy that can be read again, and contours a label map."""
    (array, label), one, two = _scan(1, True), tmp_path / 'one', tmp_path / 'two'
    for folder in (one, two):
        for part in ('images', 'labels'):
            (folder / part).mkdir(parents=True)
    files = write_series(one / 'images/p1', array, AFFINE)
    squares = [
        np.array([[a - 0.4, b - 0.4], [a + 3.4, b - 0.4], [a + 3.4, b + 3.4], [a - 0.4, b + 3.4]])
        for a, b in ((2, 9), (10, 5))
    ]
    contours = {name: [(k, square) for k in (1, 2)] for name, square in zip(('Liver', 'Spleen'), squares, strict=True)}
    write_rtstruct(one / 'labels/p1.dcm', files, contours)
    sitk.WriteImage(_itk(array[::-1, ::-1], AFFINE), str(two / 'images/p2.mhd'))
    sitk.WriteImage(_itk(label[::-1, ::-1], AFFINE), str(two / 'labels/p2.mhd'))
    values = {'background': 0, 'liver': 'liver', 'spleen': 'spleen'}
    sets = [Scans('one', one, 'a', 'test', 'CT', values), Scans('two', two, 'a', 'test', 'CT', LABELS)]
    checked, problems = survey(sets, SETTINGS)
    assert not [problem.text for problem in problems if problem.error]
    said = repair(checked, tmp_path / 'out')
    assert said[0].endswith('one/labels/p1.dcm: written as a label map') and len(said) == 3
    for before, dataset in zip(checked, map(read_dataset, (tmp_path / 'out/one', tmp_path / 'out/two')), strict=True):
        (case,) = dataset.cases
        assert case.id == before.case.id and dataset.channel == 'CT'
        scan, old = scan_file.read(case.image), scan_file.read(before.case.image)
        np.testing.assert_array_equal(scan.array, old.array)
        np.testing.assert_allclose(scan.affine, old.affine, atol=1e-5)
        after = label_maps.read(case.label, case.image, dataset.labels, ('background', 'liver', 'spleen'))
        original = before.split.dataset.labels
        expected = label_maps.read(before.case.label, before.case.image, original, ('background', 'liver', 'spleen'))
        np.testing.assert_array_equal(after.array, expected.array)
        assert set(np.unique(after.array)) == {0, 1, 2}


# --- the command ---


def _config(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        'from ml_collections import ConfigDict\n'
        f'def get_config(data=None):\n    return ConfigDict({{"data": {vars(SETTINGS)!r}}})\n'
    )
    return path


def test_command(sets, tmp_path):
    flags = [f'--config={_config(tmp_path)}', f'--source={sets[0].folder}', f'--target={sets[1].folder}']
    good = tiny.command('verify', *flags)
    assert good.returncode == 0, good.stderr
    assert 'snapped' in good.stdout and 'error:' not in good.stdout
    _moved(origin=(0, 0, 8))(sets[0].folder, None)
    told = tiny.command('verify', *flags)
    assert told.returncode == 1 and told.stdout.endswith(': --repair --output=FOLDER writes resampled copies\n')
    bad = tiny.command('verify', *flags, '--repair', f'--output={tmp_path / "out"}')
    assert bad.returncode == 1 and f'error: {sets[0].folder}/labelsTr/m2.nii.gz: voxels lie up to 8 mm' in bad.stdout
    assert 'FOLDER' not in bad.stdout
    assert 'repair: ' in bad.stdout and 'Traceback' not in bad.stderr + bad.stdout
    assert not bad.stderr  # warnings were given before
    for wrong, message in (
        ([flags[0], '--source=/nowhere'], '/nowhere: no such folder'),
        ([*flags, '--repair'], '--repair and --output=FOLDER belong together'),
    ):
        refused = tiny.command('verify', *wrong)
        assert refused.returncode == 2 and message in refused.stderr and 'Traceback' not in refused.stderr
