"""Folders become records: the same bytes every time, blind to target labels, whole or not at all."""

import hashlib
import json
import os
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import ml_collections
import nibabel as nib
import numpy as np
import pytest
import tiny

import synseg_jax
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.imaging import intensity, slices, volume
from synseg_jax.inference.model_folder import Run
from synseg_jax.preparation import write_records
from synseg_jax.preparation.checks.survey import survey
from synseg_jax.preparation.records import FORMAT, Manifest
from synseg_jax.preparation.sets import exchanged, parse_set
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare, prepare_again
from synseg_jax.prepare import main as prepare_command
from synseg_jax.specification.data import Data
from synseg_jax.specification.parse import parse_data

SETTINGS = Data(size=(8, 10), source_split=(0.5, 0.25, 0.25), target_split=(0.75, 0.0, 0.25))
AFFINE = np.diag([-1.5, 1.5, 4.0, 1.0])  # stored left, anterior, superior
LABELS = {'background': 0, 'liver': 3, 'spleen': 7}


def _scan(seed, ct):
    """An image whose voxels of label 3 and 7 stand out, on a black border."""
    rng = np.random.default_rng(seed)
    label = np.zeros((16, 20, 5), np.uint8)
    label[2:6, 5:15, 1:4] = 3
    label[10:14, 5:12, 1:4] = 7
    image = rng.normal(300, 20, label.shape) + 40 * label
    image[:, :, 0] = 0  # an empty slice
    return (image - 200 if ct else image).astype(np.int16), label


def _dataset(folder, channel, labels=True, cases=4, prefix='p'):
    (folder / 'imagesTr').mkdir(parents=True)
    (folder / 'labelsTr').mkdir()
    for i in range(cases):
        image, label = _scan(zlib.crc32(f'{folder.name}{i}'.encode()), channel == 'CT')
        nib.save(nib.Nifti1Image(image, AFFINE), folder / f'imagesTr/{prefix}{i}_0000.nii.gz')
        if labels:
            nib.save(nib.Nifti1Image(label, AFFINE), folder / f'labelsTr/{prefix}{i}.nii.gz')
    description = {'channel_names': {'0': channel}, 'labels': LABELS, 'file_ending': '.nii.gz'}
    (folder / 'dataset.json').write_text(json.dumps(description))
    return folder


@pytest.fixture
def sets(tmp_path):
    mr, ct = _dataset(tmp_path / 'mr', 'MRI', prefix='m'), _dataset(tmp_path / 'ct', 'CT', prefix='c')
    return [Scans('source', mr, 'a'), Scans('target', ct, 'b')]


def _bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix == '.array_record'}


def _roles(manifest, name):
    return {role: [c['subject'] for c in content['cases']] for role, content in manifest.sets[name]['roles'].items()}


def test_records_are_the_scans(sets, tmp_path):
    manifest = prepare(sets, tmp_path / 'out', SETTINGS)
    assert manifest.classes == ('background', 'liver', 'spleen') and manifest.sets['target']['channel'] == 'CT'
    case = manifest.role('source', 'train')['cases'][0]
    upright = volume.canonical(scan_file.read(case['image'])).array
    label = volume.canonical(scan_file.read_labels(case['label'])).array
    low, high = np.percentile(upright, [2.5, 97.5])
    assert (case['low'], case['high']) == (pytest.approx(low), pytest.approx(high))
    assert (case['slices'], case['records'], case['dropped'], case['scan_size']) == (5, 4, 1, [20, 16])
    stack = slices.resize_linear(slices.to_stack(intensity.Normalisation(low, high).apply(upright), 'axial'), (8, 10))
    record = manifest.records('source', 'train')[1]
    assert (record['case'], record['slice'], record['image'].shape) == (0, 2, (8, 10, 1))
    np.testing.assert_allclose(record['image'][..., 0], stack[2], atol=1e-4)
    classes = np.array([0, 0, 0, 1, 0, 0, 0, 2])[label]
    np.testing.assert_array_equal(record['label'], slices.resize_nearest(slices.to_stack(classes, 'axial'), (8, 10))[2])
    # the stored axes run to the left, so label 3 at low x lies on the patient's right: the picture's left
    assert np.argwhere(record['label'] == 1)[:, 1].mean() < np.argwhere(record['label'] == 2)[:, 1].mean()


