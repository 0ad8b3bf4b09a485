"""Systems of several stages: what they share, what they hand on, what a fold leaves out, and what they never read."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import tiny
import untrained

from configs import variants
from synseg_jax.batches.selection import Fold
from synseg_jax.errors import InputError
from synseg_jax.inference import model_folder, trained_model
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.runs import experiment, made_set, open_run, stages, test_set, train_stage
from synseg_jax.specification.parse import parse, parse_data

TRANSLATE = {'method': 'synseg_hc', 'sets': {'a': ('extra',), 'b': ('target',)}}  # the quickest to compile
SEGMENT = {'context': {'slices': 1, 'spacing_mm': 4.0}}
SYSTEMS = {
    'folded': {
        **variants.two_stages(TRANSLATE, SEGMENT),
        'fold': {'set': 'source', 'of': 2},
        'test_sets': ('synthesis', 'target'),
    },
    'half': {
        **variants.two_stages(TRANSLATE, {'sets': {'b': ('synthesis:50%', 'target')}, 'data': {'target_labels': True}}),
        'test_sets': ('target',),
    },
    's_score': variants.s_score(TRANSLATE),
}


def _sets(folder):
    made = [('source', 'MR', 'a', 'train', 4), ('extra', 'MR', 'a', 'train', 2), ('target', 'CT', 'b', None, 4)]
    for seed, (name, modality, domain, role, subjects) in enumerate(made):
        if not (folder / name).exists():
            tiny.write_dataset(folder / name, modality, subjects, seed)
            for path in [*(folder / name).rglob('mr_*.nii.gz')]:  # no two sets share a person
                path.rename(path.with_name(f'{name}_{path.name}'))
        yield Scans(name, folder / name, domain, role)


def _config(records='', systems=SYSTEMS, **changes):
    c = tiny.config(records, train__steps=4, train__decay_steps=2, train__save_every=2, **changes)
    c.systems = variants.systems(**systems)
    c.default_system = next(iter(systems))
    return c


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sets')
    prepare(list(_sets(folder)), folder / 'records', parse_data(_config()), progress=False)
    return folder / 'records'


@pytest.fixture(scope='module')
def finished(records, tmp_path_factory):
    """(workdir, results, what was said)."""
    workdir, console = tmp_path_factory.mktemp('stages') / 'run', tiny.quiet()
    results = tiny.run(_config(records), workdir, console)
    return workdir, results, console.file.getvalue()


def _place(workdir, *parts):
    return workdir.joinpath(*parts).resolve()


def test_folds_and_systems_share_what_they_can(finished):
    workdir, results, said = finished
    names = sorted(path.name.rpartition('-')[0] for path in (workdir / 'stages').glob('*-*'))
    assert names == ['segment', 'segment', 'segment', 'synthesis', 'train', 'translate']
    assert _place(workdir, 's_score', 'synthesis') == _place(workdir, 'half', 'synthesis')
    assert _place(workdir, 'folded', 'fold1', 'translate') == _place(workdir, 'half', 'translate')
    assert _place(workdir, 'folded', 'fold1', 'segment') != _place(workdir, 'folded', 'fold2', 'segment')
    assert 'folded 2/2, translate  done: 4 steps' in said and 'half, translate  done: 4 steps' in said
    assert results['steps'] == (4 + 2 * 4) + (4 + 4) + (4 + 4)  # shared stages count in every system that needs them
    assert results['systems']['s_score'].keys() == {'synthesis'}  # though synthesis is its last stage


def test_every_subject_is_tested_once_and_by_a_network_that_never_saw_it(finished):
    workdir, results, _ = finished
    pooled = json.loads((workdir / 'folded' / 'results.json').read_text())
    assert pooled['folds'] == 2 and not pooled['reads_target_labels']
    assert sorted(pooled['cases']['synthesis']) == [f'source_mr_{i}' for i in range(4)]
    assert sorted(pooled['cases']['target']) and results['systems']['folded'].keys() == {'synthesis', 'target'}
    manifest = Manifest.load(json.loads((workdir / 'run.json').read_text())['config']['data_dir'])
    for index in range(2):
        folder = workdir / 'folded' / f'fold{index + 1}'
        tested = json.loads((folder / 'measures.json').read_text())['sets']['synthesis']['cases']
        fold = stages.folds(parse(_config()), 'folded')[index]
        assert fold.held_out(manifest) == set(tested) and len(tested) == 2


def test_a_case_of_several_folds_is_their_mean(finished):
    workdir = finished[0]
    pooled = json.loads((workdir / 'folded' / 'results.json').read_text())['cases']['target']
    folds = [json.loads((workdir / 'folded' / f'fold{i}' / 'measures.json').read_text()) for i in (1, 2)]
    for case, organs in pooled.items():
        each = [fold['sets']['target']['cases'][case]['liver']['dice'] for fold in folds]
        assert organs['liver']['dice'] == pytest.approx(np.mean(each))


def test_synthetic_records_are_the_generators_and_keep_the_labels(finished, records):
    workdir = finished[0]
    made, source = Manifest.load(_place(workdir, 'half', 'synthesis') / 'records'), Manifest.load(records)
    entry = made.sets['synthesis']
    assert (entry['domain'], entry['of'], entry['channel']) == ('b', 'source', 'CT')
    assert [case['subject'] for case in entry['roles']['train']['cases']] == [f'source_mr_{i}' for i in range(4)]
    translated = open_run.find(workdir, 'half', 'g').networks
    for index in (0, 7, 23):
        real, fake = source.records('source', 'train')[index], made.records('synthesis', 'train')[index]
        assert np.array_equal(real['label'], fake['label']) and real['case'] == fake['case']
        expected = np.clip(translated.translate(real['image'][None], 'a')[0], 0, 1)
        assert np.abs(fake['image'] - expected).max() < 1e-4
    assert (_place(workdir, 'half', 'synthesis') / 'panel.png').is_file()


def test_a_set_that_is_killed_before_its_picture_is_drawn_draws_it(finished, records, tmp_path, monkeypatch):
    workdir = shutil.copytree(finished[0], tmp_path / 'run', symlinks=True)
    made = _place(workdir, 'half', 'synthesis')
    shutil.rmtree(made / 'records')
    (made / 'panel.png').unlink()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(made_set.figures, 'panel', killed)
        with pytest.raises(KeyboardInterrupt):
            tiny.run(_config(records, run=('half',)), workdir, tiny.quiet())
    tiny.run(_config(records, run=('half',)), workdir, tiny.quiet())
    assert (made / 'panel.png').read_bytes() == (_place(finished[0], 'half', 'synthesis') / 'panel.png').read_bytes()


def test_target_labels_are_told(finished):
    workdir = finished[0]
    assert json.loads((workdir / 'half' / 'results.json').read_text())['reads_target_labels']
    assert list(workdir.glob('records-*'))  # the same scans once more, with labels


def test_sets_of_different_spacings_are_not_mixed(finished, records, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / 'run', symlinks=True)
    finer = {'sets': {'b': ('synthesis', 'target')}, 'data': {'target_labels': True, 'spacing_mm': 2.0}}
    mixed = {**variants.two_stages(TRANSLATE, finer), 'test_sets': ('target',)}
    with pytest.raises(InputError, match='stage segment of mixed reads sets of different sizes or spacings'):
        tiny.run(_config(records, SYSTEMS | {'mixed': mixed}, run=('mixed',)), workdir, tiny.quiet())


def test_synthetic_scans_are_measured_whole(finished, records, tmp_path):
    """What was made of the source shows what the source shows: the target's cut is not made again."""
    manifest, seen = Manifest.load(_place(finished[0], 'half', 'synthesis') / 'records'), []

    class Seeing(trained_model.Trained):
        def segment(self, scan, domain):
            seen.append(self.config.data.target_center)
            return super().segment(scan, domain)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained_model, 'Trained', Seeing)
        whole = Seeing(model_folder.Run.load(_place(finished[0], 'half', 'segment')))
        trained = whole.with_fields({'data.target_center': 0.5})
        cases = manifest.role('synthesis', 'train')['cases'][:1]
        found = test_set.measure(test_set.TestSet(trained, 'synthesis', {'synthesis': manifest}, cases), tmp_path)
    assert seen == [1.0] and trained.config.data.target_center == 0.5
    assert found['cases'].keys() == {cases[0]['id']}


