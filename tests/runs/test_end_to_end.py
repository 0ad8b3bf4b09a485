"""From nothing to a table: the phantom, two systems, results and pictures; and what the target's labels may do."""

import csv
import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
import tiny
from matplotlib.image import imread

from synseg_jax.errors import InputError
from synseg_jax.evaluation.metrics import MEASURES
from synseg_jax.phantom.abdomen import CLASSES
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.runs import train_stage, workdir_files, workdir_page
from synseg_jax.specification.parse import parse_data

STEPS = 6
NUMBERS = {'mean', 'median', 'std', 'n'}


def _config(data='', **changes):
    small = {
        'train__steps': STEPS,
        'train__decay_steps': 2,
        'train__save_every': 3,
        'data__target_split': (0.5, 0.0, 0.5),
    }
    c = tiny.config(data, **{**small, **changes})
    c.data.source_split = (0.5, 0.5, 0.0)
    c.systems.source_only = {'method': 'supervised'}
    return c


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """(workdir, results, what was said) of a bare run."""
    workdir = tmp_path_factory.mktemp('bare') / 'run'
    console = tiny.quiet()
    results = tiny.run(_config(), workdir, console)
    return workdir, results, console.file.getvalue()


def test_results(finished):
    workdir, results, said = finished
    assert json.loads((workdir / 'results.json').read_text()) == results
    assert results.keys() == {'systems', 'seconds', 'steps', 'peak_memory_gib', 'versions'}
    assert results['steps'] == 2 * STEPS and results['seconds'] > 0 and results['peak_memory_gib'] > 0
    assert {'synseg_jax', 'python', 'jax', 'flax', 'orbax-checkpoint'} <= results['versions'].keys()
    assert results['systems'].keys() == {'synseg', 'source_only'}
    for sets in results['systems'].values():
        assert sets.keys() == {'target'}
        assert sets['target'].keys() == {'classes', 'mean'}
        classes, mean = sets['target']['classes'], sets['target']['mean']
        assert tuple(classes) == CLASSES[1:]
        assert {'dice', 'asd_mm', 'hd95_mm'} <= mean.keys() == set(MEASURES)
        for measures in classes.values():
            assert measures.keys() == {*MEASURES, 'both_empty', 'one_empty'}
            assert all(measures[name].keys() == NUMBERS for name in MEASURES)
            assert 0 <= measures['dice']['mean'] <= 1 and measures['dice']['n'] == 1
        assert all(mean[name].keys() == NUMBERS for name in MEASURES)
    assert 'target, test scans' in said and 'source_only' in said and 'results.json' in said


def test_every_file_of_a_workdir_is_documented(finished):
    """With the fields of every JSON file."""
    workdir = finished[0]
    parts = {'*': '.+', '.': r'\.', **dict.fromkeys(('SYSTEM', 'STAGE', 'DIGEST', 'SET'), '[^/]+')}
    names = [
        re.sub(r'SYSTEM|STAGE|DIGEST|SET|[.*]', lambda part: parts[part[0]], name) for name in workdir_files.WORKDIR
    ]
    known = {name.rpartition('/')[2]: set() for name in (*workdir_files.MORE, *workdir_page.SCHEMAS)}
    for name, kind in workdir_page.SCHEMAS.items():
        known[name.rpartition('/')[2]] |= workdir_page.fields_of(kind).keys()
    for name, fields in workdir_files.MORE.items():
        known[name.rpartition('/')[2]] |= fields.keys()
    for path in (path for path in workdir.rglob('[!.]*') if path.is_file()):
        place = path.relative_to(workdir).as_posix()
        assert any(re.fullmatch(name, place) for name in names), place
        if path.name in known:
            assert json.loads(path.read_text()).keys() <= known[path.name], place


