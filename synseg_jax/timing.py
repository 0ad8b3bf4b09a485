"""How fast a system trains and segments on the devices at hand, and what one step costs."""

import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from synseg_jax import scan_timing
from synseg_jax.data import pipeline
from synseg_jax.data.records import Records, RecordWriter, encode
from synseg_jax.flops import flops
from synseg_jax.networks import dtype
from synseg_jax.scan_timing import clocked, smooth
from synseg_jax.training import parallel
from synseg_jax.training.inference import Networks
from synseg_jax.training.memory import estimate
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System
from synseg_jax.training.terms import View

WARM_UP = 3
RECORDED = 64  # random records that the pipeline reads over and over
GIB = 2**30


class Timing:
    """One system with random weights on random images."""

    def __init__(self, system: System):
        self.system, self.over = system, parallel.mesh(system.config.train.devices)
        self.batch = system.config.train.batch
        rng = np.random.default_rng(0)
        self.data = {name: self._random(rng, name) for name in sorted(system.arrays)}

    def _random(self, rng, name):
        shape, classes = (self.batch, *self.system.size), len(self.system.classes)
        if name.startswith('label'):
            return np.minimum(smooth(rng, shape) * classes, classes - 1).astype(np.int32)
        return smooth(rng, (*shape, 1 + 2 * self.system.config.context.slices))

    @cached_property
    def step(self) -> Callable:
        """The compiled train step."""
        state = self.system.abstract_state(self.over)
        placed = parallel.place(self.data, self.over, parallel.SHARDED)
        began = time.perf_counter()
        compiled = self.system.step(1000, self.over).lower(state, placed).compile()
        self.compile_seconds = time.perf_counter() - began
        return compiled

    def cost(self) -> dict[str, float]:
        """Seconds to compile a step, its FLOPs, and the memory it needs, GiB on each device."""
        memory = self.step.memory_analysis()
        needed = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
        needed -= memory.alias_size_in_bytes
        guess = estimate(self.system)
        return {
            'compile_s': round(self.compile_seconds, 1),
            'gflop': flops(self.step) / 1e9 * self.over.size,
            'compiled_gib': needed / GIB,
            'estimated_gib': guess.peak / GIB,
            'estimated_at_once_gib': guess.at_once / GIB,
        }

    def rounds(self, steps: int) -> Iterator[dict[str, float]]:
        """Without end: median seconds of a train step on a batch that is there, and with batches from records."""
        state, held = self._first(), parallel.place(self.data, self.over, parallel.SHARDED)
        state, _ = _run(self.step, state, [held] * WARM_UP)
        ready = partial(parallel.place, over=self.over, spec=parallel.SHARDED)
        with tempfile.TemporaryDirectory() as folder, closing(self._batches(Path(folder), ready)) as fed:
            while True:
                state, alone = _run(self.step, state, [held] * steps)
                state, fed_times = _run(self.step, state, (next(fed) for _ in range(steps)))
                yield {'step_s': alone, 'fed_step_s': fed_times}

    def segmenting(self, rows: int, steps: int) -> Iterator[dict[str, float]]:
        """Without end: median seconds in which the segmentor names the classes of `rows` images on the device.

        And those from and to the host's memory, as `predict` asks for probabilities.  Nothing where no segmentor is
        trained; so too `predicting`.
        """
        name = self.system.segmentor('b')
        if not name:
            return
        networks = Networks(self.system, self._first().params, rows)
        images = np.resize(self.data[sorted(self.data)[0]], (rows, *self.system.size, self.system.channels))
        held = parallel.place(images, self.over, parallel.REPLICATED)
        name_classes = jax.jit(lambda p, x: View(self.system.apply, p, {}).segment(name[-1], x).argmax(-1))
        for _ in range(WARM_UP):
            jax.block_until_ready(name_classes(networks.params, held))
            networks.votes(images, 'b')
        while True:
            alone = _paced(name_classes(networks.params, held) for _ in range(steps))
            yield {'inference_s': alone, 'hosted_inference_s': _median(lambda: networks.votes(images, 'b'), steps)}

    def delivering(self, seconds: float = 3.0) -> Iterator[dict[str, float]]:
        """Without end: rows a second that the pipeline alone delivers, and a CPU second if it reads in threads."""
        with tempfile.TemporaryDirectory() as folder:
            incoming = self._batches(Path(folder))
            next(incoming)
            while True:
                began, count = time.perf_counter(), 0
                with clocked() as spent:
                    while time.perf_counter() - began < seconds:
                        next(incoming)
                        count += self.batch
                if self.system.config.train.workers:
                    del spent['cpu_s']  # of other processes it is not known
                yield {f'pipeline_rows_per_{unit}': count / of for unit, of in spent.items()}

    def predicting(self, shape: Sequence[int]) -> Iterator[dict[str, float]]:
        """As `scan_timing.predicting`."""
        if self.system.segmentor('b'):
            yield from scan_timing.predicting(self.system, self._first().params, shape)

    def _first(self):
        return parallel.place(self.system.first_state(self.over), self.over, LAYOUT)

    def _batches(self, folder, ready=None) -> Iterator[dict[str, np.ndarray]]:
        """Batches of random records, read and decoded as in training."""
        pools = {}
        for domain in self.system.domains:
            with RecordWriter(folder / f'{domain}.array_record') as writer:
                for i in range(RECORDED):
                    row = {name: self.data[name][i % self.batch] for name in self.data if name[-1] == domain}
                    label = row.get(f'label_{domain}')
                    image = row[domain][..., :1] if domain in row else np.zeros((*self.system.size, 1), np.float32)
                    writer.write(encode(image, None if label is None else label.astype(np.uint8), 0, i))
            # in a pool as large as real ones are: in a small one, grain spends most of its time on the shuffle
            records = [Records(folder / f'{domain}.array_record')] * 32
            pools[domain] = pipeline.Pool(records, [RECORDED] * len(records))
        workers = self.system.config.train.workers
        return pipeline.batches(pools, self.batch, 0, 0, 10**6, workers, self.system.arrays, ready=ready)


def matrix_peak(kind: str) -> float:
    """FLOP/s of a large matrix product on one device, the best of ten."""
    size = 8192 if jax.default_backend() != 'cpu' else 1024
    product = jax.jit(lambda x, y: jnp.dot(x, y, preferred_element_type=x.dtype))
    x = jax.random.normal(jax.random.key(0), (size, size), dtype(kind))  # a GPU is faster at ones than at data
    jax.block_until_ready(product(x, x))
    times = []
    for _ in range(10):
        began = time.perf_counter()
        jax.block_until_ready(product(x, x))
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


def peak_memory_gib() -> float | None:
    """The most that a device has held, where it tells."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max((s['peak_bytes_in_use'] for s in stats if 'peak_bytes_in_use' in s), default=0) / GIB or None


def _run(step, state, batches) -> tuple:
    """The state after a step on each batch, and the median seconds of one."""

    def start(batch):
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    seconds = _paced(map(start, batches))
    return state, seconds


def _paced(started: Iterable) -> float:
    """Median seconds from end to end of what is started, each before the one before has ended, as in training."""
    ends, running = [time.perf_counter()], deque()

    def wait():
        jax.block_until_ready(running.popleft())
        ends.append(time.perf_counter())

    for one in started:
        running.append(one)
        if len(running) > 1:
            wait()
    wait()
    return statistics.median(later - before for before, later in pairwise(ends))


def _median(function, steps) -> float:
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