def test_predict_and_synthesize_find_their_stages(finished):
    workdir = finished[0]
    assert open_run.find(workdir, 'folded').run.folder.name.startswith('segment-')
    assert open_run.find(workdir, 'folded', 'g').run.folder.name.startswith('translate-')
    with pytest.raises(InputError, match="unknown system 'none'; known: folded, half, s_score"):
        open_run.find(workdir, 'none')


def test_again_nothing_is_trained_nor_measured(finished, records, monkeypatch):
    workdir, results, _ = finished

    def refuse(*_):
        raise AssertionError('a finished stage read a batch, or a measured scan was predicted')
        yield

    monkeypatch.setattr(train_stage.pipeline, 'batches', refuse)
    monkeypatch.setattr(test_set, 'predict', refuse)
    assert tiny.run(_config(records), workdir, tiny.quiet())['systems'] == results['systems']


def test_interrupted_measuring_goes_on_at_the_set_where_it_was(finished, records, tmp_path, monkeypatch):
    workdir, begun, plain = shutil.copytree(finished[0], tmp_path / 'run', symlinks=True), [], test_set.predict
    path = workdir / 'folded' / 'fold1' / 'measures.json'
    path.unlink()

    def predict(segmenter, files, output, *more):
        begun.append(output.name)
        if begun == ['synthesis', 'target']:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(segmenter, files, output, *more)

    monkeypatch.setattr(test_set, 'predict', predict)
    assert tiny.run(_config(records), workdir, tiny.quiet()) == {}
    assert json.loads(path.read_text())['sets'].keys() == {'synthesis'}
    assert tiny.run(_config(records), workdir, tiny.quiet())['systems'] == finished[1]['systems']
    assert begun == ['synthesis', 'target', 'target']


