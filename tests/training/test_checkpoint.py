"""Checkpoints come back to the bit on any number of devices; a damaged one is passed over, aloud."""

import errno
import json
import os
import resource
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.early_stop import EarlyStop
from synseg_jax.training.image_pool import Past
from synseg_jax.training.state import LAYOUT, State, create


def _state(step: int = 0, devices: int = 1) -> State:
    """A state whose every array depends on `step`, its history sharded over the devices."""
    rng = np.random.default_rng(step)
    params = {'g_ab': {'kernel': rng.normal(size=(3, 3, 2)).astype(np.float32)}, 's_b': {'bias': np.float32([step])}}
    params = jax.tree.map(jnp.asarray, params)
    past = {'b': Past(jnp.asarray(rng.random((8, 2, 4, 4, 1), np.float32)), jnp.arange(8, dtype=jnp.int32) + step)}
    state = create(params, dict.fromkeys(params, optax.scale_by_adam()), past, averaged=True)
    state = state.replace(step=jnp.asarray(step, jnp.int32), skipped=jnp.asarray(2 * step, jnp.int32))
    state = state.replace(optimizer=jax.tree.map(lambda x: x + step, state.optimizer))
    return parallel.place(state, parallel.mesh(devices), LAYOUT)


@pytest.fixture
def said():
    """What the checkpoints told the user."""
    return []


@pytest.fixture
def opened(tmp_path, said):
    """Opens the checkpoints of one folder, each time as a new process would."""
    made = []

    def opened(keep=2):
        made.append(Checkpoints(tmp_path / 'checkpoints', keep, said.append))
        return made[-1]

    yield opened
    for checkpoints in made:
        checkpoints.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'checkpoints'


def _save(checkpoints, **scores):
    """Saves states of these steps, written step4=0.5."""
    for name, score in scores.items():
        checkpoints.save(_state(int(name.removeprefix('step'))), score)
    checkpoints.close()


