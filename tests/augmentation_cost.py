"""Cost of each augmentation in a train step of a U-Net, side by side in one process.

`taskset -c 1 python tests/augmentation_cost.py [NAME ...]`, from the root of the repository; names are those of
VARIANTS, by default all.  Prints CPU seconds of a step, the median over rounds in each of which every step runs once,
and CPU seconds to trace and compile it; both also relative to the first.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

sys.path.insert(0, str(Path(__file__).parents[1]))

from configs import base
from synseg_jax.benchmarks.training_speed import Timing
from synseg_jax.devices import parallel
from synseg_jax.specification.parse import parse
from synseg_jax.training.system import System

CLASSES = ('background', 'liver', 'right kidney', 'left kidney', 'spleen')
AFFINE = {'rotate': 15.0, 'shift': 0.1, 'scale': 0.4}
SHADES = {'gamma': 1.6, 'contrast': 0.25, 'brightness': 0.1}
QUALITY = {'noise': 0.1, 'blur': 1.0, 'low_resolution': 2.0}
ALL = {**AFFINE, 'shear': 20.0, 'elastic': 0.05, **SHADES, **QUALITY}
STRONG = {'gin': 0.8, 'blend': 0.5, 'class_maps': 0.5}
VARIANTS = {  # name: (fields of augment, fields of views of the source)
    'none': ({}, {}),
    'rotate, shift, scale': (AFFINE, {}),
    '... and shear': (AFFINE | {'shear': 20.0}, {}),
    '... and elastic': (AFFINE | {'elastic': 0.05}, {}),
    'gamma, contrast, brightness': (SHADES, {}),
    **{name: ({name: amount}, {}) for name, amount in QUALITY.items()},
    'all of these': (ALL, {}),
    'GIN': ({}, {'gin': 0.8}),
    'GIN, blended': ({}, {'gin': 0.8, 'blend': 0.5}),
    'class maps': ({}, {'class_maps': 0.5}),
    'all, with GIN, blended, and class maps': (ALL, STRONG),
}


def system(augment: dict, views: dict) -> System:
    """A U-Net of width 12 with 4 levels and instance norm, in batches of 4 slices of 128x128."""
    config = base.get_config('records')
    config.method, config.data.size, config.train.batch = 'generalise', (128, 128), 4
    config.segmentor = {'architecture': 'unet', 'width': 12, 'levels': 4, 'norm': True}
    config.augment.update(augment)
    config.views.a.update(views)
    return System(parse(config).stage('synseg'), CLASSES)


def cpu_seconds(function: Callable) -> tuple[float, Any]:
    """(CPU seconds, the result, ready)."""
    start = time.process_time()
    result = jax.block_until_ready(function())
    return time.process_time() - start, result


def main(names: Sequence[str], rounds: int = 6) -> None:
    """Compile the steps, then run them in turn on one state; the first round is not counted."""
    timings = {name: Timing(system(*VARIANTS[name])) for name in names}
    compiled, seconds = {}, {name: [] for name in names}
    for name, timing in timings.items():
        compiled[name], _ = cpu_seconds(lambda timing=timing: timing.step and ())
        print(f'{name}: compiled in {compiled[name]:.1f} s', flush=True)
    first = timings[names[0]]
    state, batch = first.system.first_state(first.over), parallel.place(first.data, first.over, parallel.SHARDED)
    for _ in range(rounds + 1):
        for name, timing in timings.items():
            took, (state, _) = cpu_seconds(lambda timing=timing, state=state: timing.step(state, batch))
            seconds[name].append(took)
    for name in names:
        step, plain = (statistics.median(seconds[one][1:]) for one in (name, names[0]))
        compiling = f'{compiled[name]:.1f} | {compiled[name] / compiled[names[0]]:.2f}'
        print(f'| {name} | {step:.3f} | {step / plain:.2f} | {compiling} |')


if __name__ == '__main__':
    main(sys.argv[1:] or list(VARIANTS))
