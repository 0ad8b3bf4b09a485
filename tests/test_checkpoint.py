"""Checkpoints come back to the bit on any number of devices; a damaged one is passed over, aloud."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from synseg_jax.errors import InputError
from synseg_jax.training import parallel
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.history import Past
from synseg_jax.training.state import LAYOUT, State, create

# orbax leaves reads under way when one of them has failed, and closes the loop that would receive them
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


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
    assert any('8 is damaged, trying the one before' in line for line in said)
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


def test_a_step_saved_before_its_validation_gets_its_score(opened):
    _save(opened(), step2=0.1, step4=None)
    _save(opened(), step4=0.6)
    assert opened().score(4) == 0.6
    assert tiny.same(opened().best(_state()), _state(4))


@pytest.mark.parametrize('before, after', [(8, 1), (1, 8), (8, 4)])
def test_devices_may_change(opened, before, after):
    checkpoints = opened()
    checkpoints.save(_state(4, before), 0.5)
    checkpoints.close()
    restored = opened().latest(_state(0, after))
    assert tiny.same(restored, _state(4))
    assert len(restored.history['b'].images.sharding.device_set) == after
    assert restored.history['b'].images.addressable_shards[0].data.shape[0] == 8 // after
