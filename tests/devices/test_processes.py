"""Several processes train what one does, on the rows that one reads, and go on where others stopped."""

import itertools
import json
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import background
import forks
import jax
import numpy as np
import one_process
import pytest
import quick
import tiny

from synseg_jax import files
from synseg_jax.devices import message, parallel, processes
from synseg_jax.errors import InputError
from synseg_jax.inference.model_folder import Run
from synseg_jax.preparation.records import Manifest
from synseg_jax.training import loop
from synseg_jax.training.checkpoint import Checkpoints

BATCH, STEPS, SAVE, SIZE = 4, 20, 8, (16, 16)
SPLITS = (1.0, 0.0, 0.0), (0.5, 0.0, 0.5)  # of the source and the target: nothing to validate, two scans to test
FLAGS = ['--config.train.devices=0', f'--config.train.batch={BATCH}', f'--config.train.save_every={SAVE}']
FLAGS += [f'--config.train.steps={STEPS}', '--config.train.decay_steps=0', f'--config.data.size={SIZE}']
FLAGS += [f'--config.data.source_split={SPLITS[0]}', f'--config.data.target_split={SPLITS[1]}']
FLAGS += ['--config.dtype=float64', '--config.param_dtype=float64', '--config.method=synseg_hc']
# Biases in front of a norm have no gradient but rounding; a larger epsilon keeps Adam from making steps of it.
FLAGS += ['--config.optimizer.eps=1e-4', '--config.generator.blocks=0', '--config.segmentor.blocks=0']
FLAGS += [f'--config.rate.{kind}=1e-5' for kind in ('generator', 'discriminator', 'segmentor')]
NUMBERS = itertools.count()  # of groups


class Group:
    """So many processes of one training, in a workdir; `read` is where each tells which rows it read."""

    def __init__(self, count: int, workdir: Path, records: Path, *flags: str):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        self.workdir, told = workdir, workdir.with_name(f'{workdir.name}.{next(NUMBERS)}')
        told.mkdir(parents=True)
        self.read = [told / f'read.{i}' for i in range(count)]
        line = [f'--config=tests/tiny.py:{records}', f'--workdir={workdir}', *FLAGS, *flags]
        if count > 1:
            line += [f'--coordinator=127.0.0.1:{port}', f'--processes={count}']
        self.members = [self._member(i, line) for i in range(count)]

    def _member(self, number, line):
        read = self.read[number]
        line = [*line, f'--process={number}'] if len(self.read) > 1 else line
        environment = {'READ': str(read), 'XLA_FLAGS': quick.FLAGS, 'JAX_ENABLE_X64': '1'}
        said = read.with_name(f'said.{number}')
        return background.Program('tests/one_process.py', *line, said=said, **environment)

    def end(self) -> list[int | None]:
        """The exit codes, once all have ended."""
        return [member.end() for member in self.members]

    def text(self, number: int) -> str:
        """What a process has printed."""
        return self.members[number].text()

    def batches(self) -> dict[int, list[str]]:
        """{number: digests of the rows} of the global batches, put together from what each process read."""
        found: dict[int, list] = {}
        for path in self.read:
            for line in path.read_text().splitlines():
                number, *rows = line.split()
                found.setdefault(int(number), []).append(rows)
        # A process that was killed leaves others with a batch that it has not read.
        whole = {number: parts for number, parts in found.items() if len(parts) == len(self.read)}
        n = BATCH // len(self.read)
        return {k: [row for i in (0, n) for part in parts for row in part[i : i + n]] for k, parts in whole.items()}

    def await_batch(self, number: int) -> None:
        """Returns when the first process has read batch `number`."""
        while not (self.read[0].is_file() and re.search(rf'^{number} ', self.read[0].read_text(), re.MULTILINE)):
            assert not self.members[0].ended(), self.text(0)
            time.sleep(0.05)


