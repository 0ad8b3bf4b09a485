"""What the benchmark measures of a system, and how it is shown."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from itertools import islice
from pathlib import Path

import jax
from rich.table import Table

from synseg_jax.benchmarks import memory_estimate, scan_speed, training_speed
from synseg_jax.cli.options import Options
from synseg_jax.cli.terminal import plain
from synseg_jax.devices import environment
from synseg_jax.devices.environment import versions
from synseg_jax.errors import InputError, known
from synseg_jax.networks.resnet import ResNet
from synseg_jax.training.system import System

CLASSES = 7  # of SynSeg-Net, where no configuration says


PARTS: dict[str, Callable[[training_speed.Timing, Options], Iterator[dict[str, float]]]] = {
    'step': lambda runner, options: runner.rounds(options.steps),
    'epoch': lambda runner, options: runner.epoch(options.steps),
    'inference': lambda runner, options: runner.segmenting(runner.batch, options.steps),
    'synthesis': lambda runner, options: runner.synthesizing(runner.batch, options.steps),
    'pipeline': lambda runner, options: runner.delivering(),
    'prepare': lambda runner, options: scan_speed.preparing(runner.system, _scan(options.scan)),
    'predict': lambda runner, options: runner.predicting(_scan(options.scan)),
}


def peer_seconds(script: str, timed: System, steps: int, *more: str) -> float:
    """The median seconds of the peer's step, or of its segmentor's with `--infer`."""
    options = {'size': timed.size[-1], 'ngf': timed.config.generator.width, 'batch': timed.config.train.batch}
    options |= {'blocks': timed.config.generator.blocks, 'steps': steps, 'threads': len(os.sched_getaffinity(0))}
    call = [sys.executable, script, *(f'--{name}={value}' for name, value in options.items()), *more]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f'--peer={script} failed: {done.stderr.strip().splitlines()[-1:]}')
    return json.loads(done.stdout.strip().splitlines()[-1])['seconds_per_step']


def measure(timed: System, options: Options, images: int = 0) -> dict:
    """Everything that the flags ask for of one stage, with so many images in an epoch."""
    if options.peer and not Path(options.peer).is_file():
        raise InputError(f'--peer={options.peer}: no such file')
    if options.peer and not isinstance(timed.networks.get('g_ab'), ResNet):
        raise InputError('--peer does the work of SynSeg-Net; leave out --config, or name one with ResNets')
    parts = {known('part (--parts)', part, PARTS): PARTS[part] for part in options.parts}
    runner, measured = training_speed.Timing(timed, images), {}
    for part, rounds in parts.items():
        measured |= _spread(
            [one | _peer(timed, part, options) for one in islice(rounds(runner, options), options.rounds)]
        )
    found = {'measured': measured, **described(timed)}
    return found | (runner.cost() if 'step' in parts else {}) | _derived(measured, runner)


def _derived(measured, runner) -> dict[str, float | None]:
    """What follows from the medians."""
    median = {name: spread['median'] for name, spread in measured.items()}
    found = {}
    if 'step_s' in median:
        seconds, kind = median['step_s'], runner.system.config.dtype
        peak = training_speed.matrix_peak(kind) * runner.over.size
        found |= {'pairs_per_s': runner.batch / seconds, 'matrix_peak_tflop_per_s': peak / 1e12}
        found['share_of_peak'] = runner.cost()['gflop'] * 1e9 / seconds / peak
        found['peak_memory_gib'] = runner.peak_memory_gib
    if {'step_s', 'pipeline_rows_per_s'} <= median.keys():
        found['pipeline_over_step'] = median['pipeline_rows_per_s'] / found['pairs_per_s']
    for part, images in (('inference', 'images'), ('synthesis', 'synthetic_images')):
        for unit in ('s', 'cpu_s') if f'{part}_s' in median else ():
            found[f'{images}_per_{unit}'] = runner.batch / median[f'{part}_{unit}']
    if 'predict_s' in median:
        found['network_share'] = median['predict_network_s'] / median['predict_s']
    return found


def _scan(lengths) -> tuple[int, ...]:
    """The voxels of a scan along its axes."""
    return numbers('scan', lengths, 3, 'three lengths in voxels, e.g. 512,512,100')


def numbers(flag, listed, count, wanted) -> tuple[int, ...]:
    """So many numbers, each at least 1, which a flag lists."""
    try:
        numbers = tuple(int(text) for text in listed)
    except ValueError:
        numbers = ()
    if len(numbers) != count or min(numbers) < 1:
        raise InputError(f'--{flag}={",".join(listed)}: give {wanted}')
    return numbers


def _peer(timed, part, options) -> dict:
    if not options.peer or part not in ('step', 'inference'):
        return {}
    more = [flag for flag, on in (('--infer', part == 'inference'), ('--best', options.peer_best)) if on]
    return {f'peer_{part}_s': peer_seconds(options.peer, timed, options.steps, *more)}


def _spread(rounds) -> dict:
    """{what: median, least and most of the rounds}, and the ratio of ours to the peer's, round by round."""
    for one in rounds:
        for name in [name for name in one if f'peer_{name}' in one]:
            one[f'{name.removesuffix("_s")}_ratio'] = one[name] / one[f'peer_{name}']
    columns = {name: [one[name] for one in rounds] for name in (rounds[0] if rounds else ())}
    return {name: {'median': statistics.median(v), 'least': min(v), 'most': max(v)} for name, v in columns.items()}


def described(timed) -> dict:
    config = timed.config
    return {
        'device': jax.devices()[0].device_kind,
        'devices': jax.device_count(),
        'cores': len(os.sched_getaffinity(0)),
        'system': platform.system(),
        'date': date.today().isoformat(),
        'method': timed.method.name,
        'size': list(timed.size),
        'width': config.generator.width,
        'batch': config.train.batch,
        'dtype': config.dtype,
        'remat': config.remat,
        'parameters': memory_estimate.parameters(timed),
        'versions': versions(),
    }


def table(found: dict) -> Table:
    """The numbers as a table."""
    size = ' x '.join(map(str, found['size']))
    title = f'{found["method"]}, {size}, width {found["width"]}, batch {found["batch"]}, {found["dtype"]}'
    title += f'\n{found["device"]} x {found["devices"]}, jax {found["versions"]["jax"]}'
    table = Table(title=plain(title, 'table.title'))
    for heading in ('', 'median', 'least', 'most'):
        table.add_column(heading, justify='right' if heading else 'left')
    for name, spread in found['measured'].items():
        table.add_row(plain(name), *(f'{spread[part]:.4g}' for part in ('median', 'least', 'most')))
    table.add_section()
    for name, count in found['parameters'].items():
        table.add_row(plain(f'parameters of {name}'), f'{count:,}')
    for name, value in found.items():
        if isinstance(value, float):
            table.add_row(plain(name), f'{value:.4g}')
    return table


def memory_table(timed) -> dict:
    """What a step will hold, GiB on each GPU."""
    guess = memory_estimate.estimate(timed, 'gpu')
    parts = {'state': guess.state, 'gradients': guess.gradients, 'players in turn': guess.peak}
    parts |= {'players at once': guess.at_once, **{f'kept for {name}': of for name, of in guess.kept.items()}}
    return {name: round(of / environment.GIB, 3) for name, of in parts.items()}
