"""Whole runs on records: killed, stopped and resumed, they end in the same bits as one that was left alone."""

import fcntl
import json
import os
import re
import shutil
import signal
import threading
import time

import background
import pytest
import tiny

from synseg_jax.batches import pipeline
from synseg_jax.errors import InputError
from synseg_jax.reports import training_curves
from synseg_jax.runs import experiment
from synseg_jax.training.checkpoint import Checkpoints

STEPS = 20  # of batch 2, in epochs of 12: more than one
SAVE = 4
METHOD = 'synseg_hc'  # three networks and a history, the quickest to compile of those that have one


def _config(records, **changes):
    return tiny.config(records, **{'train__save_every': SAVE, 'method': METHOD, **changes})


def _run(records, workdir, **changes):
    """(results, what the user was told)."""
    console = tiny.quiet()
    results = tiny.run(_config(records, **changes), workdir, console)
    return results, console.file.getvalue()


def _states(workdir):
    """Every checkpoint of the run, by step."""
    checkpoints = Checkpoints(workdir / 'synseg' / 'train' / 'checkpoints')
    like = tiny.first_state(method=METHOD)
    found = {step: checkpoints._restore(step, like) for step in checkpoints.manager.all_steps()}
    checkpoints.close()
    return found


def _check_same(workdir, straight):
    for name in ('train/metrics.csv', 'train/validation.csv', 'target.csv'):
        assert (workdir / 'synseg' / name).read_bytes() == (straight / 'synseg' / name).read_bytes(), name
    found, expected = _states(workdir), _states(straight)
    both = found.keys() & expected.keys()  # a run that was stopped keeps the step it stopped at
    assert STEPS in both and all(tiny.same(found[step], expected[step]) for step in both)
    for label in (straight / 'synseg' / 'predictions' / 'target').glob('*.nii.gz'):
        assert (workdir / 'synseg' / 'predictions' / 'target' / label.name).read_bytes() == label.read_bytes()


@pytest.fixture(scope='module')
def straight(tiny_records, tmp_path_factory):
    """The workdir of a run that was left alone."""
    workdir = tmp_path_factory.mktemp('straight') / 'run'
    results, _ = _run(tiny_records, workdir)
    assert results['steps'] == STEPS
    return workdir


@pytest.fixture
def stop_at(monkeypatch):
    """Sends this process a signal as a global batch is read."""
    batches = pipeline.batches

    def arrange(number):
        def stopping(pools, batch, seed, start, *others, **how):
            for k, rows in enumerate(batches(pools, batch, seed, start, *others, **how), start):
                if k == number:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield rows

        monkeypatch.setattr(pipeline, 'batches', stopping)

    return arrange


def test_ways_of_reading_change_on_the_way(tiny_records, straight, tmp_path, stop_at):
    for workers, number in ((0, 5), (2, 13)):
        stop_at(number)
        results, said = _run(tiny_records, tmp_path, train__workers=workers)
        assert results == {} and f'stopped by SIGTERM: saved step {number + 1}' in said
        assert not (tmp_path / 'results.json').exists()
    stop_at(None)
    results, said = _run(tiny_records, tmp_path, train__workers=1, train__resident_gib=1.0)
    assert results['systems'] and 'resumes at step 14' in said
    assert 'GiB of records in the memory of every device' in said
    _check_same(tmp_path, straight)


def test_emptied_files_cost_only_what_they_told(tiny_records, straight, tmp_path, stop_at):
    """As a power cut may leave what is not synced; what was trained is told as far as it was saved."""
    stop_at(9)
    assert _run(tiny_records, tmp_path)[0] == {}
    stage = _stage(tmp_path)
    assert (
        json.loads((stage / 'cost.json').read_text()).items()
        >= {'trained': 10, 'steps': STEPS, 'finished': False}.items()
    )
    for name in ('cost.json', 'metrics.csv', 'validation.csv', 'stage.json', '../../synseg/measures.json'):
        (stage / name).parent.mkdir(exist_ok=True)
        (stage / name).write_bytes(b'')
    stop_at(None)
    results, said = _run(tiny_records, tmp_path)
    assert results['steps'] == STEPS and 'resumes at step 10' in said
    assert json.loads((stage / 'cost.json').read_text()).items() >= {'trained': STEPS, 'finished': True}.items()
    lines = [(folder / 'metrics.csv').read_text().splitlines() for folder in (stage, straight / 'synseg' / 'train')]
    assert lines[0] == lines[1][:1] + lines[1][6:]  # from step 12
    assert (stage / 'curves.png').stat().st_size > 1000
    assert tiny.same(_states(tmp_path)[STEPS], _states(straight)[STEPS])


@pytest.mark.parametrize(
    'content',
    [b'', bytes(90), b'{"seconds": 1', b'[]', b'{"seconds": "x", "steps": 20, "finished": 1}'],
    ids=('empty', 'zeros', 'torn', 'list', 'types'),
)
def test_a_finished_run_with_a_damaged_cost_goes_on(tiny_records, straight, tmp_path, monkeypatch, content):
    workdir = shutil.copytree(straight, tmp_path / 'run', symlinks=True)
    (_stage(workdir) / 'cost.json').write_bytes(content)
    (_stage(workdir) / 'metrics.csv').write_bytes(b'')
    results, said = _run(tiny_records, workdir)
    assert results['steps'] == STEPS and 'resumes at step 20' in said