def test_split_by_subject_and_place_of_the_test_part(sets, tmp_path):
    folder = sets[0].folder
    for week in (1, 2):
        image, label = _scan(week, False)
        nib.save(nib.Nifti1Image(image, AFFINE), folder / f'imagesTr/m0_w{week}_0000.nii.gz')
        nib.save(nib.Nifti1Image(label, AFFINE), folder / f'labelsTr/m0_w{week}.nii.gz')
    (folder / 'imagesTs').mkdir()
    nib.save(nib.Nifti1Image(_scan(9, False)[0], AFFINE), folder / 'imagesTs/z1_0000.nii.gz')
    manifest = prepare(sets, tmp_path / 'out', replace(SETTINGS, subject=r'^(\w\d)', source_split=(0.5, 0.5, 0.0)))
    roles = _roles(manifest, 'source')
    assert list(roles) == ['train', 'val', 'test'] and roles['test'] == ['z1']
    assert not set(roles['train']) & set(roles['val']) and len(roles['train'] + roles['val']) == 6
    assert max(roles['train'].count('m0'), roles['val'].count('m0')) == 3
    assert not manifest.role('source', 'test')['labelled'] and manifest.role('source', 'train')['labelled']


def test_a_subject_in_two_roles(sets, tmp_path):
    """Refused, unless the set is said to show the same patients at another time."""
    again = [*sets, Scans('later', sets[1].folder, 'b', 'test')]
    with pytest.raises(
        InputError, match=r'subject c\d is in (train|test) of target, test of later; put it in one role'
    ):
        prepare(again, tmp_path / 'out', SETTINGS)
    manifest = prepare(again, tmp_path / 'out', replace(SETTINGS, same_patients=('later',)))
    assert set(_roles(manifest, 'later')['test']) >= set(_roles(manifest, 'target')['train'])


def test_deterministic(sets, tmp_path, monkeypatch):
    """Twice the same, however many scans are read at the same time."""
    for name, workers in (('a', 1), ('b', 5)):
        monkeypatch.setattr(write_records, 'WORKERS', workers)
        prepare(sets, tmp_path / name, SETTINGS)
    assert _bytes(tmp_path / 'a') == _bytes(tmp_path / 'b') and len(_bytes(tmp_path / 'a')) == 5
    assert (tmp_path / 'a/manifest.json').read_bytes() == (tmp_path / 'b/manifest.json').read_bytes()


def test_target_labels_are_not_opened(sets, tmp_path):
    prepare(sets, tmp_path / 'a', SETTINGS)
    for path in (sets[1].folder / 'labelsTr').iterdir():
        path.write_bytes(b'garbage')
    manifest = prepare(sets, tmp_path / 'b', SETTINGS)
    assert _bytes(tmp_path / 'a') == _bytes(tmp_path / 'b')
    assert (tmp_path / 'a/manifest.json').read_bytes() == (tmp_path / 'b/manifest.json').read_bytes()
    assert manifest.role('target', 'test')['cases'][0]['label'].endswith('.nii.gz')
    assert 'label' not in manifest.records('target', 'train')[0]
    with pytest.raises(InputError, match='labelsTr'):
        prepare(sets, tmp_path / 'c', replace(SETTINGS, target_labels=True))


def test_target_labels_on_request(sets, tmp_path):
    manifest = prepare(sets, tmp_path / 'out', replace(SETTINGS, target_labels=True))
    assert manifest.role('target', 'train')['labelled']
    assert set(np.unique(manifest.records('target', 'train')[1]['label'])) == {0, 1, 2}