def test_measures_that_cannot_be_read_are_not_measured_again(finished, records, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / 'run', symlinks=True)
    path = workdir / 'half' / 'measures.json'
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(OSError, match='Too many levels of symbolic links'):
        tiny.run(_config(records, run=('half',)), workdir, tiny.quiet())
    assert path.is_symlink()


@pytest.mark.parametrize('content', [b'', b'{"sets": ', b'[]', b'{"sets": {}}'])
def test_damaged_measures_are_measured_again(finished, records, tmp_path, content):
    workdir = shutil.copytree(finished[0], tmp_path / 'run', symlinks=True)
    path = workdir / 'half' / 'measures.json'
    path.write_bytes(content)
    again = tiny.run(_config(records, run=('half',)), workdir, tiny.quiet())
    assert again['systems']['half'] == finished[1]['systems']['half']
    assert json.loads(path.read_text())['sets'].keys() == {'target'}


def test_a_new_system_joins_a_workdir_and_starts_from_named_weights(finished, records, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / 'run', symlinks=True)
    start = {'start': {'stages': ('translate',), 'networks': ('g_ab', 'd_b')}, 'method': 'synseg_hc'}
    joint = {'stages': {'translate': TRANSLATE, 'joint': {**start, 'sets': {'a': ('source',), 'b': ('target',)}}}}
    config = _config(records, {**SYSTEMS, 'joint': joint}, run=('joint',))
    stage = None

    class StageTraining(train_stage.StageTraining):
        def run(self, console, signals):
            nonlocal stage
            if self.begin:
                stage = self._first_state(train_stage.parallel.mesh(1))
            return super().run(console, signals)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment.train_stage, 'StageTraining', StageTraining)
        assert tiny.run(config, workdir, tiny.quiet())['systems'].keys() == {'joint'}
    given = trained_model.Trained(model_folder.Run.load(_place(workdir, 'joint', 'translate'))).networks.params
    for name in ('g_ab', 'd_b', 's_b'):
        taken = all(np.array_equal(x, y) for (_, x), (_, y) in zip(
            tiny.arrays(stage.params[name]), tiny.arrays(given[name]), strict=True))  # fmt: skip
        assert taken == (name in ('g_ab', 'd_b')), name


@pytest.mark.parametrize(
    'system, says',
    [
        (
            {
                'stages': {
                    'train': {'generators_from': 'other', 'kind': 'synthesize'},
                    'other': {'start': {'stages': ('train',)}},
                }
            },
            'system odd: cyclic dependency between stages',
        ),
        ({'sets': {'b': ('trget',)}}, "unknown set .* 'trget'; known: extra, source, target"),
        ({'sets': {'b': ('source',)}}, 'sets.b: source is of domain a'),
        ({'sets': {'a': ('source:999',)}}, 'set source:999: give a share in percent, or at most the 24 slices'),
        ({'sets': {'a': ('source:x',)}}, 'set source:x: give a share'),
        ({'kind': 'trian'}, "systems.odd.kind='trian': give 'train' or 'synthesize' or 'reconstruct' or 'atlases'"),
        ({'fold': {'set': 'source', 'of': 9}}, 'fold.of 9: source has 4 labelled subjects'),
        ({'method': 'supervised', 'loss_weights': {'seg': {'seg_b': 1.0}}}, 'data.target_labels=True lets them in'),
        ({'test_sets': ('none',)}, r"unknown set \(test_sets\) 'none'"),
    ],
)
def test_what_cannot_be_is_said_before_training(records, tmp_path, system, says):
    with pytest.raises(InputError, match=says):
        tiny.run(_config(records, {'odd': system}), tmp_path / 'run', tiny.quiet())
    assert not list((tmp_path / 'run').rglob('checkpoints'))


