"""Self-training: target scans with the labels that an earlier stage's segmentor finds, and training on these."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny
import untrained
from scipy.ndimage import gaussian_filter

from configs import variants
from synseg_jax.batches import pipeline
from synseg_jax.batches.selection import Fold
from synseg_jax.errors import InputError
from synseg_jax.formats import label_maps
from synseg_jax.imaging.slices import resize
from synseg_jax.inference import model_folder, trained_model
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.runs import experiment, label_stage, made_set, open_run, stages, train_stage
from synseg_jax.specification.parse import parse, parse_data, replaced
from synseg_jax.specification.stage import Stage
from synseg_jax.training.system import System

CONFIDENCE = 0.4


def _self_training(confidence=0.0, **teacher):
    """A segmentor of the source labels the target, and another is trained on these labels."""
    pseudo = {'kind': 'label', 'segmentor_from': 'teacher', 'label_confidence': confidence, 'sets': {'b': ('target',)}}
    student = {'method': 'supervised', **variants.on_target('pseudo')}
    return {'stages': {'teacher': {'method': 'supervised', **teacher}, 'pseudo': pseudo, 'student': student}}


SYSTEMS = {'every': _self_training(), 'sure': _self_training(CONFIDENCE)}


def _config(records, systems=SYSTEMS, **changes):
    c = tiny.config(records, train__steps=4, train__decay_steps=2, **changes)
    c.systems, c.default_system = variants.systems(**systems), next(iter(systems))
    return c


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    """The target has no labels at all."""
    folder = tmp_path_factory.mktemp('sets')
    sets = [('source', 'MR', 'a', 2), ('target', 'CT', 'b', 4)]
    for name, modality, _, subjects in sets:
        tiny.write_dataset(folder / name, modality, subjects, labelled=name == 'source')
    scans = [Scans(name, folder / name, domain) for name, _, domain, _ in sets]
    split = {'data__source_split': (1.0, 0.0, 0.0)}
    prepare(scans, folder / 'records', parse_data(_config('', **split)), progress=False)
    return folder / 'records'


@pytest.fixture(scope='module')
def finished(records, tmp_path_factory):
    """(workdir, {stage folder: pools that were read}, results); no network is trained, and no label map is opened."""
    workdir, pools = tmp_path_factory.mktemp('label') / 'run', {}

    def fit(self, console, signals):
        pools[self.folder.name] = self.pools
        return untrained.fit(self, console, signals)

    def refuse(*_):
        raise AssertionError('a label map was opened')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_stage.StageTraining, 'run', fit)
        patch.setattr(label_maps, 'read', refuse)
        results = tiny.run(_config(records), workdir, tiny.quiet())
    return workdir, pools, results


def _labels(workdir, system, number):
    """Record `number` of the set that a system made."""
    return Manifest.load((workdir / system / 'pseudo').resolve() / 'records').records('pseudo', 'train')[number]


def test_labels_are_what_the_segmentor_finds(finished, records):
    workdir = finished[0]
    teacher = trained_model.Trained(model_folder.Run.load((workdir / 'every' / 'teacher').resolve()))
    real, uncertain = Manifest.load(records).records('target', 'train'), 0
    for number in (0, 7, len(real) - 1):
        image = real[number]['image']
        probabilities = teacher.networks.probabilities(image[None], 'b')[0]
        every, sure = (_labels(workdir, system, number) for system in ('every', 'sure'))
        assert np.array_equal(every['image'], image) and every['label'].dtype == np.int16
        assert np.array_equal(every['label'], probabilities.argmax(-1))
        unsure = probabilities.max(-1) < CONFIDENCE
        assert np.array_equal(sure['label'], np.where(unsure, -1, every['label']))
        uncertain += np.count_nonzero(unsure)
    assert 0 < uncertain < 3 * image.size  # the threshold leaves some out, and keeps some


def test_the_set_is_that_of_the_training_scans(finished, records):
    place = (finished[0] / 'sure' / 'pseudo').resolve()
    made, given = Manifest.load(place / 'records'), Manifest.load(records)
    entry = made.sets['pseudo']
    assert (entry['domain'], entry['channel'], entry['of'], entry['pseudo']) == ('b', 'CT', 'target', True)
    assert entry['by'] == (finished[0] / 'sure' / 'teacher').resolve().name
    assert entry['roles'].keys() == {'train'} and entry['roles']['train']['labelled']
    assert entry['roles']['train']['cases'] == given.role('target', 'train')['cases']  # which have no label file
    assert (place / 'panel.png').is_file()


def test_the_student_reads_them(finished):
    """Without data.target_labels; and the results say what was read."""
    workdir, pools, results = finished
    student = pools[(workdir / 'sure' / 'student').resolve().name]
    batch = next(pipeline.batches(student, 8, 0, 0, 1, arrays=('b', 'label_b'), threads=0))
    assert batch['label_b'].dtype == np.int32 and batch['label_b'].min() == -1 and batch['label_b'].max() > 0
    assert results['steps'] == (4 + 4) + (4 + 4)  # that labels are found counts no step
    told = json.loads((workdir / 'sure' / 'results.json').read_text())
    assert told['reads_pseudo_labels'] and not told['reads_target_labels']
    assert open_run.find(workdir, 'sure').run.folder.name.startswith('student-')


def _key(records, tmp_path, steps=4, folder='teacher-1', **changes):
    config = parse(_config(records, {'one': {**_self_training(**changes)}}))
    workspace = experiment.Workspace(config, tmp_path, tiny.quiet(), experiment.Signals())
    return workspace._stage('one', 'pseudo', Fold(), {}, {'teacher': stages.Done(folder, steps)}).key()


def test_the_key_follows_the_segmentor_and_the_confidence(records, tmp_path):
    keys = [_key(records, tmp_path / 'run'), _key(records, tmp_path / 'run', 8),
            _key(records, tmp_path / 'run', folder='teacher-2'),
            _key(records, tmp_path / 'other', confidence=0.5)]  # fmt: skip
    assert len(set(keys)) == 4 and keys[0] == _key(records, tmp_path / 'run')


def test_fields_that_earlier_versions_lack_enter_no_digest_at_their_default(records, tmp_path, monkeypatch):
    """So that what these trained is not trained again."""
    monkeypatch.setattr(stages, 'digest', lambda fields, *_: '-'.join(fields))
    assert 'label_confidence' in _key(records, tmp_path / 'run', confidence=0.5)
    assert 'label_confidence' not in _key(records, tmp_path / 'other') and 'seed' in _key(records, tmp_path / 'other')


def test_a_workdir_of_a_version_without_these_fields_is_read(finished, records, tmp_path, monkeypatch):
    workdir = shutil.copytree(finished[0], tmp_path / 'run', symlinks=True)
    for path in (workdir / 'run.json', *workdir.glob('stages/*/stage.json')):
        content = json.loads(path.read_text())
        for name in ('segmentor_from', 'label_confidence'):
            del content['config'][name]
        path.write_text(json.dumps(content))
    assert open_run.find(workdir, 'sure').config.segmentor_from == ''

    def refuse(*_):
        raise AssertionError('a finished stage was trained')

    monkeypatch.setattr(train_stage.loop, 'train', refuse)
    assert tiny.run(_config(records, run=('sure',)), workdir, tiny.quiet())['steps'] == 8


def test_a_set_that_is_killed_half_way_is_made_anew(finished, records, tmp_path, monkeypatch):
    workdir = shutil.copytree(finished[0], tmp_path / 'run', symlinks=True)
    made = workdir / (finished[0] / 'sure' / 'pseudo').resolve().relative_to(finished[0].resolve())
    shutil.rmtree(made / 'records')
    monkeypatch.setattr(train_stage.StageTraining, 'run', untrained.fit)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(made_set.figures, 'panel', killed)
        with pytest.raises(KeyboardInterrupt):
            tiny.run(_config(records, run=('sure',)), workdir, tiny.quiet())
        assert not (made / 'records').exists()
    tiny.run(_config(records, run=('sure',)), workdir, tiny.quiet())
    before = (finished[0] / 'sure' / 'pseudo').resolve() / 'records' / 'pseudo.train.array_record'
    assert (made / 'records' / 'pseudo.train.array_record').read_bytes() == before.read_bytes()


@pytest.mark.parametrize(
    'teacher, changes, says',
    [
        ({'method': 'cyclegan'}, {}, 'system odd, stage pseudo: segmentor_from teacher trains no segmentor; name'),
        ({}, {'segmentor_from': ''}, r"system odd, stage pseudo: unknown stage \(segmentor_from\) ''; known: "),
        ({}, {'sets': {'b': ('target:50%',)}}, 'sets.b names a part of a set; label the whole set'),
    ],
)
def test_what_cannot_be_labelled(records, tmp_path, monkeypatch, teacher, changes, says):
    monkeypatch.setattr(train_stage.StageTraining, 'run', untrained.fit)
    odd = _self_training(**teacher)
    odd['stages']['pseudo'].update(changes)
    with pytest.raises(InputError, match=says):
        tiny.run(_config(records, {'odd': odd}), tmp_path / 'run', tiny.quiet())
    assert not list((tmp_path / 'run').rglob('records'))


def test_labels_are_of_the_records_grid_whatever_the_segmentor_saw(finished):
    """A segmentor of smaller images, and of neighbouring slices as channels; here one of their brightness."""
    seen = []

    class Bright(trained_model.Trained):
        config, system, shown = tiny.stage(context__slices=1), property(lambda self: self), (16, 16)
        networks, own_channels = property(lambda self: self), System.own_channels

        def probabilities(self, images, domain):
            seen.append((images.shape, domain))
            return np.stack([1 - images[..., 1], images[..., 1]], -1)

    trained = object.__new__(Bright)
    source = Manifest.load((finished[0] / 'every' / 'pseudo').resolve() / 'records')
    images = np.zeros((2, 32, 32, 3), np.float32)
    images[:, :, 20:, 1] = 1.0
    maker = label_stage.Labeller(trained, source, replaced(Stage(), {'label_confidence': 0.9}))
    made, labels, _ = maker.make([{'image': image} for image in images])
    assert maker.context == (1, 0.0) and seen == [((2, 16, 16, 3), 'b')]
    assert np.array_equal(made, images[..., 1:2]) and labels.dtype == np.int16
    assert (labels[..., :19] == 0).all() and (labels[..., 21:] == 1).all() and (labels[..., 19:21] == -1).all()


def test_pseudo_labels_are_filtered_by_scan(finished):
    """The largest component of each class stays, and of its pixels the most certain share."""

    class Network(trained_model.Trained):
        config, system, shown = tiny.stage(), property(lambda self: self), ()
        networks = property(lambda self: self)

        def probabilities(self, images, domain):
            organ = images[..., 0]
            return np.stack([1 - organ, organ], -1)

    images = np.full((3, 4, 4, 1), 0.1, np.float32)
    images[:2, 1, 1:3] = [[[0.9], [0.8]], [[0.7], [0.6]]]
    images[2, 3, 3] = 0.99  # an islet
    source = Manifest.load((finished[0] / 'every' / 'pseudo').resolve() / 'records')
    source = replace(source, classes=('background', 'organ'))

    def labels(**filters):
        return label_stage.Labeller(object.__new__(Network), source, replaced(Stage(), filters)).labels(images)

    assert labels()[2, 3, 3] == 1 and labels(label_components='largest')[2, 3, 3] == 0
    found = labels(label_components='largest', label_share=0.5)
    assert [[1, 1], [-1, -1]] == found[:2, 1, 1:3].tolist()
    assert labels(label_components='largest', label_share=0.5, lesions=('organ',))[2, 3, 3] == 1
    images[1, 1, 2] = 0.505
    assert labels()[1, 1, 2] == 1 and labels(label_views=True)[1, 1, 2] == 0  # views are smoother


def test_unlabelled_pixels_stay_so_when_resized():
    labels = np.array([[[-1, 1], [2, -1]]], np.int16)
    assert np.array_equal(resize(labels, (4, 4)), np.kron(labels, np.ones((1, 2, 2), np.int16)))


def test_a_segmentor_of_other_records_is_refused(records, tmp_path, monkeypatch):
    monkeypatch.setattr(train_stage.StageTraining, 'run', untrained.fit)
    odd = _self_training(data={'window_hu': (-100.0, 300.0)})
    with pytest.raises(InputError, match=r'records with data.window_hu=\(-100.0, 300.0\), not \(-200.0, 300'):
        tiny.run(_config(records, {'odd': odd}), tmp_path / 'run', tiny.quiet())


@pytest.mark.parametrize('darkest, brightest', [(0.0, 1.0), (0.3, 1.0), (0.0, 0.7), (0.3, 0.7)])
def test_what_is_beyond_any_organ_is_background(finished, records, darkest, brightest):
    """With the labels of the networks everywhere else."""
    trained = trained_model.Trained(model_folder.Run.load((finished[0] / 'every' / 'teacher').resolve()))
    made = label_stage.Labeller(
        trained, Manifest.load(records), replace(Stage(), label_darkest=darkest, label_brightest=brightest)
    )
    images = np.stack([record['image'] for record in Manifest.load(records).records('target', 'train')])
    labels, wanted = made.labels(images), trained.networks.probabilities(images, 'b').argmax(-1)
    smooth = gaussian_filter(images[..., 0], (0, 0.75, 0.75), mode='nearest', truncate=3)
    beyond = (smooth < darkest) | (smooth > brightest)
    assert beyond.any() == ((darkest, brightest) != (0, 1)) == (wanted[beyond] > 0).any()
    assert (labels != np.where(beyond, 0, wanted)).mean() < 1e-3