def trained(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Every array of the networks of the newest checkpoint, which is of this step."""
    [folder] = workdir.glob('stages/*/checkpoints')
    with jax.enable_x64(True):
        like = Run.load(folder.parent).system.abstract_state(parallel.mesh(1))
        state = Checkpoints(folder, alone=True).latest(like)
    assert int(state.step) == step
    return dict(tiny.arrays(state.params))


def far(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference between two sets of arrays."""
    assert one.keys() == other.keys() and all(array.dtype == np.float64 for array in one.values())
    return max(float(np.abs(array - other[name]).max()) for name, array in one.items())


@pytest.fixture(scope='module')
def records(tmp_path_factory) -> Path:
    """Small images, as XLA is slow at convolutions in float64."""
    fields = {'data__size': SIZE, 'data__source_split': SPLITS[0], 'data__target_split': SPLITS[1]}
    return tiny.write_records(tmp_path_factory.mktemp('p'), **fields)


@pytest.fixture(scope='module')
def single(records, tmp_path_factory) -> Group:
    """One process that trains to the end, uninterrupted."""
    group = Group(1, tmp_path_factory.mktemp('single') / 'run', records)
    assert group.end() == [0], group.text(0)
    return group


def test_any_number_of_processes_trains_the_same_networks_and_goes_on_where_others_stopped(records, single, tmp_path):
    """Two train until one is asked to stop, two go on until one is killed, one ends: as if one had all along."""
    first = Group(2, tmp_path / 'run', records)
    first.await_batch(loop.IN_FLIGHT + 2)  # all have compiled, or the second step could not be over
    first.members[1].send(signal.SIGTERM)
    assert first.end() == [0, 0], first.text(0)
    assert 'batch 4 = 2 x 2' in first.text(0) and 'batch' not in first.text(1)  # the first one alone tells
    stopped = int(re.search(r'a signal to another process: saved step (\d+)', first.text(0))[1])
    assert 2 < stopped < STEPS

    second = Group(2, tmp_path / 'run', records, '--config.train.resident_gib=1')
    second.await_batch(stopped + SAVE)
    second.members[1].send(signal.SIGKILL)
    killed = time.monotonic()
    codes = second.end()
    assert time.monotonic() - killed < 60 and codes == [1, -signal.SIGKILL], codes
    assert 'GiB of records in the memory of every device' in second.text(0)
    assert 'process 0 or another has died' in second.text(0) and f'resumes at step {stopped}' in second.text(0)

    one = Group(1, tmp_path / 'run', records)
    assert one.end() == [0], one.text(0)
    assert int(re.search(r'resumes at step (\d+)', one.text(0))[1]) >= stopped

    read = single.batches()
    for group in (first, second, one):
        found = group.batches()
        assert found and found == {number: read[number] for number in found}
    assert {0, 1, 2} <= first.batches().keys() and min(second.batches()) == stopped
    assert far(trained(tmp_path / 'run', STEPS), trained(single.workdir, STEPS)) < 1e-10
    images = {
        one_process.digest(record['image'])
        for name in ('source', 'target')
        for record in Manifest.load(records).records(name, 'train')
    }
    assert {row for rows in read.values() for row in rows} <= images


def test_all_end_at_once_where_nothing_is_trained(records, tmp_path):
    """The first process waits for a lock, the other, which is asked to stop, in a library for the first."""
    workdir = tmp_path / 'run'
    workdir.mkdir()
    with files.exclusive_lock(workdir / '.lock'):
        two = Group(2, workdir, records)
        while 'another run is at work' not in two.text(0):
            assert not two.members[0].ended(), two.text(0)
            time.sleep(0.1)
        two.members[1].send(signal.SIGTERM)
        assert two.end() == [0, 0], two.text(0)
    assert 'stopped by SIGTERM; run the same command to resume' in two.text(0)
    assert 'died' not in two.text(0) + two.text(1) and not (workdir / 'stages').exists()


def test_scans_that_are_shared_out_are_measured_as_by_one(records, single, tmp_path):
    """Two processes test what one has trained, each some of the scans: every case's measures are the same."""
    alone, shared = single.workdir, tmp_path / 'two'
    shared.mkdir()
    shutil.copytree(alone / 'stages', shared / 'stages', symlinks=True)
    shutil.copy(alone / 'run.json', shared)
    two = Group(2, shared, records)
    assert two.end() == [0, 0], two.text(0)
    sets = [json.loads((workdir / 'synseg' / 'results.json').read_text())['sets'] for workdir in (alone, shared)]
    assert sets[0] == sets[1] and sets[0]['target']['classes']['liver']['dice']['n'] > 1
    drawn = [
        sorted(path.name for path in (workdir / 'synseg').rglob('*') if path.is_file()) for workdir in (alone, shared)
    ]
    assert drawn[0] == drawn[1]


def test_what_is_wrong_is_said_before_anyone_waits():
    with pytest.raises(InputError, match='--process=2 of --processes=2: count from 0'):
        processes.join('localhost:1234', 2, 2)


def test_alone_everything_returns_at_once():
    """With one process: it does all, meets nobody, and is not kept waiting for an answer."""
    assert processes.is_first() and processes.share([1, 2, 3]) == [1, 2, 3]
    assert processes.all_gather({'x': 1}, 'name') == [{'x': 1}]
    with processes.first_then_others('name'):
        processes.barrier('name')
    agreement = processes.Agreement(lambda flag: 1 / 0)
    assert agreement.poll(True) and not agreement.poll(False) and agreement.decide(True)


def test_values_of_different_sizes_are_gathered(monkeypatch):
    """As if a second process gave a larger value than this one."""
    theirs = message.dumps({'x': np.arange(1000)})

    def allgather(ours):
        row = np.int32(len(theirs)) if ours.ndim == 0 else np.frombuffer(theirs.ljust(ours.size, b'\0'), np.uint8)
        return np.stack([ours, row])

    monkeypatch.setattr(processes.jax, 'process_count', lambda: 2)
    monkeypatch.setattr(processes, 'barrier', lambda name: None)
    monkeypatch.setattr(processes.multihost_utils, 'process_allgather', allgather)
    ours, other = processes.all_gather([1, (2.5, None)], 'name')
    assert ours == [1, (2.5, None)] and np.array_equal(other['x'], np.arange(1000))


def test_processes_that_do_not_come_are_said_in_one_line(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    line = [f'--coordinator=127.0.0.1:{port}', '--processes=2', '--process=0', '--init_timeout_s=2']
    ended = forks.command('main', '--config=tests/tiny.py', f'--workdir={tmp_path / "w"}', *line)
    assert ended.returncode == 2, ended.stderr
    assert f'error: the other processes have not connected at 127.0.0.1:{port} within 2 s' in ended.stderr
    assert not (tmp_path / 'w').exists()
