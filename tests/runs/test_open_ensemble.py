"""What `predict` averages over: all folds of a cross-validated system, seeds, workdirs, checkpoints; and `main` too."""

import json
import shutil
import time

import jax
import numpy as np
import pytest
import tiny
import untrained

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import trained_model
from synseg_jax.runs import open_ensemble, open_run, results, run_file, train_stage
from synseg_jax.specification.prediction import Predict
from synseg_jax.training.checkpoint import Checkpoints

ALONE = {'method': 'supervised'}
PLAIN = {'batch': 8, 'resample': 'nearest', 'flips': '', 'window': 'tiles', 'components': ''}


def _fit(self, console, signals):
    """In place of training: checkpoints at steps 10 and 20 of weights of the fold's own."""
    stage, factor = self._describe(), 1 + self.stage.fold.index
    if not self.done:
        first = self.system.first_state(parallel.mesh(1))
        with Checkpoints(stage.folder / 'checkpoints') as checkpoints:
            for step in (10, 20):
                params = jax.tree.map(lambda x, step=step: factor * x * step / 10, first.params)
                state = first.replace(step=jax.numpy.full_like(first.step, step), params=params)
                checkpoints.save(jax.block_until_ready(state), step / 100)
                checkpoints.wait()
        self._cost(time.monotonic(), self.plan.steps, finished=True)
    return trained_model.Trained(stage), self._cost_so_far()


def _config(records, **fields):
    return tiny.config(records, **ALONE, **{'average': 0.0, 'fold__set': 'target', 'fold__of': 2, **fields})


@pytest.fixture(scope='module')
def folded(tiny_records, tmp_path_factory):
    """A workdir of `main` with two folds of the target."""
    workdir = tmp_path_factory.mktemp('folded') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_stage.StageTraining, 'run', _fit)
        tiny.run(_config(tiny_records), workdir, tiny.quiet())
    return workdir


def _new_scan(folder):
    array = tiny.scan(5, 'CT')[0].astype(np.float32)
    scan_file.write(folder / 'new.nii.gz', array, Volume(array, tiny.AFFINE))
    return folder / 'new.nii.gz'


def test_all_folds_segment_a_new_scan(folded, tmp_path):
    folds = open_run.folds(folded)
    assert sorted(folds) == [1, 2] and not folds[1] & folds[2]
    several = open_ensemble.find([folded])
    stages = [json.loads((folded / 'run.json').read_text())['folds']['synseg'][n]['stages'] for n in (0, 1)]
    assert [f'stages/{member.run.folder.name}' for member in several.members] == [one for [one] in stages]
    scan = scan_file.read(_new_scan(tmp_path))
    of_fold = [open_run.find(folded, fold=n).grid_probabilities(scan, 'b')[1] for n in (1, 2)]
    assert np.abs(of_fold[0] - of_fold[1]).max() > 0.01
    np.testing.assert_allclose(several.grid_probabilities(scan, 'b')[1], np.mean(of_fold, 0), atol=1e-6)
    assert open_run.find(folded).run.folder == open_run.find(folded, fold=1).run.folder


def test_the_command_leaves_scans_of_the_folds_to_those_that_held_them_out(folded, tiny_records, tmp_path):
    """And finds in them what `main` found when it tested the folds."""
    source = tiny_records.parent / 'Dataset_CT'
    done = tiny.command('predict', f'--workdir={folded}', f'--input={source}', f'--output={tmp_path}/out')
    assert done.returncode == 0, done.stderr
    tested = {path.name: path for path in folded.rglob('predictions/target/*.nii.gz')}
    assert len(tested) == tiny.SUBJECTS['CT']
    for name, path in tested.items():
        np.testing.assert_array_equal(*(scan_file.read_labels(one).array for one in (path, tmp_path / 'out' / name)))
    told = json.loads((tmp_path / 'out' / 'dataset.json').read_text())['prediction']
    assert len(told['members']) == 2 and len(told['cases']) == 4
    assert all(len(members) == 1 for members in told['cases'].values())


def test_some_folds_and_several_workdirs(folded, tmp_path):
    other, scan = untrained.workdir(tmp_path / 'other', **ALONE), _new_scan(tmp_path)
    flags = (f'--input={scan}', f'--output={tmp_path}/out', '--rotate=5', '--holes=fill')
    done = tiny.command('predict', f'--workdir={folded}', f'--workdir={other}', '--folds=2', *flags)
    assert (done.returncode, done.stdout) == (2, '') and 'other has no folds, not 2' in done.stderr
    done = tiny.command('predict', f'--workdir={folded}', f'--workdir={other}', *flags)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / 'out' / 'dataset.json').read_text())['prediction']
    folders = [open_run.find(folded, fold=n).run.folder.name for n in (1, 2)]
    assert told['members'] == [{'stage': name, 'step': 20} for name in folders] + [{'stage': 'stage', 'step': 0}]
    assert (told['fields']['rotate'], told['fields']['holes']) == (5.0, 'fill') and 'cases' not in told
    for text in ('3', 'x'):
        with pytest.raises(InputError, match=rf'^--folds: .*run has folds 1, 2, not {text}$'):
            open_ensemble.find([folded], chosen=[text])
    done = tiny.command('predict', f'--workdir={folded}', *flags[:1], f'--output={folded}')
    assert done.returncode == 2 and 'choose another --output' in done.stderr


