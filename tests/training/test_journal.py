"""Tables and TensorBoard of a run that was killed, lost power, or filled its disk."""

import csv
import io
import os
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter

from synseg_jax.errors import InputError
from synseg_jax.training import board, metrics_log
from synseg_jax.training.board import Board
from synseg_jax.training.metrics_log import Table

ROWS = [{'step': step, 'seg': step / 3, 'lr': 1e-4} for step in range(2, 12, 2)]


def _table(path, first=0, rows=ROWS):
    table = Table(path, first)
    for row in rows:
        table.add(row)
    return table


def _read(path):
    with path.open(newline='') as file:
        return [(int(row['step']), float(row['seg'])) for row in csv.DictReader(file)]


def _expected(last=10, first=2):
    return [(row['step'], row['seg']) for row in ROWS if first <= row['step'] <= last]


@pytest.fixture
def path(tmp_path):
    _table(tmp_path / 'metrics.csv').sync()
    return tmp_path / 'metrics.csv'


def test_rows_beyond_the_checkpoint_are_written_anew(path):
    _table(path, 6, ROWS[3:])
    assert _read(path) == _expected()


@pytest.mark.parametrize('spoil', [lambda b: b'', lambda b: bytes(len(b)), lambda b: bytes(10**6), lambda b: b'st'])
def test_an_emptied_table_is_begun_anew(path, spoil):
    path.write_bytes(spoil(path.read_bytes()))
    assert Table(path, 6).rows == 0
    _table(path, 6, ROWS[3:])
    assert _read(path) == _expected(first=8)


def test_later_versions_may_add_columns(path):
    table = Table(path, 6)
    table.add({**ROWS[3], 'agreement': 0.5})
    with path.open(newline='') as file:
        rows = [*csv.DictReader(file)]
    assert _read(path) == _expected(8) and [row['agreement'] for row in rows] == ['nan'] * 3 + ['0.5']
    with pytest.raises(InputError, match='has the columns of another run; use another --workdir'):
        table.add(ROWS[4])


@pytest.mark.parametrize('cut', range(1, 30))
def test_a_torn_table_keeps_what_is_whole(path, cut):
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    kept = content[:-cut].count(b'\n') - 1
    assert Table(path, 10).rows == kept
    assert _read(path) == _expected()[:kept]


def test_lines_of_zeros_are_dropped(path):
    lines = path.read_bytes().split(b'\n')
    path.write_bytes(
        b'\n'.join([*lines[:3], bytes(len(lines[3])), lines[4][:3] + bytes(8) + lines[4][11:], *lines[5:]])
    )
    Table(path, 10)
    assert _read(path) == _expected()[:2] + _expected()[4:]


def test_a_planted_link_is_not_followed(path, tmp_path):
    for there in (path, tmp_path / 'absent'):
        link = tmp_path / 'link.csv'
        link.unlink(missing_ok=True)
        link.symlink_to(there)
        before = there.read_bytes() if there.exists() else None
        _table(link, 0)
        assert not link.is_symlink() and _read(link) == _expected()
        assert (there.read_bytes() if there.exists() else None) == before


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no device that is always full')
def test_a_full_disk_is_told(path, tmp_path, monkeypatch):
    table = Table(path, 10)
    table.path = tmp_path / 'full'
    table.path.symlink_to('/dev/full')
    with pytest.raises(InputError, match='full: cannot be written .No space left on device'):
        table.add(ROWS[0])
    monkeypatch.setattr(
        board.EventsWriter, '_write_serialized_event', lambda *_: open('/dev/full', 'w').write('x' * 9999)
    )
    with pytest.raises(InputError, match='tensorboard: cannot be written .No space left on device'):
        Board(tmp_path / 'tensorboard', 0)


def _events(folder):
    """The events of all files, read with their checksums."""
    found = []
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], 'little')
            found.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += length + 16
    return found


def test_tensorboard_is_told_where_a_run_resumes(tmp_path):
    made = Board(tmp_path, 4)
    made.scalars(6, {'lr/g_ab': 0.5, 'seg': 2.0})
    made.image(6, 'both paths', np.zeros((4, 5, 3), np.float32))
    made.close()
    events = _events(tmp_path)
    assert [event.step for event in events if event.HasField('session_log')] == [5]
    values = [(event.step, one.tag) for event in events for one in event.summary.value]
    assert values == [(6, 'lr/g_ab'), (6, 'seg'), (6, 'both_paths')]
    assert events[-1].summary.value[0].image.height == 4


def test_event_files_are_read_by_others(tmp_path):
    """As tensorboardX writes them: the same bytes of the same event."""
    made = Board(tmp_path / 'ours', 0)
    made.close()
    (ours,) = (tmp_path / 'ours').iterdir()
    event = _events(tmp_path / 'ours')[0]
    theirs = RecordWriter(str(tmp_path / 'theirs'))
    theirs.write(event.SerializeToString())
    theirs.close()
    assert ours.read_bytes() == (tmp_path / 'theirs').read_bytes()


@pytest.mark.parametrize('first, steps, told', [(0, 1000, '0:15 min'), (500, 1000, '0:07 min'), (0, 90, '')])
def test_how_long_it_will_take_is_told_at_once(tmp_path, monkeypatch, first, steps, told):
    """After a few steps; the first one, which compiles, does not count; of a short training nothing."""
    now = iter([0.0, 100.0, *(100.0 + 0.016 * 5 for _ in range(20))])  # begin, first step, five steps later
    monkeypatch.setattr(metrics_log.time, 'perf_counter', lambda: next(now))
    console = Console(file=io.StringIO(), width=200)
    journal = metrics_log.Journal(tmp_path, 'one', console=console)
    journal.begin(first, SimpleNamespace(steps=steps, steps_per_epoch=10, batch=4))
    for done in range(first + 1, first + 9):
        journal.tick(done, 0.0)
    lines = [line for line in console.file.getvalue().splitlines() if 'about' in line]
    assert len(lines) == bool(told) and all(f'about {told} of training' in line for line in lines)


def test_curves_are_drawn_when_there_is_something_new(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(metrics_log.training_curves, 'curves', lambda *paths, modality: drawn.append((paths, modality)))
    journal = metrics_log.Journal(tmp_path, 'one', 'images', Console(quiet=True), {'a': 'MR', 'b': 'CT'})
    journal.begin(0, SimpleNamespace(steps=9, steps_per_epoch=3, batch=2))
    journal.curves()
    assert not drawn  # nothing is logged yet
    for done in (3, 6):
        journal.log(done, {'seg_a': 1.0})
        journal.score(done, {'score': 0.5})
        journal.curves()
        journal.curves()
    names = ('curves.png', 'metrics.csv', 'validation.csv')
    assert drawn == [(tuple(tmp_path / name for name in names), {'a': 'MR', 'b': 'CT'})] * 2
    journal.end()