@pytest.mark.parametrize('system', ['synseg', 'source_only'])
def test_what_a_system_leaves(finished, system):
    folder = finished[0] / system
    for picture in ('train/panel.png', 'train/curves.png', 'target.png', 'target_cases.png'):
        pixels = imread(folder / picture)[..., :3]
        assert min(pixels.shape[:2]) > 50 and pixels.std() > 0.02, picture
    with (folder / 'target.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['organ'] for row in rows] == list(CLASSES[1:]) and len({row['case'] for row in rows}) == 1
    case = rows[0]['case']
    label = nib.load(folder / 'predictions' / 'target' / f'{case}.nii.gz')
    scan = nib.load(next((finished[0] / 'phantom').glob(f'*/imagesTr/{case}_0000.nii.gz')))
    assert label.shape == scan.shape and np.array_equal(label.affine, scan.affine)
    assert np.asarray(label.dataobj).max() < len(CLASSES)
    described = json.loads((folder / 'predictions' / 'target' / 'dataset.json').read_text())
    assert tuple(described['labels']) == CLASSES
    with (folder / 'train' / 'metrics.csv').open(newline='') as file:
        metrics = list(csv.DictReader(file))
    assert [int(row['step']) for row in metrics] == [2, 4, 6]
    assert ('cyc_a' in metrics[0]) == (system == 'synseg') and ('seg_a' in metrics[0]) == (system == 'source_only')
    assert not list(finished[0].rglob('.synseg-*'))


def test_the_page_of_a_workdir(finished):
    """Numbers as in results.json, a picture of the cases, panels and curves of both, fields unlike the defaults."""
    workdir, results, said = finished
    page = (workdir / 'report.html').read_text(encoding='utf-8')
    assert f'{workdir / "report.html"}' in said.replace('\n', '')
    for name, sets in results['systems'].items():
        assert f'<h2>{name}</h2>' in page
        for of in (sets['target']['mean'], sets['target']['classes']['liver']):
            assert f'{of["dice"]["mean"]:.3f}' in page
    assert '2 MR scans (source) to 2 CT scans (target)' in page and 'body</th>' not in page
    assert [page.count(f'alt="{what}') for what in ('Worst, median', 'Stage train')] == [2, 4]
    assert re.search(rf'train.steps</th><td[^>]*>{STEPS}</td>', page) and 'systems.source_only.method' in page
    assert 'data_dir' not in page and (workdir / 'boxplots.png').is_file()


def test_again_without_training(finished, monkeypatch):
    workdir, results, _ = finished

    def refuse(*_):
        raise AssertionError('a finished run read a batch')
        yield

    monkeypatch.setattr(train_stage.pipeline, 'batches', refuse)
    console = tiny.quiet()
    again = tiny.run(_config(), workdir, console)
    assert again['systems'] == results['systems']
    assert console.file.getvalue().count(f'done: {STEPS} steps') == 2


@pytest.mark.parametrize(
    'field, value', [('data__size', (48, 48)), ('phantom__sets__source__subjects', 3), ('data__foreground_share', 0.1)]
)
def test_another_phantom_in_the_same_place_is_refused(finished, field, value):
    name = field.replace('__', '.')
    with pytest.raises(InputError, match=rf'was begun with {name}='):
        tiny.run(_config(**{field: value}), finished[0], tiny.quiet())


def _networks(workdir):
    """The weights of the last step of both systems, file by file."""
    found = {}
    for system in ('synseg', 'source_only'):
        sums = json.loads((workdir / system / 'train' / 'checkpoints' / str(STEPS) / 'sums' / 'metadata').read_text())
        found[system] = sums
    return found


def test_target_labels_change_nothing(finished, tmp_path):
    """Garbage in the target's label files, before anything is prepared: the same records, the same networks."""
    sets = []
    for name, domain, folder in (('source', 'a', 'Dataset001_SourceMR'), ('target', 'b', 'Dataset002_TargetCT')):
        sets.append(Scans(name, shutil.copytree(finished[0] / 'phantom' / folder, tmp_path / folder), domain))
    labels = sorted((sets[1].folder / 'labelsTr').iterdir())
    assert len(labels) == 2
    for path in labels:
        path.write_bytes(b'no label map at all')
    config = _config()
    manifest = prepare(sets, tmp_path / 'records', parse_data(config), progress=False)
    for file in (finished[0] / 'records').glob('*.array_record'):
        assert (tmp_path / 'records' / file.name).read_bytes() == file.read_bytes()
    (tested,) = manifest.role('target', 'test')['cases']
    # to measure, the labels of the test scan are read; with them gone there is nothing to measure
    content = json.loads((tmp_path / 'records' / 'manifest.json').read_text())
    content['sets']['target']['roles']['test']['cases'] = [{**tested, 'label': None}]
    (tmp_path / 'records' / 'manifest.json').write_text(json.dumps(content))
    results = tiny.run(_config(tmp_path / 'records'), tmp_path / 'run', tiny.quiet())
    assert results['systems'] == {'synseg': {}, 'source_only': {}}
    found, expected = _networks(tmp_path / 'run'), _networks(finished[0])
    assert found == expected and all(len(sums) > 20 for sums in found.values())


def test_damaged_test_labels_are_named(finished, tmp_path):
    """After training, in one line; with the file repaired, the same command measures."""
    workdir, results, _ = finished
    (label,) = (workdir / 'phantom').glob('Dataset002*/labelsTr/*' + _case(workdir) + '*')
    sound = label.read_bytes()
    label.write_bytes(b'no label map at all')
    with pytest.raises(InputError, match=label.name):
        tiny.run(_config(), workdir, tiny.quiet())
    label.write_bytes(sound)
    assert tiny.run(_config(), workdir, tiny.quiet())['systems'] == results['systems']


def _case(workdir):
    (case,) = json.loads((workdir / 'synseg' / 'results.json').read_text())['cases']['target']
    return case