def test_a_longer_generator_makes_its_set_anew(records, tmp_path):
    made = experiment.Workspace(parse(_config(records)), tmp_path, tiny.quiet(), experiment.Signals())
    keys = [made._stage('half', 'synthesis', Fold(), {}, {'translate': stages.Done('x', n)}).key() for n in (4, 4, 8)]
    assert keys[0] == keys[1] != keys[2]


def test_steps_that_patience_spared_are_not_counted(tiny_records, tmp_path):
    train = {'steps': 20, 'decay_steps': 0, 'patience': 1, 'batch': 8}
    systems = {'patient': {'method': 'supervised', 'rate': {'segmentor': 0.0}, 'train': train}}
    for _ in range(2):  # again, when it is done
        steps = tiny.run(_config(tiny_records, systems), tmp_path / 'run', tiny.quiet())['steps']
        assert steps == 6  # two epochs, without a change of any weight


def test_the_same_stage_at_two_lengths_is_refused(records, tmp_path, monkeypatch):
    monkeypatch.setattr(train_stage.StageTraining, 'run', untrained.fit)
    short = {'method': 'supervised', 'train': {'steps': 3}}
    systems = {'one': {'method': 'supervised'}, 'two': short}
    with pytest.raises(InputError, match='systems one and two share stage .* but for its length .4 and 3 steps'):
        tiny.run(_config(records, systems), tmp_path / 'run', tiny.quiet())


def test_garbage_in_the_targets_labels_changes_no_network(finished, records, tmp_path):
    """Garbage in the target's label files, before anything is prepared: the same records, the same networks."""
    for name in ('source', 'extra', 'target'):
        shutil.copytree(records.parent / name, tmp_path / name)
    for path in (tmp_path / 'target' / 'labelsTr').iterdir():
        path.write_bytes(b'no label map at all')
    manifest = prepare(list(_sets(tmp_path)), tmp_path / 'records', parse_data(_config()), progress=False)
    for file in records.glob('*.array_record'):
        assert (tmp_path / 'records' / file.name).read_bytes() == file.read_bytes()
    systems = {'folded': {**SYSTEMS['folded'], 'test_sets': ('synthesis',)}}
    tiny.run(_config(manifest.folder, systems), tmp_path / 'run', tiny.quiet())
    for path in ('fold1/translate', 'fold1/segment', 'fold2/segment'):
        one, other = (_place(workdir, 'folded', path) for workdir in (tmp_path / 'run', finished[0]))
        assert one.name == other.name  # the digest of all that it depends on
        sums = [(folder / 'checkpoints' / '4' / 'sums' / 'metadata').read_bytes() for folder in (one, other)]
        assert sums[0] == sums[1] and len(sums[0]) > 500


def test_two_classes_are_ranked(tmp_path, monkeypatch):
    """A U-Net with one logit a pixel: AUC of every scan, and the ROC curve over all of them."""
    monkeypatch.setattr(train_stage.StageTraining, 'run', untrained.fit)
    changes = {'data__classes': ('background', 'liver')}
    records = tiny.write_records(tmp_path / 'sets', **changes)
    one = {'method': 'supervised', 'segmentor': {'architecture': 'unet', 'width': 4, 'levels': 2}}
    one['loss'] = {'segmentation': 'binary_cross_entropy'}
    tiny.run(_config(records, {'unet': one}, **changes), tmp_path / 'run', tiny.quiet())
    (organs,) = json.loads((tmp_path / 'run' / 'unet' / 'results.json').read_text())['cases']['target'].values()
    assert organs.keys() == {'liver'} and 0 <= organs['liver']['auc'] <= 1
    roc = json.loads((tmp_path / 'run' / 'unet' / 'measures.json').read_text())['sets']['target']['roc']
    assert len(roc['fpr']) == len(roc['tpr']) and roc['fpr'][-1] == roc['tpr'][-1] == 1
    assert np.all(np.diff(roc['tpr']) >= 0)
    assert np.trapezoid(roc['tpr'], roc['fpr']) == pytest.approx(organs['liver']['auc'], abs=0.02)