def test_a_run_that_is_killed_before_its_curves_are_drawn_draws_them(tiny_records, straight, tmp_path, monkeypatch):
    workdir, drawn = shutil.copytree(straight, tmp_path / 'run', symlinks=True), 'synseg/train/curves.png'
    for name in ('cost.json', 'curves.png'):
        (_stage(workdir) / name).unlink()

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_curves, 'curves', killed)
        with pytest.raises(KeyboardInterrupt):
            _run(tiny_records, workdir)
    _run(tiny_records, workdir)
    assert (workdir / drawn).read_bytes() == (straight / drawn).read_bytes()


def test_a_signal_while_records_are_made_ends_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, 'prepare', lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(60))
    results, said = _run('', tmp_path / 'run')
    assert results == {} and 'stopped by SIGTERM; run the same command to resume' in said


@pytest.mark.parametrize('name', ['run [left]', 'a*b', 'back\\slash', os.fsdecode(b'\xff')])
def test_a_workdir_that_cannot_hold_checkpoints_is_refused_first(tmp_path, name):
    with pytest.raises(InputError, match='checkpoints cannot be stored in a path with'):
        _run('', tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_planted_lock_is_refused(tiny_records, tmp_path):
    (tmp_path / 'precious').write_text('ours')
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / '.lock').symlink_to(tmp_path / 'precious')
    with pytest.raises(InputError, match=r'\.lock: the lock file is a symbolic link; remove it'):
        _run(tiny_records, tmp_path / 'run')
    assert (tmp_path / 'precious').read_text() == 'ours'


def _stage(workdir):
    """The folder that the run's only stage is trained in."""
    end = time.monotonic() + 100
    while not (found := list((workdir / 'stages').glob('train-*'))):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found[0]


def _start(records, workdir, said):
    line = [f'--config=tests/tiny.py:{records}', f'--workdir={workdir}']
    line += [f'--config.train.save_every={SAVE}', f'--config.method={METHOD}']
    return background.Program('synseg_jax.main', *line, said=said)


def _wait_for(path, program, seconds=200):
    end = time.monotonic() + seconds
    while not path.exists():
        assert not program.ended(), program.text()
        assert time.monotonic() < end, f'{path} did not appear'
        time.sleep(0.01)


def test_killed_and_stopped_from_outside(tiny_records, straight, tmp_path):
    workdir = tmp_path / 'run'
    killed = _start(tiny_records, workdir, tmp_path / 'killed')
    _wait_for(workdir / 'run.json', killed)
    checkpoints = _stage(workdir) / 'checkpoints'
    _wait_for(checkpoints / '4', killed)
    killed.send(signal.SIGKILL)
    assert killed.end(60) == -signal.SIGKILL
    assert not (checkpoints / str(STEPS)).exists()

    stopped = _start(tiny_records, workdir, tmp_path / 'stopped')
    _wait_for(checkpoints / '12', stopped)
    stopped.send(signal.SIGTERM)
    assert stopped.end(120) == 0, stopped.text()
    said = stopped.text()
    assert re.search('resumes at step [48]\n', said) and 'stopped by SIGTERM: saved step' in said
    assert 'Traceback' not in said and not (workdir / 'results.json').exists()

    results, said = _run(tiny_records, workdir)
    assert results['steps'] == STEPS and 'resumes at step' in said
    _check_same(workdir, straight)


def test_a_finished_run_only_evaluates(tiny_records, straight, tmp_path, monkeypatch):
    workdir = shutil.copytree(straight, tmp_path / 'run', symlinks=True)
    monkeypatch.setattr(pipeline, 'batches', lambda *_: iter(()))
    results, said = _run(tiny_records, workdir)
    assert f'done: {STEPS} steps' in said
    assert results['systems'].keys() == {'synseg'}
    _check_same(workdir, straight)


@pytest.mark.parametrize(
    'field, value',
    [
        ('train__steps', 80),
        ('train__workers', 2),
        ('train__resident_gib', 1.0),
        ('predict__batch', 4),
        ('data_dir', 'x'),
    ],
)
def test_what_may_change(tiny_records, straight, field, value):
    experiment._check_unchanged(tiny.parse(_config(tiny_records, **{field: value})), straight)


@pytest.mark.parametrize(
    'field, value',
    [('rate__generator', 0.5), ('train__batch', 4), ('method', 'synseg'), ('augment__shift', 0.2), ('seed', 3)],
)
def test_a_changed_configuration_is_refused(tiny_records, straight, field, value):
    before = (straight / 'run.json').read_bytes()
    with pytest.raises(InputError, match=rf'was begun with {field.replace("__", ".")}=.*, now .*{value}'):
        _run(tiny_records, straight, **{field: value})
    assert (straight / 'run.json').read_bytes() == before


def test_other_records_are_refused(tiny_records, straight, tmp_path):
    other = shutil.copytree(tiny_records, tmp_path / 'records')
    manifest = other / 'manifest.json'
    manifest.write_text(manifest.read_text().replace('"request": "', '"request": "other '))
    with pytest.raises(InputError, match='was begun with other records'):
        _run(other, straight)


def test_one_run_at_a_time(tiny_records, straight, tmp_path):
    workdir = shutil.copytree(straight, tmp_path / 'run', symlinks=True)
    (workdir / 'results.json').unlink()
    with (workdir / '.lock').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        released = threading.Timer(1, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        released.start()
        _, said = _run(tiny_records, workdir)
        released.join()
    assert f'another run is at work in {workdir}; waiting for it' in said and (workdir / 'results.json').exists()


def test_waiting_for_another_run_can_be_stopped(tiny_records, tmp_path):
    with (tmp_path / '.lock').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        results, said = _run(tiny_records, tmp_path)
    assert results == {} and 'stopped by SIGTERM; run the same command to resume' in said
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']
