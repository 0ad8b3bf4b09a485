"""Systems that are not trained to their end: their best checkpoint so far, if it is asked for, saying which."""

import json
import os
import shutil
import signal

import jax
import pytest
import tiny
import untrained

from synseg_jax.batches import pipeline
from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.runs import open_run
from synseg_jax.training.checkpoint import Checkpoints

SAVED = [4, 6]  # the steps of the checkpoints of a run that was stopped


def _run(records, workdir, steps=8):
    config = tiny.config(records, method='supervised', train__save_every=4, train__steps=steps, train__decay_steps=4)
    return tiny.run(config, workdir, tiny.quiet())


def _stop_at(monkeypatch, number):
    """Sends this process a signal as a global batch is read."""
    batches = pipeline.batches

    def stopping(pools, batch, seed, start, *others, **how):
        for k, rows in enumerate(batches(pools, batch, seed, start, *others, **how), start):
            if k == number:
                os.kill(os.getpid(), signal.SIGTERM)
            yield rows

    monkeypatch.setattr(pipeline, 'batches', stopping)


@pytest.fixture(scope='module')
def stopped(tiny_records, tmp_path_factory):
    """The workdir of a run that was stopped on its way."""
    workdir = tmp_path_factory.mktemp('stopped') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        _stop_at(patch, SAVED[-1] - 1)
        assert _run(tiny_records, workdir) == {}
    return workdir


def _best(workdir):
    (folder,) = (workdir / 'stages').iterdir()
    checkpoints = Checkpoints(folder / 'checkpoints', alone=True)
    assert checkpoints.steps() == SAVED
    return max(SAVED, key=lambda step: checkpoints.score(step) or 0.0)


def test_pictures_and_the_page_are_there(stopped):
    """The curves of the last validation; the page shows what has begun, with the pictures of its stages."""
    (folder,) = (stopped / 'stages').iterdir()
    assert (folder / 'curves.png').is_file() and (folder / 'panel.png').is_file()
    page = (stopped / 'report.html').read_text(encoding='utf-8')
    assert 'not run' in page and 'alt="Stage train"' in page and page.count('<img') == 2


def test_the_flag_is_named_without_it(stopped):
    with pytest.raises(InputError) as refused:
        open_run.find(stopped)
    told = str(refused.value)
    assert told.startswith(f'{stopped}: synseg is unfinished, at step 6 of train-') and '--unfinished uses its' in told


def test_the_best_so_far_is_used_and_told(stopped, caplog):
    found = open_run.find(stopped, unfinished=True)
    assert found.step == _best(stopped) == 4
    assert f'synseg is unfinished: uses step 4 of {found.run.folder}, its best so far' in caplog.text


@pytest.mark.parametrize('command', ['predict', 'export'])
def test_commands(stopped, tmp_path, command):
    source = tiny.write_dataset(tmp_path / 'set', 'CT', 1)
    flags = [f'--workdir={stopped}', f'--output={tmp_path / "out"}']
    flags += [f'--input={source}'] if command == 'predict' else []
    done = tiny.command(command, *flags)
    assert done.returncode == 2 and not (tmp_path / 'out').exists()
    assert done.stderr.splitlines()[-1].startswith(f'error: {stopped}: synseg is unfinished, at step 6 of train-')
    done = tiny.command(command, *flags, '--unfinished')
    assert done.returncode == 0, done.stderr
    assert 'is unfinished: uses step 4 of' in done.stderr and any((tmp_path / 'out').iterdir())


def test_nothing_is_trained_yet(stopped, tmp_path):
    workdir = shutil.copytree(stopped, tmp_path / 'run', symlinks=True)
    (folder,) = (workdir / 'stages').iterdir()
    for gone in (folder / 'checkpoints', folder):
        shutil.rmtree(gone)
        for unfinished in (False, True):
            with pytest.raises(InputError, match='run: synseg is not trained yet; run synseg_jax.main'):
                open_run.find(workdir, unfinished=unfinished)


def test_finished_and_trained_on(tiny_records, stopped, tmp_path, monkeypatch, caplog):
    """What is finished needs no flag, which does no harm; what is trained on is unfinished again, killed or not."""
    workdir = shutil.copytree(stopped, tmp_path / 'run', symlinks=True)
    assert _run(tiny_records, workdir)['systems']
    for unfinished in (False, True):
        assert open_run.find(workdir, unfinished=unfinished).step in (4, 8)
    assert 'unfinished' not in caplog.text and json.loads((workdir / 'run.json').read_text())['begun'] == {}
    finished = {path: path.read_bytes() for path in workdir.glob('stages/*/cost.json')}
    _stop_at(monkeypatch, 9)
    assert _run(tiny_records, workdir, steps=12) == {}
    for path, content in finished.items():
        path.write_bytes(content)  # as a process leaves it that is killed
    with pytest.raises(InputError, match='run: synseg is unfinished, at step 10 of train-'):
        open_run.find(workdir)


def _workdir(folder, *methods, checkpoints=2):
    """A workdir whose only system is in training: its last stage, the first `checkpoints` have one."""
    for number, method in enumerate(methods):
        made = untrained.run(folder / 'stages' / f'stage{number}-0123456789', method=method)
        made.folder.mkdir(parents=True)
        made.save()
        if number < checkpoints:
            saved = Checkpoints(made.folder / 'checkpoints')
            saved.save(jax.block_until_ready(made.system.first_state(parallel.mesh(1))), 0.5)
            saved.close()
    begun = {'synseg': [f'stages/stage{number}-0123456789' for number in range(len(methods))]}
    tiny.write_run_json(folder, systems={}, begun=begun)
    return folder


def test_the_last_stage_that_has_anything(tmp_path):
    workdir = _workdir(tmp_path / 'run', 'cyclegan', 'supervised', 'supervised')
    assert open_run.find(workdir, network='s', unfinished=True).run.folder.name.startswith('stage1')
    assert open_run.find(workdir, network='g', unfinished=True).run.folder.name.startswith('stage0')
    assert open_run.find(workdir, network='', stage='stage0', unfinished=True).run.folder.name.startswith('stage0')
    with pytest.raises(InputError, match="unknown trained stage of synseg 'stage2'; known: stage0, stage1"):
        open_run.find(workdir, stage='stage2', unfinished=True)
    early = _workdir(tmp_path / 'early', 'cyclegan', 'supervised', checkpoints=1)
    with pytest.raises(InputError, match='system synseg trains no segmentor yet; let synseg_jax.main train on'):
        open_run.find(early, unfinished=True)
