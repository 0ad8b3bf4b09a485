"""Time training and inference of a system on this machine's devices, and count the cost of a train step."""

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
from synseg_jax.benchmarks.scan_speed import smooth, timer
from synseg_jax.devices import parallel
from synseg_jax.devices.environment import GIB, device_peak_gib
from synseg_jax.inference.run_networks import Networks
from synseg_jax.networks import dtype
from synseg_jax.objective import names
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System

WARM_UP = 3


class Timing:
    """A system with random weights on random images.

    The generators of times are endless: each item is one round, {name: seconds or rate}.
    """

    def __init__(self, system: System, images: int = 0):
        self.system, self.over = system, parallel.mesh(system.config.train.devices)
        self.images = images  # per epoch
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
        """The compiled train step; its compile time is in `compile_seconds`."""
        state = self.system.abstract_state(self.over)
        placed = parallel.place(self.data, self.over, parallel.SHARDED)
        start = time.perf_counter()
        compiled = self.system.step(1000, self.over).lower(state, placed).compile()
        self.compile_seconds = time.perf_counter() - start
        return compiled

    def cost(self) -> dict[str, float]:
        """Seconds to compile a step, its GFLOPs on all devices, and its memory, GiB per device."""
        memory = self.step.memory_analysis()
        total = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
        total -= memory.alias_size_in_bytes
        estimated = estimate(self.system)
        return {
            'compile_s': round(self.compile_seconds, 1),
            'gflop': flops(self.step) / 1e9 * self.over.size,
            'compiled_gib': total / GIB,
            'estimated_gib': estimated.peak / GIB,
            'estimated_at_once_gib': estimated.at_once / GIB,
        }

    def seconds_per_step(self, steps: int) -> float:
        """Median seconds of a train step on one fixed batch."""
        fixed = parallel.place(self.data, self.over, parallel.SHARDED)
        state, _ = _run(self.step, self._initial_state(), [fixed] * WARM_UP)
        return _run(self.step, state, [fixed] * steps)[1]['s']

    def time_steps(self, steps: int) -> Iterator[dict[str, float]]:
        """Seconds of a train step on one fixed batch, on batches read from disk, and on batches cached on the devices.

        Medians over `steps` steps, and means of the CPU seconds of this process.
        """
        state, fixed = self._initial_state(), parallel.place(self.data, self.over, parallel.SHARDED)
        state, _ = _run(self.step, state, [fixed] * WARM_UP)
        self.peak_memory_gib = device_peak_gib() or None  # before records are cached
        place = partial(parallel.place, over=self.over, spec=parallel.SHARDED)
        with tempfile.TemporaryDirectory() as folder:
            pools = self._pools(folder)
            cache = Resident(pools, self.system.arrays, self.over)
            indices = {domain: pool.places() for domain, pool in pools.items()}
            read, cached = self._read(pools, place), self._batches(indices, ready=cache.batch, threads=0)
            with closing(read), closing(cached):
                jax.block_until_ready([next(read), next(cached)])
                while True:
                    times = {}
                    for name, batches in (('step', repeat(fixed)), ('fed_step', read), ('resident_step', cached)):
                        state, step_times = _run(self.step, state, islice(batches, steps))
                        times |= {f'{name}_{unit}': seconds for unit, seconds in step_times.items()}
                    yield times

    def time_epoch(self, steps: int) -> Iterator[dict[str, float]]:
        """Seconds of an epoch, extrapolated from `steps` steps on batches read from disk."""
        state, place = self._initial_state(), partial(parallel.place, over=self.over, spec=parallel.SHARDED)
        with tempfile.TemporaryDirectory() as folder, closing(self._read(self._pools(folder), place)) as read:
            state, _ = _run(self.step, state, islice(read, 1))
            while True:
                state, times = _run(self.step, state, islice(read, steps))
                yield {f'epoch_{unit}': max(1, self.images // self.batch) * value for unit, value in times.items()}

    def time_segmentor(self, rows: int, steps: int) -> Iterator[dict[str, float]]:
        """Seconds to segment `rows` images on the device, and with the transfers to and from the host of `predict`.

        Empty if no segmentor is trained.
        """
        if self.system.segmentor('b'):
            from_host = partial(Networks.probabilities, domain='b')
            yield from self._time_network('inference', 'b', self.classes, from_host, rows, steps)

    @cached_property
    def classes(self) -> Callable[..., Int[Array, 'b *space']]:
        """`classes(params, images)`: the argmax of the segmentor's logits."""

        def classes(params, images):
            logits = self.system.view(params).segment(names.domain(self.system.segmentor('b')), images)
            return logits.argmax(-1) if logits.shape[-1] > 1 else (logits[..., 0] > 0).astype(int)

        return jax.jit(classes)

    def time_generator(self, rows: int, steps: int) -> Iterator[dict[str, float]]:
        """The same for the generator from domain a to b; empty if none is trained."""
        if generator := self.system.translations.get('g_ab'):
            translate = partial(Networks.translate, source='a')
            yield from self._time_network('synthesis', 'a', generator, translate, rows, steps)

    def _time_network(self, name, domain, function, from_host, rows, steps):
        """Seconds of `function(params, images)` on the device, and of `from_host(networks, images)` with transfers."""
        networks = Networks(self.system, self._initial_state().params, rows)
        images = np.resize(self.data[sorted(self.data)[0]], (rows, *self.system.size, self.system.channels[domain]))
        on_device = parallel.place(images, self.over, parallel.REPLICATED)
        for _ in range(WARM_UP):
            jax.block_until_ready(function(networks.params, on_device))
            from_host(networks, images)
        while True:
            device_times = _time_pipelined(function(networks.params, on_device) for _ in range(steps))
            times = {f'{name}_{unit}': seconds for unit, seconds in device_times.items()}
            yield times | {f'hosted_{name}_s': _median(lambda: from_host(networks, images), steps)}

    def time_pipeline(self, seconds: float = 3.0) -> Iterator[dict[str, float]]:
        """Rows per second of the input pipeline alone, and per CPU second if it has no worker processes."""
        with tempfile.TemporaryDirectory() as folder:
            batches = self._read(self._pools(folder))
            next(batches)
            while True:
                start, count = time.perf_counter(), 0
                with timer() as times:
                    while time.perf_counter() - start < seconds:
                        next(batches)
                        count += self.batch
                if self.system.config.train.workers:
                    del times['cpu_s']  # does not include worker processes
                yield {f'pipeline_rows_per_{unit}': count / value for unit, value in times.items()}

    def time_prediction(self, shape: Sequence[int]) -> Iterator[dict[str, float]]:
        """As `scan_speed.time_prediction`; empty if no segmentor is trained."""
        if self.system.segmentor('b'):
            yield from scan_speed.time_prediction(self.system, self._initial_state().params, shape)

    def _initial_state(self):
        return parallel.place(self.system.first_state(self.over), self.over, LAYOUT)

    def _pools(self, folder) -> dict[str, pipeline.Pool]:
        return random_records.pools(Path(folder), self.data, self.system.domains, self.system.config.context.slices)

    def _read(self, pools, ready=None) -> Iterator:
        return self._batches(pools, arrays=self.system.arrays, workers=self.system.config.train.workers, ready=ready)

    def _batches(self, pools, **options) -> Iterator:
        return pipeline.batches(pools, self.batch, 0, 0, 10**6, **options)


def matrix_peak(dtype_name: str) -> float:
    """FLOP/s of a large matrix product on one device, the fastest of ten."""
    size = 8192 if jax.default_backend() != 'cpu' else 1024
    product = jax.jit(lambda x, y: jnp.dot(x, y, preferred_element_type=x.dtype))
    x = jax.random.normal(jax.random.key(0), (size, size), dtype(dtype_name))  # random: GPUs multiply constants faster
    jax.block_until_ready(product(x, x))
    times = []
    for _ in range(10):
        start = time.perf_counter()
        jax.block_until_ready(product(x, x))
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def _run(step, state, batches) -> tuple:
    """The state after a step on each batch, and the times of a step as of `_time_pipelined`."""

    def start(batch):
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    times = _time_pipelined(map(start, batches))
    return state, times


def _time_pipelined(started: Iterable) -> dict[str, float]:
    """Times of asynchronous calls, each started before the previous one ends, as in training.

    `s`: median seconds from end to end; `cpu_s`: mean CPU seconds of this process.
    """
    cpu_start = time.process_time()
    ends, running = [time.perf_counter()], deque()

    def wait():
        jax.block_until_ready(running.popleft())
        ends.append(time.perf_counter())

    for result in started:
        running.append(result)
        if len(running) > 1:
            wait()
    wait()
    seconds = [later - before for before, later in pairwise(ends)]
    return {'s': statistics.median(seconds), 'cpu_s': (time.process_time() - cpu_start) / len(seconds)}


def _median(function, steps) -> float:
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