def _steps(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def _spoil(folder, how):
    """Damages one checkpoint in the way `how`."""
    files = sorted(path for path in folder.rglob('*') if path.is_file() and path.stat().st_size)
    largest = max(files, key=lambda path: path.stat().st_size)
    if how == 'truncated':
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    elif how == 'zero-filled':
        for path in files:
            path.write_bytes(bytes(path.stat().st_size))
    elif how == 'one bit':
        for path in (path for path in files if path.parent.name == 'd'):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 16
            path.write_bytes(content)
    elif how == 'other arrays':  # readable, but not those that were saved
        sums = json.loads((folder / 'sums' / 'metadata').read_text())
        (folder / 'sums' / 'metadata').write_text(json.dumps({name: crc ^ 1 for name, crc in sums.items()}))
    elif how == 'no sums':
        for path in (folder / 'sums').iterdir():
            path.unlink()
    elif how == 'no metadata':
        for path in (path for path in files if path.name.startswith('_') or path.name.startswith('manifest')):
            path.unlink()
    elif how == 'metrics emptied':
        for path in (path for path in files if path.parent.name == 'metrics'):
            path.write_bytes(b'')
        largest.write_bytes(b'')
    else:
        raise ValueError(how)


SPOILT = ('truncated', 'zero-filled', 'one bit', 'other arrays', 'no sums', 'no metadata', 'metrics emptied')


def test_round_trip(opened, said):
    _save(opened(), step4=0.5, step8=0.25)
    again = opened()
    assert tiny.same(again.latest(_state()), _state(8))
    assert tiny.same(again.best(_state()), _state(4))
    assert (again.score(4), again.score(8)) == (0.5, 0.25)
    assert said == []


def test_early_stopping_goes_with_its_checkpoint(opened, said):
    checkpoints, known = opened(), EarlyStop(0.25, 3, 5)
    checkpoints.save(_state(4), 0.5, known)
    _save(checkpoints, step8=0.6)
    again = opened()
    for step, expected in ((4, known), (8, EarlyStop())):
        assert tiny.same(again.at(step, _state()), _state(step)) and again.early_stop == expected
    assert said == []


def test_nothing_saved(opened):
    assert opened().latest(_state()) is None
    with pytest.raises(InputError, match='no readable checkpoint; train first'):
        opened().best(_state())


def test_latest_and_best_are_kept(opened, folder):
    _save(opened(keep=2), step1=0.1, step2=0.9, step3=0.3, step4=None, step5=0.2)
    assert _steps(folder) == [2, 4, 5]
    assert tiny.same(opened().best(_state()), _state(2))


def test_without_scores_the_latest_is_best(opened, folder):
    _save(opened(keep=2), step1=None, step2=None, step3=None)
    assert _steps(folder) == [2, 3]
    assert tiny.same(opened().best(_state()), _state(3))


def test_a_score_of_zero_is_a_score(opened):
    _save(opened(), step1=0.0, step2=None)
    assert tiny.same(opened().best(_state()), _state(1))


def test_equal_scores_choose_the_later(opened):
    _save(opened(), step1=0.5, step2=0.5)
    assert tiny.same(opened().best(_state()), _state(2))


@pytest.mark.parametrize('how', SPOILT)
def test_damage_is_passed_over(opened, folder, said, how):
    _save(opened(), step4=0.1, step8=0.9)
    _spoil(folder / '8', how)
    again = opened()
    assert tiny.same(again.latest(_state()), _state(4))
    assert any('8 is damaged, trying the previous one' in line for line in said)
    assert all('\n' not in line for line in said)
    assert tiny.same(opened().best(_state()), _state(4))


def test_damage_is_replaced(opened, folder, said):
    """Training that went on from the one before saves its step anew."""
    _save(opened(), step4=0.1, step8=0.2)
    _spoil(folder / '8', 'truncated')
    again = opened()
    again.latest(_state())
    again.save(_state(6), 0.3)
    again.save(_state(8), 0.4)
    again.close()
    assert _steps(folder) == [6, 8]
    said.clear()
    assert tiny.same(opened().latest(_state()), _state(8))
    assert said == []


MEMORY = pytest.param(
    '/proc/self/mem', 'Input/output error', marks=pytest.mark.skipif(sys.platform != 'linux', reason='no /proc')
)


@pytest.mark.parametrize('error', [OSError(errno.EIO, 'Input/output error'), MemoryError()])
def test_a_passing_failure_is_not_damage(opened, said, monkeypatch, error):
    _save(opened(), step4=0.1, step8=0.2)
    again = opened()
    restore, failures = again.manager.restore, [error]

    def failing(*args, **more):
        if failures:
            raise failures.pop()
        return restore(*args, **more)

    monkeypatch.setattr(again.manager, 'restore', failing)
    assert tiny.same(again.latest(_state()), _state(8))
    assert said == [] and again._damaged == set()


@pytest.mark.parametrize(
    'error, told',
    [
        (OSError(errno.EIO, 'Input/output error'), 'Input/output error'),
        (ValueError("UNKNOWN: Error reading local file: Failed [os_error_code='5']"), 'Input/output error'),
        (ValueError('PERMISSION_DENIED: no access'), 'PERMISSION_DENIED: no access'),
        (MemoryError(), 'out of memory'),
    ],
)
def test_a_failing_disk_ends_the_run_and_nothing_is_touched(opened, folder, said, monkeypatch, error, told):
    _save(opened(), step4=0.1, step8=0.2)
    before = {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    again = opened()

    def failing(*_, **__):
        raise error

    monkeypatch.setattr(again.manager, 'restore', failing)
    for ask in (again.latest, again.best):
        with pytest.raises(InputError, match=f'8: cannot be read .{told}.; nothing was changed'):
            ask(_state())
    assert said == [] and {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()} == before
    monkeypatch.undo()
    _save(opened(), step12=0.3)
    assert _steps(folder) == [8, 12]


@pytest.mark.parametrize('part', ['sums/metadata', 'state/manifest.ocdbt', 'state/_METADATA', 'metrics/metrics'])
@pytest.mark.parametrize('target, told', [('itself', 'Too many levels of symbolic links'), MEMORY])
def test_a_file_that_cannot_be_read_is_named(opened, folder, said, part, target, told):
    """The kernel refuses a link to itself, and the first bytes of our memory, to root as well."""
    _save(opened(), step4=0.1, step8=0.2)
    path = folder / '8' / part
    path.unlink()
    path.symlink_to(path if target == 'itself' else target)
    with pytest.raises(InputError, match=f'8/{part}: cannot be read .{told}'):
        opened().latest(_state())
    assert said == [] and path.is_symlink() and _steps(folder) == [4, 8]


def test_permissions_are_told(opened, folder, said, monkeypatch):
    _save(opened(), step4=0.1, step8=0.2)
    plain = Path.open

    def refusing(path, *args, **more):
        if '/8/' in str(path):
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return plain(path, *args, **more)

    _spoil(folder / '8', 'truncated')
    again = opened()
    monkeypatch.setattr(Path, 'open', refusing)
    with pytest.raises(InputError, match='cannot be read .Permission denied'):
        again.latest(_state())
    assert said == [] and again._damaged == set()


def test_a_damaged_checkpoint_is_set_aside(opened, folder, said):
    """Whoever knows better than our checksums finds it there."""
    for n in (1, 2):
        _save(opened(), step4=0.1, step8=0.2)
        _spoil(folder / '8', 'one bit')
        damaged = (folder / '8' / 'state' / 'manifest.ocdbt').read_bytes()
        again = opened()
        again.latest(_state())
        _save(again, step4=0.1, step6=0.3)
        assert _steps(folder) == [4, 6]
        assert said[-1] == f'moved the damaged checkpoint 8 to {folder.with_name("damaged")}'
        assert (folder.with_name('damaged') / f'8.{n}' / 'state' / 'manifest.ocdbt').read_bytes() == damaged


def test_a_full_disk_is_told_and_costs_nothing(opened, folder, said, capfd):
    """A limit on the size of files is met as a full disk is: in the main thread and in those of orbax."""
    _save(opened(), step4=0.1)
    again, (soft, hard) = opened(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(
            InputError, match='checkpoints: cannot be written .File too large.; earlier saves are intact'
        ):
            again.save(_state(8), 0.9)
            again.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capfd.readouterr().err == ''  # neither from the threads of orbax nor from what they leave behind
    assert tiny.same(opened().latest(_state()), _state(4))
    _save(opened(), step8=0.2)
    assert tiny.same(opened().latest(_state()), _state(8)) and said == []


ODD = ('sp ace', '#1', 'a:b', 's3:', 'ä', 'e\u0301', '%20', 'new\nline', 'q\'uo"te', 'x]', '{a}', '~', '-x', 'n' * 250)


@pytest.mark.parametrize('name', ODD)
def test_odd_paths(tmp_path, name):
    for step in (4, 8):
        checkpoints = Checkpoints(tmp_path / name / 'checkpoints')
        _save(checkpoints, **{f'step{step}': 0.5})
    reader = Checkpoints(tmp_path / name / 'checkpoints', alone=True)
    assert tiny.same(reader.latest(_state()), _state(8))
    reader.close()


GLOBS = ('run [left]', 'a*', 'wh?t')
OTHERS = ('a**b', 'back\\slash', 'gs:', os.fsdecode(b'latin\xe9'))


@pytest.mark.parametrize('name', GLOBS + OTHERS)
def test_paths_that_orbax_cannot_use(opened, folder, tmp_path, name):
    with pytest.raises(InputError, match='checkpoints cannot be stored in a path with .*; rename'):
        Checkpoints(tmp_path / name / 'checkpoints')
    assert not (tmp_path / name).exists()
    _save(opened(), step4=0.5)
    folder.parent.joinpath(name).mkdir()
    moved = folder.rename(tmp_path / name / 'checkpoints')
    if name in GLOBS:  # what was moved there can be read
        reader = Checkpoints(moved, alone=True)
        assert tiny.same(reader.best(_state()), _state(4))
        reader.close()
    else:
        with pytest.raises(InputError, match='cannot be stored in a path with'):
            Checkpoints(moved, alone=True)
    (tmp_path / 'link').symlink_to(tmp_path / name)
    _save(Checkpoints(tmp_path / 'link' / 'checkpoints'), step8=0.1)
    assert _steps(moved) == [4, 8]


@pytest.mark.parametrize('how', SPOILT)
def test_all_damaged(opened, folder, how):
    _save(opened(), step4=0.1, step8=0.2)
    for step in ('4', '8'):
        _spoil(folder / step, how)
    with pytest.raises(InputError, match='no checkpoint can be read; remove the folder to start again'):
        opened().latest(_state())
    with pytest.raises(InputError, match='no checkpoint can be read'):
        opened().best(_state())


def test_a_killed_save_is_ignored(opened, folder, said):
    _save(opened(), step4=0.1)
    leftover = folder / '8.orbax-checkpoint-tmp-17'
    (leftover / 'state').mkdir(parents=True)
    (leftover / 'state' / 'manifest.ocdbt').write_bytes(b'half')
    again = opened()
    assert tiny.same(again.latest(_state()), _state(4))
    again.save(_state(8), 0.2)
    again.close()
    assert _steps(folder) == [4, 8]
    assert tiny.same(opened().latest(_state()), _state(8))
    assert said == []


def test_a_step_is_saved_once(opened, folder):
    checkpoints = opened()
    for _ in range(2):
        checkpoints.save(_state(4), 0.5)
    _save(checkpoints, step4=0.7)
    again = opened()
    again.save(_state(4), 0.9)
    assert again.score(4) == 0.5 and _steps(folder) == [4]


def test_a_step_saved_before_its_validation_gets_its_score(opened, folder):
    _save(opened(), step2=0.1, step4=None)
    saved = {path: path.stat().st_ino for path in folder.joinpath('4').rglob('*') if path.is_file()}
    _save(opened(), step4=0.6)
    assert saved.items() <= {path: path.stat().st_ino for path in folder.joinpath('4').rglob('*')}.items()  # kept
    assert opened().score(4) == 0.6
    assert tiny.same(opened().best(_state()), _state(4))


@pytest.mark.parametrize('before, after', [(8, 1), (1, 8), (8, 4)])
def test_devices_may_change(opened, before, after):
    checkpoints = opened()
    checkpoints.save(_state(4, before), 0.5)
    checkpoints.close()
    restored = opened().latest(_state(0, after))
    assert tiny.same(restored, _state(4))
    assert len(restored.image_pool['b'].images.sharding.device_set) == after
    assert restored.image_pool['b'].images.addressable_shards[0].data.shape[0] == 8 // after
