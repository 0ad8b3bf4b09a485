"""Batches depend on the seed and on their number alone: not on workers, processes or where reading starts."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tiny

from synseg_jax.batches.pipeline import Mix, Pool, batches, epoch_steps, stream
from synseg_jax.errors import InputError
from synseg_jax.preparation.records import Manifest

BATCH = 4


def _record(domain, number):
    return {'image': np.full((2, 2, 1), number, np.float32), 'label': np.full((2, 2), ord(domain), np.uint8)}


def _pools(a=11, b=6, balanced=False, scans=None):
    scans = scans or {'a': [a], 'b': [b]}
    count = {'a': a, 'b': b}
    return {d: Pool([[_record(d, i) for i in range(count[d])]], scans[d], balanced) for d in 'ab'}


def _numbers(pools, domain, rows, start=0, seed=3):
    """Which record of `domain` each row of the stream shows."""
    drawn = stream(pools, seed)
    return [int(drawn[i][domain].flat[0]) for i in range(start, start + rows)]


@pytest.fixture(scope='module')
def read(tiny_records):
    """Global batches of the tiny records: read(start, stop, **where)."""
    manifest = Manifest.load(tiny_records)
    pools = {
        domain: Pool([manifest.records(name, 'train')], [c['records'] for c in manifest.role(name, 'train')['cases']])
        for domain, name in (('a', 'source'), ('b', 'target'))
    }

    def read(start, stop, **where):
        return list(batches(pools, BATCH, 7, start, stop, arrays=('a', 'b', 'label_a'), **where))

    return read


def _check_same(found, expected):
    assert len(found) == len(expected)
    for batch, reference in zip(found, expected, strict=True):
        assert batch.keys() == reference.keys()
        for name, values in reference.items():
            assert batch[name].dtype == values.dtype
            np.testing.assert_array_equal(batch[name], values)


@pytest.mark.parametrize('workers', [3])
def test_workers_change_nothing(read, workers):
    # 14 batches reach into the third epoch of the larger domain, which has 6
    _check_same(read(0, 14, workers=workers), read(0, 14))


@pytest.mark.parametrize('workers', [0, 2])
def test_restart_is_the_tail(read, workers):
    _check_same(read(5, 9, workers=workers), read(0, 9)[5:])
    assert read(9, 9) == []


@pytest.mark.parametrize('processes', [2, 4])
def test_processes_share_a_batch(read, processes):
    parts = [read(2, 9, process=p, processes=processes) for p in range(processes)]
    assert all(len(part[0]['a']) == BATCH // processes for part in parts)
    joined = [{name: np.concatenate([p[name] for p in rows]) for name in rows[0]} for rows in zip(*parts, strict=True)]
    _check_same(joined, read(2, 9))


def test_uneven_processes(read):
    with pytest.raises(InputError, match='batch of 4 cannot be split evenly over 3 processes'):
        read(0, 1, process=0, processes=3)


def test_batches_are_images_and_labels(read):
    batch = read(0, 1)[0]
    assert batch['a'].shape == batch['b'].shape == (BATCH, 32, 32, 1) and batch['a'].dtype == np.float32
    assert 0 <= batch['a'].min() and batch['a'].max() <= 1 and batch['a'].std() > 0.1
    assert batch['label_a'].shape == (BATCH, 32, 32) and batch['label_a'].dtype == np.int32
    assert set(np.unique(batch['label_a'])) == {0, 1, 2}


def test_an_epoch_shows_every_slice_once():
    pools = _pools()
    assert epoch_steps(pools, BATCH) == 11 // BATCH
    for domain, count in (('a', 11), ('b', 6)):
        epochs = [_numbers(pools, domain, count, start) for start in range(0, 4 * count, count)]
        assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    # an epoch's batches hold all slices but for the remainder, which the next one begins with
    rows = _numbers(pools, 'a', 11)
    shown = [int(x) for batch in batches(pools, BATCH, 3, 0, 11 // BATCH) for x in batch['a'][:, 0, 0, 0]]
    assert shown == rows[: 11 // BATCH * BATCH]


def test_domains_are_not_paired():
    pools = _pools(12, 12)
    a, b = (_numbers(pools, domain, 120) for domain in 'ab')
    assert len(set(zip(a, b, strict=True))) > 40  # pairs met over ten epochs; paired domains would show 12
    assert a[:12] != b[:12]


def test_seeds_differ():
    pools = _pools(40, 30)
    for domain in 'ab':
        assert _numbers(pools, domain, 30, seed=3) == _numbers(pools, domain, 30, seed=3)
        assert _numbers(pools, domain, 30, seed=3) != _numbers(pools, domain, 30, seed=4)


def test_balanced_scans_are_drawn_equally():
    scans = {'a': [6, 1, 0, 4], 'b': [6]}
    pools = _pools(11, 6, balanced=True, scans=scans)
    assert len(pools['a']) == 18 and epoch_steps(pools, BATCH) == 18 // BATCH
    counts = np.bincount(_numbers(pools, 'a', 18), minlength=11)
    assert [counts[:6].sum(), counts[6], counts[7:].sum()] == [6, 6, 6]
    assert counts[:6].tolist() == [1] * 6 and sorted(counts[7:]) == [1, 1, 2, 2]


def test_mixed_pools_take_turns():
    real, made = Pool([[_record('b', i) for i in range(3)]], [3]), Pool([[_record('b', 10 + i) for i in range(7)]], [7])
    pools = {**_pools(), 'b': Mix([real, made])}
    assert epoch_steps(pools, 2) == 11 // 2 and len(pools['b']) == 10
    numbers = _numbers(pools, 'b', 84)
    assert all(number < 10 for number in numbers[::2]) and all(number >= 10 for number in numbers[1::2])
    assert sorted(numbers[:6:2]) == [0, 1, 2] and sorted(numbers[1:14:2]) == list(range(10, 17))
    assert numbers[:6:2] != numbers[6:12:2] or numbers[:6:2] != numbers[12:18:2]  # every pool is shuffled anew
    rows = list(batches(pools, BATCH, 7, 2, 4, arrays=('b',)))
    assert [int(i) for batch in rows for i in batch['b'][:, 0, 0, 0]] == _numbers(pools, 'b', 8, start=8, seed=7)


def test_several_files_are_one_pool():
    files = [[_record('a', i) for i in (0, 1)], [], [_record('a', i) for i in (2, 3, 4)]]
    pool = Pool(files, [2, 0, 3])
    assert [int(pool[i]['image'].flat[0]) for i in range(len(pool))] == [0, 1, 2, 3, 4]


def test_only_the_arrays_asked_for():
    batch = next(batches(_pools(), BATCH, 0, 0, 1, arrays={'b', 'label_a'}))
    assert set(batch) == {'b', 'label_a'}
    assert (batch['label_a'] == ord('a')).all()
    assert set(next(batches(_pools(), BATCH, 0, 0, 1))) == {'a', 'b', 'label_a', 'label_b'}
    alone = next(batches({'a': _pools()['a']}, BATCH, 0, 0, 1, arrays={'a'}))
    assert set(alone) == {'a'}


def test_an_empty_domain_is_named():
    pools = {**_pools(), 'b': Pool([[]], [])}
    with pytest.raises(InputError, match='domain b has no training slices'):
        batches(pools, BATCH, 0, 0, 1)


@pytest.mark.parametrize('workers', [0, 2])
def test_a_vanished_file_is_named(tmp_path, workers):
    """Seen from outside: a reader that hung would hang here too."""
    records = tiny.write_records(tmp_path)
    code = f"""
        from pathlib import Path
        from absl import flags
        from synseg_jax.batches.pipeline import Pool, batches
        from synseg_jax.preparation.records import Manifest
        from synseg_jax.errors import InputError
        if __name__ == '__main__':
            flags.FLAGS(['test'])
            manifest = Manifest.load({str(records)!r})
            pools = {{'a': Pool([manifest.records('source', 'train')], [24])}}
            manifest.path('source', 'train').unlink()
            try:
                for _ in batches(pools, 4, 0, 0, 9, workers={workers}):
                    pass
            except InputError as error:
                print('refused:', str(error))
    """
    script = tmp_path / 'read.py'
    script.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, 'PYTHONPATH': str(tiny.ROOT)},
    )
    assert 'refused:' in done.stdout and 'source.train.array_record' in done.stdout, done.stderr[-2000:]
