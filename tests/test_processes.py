"""Several processes train what one does, on the rows that one reads, and go on where others stopped."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import forks
import jax
import numpy as np
import one_process
import pytest
import quick
import tiny

from synseg_jax import files
from synseg_jax.data.records import Manifest
from synseg_jax.errors import InputError
from synseg_jax.scans import Run
from synseg_jax.training import loop, parallel, processes
from synseg_jax.training.checkpoint import Checkpoints

BATCH, STEPS, SAVE, SIZE = 4, 20, 8, (16, 16)
ALL = (1.0, 0.0, 0.0)  # of the scans are trained on
FLAGS = ['--config.train.devices=0', f'--config.train.batch={BATCH}', f'--config.train.save_every={SAVE}']
FLAGS += [f'--config.train.steps={STEPS}']
SYSTEM = [
    f'--config.data.size={SIZE}',
    f'--config.data.source_split={ALL}',
    f'--config.data.target_split={ALL}',
    '--config.dtype=float64',
    '--config.param_dtype=float64',
    '--config.method=synseg_hc',
]
# Biases in front of a norm have no gradient but rounding; a larger epsilon keeps Adam from making steps of it.
SYSTEM += ['--config.train.decay_steps=0', '--config.optimizer.eps=1e-4']
SYSTEM += ['--config.generator.blocks=0', '--config.segmentor.blocks=0']
SYSTEM += [f'--config.rate.{kind}=1e-5' for kind in ('generator', 'discriminator', 'segmentor')]


class Group:
    """So many processes of one training, in a workdir; `read` is where each tells which rows it read."""

    def __init__(self, count: int, workdir: Path, records: Path, *flags: str):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        workdir.mkdir(parents=True, exist_ok=True)
        self.read = [workdir / f'read.{count}.{i}' for i in range(count)]
        self.members, self.said = [], []
        for i in range(count):
            line = [sys.executable, 'tests/one_process.py', f'--config=tests/tiny.py:{records}', f'--workdir={workdir}']
            line += [*FLAGS, *flags]
            if count > 1:
                line += [f'--coordinator=127.0.0.1:{port}', f'--processes={count}', f'--process={i}']
            more = {'READ': str(self.read[i]), 'XLA_FLAGS': quick.FLAGS, 'JAX_ENABLE_X64': '1'}
            said = (workdir / f'said.{i}').open('w+')
            start = {'cwd': tiny.ROOT, 'env': {**tiny.environment(), **more}, 'stdout': said}
            self.members.append(subprocess.Popen(line, stderr=subprocess.STDOUT, **start))
            self.said.append(said)

    def end(self, timeout_s: float = 240) -> list[int]:
        """The exit codes, once all have ended."""
        try:
            return [member.wait(timeout_s) for member in self.members]
        finally:
            for member in self.members:
                member.kill()

    def text(self, number: int) -> str:
        """What a process has printed."""
        self.said[number].seek(0)
        return self.said[number].read()

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
            assert self.members[0].poll() is None, self.text(0)
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
    """Small images, as XLA is slow at convolutions in float64, without scans to validate or test: training alone."""
    fields = {'data__size': SIZE, 'data__source_split': ALL, 'data__target_split': ALL}
    return tiny.write_records(tmp_path_factory.mktemp('p'), **fields)


@pytest.fixture(scope='module')
def single(records, tmp_path_factory) -> Group:
    """One process that trains to the end, uninterrupted."""
    group = Group(1, tmp_path_factory.mktemp('single'), records, *SYSTEM)
    assert group.end() == [0], group.text(0)
    return group


def test_any_number_of_processes_trains_the_same_networks_and_goes_on_where_others_stopped(records, single, tmp_path):
    """Four train until one is asked to stop, two go on until one is killed, one ends: as if one had all along."""
    four = Group(4, tmp_path, records, *SYSTEM)
    four.await_batch(loop.IN_FLIGHT + 2)  # all have compiled, or the second step could not be over
    four.members[2].send_signal(signal.SIGTERM)
    assert four.end() == [0] * 4, four.text(0)
    assert 'batch 4 = 4 x 1' in four.text(0) and 'batch' not in four.text(1)  # the first one alone tells
    assert not list(tmp_path.rglob('*.npz'))  # that the processes gave one another
    stopped = int(re.search(r'a signal to another process: saved step (\d+)', four.text(0))[1])
    assert 2 < stopped < STEPS

    two = Group(2, tmp_path, records, *SYSTEM, '--config.train.resident_gib=1')
    two.await_batch(stopped + SAVE)
    two.members[1].kill()
    killed = time.monotonic()
    codes = two.end()
    assert time.monotonic() - killed < 60 and codes[0] == 1, codes
    assert 'GiB of records in the memory of every device' in two.text(0)
    assert 'process 0 or another is gone' in two.text(0) and f'resumes at step {stopped}' in two.text(0)

    one = Group(1, tmp_path, records, *SYSTEM)
    assert one.end() == [0], one.text(0)
    assert int(re.search(r'resumes at step (\d+)', one.text(0))[1]) >= stopped

    read = single.batches()
    for group in (four, two, one):
        found = group.batches()
        assert found and found == {number: read[number] for number in found}
    assert {0, 1, 2} <= four.batches().keys() and min(two.batches()) == stopped
    assert far(trained(tmp_path, STEPS), trained(single.read[0].parent, STEPS)) < 1e-10
    images = {
        one_process.digest(record['image'])
        for name in ('source', 'target')
        for record in Manifest.load(records).records(name, 'train')
    }
    assert {row for rows in read.values() for row in rows} <= images


def test_all_end_at_once_where_nothing_is_trained(records, tmp_path):
    """The first process waits for a lock, the other, which is asked to stop, in a library for the first."""
    with files.exclusive_lock(tmp_path / '.lock'):
        two = Group(2, tmp_path, records, *SYSTEM)
        while 'another run is at work' not in two.text(0):
            assert two.members[0].poll() is None, two.text(0)
            time.sleep(0.1)
        two.members[1].send_signal(signal.SIGTERM)
        assert two.end() == [0, 0], two.text(0)
    assert 'stopped by SIGTERM; the same command goes on from there' in two.text(0)
    assert 'gone' not in two.text(0) + two.text(1) and not (tmp_path / 'stages').exists()


def test_scans_that_are_shared_out_are_measured_as_by_one(tmp_path):
    """Two processes test what one has trained, each some of the scans: every case's measures are the same."""
    records = tiny.write_records(tmp_path, data__target_split=(0.5, 0.0, 0.5))
    workdirs = tmp_path / 'one', tmp_path / 'two'
    flags = ['--config.method=supervised', '--config.train.steps=1', '--config.train.decay_steps=0']
    flags += ['--config.data.target_split=(0.5, 0.0, 0.5)']
    one = Group(1, workdirs[0], records, *flags)
    assert one.end() == [0], one.text(0)
    workdirs[1].mkdir()
    for name in ('stages', 'run.json'):
        subprocess.run(['cp', '-r', workdirs[0] / name, workdirs[1]], check=True)
    two = Group(2, workdirs[1], records, *flags)
    assert two.end() == [0, 0], two.text(0)
    sets = [json.loads((workdir / 'synseg' / 'results.json').read_text())['sets'] for workdir in workdirs]
    assert sets[0] == sets[1] and sets[0]['target']['classes']['liver']['dice']['n'] > 1
    drawn = [sorted(path.name for path in (workdir / 'synseg').rglob('*') if path.is_file()) for workdir in workdirs]
    assert drawn[0] == drawn[1]


def test_what_is_wrong_is_said_before_anyone_waits():
    with pytest.raises(InputError, match='--process=2 of --processes=2: count from 0'):
        processes.join('localhost:1234', 2, 2)


def test_alone_everything_returns_at_once(tmp_path):
    """With one process: it does all, meets nobody, and is not kept waiting for an answer."""
    assert processes.is_first() and processes.share([1, 2, 3]) == [1, 2, 3]
    assert processes.gathered({'x': 1}, tmp_path, 'name') == [{'x': 1}] and not list(tmp_path.iterdir())
    with processes.first_then_others('name'):
        processes.meet('name')
    agreement = processes.Agreement(lambda flag: 1 / 0)
    assert agreement.poll(True) and not agreement.poll(False) and agreement.decide(True)


def test_processes_that_do_not_come_are_said_in_one_line(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    line = [f'--coordinator=127.0.0.1:{port}', '--processes=2', '--process=0', '--init_timeout_s=2']
    ended = forks.command('main', '--config=tests/tiny.py', f'--workdir={tmp_path / "w"}', *line)
    assert ended.returncode == 2, ended.stderr
    assert f'error: the other processes have not come at 127.0.0.1:{port} within 2 s' in ended.stderr
    assert not (tmp_path / 'w').exists()