def test_up_to_date_or_refused(sets, tmp_path, capsys):
    out = tmp_path / 'out'
    prepare(sets, out, SETTINGS)
    time = (out / 'manifest.json').stat().st_mtime_ns
    prepare(sets, out, SETTINGS)
    assert 'up to date' in capsys.readouterr().out and (out / 'manifest.json').stat().st_mtime_ns == time
    other = replace(SETTINGS, size=(6, 6))
    with pytest.raises(InputError, match='pass --overwrite'):
        prepare(sets, out, other)
    assert Manifest.load(out).size == (8, 10)
    assert prepare(sets, out, other, overwrite=True).size == (6, 6)
    # a touched input or a shortened record file is noticed
    os.utime(sets[0].folder / 'imagesTr/m0_0000.nii.gz', ns=(1, 1))
    with pytest.raises(InputError, match='pass --overwrite'):
        prepare(sets, out, other)
    prepare(sets, out, other, overwrite=True)
    (out / 'source.val.array_record').write_bytes(b'')
    with pytest.raises(InputError, match='pass --overwrite'):
        prepare(sets, out, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['ct', 'mr', 'out']


def test_records_of_earlier_versions_are_up_to_date():
    """A field added since enters the digest only where it changes the records."""
    since = ('antialias', 'bias_correction', 'channels', 'reverse')
    earlier = {name: value for name, value in asdict(SETTINGS).items() if name not in since}
    content = json.dumps([FORMAT, synseg_jax.__version__, earlier, []], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    assert write_records._request([], SETTINGS) == digest
    assert write_records._request([], replace(SETTINGS, antialias=True)) != digest


def test_foreign_folders_are_never_replaced(sets, tmp_path):
    with pytest.raises(InputError, match='contains the input'):
        prepare(sets, sets[0].folder, SETTINGS, overwrite=True)
    assert (sets[0].folder / 'dataset.json').exists()
    (tmp_path / 'theirs').mkdir()
    (tmp_path / 'theirs' / 'notes.txt').touch()
    with pytest.raises(InputError, match='holds no records'):
        prepare(sets, tmp_path / 'theirs', SETTINGS, overwrite=True)
    assert (tmp_path / 'theirs' / 'notes.txt').exists()


def test_leftovers_of_a_killed_run_go_and_folders_of_the_user_stay(sets, tmp_path):
    left, theirs = tmp_path / '.synseg-01234567-out', tmp_path / 'out.partial'
    for folder in (left, theirs):
        folder.mkdir()
        (folder / 'source.train.array_record').write_bytes(b'half')
    os.utime(left, (0, 0))
    prepare(sets, tmp_path / 'out', SETTINGS)
    assert not left.exists()
    assert (theirs / 'source.train.array_record').read_bytes() == b'half'


def _rewrite(path, array, affine=AFFINE):
    nib.save(nib.Nifti1Image(array, affine), path)


def _no_label(mr, ct):
    (mr / 'labelsTr/m1.nii.gz').unlink()


def _truncated(mr, ct):
    path = ct / 'imagesTr/c2_0000.nii.gz'
    path.write_bytes(path.read_bytes()[:600])


def _shifted(mr, ct):
    moved = AFFINE.copy()
    moved[2, 3] = 8
    _rewrite(mr / 'labelsTr/m2.nii.gz', _scan(2, False)[1], moved)


def _odd_value(mr, ct):
    _rewrite(mr / 'labelsTr/m3.nii.gz', np.full((16, 20, 5), 200, np.uint8))


def _constant(mr, ct):
    _rewrite(mr / 'imagesTr/m0_0000.nii.gz', np.full((16, 20, 5), 9, np.int16))


def _vanished(mr, ct):
    (ct / 'dataset.json').unlink()


BAD = {
    'no label': (_no_label, r'no labels for the source scan .*m1_0000.nii.gz .*expected .*labelsTr/m1.nii.gz'),
    'truncated': (_truncated, 'c2_0000.nii.gz: (truncated|damaged)'),
    'shifted': (_shifted, 'm2.nii.gz: voxels lie up to 8 mm'),
    'odd value': (_odd_value, 'm3.nii.gz: label values 200'),
    'constant': (_constant, 'm0_0000.nii.gz: percentiles 2.5 and 97.5 are both 9'),
    'vanished': (_vanished, 'dataset.json: no such file'),
}


@pytest.mark.parametrize('kind', BAD)
def test_bad_input_gives_one_line_and_leaves_nothing(sets, tmp_path, kind):
    make, message = BAD[kind]
    make(sets[0].folder, sets[1].folder)
    with pytest.raises(InputError, match=message) as error:
        prepare(sets, tmp_path / 'out', replace(SETTINGS, source_split=(0.75, 0.25, 0.0)))
    assert '\n' not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['ct', 'mr']


@pytest.mark.parametrize(
    'change, message',
    [
        ({'slice_axis': 'x'}, 'unknown slice_axis'),
        ({'size': (0, 5)}, 'data.size'),
        ({'window_hu': (5.0, -5.0)}, 'window_hu'),
        ({'percentiles': (99.0, 1.0)}, 'percentiles'),
        ({'classes': ('background', 'heart')}, 'no label heart; it has background, liver, spleen'),
        ({'classes': ('liver', 'background')}, 'has value 3'),
        ({'source_split': (0.5, 0.5, 0.5)}, 'sum to 1'),
        ({'foreground_share': 2.0}, 'lower data.foreground_share'),
    ],
)
def test_bad_settings(sets, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        prepare(sets, tmp_path / 'out', replace(SETTINGS, **change))
    assert not (tmp_path / 'out').exists() and not list(tmp_path.glob('.*'))


def test_chosen_classes_drop_the_others(sets, tmp_path, caplog):
    with caplog.at_level('WARNING', logger='absl'):
        manifest = prepare(sets, tmp_path / 'out', replace(SETTINGS, classes=('background', 'spleen')))
    assert 'labels liver become background' in caplog.text
    assert set(np.unique(manifest.records('source', 'train')[1]['label'])) == {0, 1}


def _long_scans(folder):
    """Replaces every scan by one of 9 slices, all bright, with organs in slices 3 and 4 only."""
    for path in sorted((folder / 'imagesTr').iterdir()):
        label = np.zeros((16, 20, 9), np.uint8)
        label[4:9, 4:9, 3], label[4:9, 4:9, 4] = 3, 7
        image = np.random.default_rng(zlib.crc32(path.name.encode())).normal(300, 20, label.shape).astype(np.int16)
        _rewrite(path, image)
        _rewrite(folder / 'labelsTr' / path.name.replace('_0000', ''), label)


def _slices(manifest, name, role):
    return [record['slice'] for record in manifest.records(name, role) if record['case'] == 0]


@pytest.mark.parametrize('margin, kept', [(-1, range(9)), (0, [3, 4]), (2, range(1, 7)), (50, range(9))])
def test_source_margin_keeps_slices_near_organs(sets, tmp_path, margin, kept):
    for scans in sets:
        _long_scans(scans.folder)
    settings = replace(SETTINGS, source_margin=margin, target_labels=True)
    manifest = prepare(sets, tmp_path / 'out', settings)
    for role in ('train', 'val', 'test'):
        assert _slices(manifest, 'source', role) == list(kept)
    case = manifest.role('source', 'train')['cases'][0]
    assert (case['slices'], case['records'], case['dropped']) == (9, len(kept), 9 - len(kept))
    # the target keeps all, whether or not its labels are opened
    assert _slices(manifest, 'target', 'train') == list(range(9))


def test_source_margin_keeps_unlabelled_scans_whole_and_names_those_without_organs(sets, tmp_path, caplog):
    extra = _dataset(tmp_path / 'extra', 'MRI', labels=False, prefix='x')
    empty = sets[0].folder / 'labelsTr/m0.nii.gz'
    _rewrite(empty, np.zeros((16, 20, 5), np.uint8))
    with caplog.at_level('WARNING', logger='absl'):
        manifest = prepare(
            [*sets, Scans('more', extra, 'a', 'train')], tmp_path / 'out', replace(SETTINGS, source_margin=0)
        )
    assert _slices(manifest, 'more', 'train') == [1, 2, 3, 4]  # slice 0 is black
    assert 'm0_0000.nii.gz: no slice has a labelled organ' in caplog.text


def test_further_sets(sets, tmp_path, caplog):
    extra = _dataset(tmp_path / 'extra', 'MRI', labels=False, prefix='x')
    more = [*sets, Scans('source_unlabelled', extra, 'a', 'train')]
    manifest = prepare(more, tmp_path / 'out', SETTINGS)
    assert list(manifest.sets['source_unlabelled']['roles']) == ['train']
    assert not manifest.role('source_unlabelled', 'train')['labelled']
    twice = _dataset(tmp_path / 'twice', 'MRI', prefix='m')
    with pytest.raises(InputError, match=r'subject m\d is in .* of source, .* of twice'):
        prepare([*sets, Scans('twice', twice, 'a', 'val')], tmp_path / 'out2', SETTINGS)
    # between modalities the same file names are common, so they are only said
    same = _dataset(tmp_path / 'same', 'CT', prefix='m')
    with caplog.at_level('WARNING', logger='absl'):
        prepare([sets[0], Scans('target', same, 'b', 'test')], tmp_path / 'out3', SETTINGS)
    assert 'occur in different roles of source and target' in caplog.text
    assert 'of the window -1000 to 1000' in caplog.text and 'and 3 more scans' in caplog.text


def test_the_other_direction_is_a_field(sets, tmp_path):
    further = Scans('more', tmp_path, 'b', 'test')
    target, source, kept = exchanged([*sets, further])
    assert source == replace(sets[1], name='source', domain='a')
    assert target == replace(sets[0], name='target', domain='b')
    assert kept == further
    folders = [f'--source={sets[0].folder}', f'--target={sets[1].folder}', f'--output={tmp_path / "out"}']
    fields = ['--config=configs/base.py', '--config.data.size=(8, 10)', '--config.data.reverse=True']
    assert prepare_command([*folders, *fields]) == 0
    manifest = Manifest.load(tmp_path / 'out')
    assert {name: manifest.sets[name]['channel'] for name in manifest.sets} == {'source': 'CT', 'target': 'MRI'}


def test_set_flag():
    assert parse_set('more=/a:b/c:b:test') == Scans('more', Path('/a:b/c'), 'b', 'test')
    for wrong in ('more=/a', 'source=/a:a:train', '/a:a:train', 'more=/a:c:train', '../x=/a:a:train'):
        with pytest.raises(InputError, match='give name=FOLDER:domain:role'):
            parse_set(wrong)
    with pytest.raises(InputError, match="unknown role 'exam'"):
        parse_set('more=/a:a:exam')


def test_settings_of_a_configuration():
    config = ml_collections.ConfigDict({'seed': 5, 'data': vars(Data(seed=3))})
    assert parse_data(config) == Data(seed=3)
    del config.data['size']
    with pytest.raises(InputError, match='the configuration has no data.size'):
        parse_data(config)


@pytest.mark.parametrize(
    'field, value, remedy',
    [
        ('size', (6.5, 6), '2 or 3 whole numbers'),
        ('size', 64, '2 or 3 whole numbers'),
        ('window_hu', (0.0, 'high'), 'two increasing numbers in HU'),
        ('classes', 'liver', "names, ('name', 'another')"),
        ('source_margin', 1.5, 'a number of slices, or -1 for all'),
        ('target_labels', 1, 'True or False'),
        ('foreground_share', True, 'a share between 0 and 1'),
        ('foreground_share', float('nan'), 'a share between 0 and 1'),
        ('spacing_mm', float('nan'), 'a number of mm from 0.01 to 1000, or 0'),
        ('window_hu', (100.0, -100.0), 'two increasing numbers in HU'),
        ('window_hu', (-100.0, float('inf')), 'two increasing numbers in HU'),
        ('percentiles', (2.5, 101.0), 'two increasing numbers between 0 and 100'),
        ('target_center', 0.0, 'a share from 0.001 to 1'),
        ('target_margin', -2, 'a number of slices, or -1 for all'),
        ('target_split', (1.0, 0.5, 0.0), 'shares of train, val and test that sum to 1'),
        ('seed', -1, 'a whole number from 0 to 4294967295'),
    ],
)
def test_a_field_of_another_type_is_one_line(field, value, remedy):
    data = {**vars(Data()), field: value}
    with pytest.raises(InputError) as error:
        parse_data(ml_collections.ConfigDict({'data': data}))
    assert str(error.value).startswith(f'config.data.{field}={value!r}: give {remedy}')
    assert '\n' not in str(error.value)


def test_whole_numbers_and_lists_do():
    data = {**vars(Data()), 'window_hu': [-125, 275], 'foreground_share': 0, 'classes': ['background', 'liver']}
    settings = parse_data(ml_collections.ConfigDict({'data': data}))
    assert settings.window_hu == (-125, 275) and settings.classes == ('background', 'liver')


def test_a_crash_names_the_scan(sets, tmp_path, monkeypatch):
    def crash(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(slices, 'to_stack', crash)
    with pytest.raises(ZeroDivisionError) as error:
        prepare(sets, tmp_path / 'out', SETTINGS)
    assert any('_0000.nii.gz' in note for note in error.value.__notes__)
    assert not list(tmp_path.glob('.*'))


def test_command(sets, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        'from ml_collections import ConfigDict\n'
        f'def get_config(data=None):\n    return ConfigDict({{"data": {vars(SETTINGS)!r}}})\n'
    )
    flags = [f'--config={config}', f'--source={sets[0].folder}', f'--target={sets[1].folder}']
    good = tiny.command('prepare', *flags, f'--output={tmp_path / "out"}')
    assert good.returncode == 0, good.stderr
    assert 'spleen' in good.stdout and Manifest.load(tmp_path / 'out')
    bad = tiny.command('prepare', *flags, f'--output={sets[0].folder}')
    assert bad.returncode == 2 and 'mr: is the input ' in bad.stderr and 'Traceback' not in bad.stderr


def test_again_is_the_same_scans_in_the_same_roles(sets, tmp_path):
    """As if prepared with these settings in the first place."""
    changed = replace(SETTINGS, window_hu=(0.0, 600.0), target_labels=True, size=(12, 8))
    manifest = prepare(sets, tmp_path / 'one', SETTINGS, progress=False)
    again = prepare_again(manifest, tmp_path / 'again', changed, progress=False)
    fresh = prepare(sets, tmp_path / 'fresh', changed, progress=False)
    assert _bytes(again.folder) == _bytes(fresh.folder) != _bytes(manifest.folder)
    assert again.sets == fresh.sets and (again.size, again.window_hu) == ((12, 8), (0.0, 600.0))
    assert [_roles(m, 'target') for m in (again, manifest)] == [_roles(fresh, 'target')] * 2
    assert prepare_again(again, tmp_path / 'back', SETTINGS, progress=False).sets == manifest.sets
    some = prepare_again(manifest, tmp_path / 'some', SETTINGS, ['target'], progress=False)
    assert some.sets.keys() == {'target'}


def test_again_without_the_labels_it_needs(sets, tmp_path):
    manifest = prepare(sets, tmp_path / 'one', SETTINGS, progress=False)
    case = manifest.sets['target']['roles']['train']['cases'][0]
    case['label'] = None
    with pytest.raises(InputError, match=f'no labels for the target scan .*{case["id"]}_0000.nii.gz .1 of 3 in train'):
        prepare_again(manifest, tmp_path / 'again', replace(SETTINGS, target_labels=True), progress=False)
    assert not (tmp_path / 'again').exists()


def test_only_the_targets_centre_is_kept(sets, tmp_path):
    settings = replace(SETTINGS, target_center=0.5, target_labels=True)
    whole = prepare(sets, tmp_path / 'whole', replace(settings, target_center=1.0), progress=False)
    half = prepare(sets, tmp_path / 'half', settings, progress=False)
    assert half.target_center == 0.5
    for role in ('train', 'val', 'test'):
        assert (half.path('source', role)).read_bytes() == whole.path('source', role).read_bytes()
    case = half.role('target', 'train')['cases'][0]
    upright = volume.canonical(scan_file.read(case['image']))
    pictures = slices.to_stack(upright.array, 'axial')[:, 5:15, 4:12]  # of 20 rows and 16 columns
    window = intensity.window(*SETTINGS.window_hu)
    expected = slices.resize_linear(window.apply(pictures), SETTINGS.size)
    record = half.records('target', 'train')[1]
    assert record['case'] == 0
    np.testing.assert_allclose(record['image'][..., 0], expected[record['slice']], atol=1e-4)
    label = slices.to_stack(volume.canonical(scan_file.read_labels(case['label'])).array, 'axial')[:, 5:15, 4:12]
    np.testing.assert_array_equal(record['label'] > 0, slices.resize_nearest(label, SETTINGS.size)[record['slice']] > 0)


def test_target_margin_needs_target_labels(sets, tmp_path):
    for scans in sets:
        _long_scans(scans.folder)
    for labels, kept in ((False, range(9)), (True, range(2, 6))):
        settings = replace(SETTINGS, target_labels=labels, target_margin=1)
        manifest = prepare(sets, tmp_path / str(labels), settings, progress=False)
        assert _slices(manifest, 'target', 'train') == list(kept)
        assert _slices(manifest, 'source', 'train') == list(range(9))


@pytest.mark.parametrize('labels', [False, True])
def test_volumes_of_labels_are_kept_for_the_report_of_predict(sets, tmp_path, labels):
    """Of whole scans, whatever the records show; those of the target only where its labels are read at all."""
    mr = sorted((sets[0].folder / 'labelsTr').iterdir())
    smaller = np.asarray(nib.load(mr[0]).dataobj).copy()
    smaller[4:6], smaller[smaller == 7] = 0, 0
    nib.save(nib.Nifti1Image(smaller, AFFINE), mr[0])
    manifest = prepare(sets, tmp_path / 'out', replace(SETTINGS, target_labels=labels, seed=1), progress=False)
    cases = {name: [case for of in entry['roles'].values() for case in of['cases']]
             for name, entry in manifest.sets.items()}  # fmt: skip
    voxel_ml = 1.5 * 1.5 * 4 / 1000
    found = {case['id']: case['volumes_ml'] for case in cases['source']}
    assert found['m1'] == {'liver': round(120 * voxel_ml, 3), 'spleen': round(84 * voxel_ml, 3)}
    assert found['m0'] == {'liver': round(60 * voxel_ml, 3), 'spleen': 0.0}
    roles = manifest.sets['target']['roles'].values()
    assert any(of['labelled'] for of in roles) == labels
    assert all(('volumes_ml' in case) == of['labelled'] for of in roles for case in of['cases'])
    (tmp_path / 'stage').mkdir()
    Run.of(tmp_path / 'stage', tiny.stage(), manifest.classes, [manifest]).save()
    seen = [found[case['id']] for role in ('train', 'val') for case in manifest.role('source', role)['cases']]
    ranges = Run.load(tmp_path / 'stage').volumes_ml
    livers = [one['liver'] for one in seen]
    assert ranges['liver'] == (min(livers), max(livers)) and ranges['spleen'] == (found['m1']['spleen'],) * 2
    assert Run.of(tmp_path, tiny.stage(), manifest.classes, [_without_volumes(manifest)]).volumes_ml == {}


def _without_volumes(manifest):
    """As an earlier version wrote it."""
    for entry in manifest.sets.values():
        for case in (case for of in entry['roles'].values() for case in of['cases']):
            case.pop('volumes_ml', None)
    return manifest


def _described(folder, **fields):
    """Changes fields of a folder's dataset.json."""
    path = folder / 'dataset.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_domain_holds_ct_or_other_channels(sets, tmp_path):
    """Of two names of CT it may hold both."""
    extra = _dataset(tmp_path / 'extra', 'CT', prefix='x')
    with pytest.raises(InputError, match='domain a: set source is MRI, set more is CT; .*correct --channel=more=') as e:
        prepare([*sets, Scans('more', extra, 'a', 'train')], tmp_path / 'out', SETTINGS)
    assert '\n' not in str(e.value) and not (tmp_path / 'out').exists()
    _described(extra, channel_names={'0': 'CTA'})
    manifest = prepare([*sets, Scans('more', extra, 'b', 'test')], tmp_path / 'out', SETTINGS)
    manifest.sets['more']['domain'] = 'a'  # as records of earlier versions may have it
    with pytest.raises(InputError, match='domain a: set source is MRI, set more is CTA'):
        Run.of(tmp_path, tiny.stage(), manifest.classes, [manifest])


def test_a_set_is_known_by_its_domain_not_its_name(sets, tmp_path):
    named = [Scans('ct', sets[1].folder, 'b'), Scans('mr', sets[0].folder, 'a')]
    _described(sets[1].folder, labels={'background': 0, 'spleen': 7, 'liver': 3, 'bone': 9})
    assert prepare(named, tmp_path / 'out', SETTINGS).classes == ('background', 'liver', 'spleen')
    for path in (sets[0].folder / 'labelsTr').iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r'no labels for the mr scan .* \(2 of 2 in train\); expected'):
        prepare(named, tmp_path / 'more', SETTINGS)


@pytest.mark.parametrize('role', ['train', 'test'])
def test_labels_that_know_a_part_of_the_classes(sets, tmp_path, caplog, role):
    """They are not trained on, where the rest would be learnt as background; in a test set they can stay."""
    _described(sets[1].folder, labels={'background': 0, 'liver': 3, 'other': 7})
    given = [sets[0], replace(sets[1], role=role)]
    settings = replace(SETTINGS, target_labels=True)
    if role == 'train':
        with pytest.raises(InputError, match='no label spleen; it has .*would be learnt as background'):
            prepare(given, tmp_path / 'out', settings)
        settings = replace(settings, classes=('background', 'liver'))
    manifest = prepare(given, tmp_path / 'out', settings)
    assert manifest.role('target', role)['labelled'] == (role == 'train')
    assert manifest.sets['target']['labels'] == {'background': 0, 'liver': 3, 'other': 7}
    assert ('no label spleen; its test records carry no labels' in caplog.text) == (role == 'test')


def _counted(monkeypatch, module, name) -> list:
    """The arguments that a function of a module is called with."""
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: (calls.append(a), function(*a, **k))[1])
    return calls


def test_every_file_is_read_once(sets, tmp_path, monkeypatch):
    scans, labels = (_counted(monkeypatch, scan_file, name) for name in ('read', 'read_labels'))
    prepare(sets, tmp_path / 'out', SETTINGS)
    assert (len(scans), len(labels)) == (8, 4)  # the target's labels are not opened


def test_errors_between_sets_that_headers_show_are_told_before_scans_are_read(sets, tmp_path, monkeypatch):
    _described(sets[1].folder, labels={'background': 0, 'kidney': 3})
    read = _counted(monkeypatch, scan_file, 'read')
    with pytest.raises(InputError, match='no organ in common: source .* has liver, spleen, target .* has kidney'):
        prepare(sets, tmp_path / 'out', SETTINGS)
    assert not read and not (tmp_path / 'out').exists()


def test_errors_that_voxels_show_are_told_at_once_and_leave_nothing(sets, tmp_path):
    """As `verify` tells them."""
    mr, ct = (scans.folder for scans in sets)
    for case in 'm1', 'm3':
        _rewrite(mr / f'labelsTr/{case}.nii.gz', np.full((16, 20, 5), 200, np.uint8))
    _rewrite(ct / 'imagesTr/c2_0000.nii.gz', scan_file.read(mr / 'imagesTr/m0_0000.nii.gz').array)
    with pytest.raises(InputError) as refused:
        prepare(sets, tmp_path / 'out', SETTINGS)
    first, *lines = str(refused.value).split('\n')
    assert first.startswith('3 problems;') and sorted(path.name for path in tmp_path.iterdir()) == ['ct', 'mr']
    assert all(any(part in line for line in lines) for part in ('m1.nii.gz: label', 'm3.nii.gz: label', 'same voxels'))
    assert {*lines} == {problem.text for problem in survey(sets, SETTINGS)[1] if problem.error}
