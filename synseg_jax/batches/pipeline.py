"""Batches of records: unpaired, shuffled, independent of the number of workers and processes.

The position in the data is one integer, the number of global batches consumed.  Global batch k is rows
[k B, (k + 1) B) of one infinite stream, in which each domain is reshuffled every epoch with its own seed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import grain
import numpy as np

from synseg_jax.errors import InputError

AHEAD = 2  # batches prefetched, beside the one in progress


class Pool:
    """The records of one domain: several files as one random access source, optionally balanced over scans.

    `scans` holds the number of records of each scan, file by file.  If balanced, every scan is repeated to as many
    entries as the largest one.
    """

    def __init__(self, sources: Sequence[Sequence], scans: Sequence[int], balanced: bool = False):
        self.sources = sources
        self.first = np.cumsum([0, *(len(source) for source in sources)])
        order = np.arange(self.first[-1])
        if balanced:
            ends = np.cumsum(scans)
            order = np.concatenate(
                [np.resize(order[e - n : e], max(scans)) for e, n in zip(ends, scans, strict=True) if n]
            )
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        place = self.order[index]
        source = int(np.searchsorted(self.first, place, side='right')) - 1
        return self.sources[source][int(place - self.first[source])]

    @property
    def recorded(self) -> int:
        """The number of distinct records."""
        return int(self.first[-1])

    def records(self) -> Iterator[dict[str, np.ndarray]]:
        """Every record once, in index order."""
        return chain.from_iterable(self.sources)

    def places(self, before: int = 0) -> 'Pool':
        """The same pool with record indices, offset by `before`, in place of images."""
        first = (before + self.first).tolist()
        pool = Pool([_Places(n, len(source)) for n, source in zip(first[:-1], self.sources, strict=True)], ())
        pool.order = self.order
        return pool


class _Places(Sequence):
    """A source of `count` record indices from `first` on."""

    def __init__(self, first: int, count: int):
        self.first, self.count = first, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {'image': np.array(self.first + index, np.int32)}


class Mix:
    """Several pools of one domain, interleaved row by row in equal shares whatever their sizes."""

    def __init__(self, pools: Sequence[Pool]):
        self.pools = pools
        self.sources = [source for pool in pools for source in pool.sources]

    def __len__(self) -> int:
        return sum(len(pool) for pool in self.pools)

    @property
    def recorded(self) -> int:
        return sum(pool.recorded for pool in self.pools)

    def records(self) -> Iterator[dict[str, np.ndarray]]:
        return chain.from_iterable(self.sources)

    def places(self) -> 'Mix':
        before = [0, *accumulate(pool.recorded for pool in self.pools)]
        return Mix([pool.places(n) for pool, n in zip(self.pools, before[:-1], strict=True)])


def epoch_steps(pools: Mapping[str, Pool | Mix], batch: int) -> int:
    """Global batches per epoch, which is one pass over the larger domain."""
    return max(1, max(len(pool) for pool in pools.values()) // batch)


def stream(pools: Mapping[str, Pool | Mix], seed: int, arrays: Collection[str] | None = None) -> grain.MapDataset:
    """The infinite stream of rows: each domain reshuffled every epoch, zipped without pairing."""
    for domain, pool in pools.items():
        if not len(pool):
            raise InputError(
                f'domain {domain} has no training slices; prepare more scans or lower data.foreground_share'
            )
    domains = sorted(pools)
    shuffled = [_endless(pools[domain], seed + ord(domain)) for domain in domains]
    return grain.experimental.ZipMapDataset(shuffled).map(_Row(domains, arrays))


def _endless(pool, seed) -> grain.MapDataset:
    """The records of a domain, repeated and reshuffled every epoch."""
    if isinstance(pool, Mix):
        return grain.MapDataset.mix([_endless(part, seed + 1000 * i) for i, part in enumerate(pool.pools)])
    return grain.MapDataset.source(pool).seed(seed).shuffle().repeat()


class _Row:
    """One row of a batch: {domain: image, label_domain: label}, restricted to `arrays` if given."""

    def __init__(self, domains: Sequence[str], arrays: Collection[str] | None):
        self.domains, self.arrays = domains, arrays

    def __call__(self, records):
        row = {}
        for domain, record in zip(self.domains, records, strict=True):
            row[domain] = record['image']
            if 'label' in record:
                row[f'label_{domain}'] = record['label'].astype(np.int32)
        return row if self.arrays is None else {name: row[name] for name in sorted(self.arrays)}


class _Local:
    """The rows of the stream that one process reads, in order."""

    def __init__(self, rows: grain.MapDataset, batch: int, start: int, stop: int, process: int, processes: int):
        self.rows, self.batch, self.start, self.stop = rows, batch, start, stop
        self.share, self.process = batch // processes, process

    def __len__(self):
        return (self.stop - self.start) * self.share

    def __getitem__(self, index):
        batch, row = divmod(index, self.share)
        return self.rows[(self.start + batch) * self.batch + self.process * self.share + row]


def batches(
    pools: Mapping[str, Pool | Mix],
    batch: int,
    seed: int,
    start: int,
    stop: int,
    workers: int = 0,
    arrays: Collection[str] | None = None,
    process: int = 0,
    processes: int = 1,
    ready: Callable[[dict[str, np.ndarray]], Any] | None = None,
    threads: int = 2,
) -> grain.DatasetIterator[Any]:
    """This process's rows of the global batches `start` to `stop`: images in [0, 1], labels as int32.

    `batch` is the global batch size; `workers` the number of reader processes, 0 for `threads` threads of this one;
    `arrays` those to keep.  `ready(rows)` is applied to each batch in a prefetching thread, e.g. to copy it to devices.
    """
    if batch % processes:
        raise InputError(f'a batch of {batch} cannot be split evenly over {processes} processes; change train.batch')
    local = _Local(stream(pools, seed, arrays), batch, start, stop, process, processes)
    rows = grain.MapDataset.source(local).to_iter_dataset(grain.ReadOptions(num_threads=0 if workers else threads))
    if workers:
        rows = rows.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2 * batch))
    rows = rows.batch(batch // processes, drop_remainder=True)  # after the prefetch: before it, rows were lost
    if ready:
        rows = grain.experimental.ThreadPrefetchIterDataset(rows.map(ready), prefetch_buffer_size=AHEAD)
    return iter(rows)
