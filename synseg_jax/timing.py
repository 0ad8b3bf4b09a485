"""How fast a system trains and segments on the devices at hand, and what one step costs."""

import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property, partial
from itertools import islice, pairwise, repeat
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from synseg_jax import random_records, scan_timing
from synseg_jax.data import pipeline
from synseg_jax.flops import flops
from synseg_jax.networks import dtype
from synseg_jax.scan_timing import clocked, smooth
from synseg_jax.training import parallel
from synseg_jax.training.inference import Networks
from synseg_jax.training.memory import GIB, estimate
from synseg_jax.training.resident import Resident
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System
from synseg_jax.training.terms import View

WARM_UP = 3


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
        """Without end: median seconds of a train step on a batch that is there, with batches read and with taken ones.

        The former from records on disk, the latter from records that the devices hold.
        """
        state, there = self._first(), parallel.place(self.data, self.over, parallel.SHARDED)
        state, _ = _run(self.step, state, [there] * WARM_UP)
        self.peak_memory_gib = peak_memory_gib()  # before records are held
        lay = partial(parallel.place, over=self.over, spec=parallel.SHARDED)
        with tempfile.TemporaryDirectory() as folder:
            pools = self._pools(folder)
            held = Resident(pools, self.system.arrays, self.over)
            places = {domain: pool.places() for domain, pool in pools.items()}
            read, taken = self._read(pools, lay), self._batches(places, ready=held.batch, threads=0)
            with closing(read), closing(taken):
                jax.block_until_ready([next(read), next(taken)])
                while True:
                    found = {}
                    for name, batches in (('step_s', repeat(there)), ('fed_step_s', read), ('resident_step_s', taken)):
                        state, found[name] = _run(self.step, state, islice(batches, steps))
                    yield found

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
            incoming = self._read(self._pools(folder))
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

    def _pools(self, folder) -> dict[str, pipeline.Pool]:
        return random_records.pools(Path(folder), self.data, self.system.domains, self.system.config.context.slices)

    def _read(self, pools, ready=None) -> Iterator:
        return self._batches(pools, arrays=self.system.arrays, workers=self.system.config.train.workers, ready=ready)

    def _batches(self, pools, **how) -> Iterator:
        return pipeline.batches(pools, self.batch, 0, 0, 10**6, **how)


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
