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
from jaxtyping import Array, Int

from synseg_jax.batches import pipeline
from synseg_jax.batches.device_cache import Resident
from synseg_jax.benchmarks import random_records, scan_speed
from synseg_jax.benchmarks.flops import flops
from synseg_jax.benchmarks.memory_estimate import estimate
from synseg_jax.benchmarks.scan_speed import clocked, smooth
from synseg_jax.devices import parallel
from synseg_jax.devices.environment import GIB
from synseg_jax.inference.run_networks import Networks
from synseg_jax.networks import dtype
from synseg_jax.objective import names
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System

WARM_UP = 3


class Timing:
    """One system with random weights on random images."""

    def __init__(self, system: System, images: int = 0):
        self.system, self.over = system, parallel.mesh(system.config.train.devices)
        self.images = images  # of an epoch
        self.batch = system.config.train.batch
        rng = np.random.default_rng(0)
        self.data = {name: self._random(rng, name) for name in sorted(system.arrays)}

    def _random(self, rng, name):
        shape, classes = (self.batch, *self.system.size), len(self.system.classes)
        if names.is_label(name):
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
        """Without end: seconds of a train step on a batch that is there, with batches read and with taken ones.

        The former from records on disk, the latter from records that the devices hold.  Medians, and the means of the
        CPU seconds of this process.
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
                    for name, batches in (('step', repeat(there)), ('fed_step', read), ('resident_step', taken)):
                        state, spent = _run(self.step, state, islice(batches, steps))
                        found |= {f'{name}_{unit}': seconds for unit, seconds in spent.items()}
                    yield found

    def epoch(self, steps: int) -> Iterator[dict[str, float]]:
        """Without end: seconds that an epoch of the images takes, by so many of its steps with batches read."""
        state, lay = self._first(), partial(parallel.place, over=self.over, spec=parallel.SHARDED)
        with tempfile.TemporaryDirectory() as folder, closing(self._read(self._pools(folder), lay)) as read:
            state, _ = _run(self.step, state, islice(read, 1))
            while True:
                state, spent = _run(self.step, state, islice(read, steps))
                yield {f'epoch_{unit}': max(1, self.images // self.batch) * of for unit, of in spent.items()}

    def segmenting(self, rows: int, steps: int) -> Iterator[dict[str, float]]:
        """Without end: seconds in which the segmentor names the classes of `rows` images on the device, as `rounds`.

        And those from and to the host's memory, as `predict` asks for probabilities.  Nothing where no segmentor is
        trained; so too `predicting`.
        """
        if self.system.segmentor('b'):
            yield from self._seeing('inference', self.classes, partial(Networks.votes, domain='b'), rows, steps)

    @cached_property
    def classes(self) -> Callable[..., Int[Array, 'b *space']]:
        """`classes(params, images)` are those that the segmentor names, from its logits alone."""

        def named(params, images):
            logits = self.system.view(params).segment(names.domain(self.system.segmentor('b')), images)
            return logits.argmax(-1) if logits.shape[-1] > 1 else (logits[..., 0] > 0).astype(int)

        return jax.jit(named)

    def synthesizing(self, rows: int, steps: int) -> Iterator[dict[str, float]]:
        """The same of the generator that makes images of domain b; nothing where none is trained."""
        if generator := self.system.translations.get('g_ab'):
            yield from self._seeing('synthesis', generator, partial(Networks.translate, source='a'), rows, steps)

    def _seeing(self, name, function, hosted, rows, steps):
        """Seconds of `function(params, images)` on the device, and of `hosted(networks, images)` on the host."""
        networks = Networks(self.system, self._first().params, rows)
        images = np.resize(self.data[sorted(self.data)[0]], (rows, *self.system.size, self.system.channels))
        held = parallel.place(images, self.over, parallel.REPLICATED)
        for _ in range(WARM_UP):
            jax.block_until_ready(function(networks.params, held))
            hosted(networks, images)
        while True:
            alone = _paced(function(networks.params, held) for _ in range(steps))
            found = {f'{name}_{unit}': seconds for unit, seconds in alone.items()}
            yield found | {f'hosted_{name}_s': _median(lambda: hosted(networks, images), steps)}

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
            yield from scan_speed.predicting(self.system, self._first().params, shape)

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
    """The state after a step on each batch, and the seconds of one as `_paced` tells them."""

    def start(batch):
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    spent = _paced(map(start, batches))
    return state, spent


def _paced(started: Iterable) -> dict[str, float]:
    """Median seconds from end to end of what is started, each before the one before has ended, as in training: `s`.

    And the mean of the seconds that this process keeps the cores busy, `cpu_s`.
    """
    busy = time.process_time()
    ends, running = [time.perf_counter()], deque()

    def wait():
        jax.block_until_ready(running.popleft())
        ends.append(time.perf_counter())

    for one in started:
        running.append(one)
        if len(running) > 1:
            wait()
    wait()
    seconds = [later - before for before, later in pairwise(ends)]
    return {'s': statistics.median(seconds), 'cpu_s': (time.process_time() - busy) / len(seconds)}


def _median(function, steps) -> float:
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