def test_the_last_checkpoints_of_all_folds(folded, tmp_path):
    several = open_ensemble.find([folded], fields={'predict.checkpoints': 2})
    assert [member.step for member in several.members] == [10, 20, 10, 20]
    assert several.held_out[0] == several.held_out[1] == open_run.folds(folded)[1]


def test_folds_that_are_not_trained_yet(folded, tmp_path, caplog):
    """And workdirs of earlier versions, which name the first fold alone."""
    content = json.loads((folded / 'run.json').read_text())
    content['config'] = {'default_system': 'synseg', 'systems': {'synseg': {}}}
    for system, number in (('synseg', 1), ('none', 0)):
        folder = tmp_path / system
        folder.mkdir()
        (folder / 'stages').symlink_to(folded / 'stages')
        kept = {**content, 'folds': {system: content['folds']['synseg'][:number]}}
        (folder / 'run.json').write_text(json.dumps(kept))
        first = open_ensemble.find([folder])
        assert first.run.folder.name == open_run.find(folded, fold=1).run.folder.name
        assert '1 of 2 folds are used; synseg_jax.main trains or adds the others' in caplog.text
        caplog.clear()


def test_folds_in_training_are_asked_for(folded, tmp_path, caplog):
    """As without folds: their best checkpoints so far, if --unfinished is given."""
    content = json.loads((folded / 'run.json').read_text())
    (tmp_path / 'stages').symlink_to(folded / 'stages')
    begun = {'begun': {'synseg': content['systems']['synseg']}}
    (tmp_path / 'run.json').write_text(json.dumps({**content, **begun}))
    with pytest.raises(InputError, match='synseg is unfinished, at step 20 of .*; --unfinished uses its best'):
        open_ensemble.find([tmp_path])
    assert len(open_ensemble.find([tmp_path], unfinished=True).members) == 2
    assert 'synseg is unfinished: uses step 20 of' in caplog.text


def test_a_fold_replaces_itself(folded, tmp_path):
    (tmp_path / 'run.json').write_bytes((folded / 'run.json').read_bytes())
    before = run_file.read(tmp_path)['folds']['synseg']
    run_file.add_fold(tmp_path, 'synseg', 0, {'stages': ['stages/x'], 'held_out': []})
    assert run_file.read(tmp_path)['folds']['synseg'] == [{'stages': ['stages/x'], 'held_out': []}, before[1]]
    run_file.update(tmp_path, {'config': run_file.read(tmp_path)['config']}, {'synseg': ['stages/x']}, {})
    assert len(run_file.read(tmp_path)['folds']['synseg']) == 2


def test_seeds_are_those_that_compare_trained(tmp_path):
    workdir = untrained.workdir(tmp_path / 'run', **ALONE, seed=3)
    config = {'systems': {'synseg': {}}, 'default_system': 'synseg', 'seed': 3}
    tiny.write_run_json(workdir, config, systems={'synseg': ['stage']})
    untrained.workdir(workdir / 'seed4', **ALONE, seed=4)
    several = open_ensemble.find([workdir], seeds=2)
    assert [member.config.seed for member in several.members] == [3, 4]
    with pytest.raises(InputError, match=r'^--seeds=3: .*run/seed5 is not trained; synseg_jax.compare --seeds=3'):
        open_ensemble.find([workdir], seeds=3)


def test_main_tests_with_the_ensemble_and_the_views(folded, tiny_records, tmp_path, monkeypatch):
    """Without training again; its measures have another key, those of earlier versions keep theirs."""
    monkeypatch.setattr(train_stage.StageTraining, 'run', _fit)
    folded, told = shutil.copytree(folded, tmp_path / 'run', symlinks=True), {}
    for name, fields in {'plain': {}, 'views': {'predict__checkpoints': 2, 'predict__gamma': 1.3}}.items():
        tiny.run(_config(tiny_records, **fields), folded, tiny.quiet())
        fold = folded / 'synseg' / 'fold1'
        made_by = json.loads((fold / 'predictions' / 'target' / 'dataset.json').read_text())['prediction']
        told[name] = made_by, json.loads((fold / 'measures.json').read_text())['sets']['target']['key']
    assert len(list((folded / 'stages').glob('train-*'))) == 2
    assert [member['step'] for member in told['views'][0]['members']] == [10, 20]
    assert [member['step'] for member in told['plain'][0]['members']] == [20]
    assert told['views'][0]['fields']['gamma'] == 1.3 and told['plain'][1] != told['views'][1]
    assert results._fields(Predict()) == PLAIN


def test_more_checkpoints_than_are_kept_are_refused_before_training(tiny_records, tmp_path):
    with pytest.raises(InputError, match=r'predict.checkpoints=3: train.keep=2 keeps fewer; raise train.keep to 3'):
        tiny.run(_config(tiny_records, predict__checkpoints=3), tmp_path / 'run', tiny.quiet())
    assert not (tmp_path / 'run').exists()
